package resources

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"kiln/fhir"
	"kiln/internal/kilntest"
	"kiln/resources/scheduling"
	"kiln/storage"
)

// waitFor is an appointment on the waitlist for a patient, with one that it is to replace.
func waitFor(patient, period, replaces string) string {
	return `{"resourceType":"Appointment","status":"waitlist","extension":[{"url":"` + scheduling.ExtensionReplaces + `","valueReference":{"reference":"` + replaces + `"}}],
		"requestedPeriod":[` + period + `],"participant":[{"actor":{"reference":"Patient/` + patient + `"},"status":"accepted"},{"actor":{"reference":"Practitioner/doc"},"status":"needs-action"}]}`
}

// swap is a clinic in which ada has a late visit with another doctor, and waits for a better one that is taken by ben.
func swap(t testing.TB) (s *Service, clock *kilntest.Clock, old, waiting, taken string) {
	t.Helper()
	s, clock = clinic(t)
	put(t, s, `{"resourceType":"Practitioner","id":"late"}`)
	put(t, s, `{"resourceType":"Schedule","id":"others","actor":[{"reference":"Practitioner/late"}]}`)
	put(t, s, slotOf("o9", "others", "09:15", "09:45", "free"))
	old = mustCreate(t, s, booking("ada", "o9")).ID
	taken = mustCreate(t, s, booking("ben", "s9")).ID
	waiting = mustCreate(t, s, waitFor("ada", `{"start":"2026-01-16T09:00:00Z","end":"2026-01-16T09:30:00Z"}`, "Appointment/"+old)).ID
	tidy(t, s)
	if got := status(t, s, "Appointment", waiting); got != "waitlist" {
		t.Fatalf("nothing is free yet, and it is %s", got)
	}
	return s, clock, old, waiting, taken
}

func tidy(t testing.TB, s *Service) {
	t.Helper()
	if err := s.Tidy(t.Context()); err != nil {
		t.Fatal(describe(err))
	}
	agrees(t, s)
}

var because = arg("reason", "valueCodeableConcept", `{"text":"x"}`)

func TestWaitlist_accepting_cancels_the_old_visit(t *testing.T) {
	t.Parallel()
	s, _, old, waiting, taken := swap(t)
	mustCall(t, s, "Appointment", taken, "cancel", because)
	tidy(t, s) // 09:00 to 09:30 is held, though the patient has the old visit from 09:15 on
	if a, b := status(t, s, "Appointment", waiting), status(t, s, "Appointment", old); a != "pending" || b != "booked" {
		t.Fatalf("offered: the new one is %s, the old one %s", a, b)
	}
	// Nobody gets the time of the patient beside it.
	if _, err := create(s, t, `{"resourceType":"Appointment","status":"booked","start":"2026-01-16T09:00:00Z","end":"2026-01-16T09:15:00Z","participant":[{"actor":{"reference":"Patient/ada"},"status":"accepted"}]}`); codeOf(err) != "patient-busy" {
		t.Fatal(describe(err))
	}
	resp := mustCall(t, s, "Appointment", "", "book", argRef("appointment-reference", "Appointment/"+waiting))
	agrees(t, s)
	n := read(t, s, "Appointment", old)
	if status(t, s, "Appointment", waiting) != "booked" || n.GetText("status") != "cancelled" || !strings.Contains(string(n.Get("cancelationReason").JSON()), `"pat-swl"`) {
		t.Fatalf("%s", n.JSON())
	}
	if got := status(t, s, "Slot", "o9"); got != "free" {
		t.Fatalf("the time of the old visit is %s", got)
	}
	if text := describeIssues(resp); !strings.Contains(text, "Appointment/"+old) {
		t.Fatalf("the answer says %s", text)
	}
	// The patient's time is in its usual lane again.
	if _, err := create(s, t, `{"resourceType":"Appointment","status":"booked","start":"2026-01-16T09:20:00Z","end":"2026-01-16T09:40:00Z","participant":[{"actor":{"reference":"Patient/ada"},"status":"accepted"}]}`); codeOf(err) != "patient-busy" {
		t.Fatal(describe(err))
	}
	mustCreate(t, s, `{"resourceType":"Appointment","status":"booked","start":"2026-01-16T09:30:00Z","end":"2026-01-16T09:45:00Z","participant":[{"actor":{"reference":"Patient/ada"},"status":"accepted"}]}`)
	agrees(t, s)
}

