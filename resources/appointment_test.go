package resources

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"kiln/fhir"
	"kiln/internal/kilntest"
	"kiln/resources/scheduling"
	"kiln/storage"
)

// clinic is a service with a clock, a practitioner with a calendar for the next day, and patients.
func clinic(t testing.TB, change ...func(*Options, *storage.Options)) (*Service, *kilntest.Clock) {
	t.Helper()
	clock := kilntest.NewClock()
	s := newService(t, append([]func(*Options, *storage.Options){func(o *Options, so *storage.Options) {
		o.Now, so.Now = clock.Now, clock.Now
	}}, change...)...)
	for _, id := range []string{"ada", "ben"} {
		put(t, s, fmt.Sprintf(`{"resourceType":"Patient","id":%q}`, id))
	}
	put(t, s, `{"resourceType":"Practitioner","id":"doc"}`)
	put(t, s, `{"resourceType":"Location","id":"room","name":"Room 1"}`)
	put(t, s, `{"resourceType":"Schedule","id":"cal","actor":[{"reference":"Practitioner/doc"},{"reference":"Location/room"}]}`)
	for h := 9; h < 12; h++ {
		put(t, s, fmt.Sprintf(`{"resourceType":"Slot","id":"s%d","schedule":{"reference":"Schedule/cal"},"status":"free","start":"2026-01-16T%02d:00:00Z","end":"2026-01-16T%02d:30:00Z"}`, h, h, h))
	}
	return s, clock
}

func booking(patient, slot string) string {
	return fmt.Sprintf(`{"resourceType":"Appointment","status":"booked","slot":[{"reference":"Slot/%s"}],"participant":[{"actor":{"reference":"Patient/%s"},"status":"accepted"}]}`, slot, patient)
}

func status(t testing.TB, s *Service, typ, id string) string {
	return read(t, s, typ, id).GetText("status")
}

func create(s *Service, t testing.TB, body string) (*Response, error) {
	n := parse(t, body)
	return s.Do(t.Context(), Request{Interaction: Create, Type: n.ResourceType(), Body: n})
}

func mustCreate(t testing.TB, s *Service, body string) *storage.Version {
	t.Helper()
	resp, err := create(s, t, body)
	if err != nil {
		t.Fatal(describe(err))
	}
	return resp.Version
}

func patchStatus(t testing.TB, s *Service, id, to string) error {
	_, err := s.Do(t.Context(), Request{Interaction: Patch, Type: "Appointment", ID: id,
		JSONPatch: []byte(`[{"op":"replace","path":"/status","value":"` + to + `"}]`)})
	return err
}

func codeOf(err error) string {
	e, ok := err.(*fhir.Error)
	if !ok || len(e.Issues) == 0 {
		return describe(err)
	}
	return e.Issues[0].Detail
}

func TestAppointment_takes_and_gives_back_time(t *testing.T) {
	t.Parallel()
	s, _ := clinic(t)
	v := mustCreate(t, s, booking("ada", "s9"))
	if got := status(t, s, "Slot", "s9"); got != "busy" {
		t.Fatalf("the Slot is %s", got)
	}
	n := read(t, s, "Appointment", v.ID)
	if n.GetText("start") != "2026-01-16T09:00:00.000Z" || len(n.Get("participant").Kids) != 3 {
		t.Fatalf("%s", n.JSON())
	}
	_, err := create(s, t, booking("ben", "s9"))
	e, ok := err.(*fhir.Error)
	if !ok || e.Kind != fhir.Conflict || e.Issues[0].Detail != "slot-taken" || len(e.Issues) != 2 || len(e.Issues[1].Alternatives) != 2 {
		t.Fatalf("%s %+v", describe(err), e)
	}
	_, err = create(s, t, `{"resourceType":"Appointment","status":"booked","start":"2026-01-16T09:10:00Z","end":"2026-01-16T09:20:00Z","participant":[{"actor":{"reference":"Patient/ada"},"status":"accepted"}]}`)
	if codeOf(err) != "patient-busy" {
		t.Fatal(describe(err))
	}
	if err := patchStatus(t, s, v.ID, "cancelled"); err != nil {
		t.Fatal(describe(err))
	}
	if got := status(t, s, "Slot", "s9"); got != "free" {
		t.Fatalf("the Slot is %s after the cancellation", got)
	}
	mustCreate(t, s, booking("ben", "s9"))
	if err := patchStatus(t, s, v.ID, "booked"); codeOf(err) != "illegal-transition" {
		t.Fatal(describe(err))
	}
}

