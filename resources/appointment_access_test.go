package resources

import (
	"strings"
	"testing"

	"kiln/auth"
	"kiln/fhir"
	"kiln/storage"
)

// Operations run with the rights of the server inside; this is what callers must not reach through them.
func TestScheduling_reaches_no_further_than_the_caller(t *testing.T) {
	t.Parallel()
	s, _ := clinic(t, func(_ *Options, so *storage.Options) { so.Unrestricted = false; so.PoolSize = 4 })
	put(t, s, `{"resourceType":"Practitioner","id":"other"}`)
	put(t, s, `{"resourceType":"Schedule","id":"others","extension":[{"url":"http://hl7.org/fhir/StructureDefinition/timezone","valueCode":"UTC"}],"actor":[{"reference":"Practitioner/other"}]}`)
	bens := mustCreate(t, s, booking("ben", "s10")).ID
	ada, doc := patientApp("ada", "patient/*.cruds"), doctor("other", "user/*.cruds")
	operate := func(who auth.Principal, typ, id, name string, parts ...string) error {
		body := parse(t, `{"resourceType":"Parameters","parameter":[`+strings.Join(parts, ",")+`]}`)
		_, err := s.Do(t.Context(), Request{Principal: who, Interaction: Operate, Type: typ, ID: id, Operation: name, Body: body})
		return err
	}
	whole := func(resource string) string { return `{"name":"appointment-resource","resource":` + resource + `}` }
	days := []string{arg("from", "valueDate", `"2026-01-16"`), arg("to", "valueDate", `"2026-01-17"`)}
	hours := []string{arg("start", "valueDateTime", `"2026-01-16T20:00:00Z"`), arg("end", "valueDateTime", `"2026-01-16T21:00:00Z"`)}
	window := []string{arg("start", "valueDateTime", `"2026-01-16"`), arg("end", "valueDateTime", `"2026-01-17"`)}
	reason := arg("reason", "valueCodeableConcept", `{"text":"x"}`)
	for name, c := range map[string]struct {
		err  error
		want fhir.Kind
	}{
		"patient_books_for_another":            {operate(ada, "Appointment", "", "book", whole(booking("ben", "s9"))), fhir.Forbidden},
		"patient_books_with_another":           {operate(ada, "Appointment", "", "book", whole(strings.Replace(booking("ada", "s9"), `"participant":[`, `"participant":[{"actor":{"reference":"Patient/ben"},"status":"accepted"},`, 1))), fhir.Forbidden},
		"patient_names_another":                {operate(ada, "Appointment", "", "book", whole(booking("ada", "s9")), argRef("patient", "Patient/ben")), fhir.NotFound},
		"patient_asks_when_another_is_free":    {operate(ada, "Appointment", "", "find", append(window, argRef("patient-reference", "Patient/ben"))...), fhir.NotFound},
		"patient_asks_beside_anothers_visit":   {operate(ada, "Appointment", "", "find", append(window, argRef("ignore-appointment", "Appointment/"+bens))...), fhir.NotFound},
		"patient_cancels_anothers":             {operate(ada, "Appointment", bens, "cancel", reason), fhir.NotFound},
		"patient_moves_anothers":               {operate(ada, "Appointment", bens, "reschedule", arg("start", "valueDateTime", `"2026-01-16T09:00:00Z"`)), fhir.NotFound},
		"patient_confirms_anothers":            {operate(ada, "Appointment", "", "book", argRef("appointment-reference", "Appointment/"+bens)), fhir.NotFound},
		"patient_overrides":                    {operate(ada, "Appointment", "", "book", whole(booking("ada", "s10")), arg("override-reason", "valueString", `"x"`)), fhir.Forbidden},
		"patient_makes_slots":                  {operate(ada, "Schedule", "cal", "generate", days...), fhir.Forbidden},
		"patient_closes_time":                  {operate(ada, "Schedule", "cal", "block", hours...), fhir.Forbidden},
		"practitioner_closes_anothers_time":    {operate(doc, "Schedule", "cal", "block", hours...), fhir.Forbidden},
		"practitioner_closes_own_time":         {operate(doc, "Schedule", "others", "block", hours...), ok},
		"practitioner_makes_anothers_slots":    {operate(doc, "Schedule", "cal", "generate", days...), fhir.Forbidden},
		"practitioner_books_a_patient_unknown": {operate(doc, "Appointment", "", "book", whole(booking("ada", "s9"))), fhir.Forbidden},
		"practitioner_cancels_anothers":        {operate(doc, "Appointment", bens, "cancel", reason), fhir.NotFound},
		"scope_without_create":                 {operate(patientApp("ada", "patient/Appointment.rs"), "Appointment", "", "book", whole(booking("ada", "s9"))), fhir.Forbidden},
		"scope_without_search":                 {operate(patientApp("ada", "patient/Appointment.cu"), "Appointment", "", "find", window...), fhir.Forbidden},
	} {
		if c.want == ok && c.err != nil || c.want != ok && (c.err == nil || fhir.KindOf(c.err) != c.want) {
			t.Errorf("%s: %s, want kind %d", name, describe(c.err), c.want)
		}
	}
	// A refusal tells no one else's name.
	err := operate(ada, "Appointment", "", "book", whole(booking("ada", "s10")))
	e, isOurs := err.(*fhir.Error)
	if !isOurs || e.Issues[0].Detail != "slot-taken" {
		t.Fatal(describe(err))
	}
	if text := string(new(fhir.OperationOutcome(e.Issues...)).JSON()); strings.Contains(text, "ben") || !strings.Contains(text, "alternative") {
		t.Error(text)
	}
	agrees(t, s)
}