func describeIssues(r *Response) string {
	var list []string
	for _, i := range append(r.Issues, r.Bundle.Issues...) {
		list = append(list, i.Detail+": "+i.Text)
	}
	return strings.Join(list, "; ")
}

func TestWaitlist_refusing_keeps_the_old_visit(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"cancel", "silence"} {
		s, clock, old, waiting, taken := swap(t)
		mustCall(t, s, "Appointment", taken, "cancel", because)
		tidy(t, s)
		if way == "cancel" {
			mustCall(t, s, "Appointment", waiting, "cancel")
		} else {
			clock.Advance(31 * time.Minute)
		}
		tidy(t, s)
		if a, b := status(t, s, "Appointment", waiting), status(t, s, "Appointment", old); a != "cancelled" || b != "booked" {
			t.Errorf("%s: the new one is %s, the old one %s", way, a, b)
		}
	}
}

func TestWaitlist_a_changed_old_visit_does_not_cost_the_new_one(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]struct {
		do   func(t *testing.T, s *Service, old string)
		want string
	}{
		"cancelled": {func(t *testing.T, s *Service, old string) { mustCall(t, s, "Appointment", old, "cancel", because) }, "cancelled"},
		"begun": {func(t *testing.T, s *Service, old string) {
			put(t, s, `{"resourceType":"Encounter","id":"e","status":"in-progress","class":{"code":"AMB"},"subject":{"reference":"Patient/ada"},"appointment":[{"reference":"Appointment/`+old+`"}]}`)
		}, "fulfilled"},
		"in error": {func(t *testing.T, s *Service, old string) {
			n := read(t, s, "Appointment", old)
			n.Set("status", fhir.Str("entered-in-error"))
			n.Set("comment", fhir.Str("wrong"))
			do(t, s, Request{Interaction: Update, Type: "Appointment", ID: old, Body: n})
		}, "entered-in-error"},
		"withdrawn": {func(t *testing.T, s *Service, _ string) {
			for _, e := range do(t, s, Request{Interaction: SearchType, Type: "Appointment", Query: "status=pending"}).Bundle.Entries {
				n := parse(t, string(e.Version.Content))
				setReplaced(n)
				do(t, s, Request{Interaction: Update, Type: "Appointment", ID: n.ID(), Body: n})
			}
		}, "booked"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, clock, old, waiting, taken := swap(t)
			clock.Set(time.Date(2026, 1, 16, 7, 0, 0, 0, time.UTC))
			mustCall(t, s, "Appointment", taken, "cancel", because)
			tidy(t, s)
			change.do(t, s, old)
			agrees(t, s)
			_, err := calls(t, s, "Appointment", "", "book", argRef("appointment-reference", "Appointment/"+waiting))
			if name == "withdrawn" { // there the patient is at that time, and nobody can be in two places
				if codeOf(err) != "patient-busy" {
					t.Fatal(describe(err))
				}
			} else if err != nil || status(t, s, "Appointment", waiting) != "booked" {
				t.Fatal(describe(err))
			}
			if got := status(t, s, "Appointment", old); got != change.want {
				t.Fatalf("the old one is %s", got)
			}
			agrees(t, s)
		})
	}
}

// setReplaced takes the extension away.
func setReplaced(n *fhir.Node) {
	var kept []fhir.Node
	for e := range n.Get("extension").Items() {
		if e.GetText("url") != scheduling.ExtensionReplaces {
			kept = append(kept, *e)
		}
	}
	n.Set("extension", fhir.Arr(kept...))
}

