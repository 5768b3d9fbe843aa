package resources

import "testing"

// Whose time a Schedule offers follows what it names: who takes over a role is not booked twice, nor a place that becomes a room.
func TestSchedule_follows_its_actors(t *testing.T) {
	t.Parallel()
	s, _ := clinic(t)
	put(t, s, `{"resourceType":"Practitioner","id":"next"}`)
	// The Schedules come before what they name, as they may in an import.
	put(t, s, `{"resourceType":"Schedule","id":"desk","actor":[{"reference":"PractitionerRole/role"}]}`)
	put(t, s, `{"resourceType":"Schedule","id":"hall","actor":[{"reference":"Location/hall"},{"reference":"HealthcareService/h"}]}`)
	put(t, s, `{"resourceType":"Slot","id":"d9","schedule":{"reference":"Schedule/desk"},"status":"free","start":"2026-01-16T09:00:00Z","end":"2026-01-16T09:30:00Z"}`)
	put(t, s, `{"resourceType":"Slot","id":"h9","schedule":{"reference":"Schedule/hall"},"status":"free","start":"2026-01-16T09:00:00Z","end":"2026-01-16T09:30:00Z"}`)
	with := func(actor string) string {
		return `{"resourceType":"Appointment","status":"booked","start":"2026-01-16T09:00:00Z","end":"2026-01-16T09:30:00Z","participant":[{"actor":{"reference":"` + actor + `"},"status":"accepted"}]}`
	}
	put(t, s, `{"resourceType":"PractitionerRole","id":"role","practitioner":{"reference":"Practitioner/doc"}}`)
	id := mustCreate(t, s, with("Practitioner/doc")).ID
	if got := status(t, s, "Slot", "d9"); got != "busy" {
		t.Errorf("the Slot of who is booked is %s", got)
	}
	agrees(t, s)
	put(t, s, `{"resourceType":"PractitionerRole","id":"role","practitioner":{"reference":"Practitioner/next"}}`)
	if got := status(t, s, "Slot", "d9"); got != "free" {
		t.Errorf("the Slot of who takes over is %s", got)
	}
	mustCreate(t, s, booking("ada", "d9"))
	if _, err := create(s, t, with("Practitioner/next")); codeOf(err) != "slot-taken" {
		t.Errorf("who takes over is booked twice: %s", describe(err))
	}
	if err := patchStatus(t, s, id, "cancelled"); err != nil {
		t.Fatal(describe(err))
	}
	mustCreate(t, s, with("Practitioner/doc"))
	agrees(t, s)

	put(t, s, `{"resourceType":"Location","id":"hall","physicalType":{"coding":[{"code":"bu"}]}}`)
	mustCreate(t, s, with("Location/hall"))
	if got := status(t, s, "Slot", "h9"); got != "free" {
		t.Errorf("the Slot of a building is %s", got)
	}
	put(t, s, `{"resourceType":"Location","id":"hall","physicalType":{"coding":[{"code":"ro"}]}}`)
	mustCreate(t, s, booking("ben", "h9"))
	if _, err := create(s, t, with("Location/hall")); codeOf(err) != "slot-taken" {
		t.Errorf("the room is booked twice: %s", describe(err))
	}
	agrees(t, s)
}

// A calendar does not pass on while visits to come are booked by its Slots: those would be free for who takes over.
func TestSchedule_keeps_its_actors_while_it_is_booked(t *testing.T) {
	t.Parallel()
	s, _ := clinic(t)
	put(t, s, `{"resourceType":"Practitioner","id":"next"}`)
	put(t, s, `{"resourceType":"PractitionerRole","id":"role","practitioner":{"reference":"Practitioner/doc"}}`)
	put(t, s, `{"resourceType":"Schedule","id":"desk","actor":[{"reference":"PractitionerRole/role"}]}`)
	put(t, s, `{"resourceType":"Slot","id":"d9","schedule":{"reference":"Schedule/desk"},"status":"free","start":"2026-01-16T09:00:00Z","end":"2026-01-16T09:30:00Z"}`)
	id := mustCreate(t, s, booking("ada", "d9")).ID
	changed := func(body string) string {
		t.Helper()
		n := parse(t, body)
		_, err := s.Do(t.Context(), Request{Interaction: Update, Type: n.ResourceType(), ID: n.ID(), Body: n})
		if got := status(t, s, "Slot", "d9"); id != "" && got != "busy" {
			t.Errorf("the Slot of a visit is %s", got)
		}
		return codeOf(err)
	}
	for name, body := range map[string]string{
		"another actor": `{"resourceType":"Schedule","id":"desk","actor":[{"reference":"Practitioner/next"}]}`,
		"only a room":   `{"resourceType":"Schedule","id":"desk","actor":[{"reference":"Location/room"}]}`,
	} {
		if got := changed(body); got != "schedule-in-use" {
			t.Errorf("%s: %q", name, got)
		}
	}
	for name, body := range map[string]string{
		"named himself, with a room": `{"resourceType":"Schedule","id":"desk","actor":[{"reference":"Practitioner/doc"},{"reference":"Location/room"}]}`,
		"by the role again":          `{"resourceType":"Schedule","id":"desk","actor":[{"reference":"PractitionerRole/role"}]}`,
	} {
		if got := changed(body); got != "no error" {
			t.Errorf("%s: %q", name, got)
		}
	}
	agrees(t, s)
	if err := patchStatus(t, s, id, "cancelled"); err != nil {
		t.Fatal(describe(err))
	}
	id = ""
	if got := changed(`{"resourceType":"Schedule","id":"desk","actor":[{"reference":"Practitioner/next"}]}`); got != "no error" {
		t.Errorf("after the visit was cancelled: %q", got)
	}
	mustCreate(t, s, booking("ben", "d9"))
	agrees(t, s)
}
