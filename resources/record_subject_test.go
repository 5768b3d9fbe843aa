package resources

import (
	"fmt"
	"strings"
	"testing"

	"kiln/auth"
	"kiln/fhir"
)

// TestRecord_subject: a record is about one patient for good, and so is all that it refers to.
func TestRecord_subject(t *testing.T) {
	t.Parallel()
	h := newHospital(t)
	t.Run("the_subject_never_changes", func(t *testing.T) {
		for _, typ := range []string{"Observation", "Condition", "Encounter", "AllergyIntolerance", "MedicationRequest"} {
			state := lifeOf(typ).States[len(lifeOf(typ).States)-2]
			if typ == "Observation" {
				state = "preliminary"
			}
			id := h.begin(typ, state)
			moved := strings.Replace(bodyOf(typ, state, ""), "Patient/anna", "Patient/bela", 1)
			h.wantCode(h.change(h.doc, id, moved), fhir.BusinessRule, "subject-fixed")
			h.wantCode(h.change(auth.Operator("test"), id, moved), fhir.BusinessRule, "subject-fixed")
		}
	})
	t.Run("one_patient_along_the_chain", func(t *testing.T) {
		in := func(e string) string {
			return bodyOf("Observation", "final", `,"encounter":{"reference":"Encounter/`+e+`"}`)
		}
		if _, err := h.create(h.doc, in("ea")); err != nil {
			t.Fatal(describe(err))
		}
		_, err := h.create(h.doc, in("eb"))
		h.wantCode(err, fhir.BusinessRule, "subject-mismatch")
		_, operators := h.create(auth.Operator("test"), in("eb"))
		h.wantCode(operators, fhir.BusinessRule, "subject-mismatch")
		if _, err := h.create(auth.Operator("test"), in("later")); err != nil {
			t.Error(describe(err))
		}
		// What is hidden and what is missing look the same.
		_, hidden := h.create(h.doc, in("ec"))
		_, missing := h.create(h.doc, in("no"))
		h.wantCode(hidden, fhir.BusinessRule, "subject-mismatch")
		if strings.Replace(hidden.Error(), "Encounter/ec", "Encounter/no", 1) != missing.Error() {
			t.Errorf("hidden: %s; missing: %s", hidden, missing)
		}
		entries := transactionOf(
			entryOf("urn:uuid:a", "POST", "Observation", strings.Replace(bodyOf("Observation", "final", ""), "anna", "bela", 1)),
			entryOf("", "POST", "DiagnosticReport", bodyOf("DiagnosticReport", "final", `,"result":[{"reference":"urn:uuid:a"}]`)))
		_, err = h.Do(t.Context(), Request{Interaction: Transaction, Principal: h.doc, Body: parse(t, entries)})
		h.wantCode(err, fhir.BusinessRule, "subject-mismatch")
		if e := err.(*fhir.Error); e.Issues[0].Expression[0] != "Bundle.entry[1].resource.result" {
			t.Errorf("at %v", e.Issues[0].Expression)
		}
	})
	t.Run("imports_by_copy_meet_the_chain", func(t *testing.T) {
		var entries []string
		for i := range minBulk + 4 {
			e := "ea"
			if i == minBulk {
				e = "eb"
			}
			entries = append(entries, entryOf("", "POST", "Observation", bodyOf("Observation", "final", `,"encounter":{"reference":"Encounter/`+e+`"}`)))
		}
		_, err := h.Do(t.Context(), Request{Interaction: Transaction, Body: parse(t, transactionOf(entries...))})
		h.wantCode(err, fhir.BusinessRule, "subject-mismatch")
		if e, _ := err.(*fhir.Error); e != nil && e.Issues[0].Expression[0] != fmt.Sprintf("Bundle.entry[%d].resource.encounter", minBulk) {
			t.Errorf("at %v", e.Issues[0].Expression)
		}
	})
}