func TestWaitlist_with_approval_keeps_the_old_visit_until_it_is_given(t *testing.T) {
	t.Parallel()
	s, clock, old, waiting, taken := swap(t)
	put(t, s, `{"resourceType":"Schedule","id":"cal","extension":[{"url":"`+policyURL+`","extension":[{"url":"approval","valueCode":"practitioner"}]}],"actor":[{"reference":"Practitioner/doc"},{"reference":"Location/room"}]}`)
	mustCall(t, s, "Appointment", taken, "cancel", because)
	tidy(t, s)
	clock.Set(time.Date(2026, 1, 16, 7, 0, 0, 0, time.UTC).Add(-24 * time.Hour))
	body := parse(t, `{"resourceType":"Parameters","parameter":[`+argRef("appointment-reference", "Appointment/"+waiting)+`]}`)
	do(t, s, Request{Principal: patientApp("ada", "patient/*.cruds"), Interaction: Operate, Type: "Appointment", Operation: "book", Body: body})
	agrees(t, s)
	if a, b := status(t, s, "Appointment", waiting), status(t, s, "Appointment", old); a != "pending" || b != "booked" {
		t.Fatalf("awaiting: the new one is %s, the old one %s", a, b)
	}
	clock.Set(time.Date(2026, 1, 16, 7, 0, 0, 0, time.UTC))
	if _, err := create(s, t, `{"resourceType":"AppointmentResponse","appointment":{"reference":"Appointment/`+waiting+`"},"actor":{"reference":"Practitioner/doc"},"participantStatus":"accepted"}`); err != nil {
		t.Fatal(describe(err))
	}
	agrees(t, s)
	n := read(t, s, "Appointment", old)
	if status(t, s, "Appointment", waiting) != "booked" || n.GetText("status") != "cancelled" || !strings.Contains(string(n.JSON()), lateCancellation) {
		t.Fatalf("%s", n.JSON())
	}
}

func TestWaitlist_replaces_only_what_the_caller_may_cancel(t *testing.T) {
	t.Parallel()
	s, clock := clinic(t, func(_ *Options, so *storage.Options) { so.Unrestricted = false; so.PoolSize = 4 })
	own, bens := mustCreate(t, s, booking("ada", "s9")).ID, mustCreate(t, s, booking("ben", "s10")).ID
	gone := mustCreate(t, s, booking("ada", "s11")).ID
	mustCall(t, s, "Appointment", gone, "cancel", because)
	period := `{"start":"2026-01-16","end":"2026-01-20"}`
	ada := patientApp("ada", "patient/*.cruds")
	refusal := ""
	for _, c := range []struct{ name, replaces, want string }{
		{"another patient's", "Appointment/" + bens, "not-replaceable"},
		{"none", "Appointment/nowhere", "not-replaceable"},
		{"something else", "Patient/ada", "not-replaceable"},
		{"a cancelled one", "Appointment/" + gone, "not-replaceable"},
		{"the own one", "Appointment/" + own, ""},
	} {
		n := parse(t, waitFor("ada", period, c.replaces))
		_, err := s.Do(t.Context(), Request{Principal: ada, Interaction: Create, Type: "Appointment", Body: n})
		if c.want == "" && err != nil || c.want != "" && (codeOf(err) != c.want || fhir.KindOf(err) != fhir.BusinessRule) {
			t.Errorf("%s: %s", c.name, describe(err))
		}
		// What is hidden looks like what is not there.
		if c.name == "another patient's" {
			refusal = err.Error()
		} else if c.name == "none" && err.Error() != refusal {
			t.Errorf("%q and %q", err, refusal)
		}
	}
	n := parse(t, waitFor("ada", period, "Appointment/"+own))
	n.Get("extension").Kids = append(n.Get("extension").Kids, n.Get("extension").Kids[0])
	if _, err := create(s, t, string(n.JSON())); codeOf(err) != "not-replaceable" {
		t.Errorf("two: %s", describe(err))
	}
	// An administrator does it for a patient, not with another's visit.
	if _, err := create(s, t, waitFor("ada", period, "Appointment/"+bens)); codeOf(err) != "not-replaceable" {
		t.Errorf("with another's: %s", describe(err))
	}
	clock.Set(time.Date(2026, 1, 16, 9, 10, 0, 0, time.UTC))
	if _, err := create(s, t, waitFor("ada", period, "Appointment/"+own)); codeOf(err) != "not-replaceable" {
		t.Errorf("one that has begun: %s", describe(err))
	}
	// What waits may change its mind.
	list := do(t, s, Request{Interaction: SearchType, Type: "Appointment", Query: "status=waitlist"}).Bundle.Entries
	w := parse(t, string(list[0].Version.Content))
	w.Get("extension").Kids[0].Set("valueReference", reference("Appointment/"+bens))
	if _, err := s.Do(t.Context(), Request{Interaction: Update, Type: "Appointment", ID: w.ID(), Body: w}); codeOf(err) != "not-replaceable" {
		t.Errorf("changed: %s", describe(err))
	}
	agrees(t, s)
}

