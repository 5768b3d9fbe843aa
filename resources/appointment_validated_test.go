package resources

import (
	"strings"
	"testing"

	"kiln/conformance/validate"
	"kiln/fhir"
	"kiln/storage"
)

// validatedClinic is a clinic that checks content as a server does.
func validatedClinic(t testing.TB) *Service {
	s, _ := clinic(t, func(o *Options, so *storage.Options) {
		so.Unrestricted, so.PoolSize = false, 4
		v, err := validate.New(o.Registry, validate.Options{Invariants: true})
		if err != nil {
			t.Fatal(err)
		}
		o.Validate = v.Resource
	})
	return s
}

func TestBook_by_Slots_alone(t *testing.T) {
	t.Parallel()
	s := validatedClinic(t)
	ada := patientApp("ada", "patient/*.cruds")
	book := func(body string) (*Response, error) {
		return s.Do(t.Context(), Request{Principal: ada, Interaction: Operate, Type: "Appointment", Operation: "book",
			Body: parse(t, `{"resourceType":"Parameters","parameter":[{"name":"appointment-resource","resource":`+body+`}]}`)})
	}
	resp, err := book(booking("ada", "s9"))
	if err != nil {
		t.Fatal(describe(err))
	}
	if n := parse(t, string(resp.Bundle.Entries[0].Version.Content)); n.GetText("start") != "2026-01-16T09:00:00.000Z" || n.GetText("status") != "booked" {
		t.Fatalf("%s", n.JSON())
	}
	for _, way := range []func(string) error{
		func(body string) error { _, err := book(body); return err },
		func(body string) error {
			_, err := s.Do(t.Context(), Request{Principal: ada, Interaction: Create, Type: "Appointment", Body: parse(t, body)})
			return err
		},
	} {
		if err := way(booking("ada", "nowhere")); fhir.KindOf(err) != fhir.BusinessRule || !strings.Contains(describe(err), "Appointment.slot") {
			t.Errorf("a Slot that is not there: %s", describe(err))
		}
	}
	// What is to be anything else is not booked instead.
	for _, status := range []string{"cancelled", "noshow", "entered-in-error", "fulfilled", "arrived", "checked-in", "waitlist"} {
		body := strings.Replace(booking("ada", "s10"), `"booked"`, `"`+status+`"`, 1)
		if _, err := book(body); codeOf(err) != "illegal-transition" {
			t.Errorf("%s: %s", status, describe(err))
		}
	}
	if got := count(t, s, "Appointment"); got != 1 {
		t.Errorf("%d appointments", got)
	}
	agrees(t, s)
}

func TestPatch_of_what_is_over_says_what_the_table_says(t *testing.T) {
	t.Parallel()
	s := validatedClinic(t)
	id := mustCreate(t, s, booking("ada", "s9")).ID
	mustCall(t, s, "Appointment", id, "cancel", because)
	for _, to := range []string{"booked", "arrived", "checked-in", "noshow", "fulfilled", "pending", "entered-in-error"} {
		_, err := s.Do(t.Context(), Request{Principal: patientApp("ada", "patient/*.cruds"), Interaction: Patch, Type: "Appointment", ID: id,
			JSONPatch: []byte(`[{"op":"replace","path":"/status","value":"` + to + `"}]`)})
		if fhir.KindOf(err) != fhir.Conflict || codeOf(err) != "illegal-transition" {
			t.Errorf("%s: %s", to, describe(err))
		}
	}
}

func TestReschedule_keeps_the_reason_in_its_Provenance(t *testing.T) {
	t.Parallel()
	s := validatedClinic(t)
	id := mustCreate(t, s, booking("ada", "s9")).ID
	mustCall(t, s, "Appointment", id, "reschedule", arg("start", "valueDateTime", `"2026-01-16T10:00:00Z"`), arg("reason", "valueCodeableConcept", `{"text":"The train is late"}`))
	list := do(t, s, Request{Interaction: SearchType, Type: "Provenance", Query: "target=Appointment/" + id}).Bundle.Entries
	if len(list) != 1 || !strings.Contains(string(list[0].Version.Content), "The train is late") || !strings.Contains(string(list[0].Version.Content), "Appointment/"+id+"/_history/2") {
		t.Fatalf("%d", len(list))
	}
}

// What is booked, all who are needed have accepted.
func TestResponse_tentative_does_not_undo_a_booking(t *testing.T) {
	t.Parallel()
	s := validatedClinic(t)
	id := mustCreate(t, s, booking("ada", "s9")).ID
	for _, actor := range []string{"Patient/ada", "Practitioner/doc"} {
		_, err := create(s, t, `{"resourceType":"AppointmentResponse","appointment":{"reference":"Appointment/`+id+`"},"actor":{"reference":"`+actor+`"},"participantStatus":"tentative"}`)
		if codeOf(err) != "illegal-transition" {
			t.Errorf("%s: %s", actor, describe(err))
		}
	}
	if text := string(read(t, s, "Appointment", id).JSON()); strings.Contains(text, "tentative") || !allAccepted(read(t, s, "Appointment", id)) {
		t.Error(text)
	}
}
