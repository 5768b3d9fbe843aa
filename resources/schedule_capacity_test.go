package resources

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"kiln/fhir"
	"kiln/migrations"
	"kiln/storage"
)

// calendars gives the practitioner one calendar for visits alone and one for groups, and people to come.
func calendars(t *testing.T, change ...func(*Options, *storage.Options)) *Service {
	t.Helper()
	s, _ := clinic(t, change...)
	for i := range 8 {
		put(t, s, fmt.Sprintf(`{"resourceType":"Patient","id":"p%d"}`, i))
	}
	put(t, s, `{"resourceType":"Practitioner","id":"kim"}`)
	for name, capacity := range map[string]int{"alone": 1, "group": 3} {
		put(t, s, calendar(name, capacity))
		for h := 9; h < 12; h++ {
			put(t, s, fmt.Sprintf(`{"resourceType":"Slot","id":"%s%d","schedule":{"reference":"Schedule/%[1]s"},"status":"free","start":"2026-01-16T%02[2]d:00:00Z","end":"2026-01-16T%02[2]d:30:00Z"}`, name, h))
		}
	}
	return s
}

func calendar(name string, capacity int) string {
	return fmt.Sprintf(`{"resourceType":"Schedule","id":%q,"extension":[{"url":"`+policyURL+`","extension":[{"url":"capacity","valuePositiveInt":%d}]}],"actor":[{"reference":"Practitioner/kim"}]}`, name, capacity)
}

func TestCapacity_of_one_calendar_opens_no_other(t *testing.T) {
	t.Parallel()
	book := func(t *testing.T, s *Service, patient int, slot string) error {
		_, err := create(s, t, booking(fmt.Sprintf("p%d", patient), slot))
		return err
	}
	want := func(t *testing.T, what string, err error, code string) {
		t.Helper()
		if got := codeOf(err); err != nil && got != code || err == nil && code != "" {
			t.Errorf("%s: %s, want %q", what, describe(err), code)
		}
	}
	propose := func(t *testing.T, s *Service, schedule string) string {
		return "Appointment/" + find(t, s, argRef("schedule", "Schedule/"+schedule))[0].Version.ID
	}
	take := func(t *testing.T, s *Service, patient int, proposal string) (string, error) {
		resp, err := calls(t, s, "Appointment", "", "book", argRef("appointment-reference", proposal), argRef("patient", fmt.Sprintf("Patient/p%d", patient)))
		if err != nil {
			return "", err
		}
		return resp.Bundle.Entries[0].Version.ID, nil
	}
	t.Run("who_is_seen_alone_is_in_no_group", func(t *testing.T) {
		s := calendars(t)
		want(t, "alone", book(t, s, 0, "alone9"), "")
		if got := status(t, s, "Slot", "group9"); got != "busy-unavailable" {
			t.Errorf("the Slot of the group is %s", got)
		}
		want(t, "the group", book(t, s, 1, "group9"), "slot-taken")
		want(t, "a group", book(t, s, 1, "group10"), "")
		want(t, "alone beside a group", book(t, s, 2, "alone10"), "slot-taken")
		want(t, "one more of the group", book(t, s, 2, "group10"), "")
		if got := status(t, s, "Slot", "alone10"); got != "busy-unavailable" {
			t.Errorf("the Slot of who would be alone is %s", got)
		}
		agrees(t, s)
	})
	t.Run("a_proposal_is_booked_by_its_own_calendar", func(t *testing.T) {
		s := calendars(t)
		alone := propose(t, s, "alone")
		_, err := take(t, s, 0, alone)
		want(t, "first", err, "")
		_, err = take(t, s, 1, alone)
		want(t, "second", err, "slot-taken")
		group := propose(t, s, "group")
		for i := 1; i < 4; i++ {
			_, err := take(t, s, i, group)
			want(t, "the group", err, "")
		}
		_, err = take(t, s, 4, group)
		want(t, "beyond the group", err, "slot-taken")
		agrees(t, s)
	})
	t.Run("without_a_Slot_nobody_is_beside_others", func(t *testing.T) {
		s := calendars(t)
		visit := func(patient int) error {
			_, err := create(s, t, fmt.Sprintf(`{"resourceType":"Appointment","status":"booked","start":"2026-01-16T09:00:00Z","end":"2026-01-16T09:30:00Z","participant":[{"actor":{"reference":"Patient/p%d"},"status":"accepted"},{"actor":{"reference":"Practitioner/kim"},"status":"accepted"}]}`, patient))
			return err
		}
		want(t, "first", visit(0), "")
		want(t, "second", visit(1), "slot-taken")
		agrees(t, s)
	})
	t.Run("a_visit_of_a_group_moves_into_a_group", func(t *testing.T) {
		s := calendars(t)
		want(t, "there", book(t, s, 0, "group10"), "")
		id, err := take(t, s, 1, propose(t, s, "group"))
		want(t, "to be moved", err, "")
		_, err = calls(t, s, "Appointment", id, "reschedule", arg("start", "valueDateTime", `"2026-01-16T10:00:00Z"`))
		want(t, "moved", err, "")
		agrees(t, s)
	})
	t.Run("a_capacity_that_was_lowered_counts_who_is_there", func(t *testing.T) {
		s := calendars(t)
		var ids []string
		for i := range 3 {
			ids = append(ids, mustCreate(t, s, booking(fmt.Sprintf("p%d", i), "group9")).ID)
		}
		put(t, s, calendar("group", 2))
		mustCall(t, s, "Appointment", ids[0], "cancel", arg("reason", "valueCodeableConcept", `{"text":"x"}`))
		want(t, "a third where two are there", book(t, s, 3, "group9"), "slot-taken")
		mustCall(t, s, "Appointment", ids[1], "cancel", arg("reason", "valueCodeableConcept", `{"text":"x"}`))
		want(t, "a second", book(t, s, 3, "group9"), "")
		agrees(t, s)
	})
	t.Run("a_capacity_that_was_raised_lets_more_in", func(t *testing.T) {
		s := calendars(t)
		put(t, s, calendar("group", 1))
		want(t, "first", book(t, s, 0, "group9"), "")
		want(t, "second", book(t, s, 1, "group9"), "slot-taken")
		put(t, s, calendar("group", 3))
		if got := status(t, s, "Slot", "group9"); got != "free" {
			t.Errorf("the Slot is %s", got)
		}
		want(t, "second where there is room now", book(t, s, 1, "group9"), "")
		want(t, "alone", book(t, s, 2, "alone9"), "slot-taken")
		agrees(t, s)
	})
	t.Run("what_one_calendar_closes_is_closed", func(t *testing.T) {
		s := calendars(t)
		mustCall(t, s, "Schedule", "alone", "block", arg("start", "valueDateTime", `"2026-01-16T09:00:00Z"`), arg("end", "valueDateTime", `"2026-01-16T10:00:00Z"`))
		want(t, "the group", book(t, s, 0, "group9"), "slot-taken")
		agrees(t, s)
	})
	t.Run("an_override_goes_beside_and_says_so", func(t *testing.T) {
		s := calendars(t)
		want(t, "a group", book(t, s, 0, "group9"), "")
		visit := `{"name":"appointment-resource","resource":` + booking("p1", "alone9") + `}`
		id := mustCall(t, s, "Appointment", "", "book", visit, arg("override-reason", "valueString", `"pain"`)).Bundle.Entries[0].Version.ID
		if got := read(t, s, "Appointment", id).At("meta", "tag"); got == nil {
			t.Error("it is not overbooked")
		}
		agrees(t, s)
	})
}