// A visit beyond the capacity that stays when the others go has the time alone: nobody is booked beside it.
func TestRelease_leaves_no_room_beside_who_was_there_second(t *testing.T) {
	t.Parallel()
	s, _ := clinic(t)
	put(t, s, `{"resourceType":"Patient","id":"cleo"}`)
	first := mustCreate(t, s, booking("ada", "s9")).ID
	beside(t, s, "ben", "s9")
	mustCall(t, s, "Appointment", first, "cancel", because)
	agrees(t, s)
	if _, err := create(s, t, booking("cleo", "s9")); codeOf(err) != "slot-taken" {
		t.Fatal(describe(err))
	}
	agrees(t, s)
}

// Whatever happens to the old visit at the same moment: the new one is booked, and one of them at most has the patient's time.
func TestWaitlist_accepting_races_with_changes_of_the_old_visit(t *testing.T) {
	t.Parallel()
	for round := range 6 {
		s, _, old, waiting, taken := swap(t)
		mustCall(t, s, "Appointment", taken, "cancel", because)
		tidy(t, s)
		put(t, s, slotOf("o13", "others", "13:00", "13:30", "free"))
		accepted := false
		race(8, func(i int) {
			var err error
			switch i {
			case round:
				_, err = calls(t, s, "Appointment", "", "book", argRef("appointment-reference", "Appointment/"+waiting))
				accepted = err == nil
			case (round + 1) % 8:
				_, err = calls(t, s, "Appointment", old, "cancel", because)
			case (round + 2) % 8:
				_, err = calls(t, s, "Appointment", old, "reschedule", arg("start", "valueDateTime", `"2026-01-16T13:00:00Z"`))
			case (round + 3) % 8:
				_, err = create(s, t, booking("ben", "o9"))
			default:
				_, err = create(s, t, `{"resourceType":"Appointment","status":"booked","start":"2026-01-16T09:00:00Z","end":"2026-01-16T09:45:00Z","participant":[{"actor":{"reference":"Patient/ada"},"status":"accepted"}]}`)
			}
			if k := fhir.KindOf(err); err != nil && k != fhir.Conflict && k != fhir.BusinessRule {
				t.Errorf("%d: %s", i, describe(err))
			}
		})
		if got := status(t, s, "Appointment", waiting); !accepted || got != "booked" {
			t.Errorf("the new one is %s", got)
		}
		if got := status(t, s, "Appointment", old); got != "cancelled" {
			t.Errorf("the old one is %s", got)
		}
		agrees(t, s)
	}
}

// Visits beyond the capacity come and go in any order: none is lost, none is left behind, and no place is given twice.
func TestOverbooked_visits_come_and_go_at_once(t *testing.T) {
	t.Parallel()
	s, _ := clinic(t)
	for i := range 12 {
		put(t, s, fmt.Sprintf(`{"resourceType":"Patient","id":"p%d"}`, i))
	}
	race(12, func(i int) {
		for range 4 {
			slot := []string{"s9", "s10"}[i%2]
			resp, err := calls(t, s, "Appointment", "", "book", `{"name":"appointment-resource","resource":`+booking(fmt.Sprint("p", i), slot)+`}`, arg("override-reason", "valueString", `"x"`))
			if err != nil {
				t.Errorf("%d: %s", i, describe(err))
				return
			}
			id := resp.Bundle.Entries[0].Version.ID
			if _, err := calls(t, s, "Appointment", id, "cancel", because); err != nil {
				t.Errorf("%d: %s", i, describe(err))
			}
		}
	})
	agrees(t, s)
	if got := overbookedSlots(t, s); got != "" || status(t, s, "Slot", "s9") != "free" || status(t, s, "Slot", "s10") != "free" {
		t.Errorf("%q", got)
	}
	mustCreate(t, s, booking("ada", "s9"))
}
