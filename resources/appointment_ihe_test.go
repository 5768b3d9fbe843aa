package resources

import (
	"fmt"
	"strings"
	"testing"

	"kiln/fhir"
)

// TestCancel_understands_the_reasons_of_IHE: a reason of IHE becomes the one of R4 beside it, and the sides hold for it too.
func TestCancel_understands_the_reasons_of_IHE(t *testing.T) {
	t.Parallel()
	s, _ := clinic(t)
	ihe := func(code string) string {
		return `{"coding":[{"system":"` + iheReasonSystem + `","code":"` + code + `"}]}`
	}
	book := func() string { return mustCreate(t, s, booking("ada", "s9")).ID }
	reason := func(id string) string {
		var list []string
		for c := range read(t, s, "Appointment", id).Get("cancelationReason").Get("coding").Items() {
			list = append(list, c.GetText("code"))
		}
		return strings.Join(list, " ")
	}
	id := book()
	mustCall(t, s, "Appointment", id, "cancel", arg("reason", "valueCodeableConcept", ihe("improved")))
	if got := reason(id); got != "pat-fb improved" {
		t.Errorf("%q", got)
	}
	id = book()
	mustCall(t, s, "Appointment", "", "book", arg("appointment-resource", "resource", `{"resourceType":"Appointment","id":"`+id+`","status":"cancelled","extension":[{"url":"`+iheReasonExtension+`","valueCodeableConcept":`+ihe("weather")+`}],
		"start":"2026-01-16T09:00:00Z","end":"2026-01-16T09:30:00Z","participant":[{"actor":{"reference":"Patient/ada"},"status":"accepted"}]}`))
	if got := reason(id); got != "oth-weath weather" {
		t.Errorf("%q", got)
	}
	id = book()
	_, err := s.Do(t.Context(), Request{Interaction: Operate, Type: "Appointment", ID: id, Operation: "cancel", Principal: patientApp("ada", "patient/*.cruds"),
		Body: parse(t, `{"resourceType":"Parameters","parameter":[`+arg("reason", "valueCodeableConcept", ihe("personal"))+`]}`)})
	if codeOf(err) != "wrong-reason-side" || fhir.KindOf(err) != fhir.BusinessRule {
		t.Errorf("a patient gives a reason of the practice: %s", describe(err))
	}
	mustCall(t, s, "Appointment", id, "cancel", arg("reason", "valueCodeableConcept", ihe("unheard-of")))
	if got := reason(id); got != "unheard-of" {
		t.Errorf("%q", got)
	}
}

// TestCancel_warns_of_an_unknown_reason: it stands all the same, since the binding is of the strength example.
func TestCancel_warns_of_an_unknown_reason(t *testing.T) {
	t.Parallel()
	s, _ := clinic(t, withTerminology(t))
	for code, want := range map[string]bool{"prov-pers": false, "oth-weath": false, "prov-moon": true} {
		id := mustCreate(t, s, booking("ada", "s9")).ID
		resp := do(t, s, Request{Interaction: Operate, Type: "Appointment", ID: id, Operation: "cancel",
			Body: parse(t, `{"resourceType":"Parameters","parameter":[`+arg("reason", "valueCodeableConcept", `{"coding":[{"system":"`+reasonSystem+`","code":"`+code+`"}]}`)+`]}`)})
		if got := strings.Contains(fmt.Sprint(resp.Issues), "unknown-reason"); got != want {
			t.Errorf("%s: warned %v, want %v: %v", code, got, want, resp.Issues)
		}
		if got := read(t, s, "Appointment", id).At("cancelationReason", "coding", "code"); got == nil || got.Text != code {
			t.Errorf("%s does not stand", code)
		}
	}
}
