package resources

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"kiln/fhir"
	"kiln/migrations"
	"kiln/storage"
)

// beside books a Slot for a patient whatever is booked there already.
func beside(t testing.TB, s *Service, patient, slot string) string {
	t.Helper()
	return mustCall(t, s, "Appointment", "", "book", `{"name":"appointment-resource","resource":`+booking(patient, slot)+`}`,
		arg("override-reason", "valueString", `"An emergency"`)).Bundle.Entries[0].Version.ID
}

func overbookedSlots(t testing.TB, s *Service) string {
	t.Helper()
	return found(t, do(t, s, Request{Interaction: SearchType, Type: "Slot", Query: "overbooked=true&_sort=start"}).Bundle)
}

func TestSlot_is_overbooked_while_more_are_booked_than_usual(t *testing.T) {
	t.Parallel()
	s, _ := clinic(t)
	put(t, s, `{"resourceType":"Slot","id":"long","schedule":{"reference":"Schedule/cal"},"status":"free","start":"2026-01-16T09:15:00Z","end":"2026-01-16T10:30:00Z"}`)
	first := mustCreate(t, s, booking("ada", "s9")).ID
	if got := overbookedSlots(t, s); got != "" {
		t.Fatalf("with one visit %q", got)
	}
	second := beside(t, s, "ben", "s9")
	agrees(t, s)
	if got := overbookedSlots(t, s); got != "s9 long" {
		t.Fatalf("with two visits %q", got)
	}
	if n := read(t, s, "Slot", "s9"); literal(n.Get("overbooked")) != "true" || n.GetText("status") != "busy" {
		t.Fatalf("%s", n.JSON())
	}
	if n := read(t, s, "Slot", "s10"); n.Get("overbooked") != nil {
		t.Fatalf("a Slot without visits: %s", n.JSON())
	}
	// The badge in lists: what was booked beyond, and all that share such a time.
	if got := found(t, do(t, s, Request{Interaction: SearchType, Type: "Appointment", Query: "_tag=" + flagSystem + "|" + overbooked}).Bundle); got != second {
		t.Fatalf("tagged are %q", got)
	}
	if got := found(t, do(t, s, Request{Interaction: SearchType, Type: "Appointment", Query: "slot.overbooked=true&status=booked&_sort=_id"}).Bundle); len(strings.Fields(got)) != 2 {
		t.Fatalf("booked by such Slots are %q", got)
	}
	mustCall(t, s, "Appointment", first, "cancel", arg("reason", "valueCodeableConcept", `{"text":"x"}`))
	agrees(t, s)
	if got := overbookedSlots(t, s); got != "" {
		t.Fatalf("with one left %q", got)
	}
	if n := read(t, s, "Slot", "s9"); literal(n.Get("overbooked")) != "false" {
		t.Fatalf("%s", n.JSON())
	}
	// Moved to free time it is a visit as others.
	mustCall(t, s, "Appointment", second, "reschedule", arg("start", "valueDateTime", `"2026-01-16T11:00:00Z"`))
	agrees(t, s)
	if n := read(t, s, "Appointment", second); n.At("meta", "tag") != nil {
		t.Fatalf("%s", n.JSON())
	}
}

func TestOverbooked_badge_stays_whatever_a_client_writes(t *testing.T) {
	t.Parallel()
	s, _ := clinic(t)
	plain := mustCreate(t, s, booking("ada", "s9")).ID
	over := beside(t, s, "ben", "s9")
	for id, want := range map[string]bool{plain: false, over: true} {
		n := read(t, s, "Appointment", id)
		n.Remove("meta")
		if !want {
			n.Set("meta", fhir.Obj(fhir.Arr(coding(flagSystem, overbooked, ""), coding("urn:x", "mine", "")).As("tag")))
		}
		n.Set("description", fhir.Str("changed"))
		do(t, s, Request{Interaction: Update, Type: "Appointment", ID: id, Body: n})
		text := string(read(t, s, "Appointment", id).JSON())
		if strings.Contains(text, overbooked) != want || !want && !strings.Contains(text, "mine") {
			t.Errorf("%s", text)
		}
	}
	agrees(t, s)
	if err := patchStatus(t, s, over, "cancelled"); err != nil {
		t.Fatal(describe(err))
	}
	if text := string(read(t, s, "Appointment", over).JSON()); strings.Contains(text, overbooked) {
		t.Errorf("cancelled: %s", text)
	}
}

func TestOverbooked_cannot_be_written_out_of_step(t *testing.T) {
	t.Parallel()
	s, _ := clinic(t, func(_ *Options, so *storage.Options) { so.Unrestricted = false; so.PoolSize = 4 })
	mustCreate(t, s, booking("ada", "s9"))
	beside(t, s, "ben", "s9")
	write := func(slot, overbooked string) error {
		n := read(t, s, "Slot", slot)
		if n.Remove("overbooked"); overbooked != "" {
			n.Set("overbooked", fhir.Boolean(overbooked == "true"))
		}
		n.Set("comment", fhir.Str("said "+overbooked))
		_, err := s.Do(t.Context(), Request{Principal: admin("user/*.cruds"), Interaction: Update, Type: "Slot", ID: slot, Body: n})
		return err
	}
	for _, c := range []struct {
		slot, say string
		refused   bool
	}{{"s9", "false", true}, {"s9", "true", false}, {"s9", "", false}, {"s10", "true", true}, {"s10", "false", false}, {"s10", "", false}} {
		err := write(c.slot, c.say)
		if c.refused && (fhir.KindOf(err) != fhir.Conflict || !strings.Contains(describe(err), "overbooked")) || !c.refused && err != nil {
			t.Errorf("%s overbooked %q: %s", c.slot, c.say, describe(err))
		}
		agrees(t, s)
	}
	if n := read(t, s, "Slot", "s9"); literal(n.Get("overbooked")) != "true" {
		t.Errorf("left out by a client: %s", n.JSON())
	}
}