// Visits alone and of groups, which overlap in part, are wanted at once: whoever is seen alone is alone.
func TestCapacity_race_of_calendars(t *testing.T) {
	t.Parallel()
	s := calendars(t, noDeadlock(t))
	for round := range 6 {
		day := fmt.Sprintf("2026-02-%02d", round+1)
		slot := func(schedule, from, to string) string {
			id := fmt.Sprintf("%s-%d-%s", schedule, round, from[:2]+from[3:])
			put(t, s, fmt.Sprintf(`{"resourceType":"Slot","id":%q,"schedule":{"reference":"Schedule/%s"},"status":"free","start":"%s","end":"%s"}`,
				id, schedule, day+"T"+from+":00Z", day+"T"+to+":00Z"))
			return id
		}
		mustCreate(t, s, booking("p7", slot("group", "09:00", "09:30")))
		slots := []string{slot("group", "09:15", "10:00"), slot("alone", "09:30", "09:45"), slot("alone", "09:45", "10:15")}
		var wg sync.WaitGroup
		var alone, group atomic.Int32
		for i, name := range []string{slots[0], slots[1], slots[2], slots[0]} {
			body := parse(t, booking(fmt.Sprintf("p%d", i), name))
			wg.Go(func() {
				_, err := s.Do(t.Context(), Request{Interaction: Create, Type: "Appointment", Body: body})
				var e *fhir.Error
				switch {
				case err == nil && name == slots[0]:
					group.Add(1)
				case err == nil:
					alone.Add(1)
				case !errors.As(err, &e) || e.Kind != fhir.Conflict:
					t.Errorf("%s: %s", name, describe(err))
				}
			})
		}
		wg.Wait()
		if a, g := alone.Load(), group.Load(); a > 0 && g > 0 || a+g == 0 {
			t.Errorf("%d alone and %d in the group", a, g)
		}
	}
	agrees(t, s)
}

// A database from before let groups in beside who is seen alone: after the upgrade its Slots tell what is so now.
func TestCapacity_of_calendars_in_an_older_database(t *testing.T) {
	t.Parallel()
	url := ""
	s := calendars(t, func(_ *Options, so *storage.Options) { url = so.URL })
	mustCreate(t, s, booking("p0", "alone9"))
	mustCreate(t, s, booking("p1", "group10"))
	if err := migrations.DownTo(t.Context(), url, 126); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, sql := range []string{
		`UPDATE resource SET content = jsonb_set(content, '{status}', '"free"') WHERE type = 'Slot' AND id = 'group9'`,
		`UPDATE slot_time SET status = 'free' WHERE slot = 'Slot/group9'`,
		`UPDATE allocation SET capacity = 1`,
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := migrations.Up(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	again := newService(t, func(o *Options, so *storage.Options) { so.URL, o.Now, so.Now = url, s.now, s.now })
	if err := again.Tidy(t.Context()); err != nil {
		t.Fatal(err)
	}
	agrees(t, again)
	if got := status(t, again, "Slot", "group9"); got != "busy-unavailable" {
		t.Errorf("the Slot of the group is %s", got)
	}
	mustCreate(t, again, booking("p2", "group10"))
}