func TestSlot_status_follows_what_is_booked(t *testing.T) {
	t.Parallel()
	s, _ := clinic(t)
	put(t, s, `{"resourceType":"Slot","id":"long","schedule":{"reference":"Schedule/cal"},"status":"free","start":"2026-01-16T09:00:00Z","end":"2026-01-16T11:00:00Z"}`)
	v := mustCreate(t, s, booking("ada", "s10"))
	if got := status(t, s, "Slot", "long"); got != "busy-unavailable" {
		t.Fatalf("the Slot around is %s", got)
	}
	for _, say := range []string{"free", "busy-unavailable"} {
		n := read(t, s, "Slot", "s10")
		n.Set("status", fhir.Str(say))
		_, err := s.Do(t.Context(), Request{Interaction: Update, Type: "Slot", ID: "s10", Body: n})
		if say == "free" {
			if got := status(t, s, "Slot", "s10"); err != nil || got != "busy" { // an operator's import is corrected
				t.Fatalf("%s %s", describe(err), got)
			}
		}
	}
	if err := patchStatus(t, s, v.ID, "cancelled"); err != nil {
		t.Fatal(describe(err))
	}
	put(t, s, `{"resourceType":"Slot","id":"lunch","schedule":{"reference":"Schedule/cal"},"status":"busy-unavailable","start":"2026-01-16T11:00:00Z","end":"2026-01-16T12:00:00Z"}`)
	if got := status(t, s, "Slot", "s11"); got != "busy-unavailable" {
		t.Fatalf("beneath the closed time the Slot is %s", got)
	}
	if _, err := create(s, t, booking("ada", "s11")); codeOf(err) != "slot-taken" {
		t.Fatal(describe(err))
	}
	put(t, s, `{"resourceType":"Slot","id":"lunch","schedule":{"reference":"Schedule/cal"},"status":"free","start":"2026-01-16T11:00:00Z","end":"2026-01-16T12:00:00Z"}`)
	mustCreate(t, s, booking("ada", "s11"))
}

func TestAppointment_race(t *testing.T) {
	t.Parallel()
	s, _ := clinic(t, noDeadlock(t))
	var won atomic.Int32
	const n = 32
	for i := range n {
		put(t, s, fmt.Sprintf(`{"resourceType":"Patient","id":"p%d"}`, i))
	}
	begin := time.Now()
	race(n, func(i int) {
		_, err := create(s, t, booking(fmt.Sprint("p", i), "s9"))
		switch {
		case err == nil:
			won.Add(1)
		case codeOf(err) != "slot-taken":
			t.Error(describe(err))
		}
	})
	t.Logf("%d tries in %s", n, time.Since(begin))
	if won.Load() != 1 {
		t.Fatalf("%d won", won.Load())
	}
}

// TestAppointment_race_of_bundles wants two doctors in one transaction, some in one order and some in the other: each bundle gets
// both or none, and nobody is told of a fault, nor waits for who waits for it.
func TestAppointment_race_of_bundles(t *testing.T) {
	t.Parallel()
	s, _ := clinic(t, noDeadlock(t))
	put(t, s, `{"resourceType":"Practitioner","id":"second"}`)
	var won atomic.Int32
	race(12, func(i int) {
		one, two := "doc", "second"
		if i%2 == 1 {
			one, two = two, one
		}
		body := transactionOf(
			entryOf("", "PUT", fmt.Sprintf("Appointment/a%d", i), strings.Replace(visitOf("booked", "15:00", "15:30", "Practitioner/"+one), `"status"`, fmt.Sprintf(`"id":"a%d","status"`, i), 1)),
			entryOf("", "PUT", fmt.Sprintf("Appointment/b%d", i), strings.Replace(visitOf("booked", "15:00", "15:30", "Practitioner/"+two), `"status"`, fmt.Sprintf(`"id":"b%d","status"`, i), 1)))
		_, err := s.Do(t.Context(), Request{Interaction: Transaction, Body: parse(t, body)})
		if err == nil {
			won.Add(1)
		} else if codeOf(err) != "slot-taken" {
			t.Error(describe(err))
		}
	})
	if won.Load() != 1 || count(t, s, "Appointment") != 2 {
		t.Errorf("%d won, %d there", won.Load(), count(t, s, "Appointment"))
	}
	agrees(t, s)
}

// TestAppointment_by_its_Slots_alone: plain clients name Slots and no time, also where a validator asks for one (app-3).
func TestAppointment_by_its_Slots_alone(t *testing.T) {
	t.Parallel()
	s, _ := insured(t, scheduling.CoverageOff)
	n := read(t, s, "Appointment", mustCreate(t, s, booking("ada", "s9")).ID)
	if n.GetText("status") != "booked" || n.GetText("start") != "2026-01-16T09:00:00.000Z" || n.GetText("end") != "2026-01-16T09:30:00.000Z" || status(t, s, "Slot", "s9") != "busy" {
		t.Errorf("%s", n.JSON())
	}
	do(t, s, Request{Interaction: Transaction, Body: parse(t, transactionOf(entryOf("", "POST", "Appointment", booking("ben", "s10"))))})
	if got := status(t, s, "Slot", "s10"); got != "busy" {
		t.Error(got)
	}
	if _, err := create(s, t, booking("ben", "nowhere")); codeOf(err) != "time-required" {
		t.Errorf("%s (%s)", describe(err), codeOf(err))
	}
	agrees(t, s)
}