func TestOverbooked_follows_the_capacity(t *testing.T) {
	t.Parallel()
	s, _ := clinic(t)
	service := func(capacity int) {
		put(t, s, fmt.Sprintf(`{"resourceType":"HealthcareService","id":"group","extension":[{"url":%q,"extension":[{"url":"capacity","valuePositiveInt":%d}]}]}`, policyURL, capacity))
	}
	service(2)
	put(t, s, `{"resourceType":"Schedule","id":"hall","actor":[{"reference":"Device/hall"},{"reference":"HealthcareService/group"}]}`)
	put(t, s, slotOf("g1", "hall", "13:00", "13:30", "free"))
	put(t, s, `{"resourceType":"Patient","id":"cleo"}`)
	mustCreate(t, s, booking("ada", "g1"))
	mustCreate(t, s, booking("ben", "g1"))
	check := func(what, want string) {
		t.Helper()
		agrees(t, s)
		if got := overbookedSlots(t, s); got != want {
			t.Fatalf("%s: %q", what, got)
		}
	}
	check("a full group", "")
	service(1)
	check("what was within the capacity when it was booked", "")
	service(2)
	beside(t, s, "cleo", "g1")
	check("one more than usual", "g1")
	service(3)
	check("with room for all", "")
}

func TestOverbooked_in_closed_time_and_after_a_hold(t *testing.T) {
	t.Parallel()
	s, clock := clinic(t)
	mustCall(t, s, "Schedule", "cal", "block", arg("start", "valueDateTime", `"2026-01-16T09:00:00Z"`), arg("end", "valueDateTime", `"2026-01-16T09:30:00Z"`))
	id := beside(t, s, "ada", "s9")
	agrees(t, s)
	if got := overbookedSlots(t, s); !strings.Contains(got, "s9") {
		t.Fatalf("in closed time %q", got)
	}
	mustCall(t, s, "Appointment", id, "cancel", arg("reason", "valueCodeableConcept", `{"text":"x"}`))
	agrees(t, s)
	if got := overbookedSlots(t, s); got != "" {
		t.Fatalf("after it was cancelled %q", got)
	}
	// A hold that ends leaves the visit beside it alone.
	mustCall(t, s, "Appointment", "", "hold", `{"name":"appointment-resource","resource":`+booking("ada", "s10")+`}`)
	beside(t, s, "ben", "s10")
	if got := overbookedSlots(t, s); got != "s10" {
		t.Fatalf("beside a hold %q", got)
	}
	clock.Advance(11 * time.Minute)
	agrees(t, s)
	if err := s.Tidy(t.Context()); err != nil {
		t.Fatal(err)
	}
	agrees(t, s)
	if got := overbookedSlots(t, s); got != "" {
		t.Fatalf("after the hold %q", got)
	}
}

func TestVerify_schedule_finds_a_wrong_overbooked(t *testing.T) {
	t.Parallel()
	url := ""
	s, _ := clinic(t, func(_ *Options, so *storage.Options) { url = so.URL })
	mustCreate(t, s, booking("ada", "s9"))
	beside(t, s, "ben", "s9")
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	tamper := func(statement, want string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
		list, err := s.store.VerifySchedule(t.Context(), 20)
		if text := fmt.Sprint(list); err != nil || !strings.Contains(text, want) {
			t.Errorf("%s: %v %s", statement, err, text)
		}
	}
	tamper(`UPDATE slot_time SET overbooked = false WHERE slot = 'Slot/s9'`, "does not say so")
	tamper(`UPDATE slot_time SET overbooked = true`, "is said to be overbooked and is not")
	tamper(`UPDATE booking SET overbooked = NOT overbooked`, "beyond the capacity")
	// What a migration left open is settled by the next round.
	tamper(`UPDATE slot_time SET overbooked = NULL`, "not what is known of it")
	tamper(`UPDATE booking SET overbooked = NOT overbooked`, "")
	if err := s.Tidy(t.Context()); err != nil {
		t.Fatal(err)
	}
	agrees(t, s)
}

// A database from before knows of lanes and not of capacities: after the upgrade all of it agrees.
func TestOverbooked_is_found_out_when_an_older_database_is_brought_up_to_date(t *testing.T) {
	t.Parallel()
	url := ""
	s, _ := clinic(t, func(_ *Options, so *storage.Options) { url = so.URL })
	mustCreate(t, s, booking("ada", "s9"))
	beside(t, s, "ben", "s9")
	mustCreate(t, s, booking("ada", "s11"))
	if err := migrations.DownTo(t.Context(), url, 100); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), `UPDATE resource SET content = content - 'overbooked' WHERE type = 'Slot'`); err != nil {
		t.Fatal(err)
	}
	if _, err := migrations.Up(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	again := newService(t, func(o *Options, so *storage.Options) { so.URL, o.Now, so.Now = url, s.now, s.now })
	if err := again.Tidy(t.Context()); err != nil {
		t.Fatal(err)
	}
	agrees(t, again)
	if n := read(t, again, "Slot", "s9"); literal(n.Get("overbooked")) != "true" {
		t.Errorf("%s", n.JSON())
	}
	if n := read(t, again, "Slot", "s11"); n.Get("overbooked") != nil {
		t.Errorf("%s", n.JSON())
	}
}
