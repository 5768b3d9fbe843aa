package resources

import (
	"strings"
	"testing"

	"kiln/auth"
	"kiln/fhir"
	"kiln/storage"
)

// Consents and labels bind writes as they bind reads: nobody writes what they could not see afterwards.
func TestAccess_writes_are_seen_by_their_writers(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	treats, boss, anna := doctor("treats", "user/*.cruds"), admin("user/*.cruds"), patientApp("anna", "patient/*.cruds")
	create := func(p auth.Principal, body string) fhir.Kind {
		n := parse(t, body)
		return w.status(p, Request{Interaction: Create, Type: n.ResourceType(), Body: n})
	}
	const confidentiality, act = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality|", "http://terminology.hl7.org/CodeSystem/v3-ActCode|"
	labelled := func(body, label string) string {
		system, code, _ := strings.Cut(label, "|")
		return strings.Replace(body, "{", `{"meta":{"security":[{"system":"`+system+`","code":"`+code+`"}]},`, 1)
	}
	procedure := `{"resourceType":"Procedure","status":"completed","subject":{"reference":"Patient/anna"},"code":{"text":"x"}}`
	waiting := `{"resourceType":"Appointment","status":"proposed","participant":[{"actor":{"reference":"Patient/anna"},"status":"accepted"}]}`

	t.Run("labels", func(t *testing.T) {
		for _, c := range []struct {
			who   auth.Principal
			body  string
			label string
			want  fhir.Kind
		}{
			{treats, procedure, confidentiality + "R", ok},
			{treats, procedure, confidentiality + "N", ok},
			{treats, procedure, confidentiality + "V", fhir.Forbidden}, // not cleared: it would be gone for its writer
			{treats, procedure, act + "HIV", fhir.Forbidden},
			{boss, waiting, confidentiality + "R", fhir.Forbidden}, // administrators are not cleared for R
			{anna, waiting, "urn:x|anything", ok},
			{anna, waiting, confidentiality + "R", fhir.Forbidden}, // patients say in Consents who may see what
			{anna, waiting, act + "PSY", fhir.Forbidden},
			{backend("system/*.cruds"), procedure, act + "HIV", ok},
		} {
			if got := create(c.who, labelled(c.body, c.label)); got != c.want {
				t.Errorf("%v writes %s: kind %d, want %d", c.who.Roles, c.label, got, c.want)
			}
		}
		// Nor do patients take labels away.
		v := do(t, w.Service, Request{Interaction: Create, Type: "Appointment", Body: parse(t, labelled(waiting, confidentiality+"R"))}).Version
		patch := Request{Interaction: Patch, Type: "Appointment", ID: v.ID, JSONPatch: []byte(`[{"op":"remove","path":"/meta/security"}]`), IfMatch: "1"}
		if got := w.status(anna, patch); got != fhir.Forbidden {
			t.Errorf("a patient takes a label away: kind %d", got)
		}
	})
	t.Run("consents", func(t *testing.T) {
		w.put(`{"resourceType":"Consent","id":"c","status":"active","scope":{"coding":[{"code":"patient-privacy"}]},"category":[{"text":"x"}],
"patient":{"reference":"Patient/anna"},"policyRule":{"text":"x"},"provision":{"type":"permit","provision":[{"type":"deny","class":[{"system":"http://hl7.org/fhir/resource-types","code":"Procedure"}]}]}}`)
		if got := create(treats, procedure); got != fhir.Forbidden {
			t.Errorf("a doctor writes what a Consent denies: kind %d", got)
		}
		if got := create(treats, strings.NewReplacer("Procedure", "Communication").Replace(`{"resourceType":"Procedure","status":"completed","subject":{"reference":"Patient/anna"}}`)); got != ok {
			t.Errorf("and what it does not: kind %d", got)
		}
		if got := create(anna, waiting); got != ok {
			t.Errorf("the patient: kind %d", got)
		}
		w.put(`{"resourceType":"Consent","id":"c","status":"active","scope":{"coding":[{"code":"patient-privacy"}]},"category":[{"text":"x"}],
"patient":{"reference":"Patient/anna"},"policyRule":{"text":"x"},"provision":{"type":"deny"}}`)
		if got := create(boss, waiting); got != fhir.Forbidden {
			t.Errorf("an administrator books behind a denial: kind %d", got)
		}
		if got := create(boss, `{"resourceType":"Consent","status":"inactive","scope":{"coding":[{"code":"patient-privacy"}]},"category":[{"text":"x"}],"patient":{"reference":"Patient/anna"},"policyRule":{"text":"x"}}`); got != ok {
			t.Errorf("an administrator writes down what the patient says: kind %d", got)
		}
		do(t, w.Service, Request{Interaction: Delete, Type: "Consent", ID: "c"})
	})
	t.Run("what_lends_its_compartment_must_be_visible", func(t *testing.T) {
		for target, want := range map[string]fhir.Kind{"Observation/a1": ok, "Observation/b1": fhir.Forbidden, "Observation/none": fhir.Forbidden} {
			if got := create(treats, `{"resourceType":"Provenance","recorded":"2024-01-01T00:00:00Z","target":[{"reference":"`+target+`"}],"agent":[{"who":{"reference":"Practitioner/treats"}}]}`); got != want {
				t.Errorf("Provenance of %s: kind %d, want %d", target, got, want)
			}
		}
		if got := create(boss, `{"resourceType":"Provenance","recorded":"2024-01-01T00:00:00Z","target":[{"reference":"Observation/none"}],"agent":[{"who":{"reference":"Practitioner/treats"}}]}`); got != fhir.Forbidden {
			t.Errorf("by an administrator: kind %d", got)
		}
	})
	t.Run("slots_of_the_own_calendar", func(t *testing.T) {
		w.put(`{"resourceType":"Schedule","id":"mine","actor":[{"reference":"Practitioner/treats"}]}`)
		w.put(`{"resourceType":"Schedule","id":"shared","actor":[{"reference":"Practitioner/treats"},{"reference":"Practitioner/stranger"}]}`)
		slot := func(schedule string) string {
			return `{"resourceType":"Slot","status":"free","schedule":{"reference":"Schedule/` + schedule + `"},"start":"2030-01-01T10:00:00Z","end":"2030-01-01T10:30:00Z"}`
		}
		for schedule, want := range map[string]fhir.Kind{"mine": ok, "shared": fhir.Forbidden, "none": fhir.Forbidden} {
			if got := create(treats, slot(schedule)); got != want {
				t.Errorf("a Slot of %s: kind %d, want %d", schedule, got, want)
			}
		}
		w.put(strings.Replace(slot("mine"), "{", `{"id":"s1",`, 1))
		n := parse(t, strings.Replace(slot("shared"), "{", `{"id":"s1",`, 1))
		if got := w.status(treats, Request{Interaction: Update, Type: "Slot", ID: "s1", Body: n}); got != fhir.Forbidden {
			t.Errorf("moved into another calendar: kind %d", got)
		}
		if got := w.status(doctor("stranger", "user/*.cruds"), Request{Interaction: Patch, Type: "Slot", ID: "s1", JSONPatch: []byte(`[{"op":"replace","path":"/status","value":"busy-unavailable"}]`)}); got != fhir.Forbidden {
			t.Errorf("by another: kind %d", got)
		}
	})
	t.Run("a_coverage_question_does_not_change", func(t *testing.T) {
		body := `{"resourceType":"CoverageEligibilityRequest","status":"active","purpose":["validation"],"patient":{"reference":"Patient/anna"},"created":"2024-01-01","insurer":{"reference":"Organization/clinic"}}`
		if got := create(anna, body); got != ok {
			t.Errorf("create: kind %d", got)
		}
		if got := w.status(anna, Request{Interaction: Update, Type: "CoverageEligibilityRequest", ID: "x", Body: parse(t, strings.Replace(body, "{", `{"id":"x",`, 1))}); got != fhir.Forbidden {
			t.Errorf("update: kind %d", got)
		}
	})
}

// Everybody reads Slots. Why one is closed is for who keeps the calendar.
func TestAccess_why_time_is_closed(t *testing.T) {
	t.Parallel()
	s, _ := clinic(t, func(_ *Options, so *storage.Options) { so.Unrestricted = false; so.PoolSize = 4 })
	doc, ada, other := doctor("doc", "user/*.cruds"), patientApp("ada", "patient/*.rs"), doctor("other", "user/*.cruds")
	put(t, s, `{"resourceType":"Schedule","id":"own","extension":[{"url":"http://hl7.org/fhir/StructureDefinition/timezone","valueCode":"UTC"}],"actor":[{"reference":"Practitioner/doc"}]}`)
	body := parse(t, `{"resourceType":"Parameters","parameter":[`+strings.Join([]string{arg("start", "valueDateTime", `"2026-01-16T20:00:00Z"`), arg("end", "valueDateTime", `"2026-01-16T21:00:00Z"`), arg("reason", "valueString", `"Chemotherapy"`)}, ",")+`]}`)
	do(t, s, Request{Principal: doc, Interaction: Operate, Operation: "block", Type: "Schedule", ID: "own", Body: body})
	for _, who := range []auth.Principal{ada, other, doc} {
		for _, e := range do(t, s, Request{Principal: who, Interaction: SearchType, Type: "Slot", Query: "_revinclude=Provenance:target"}).Bundle.Entries {
			if strings.Contains(string(e.Version.Content), "Chemo") != (who.FHIRUser == doc.FHIRUser && e.Version.Type == "Provenance") {
				t.Errorf("%s: %s", who.FHIRUser, e.Version.Content)
			}
		}
	}
}
