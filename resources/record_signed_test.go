package resources

import (
	"strings"
	"testing"

	"kiln/auth"
	"kiln/fhir"
	"kiln/resources/records"
)

// TestRecord_signed_is_signed: the content of what is signed changes only as an amendment, with a reason.
func TestRecord_signed_is_signed(t *testing.T) {
	t.Parallel()
	h := newHospital(t)
	reason := func(text string) string {
		return `,"extension":[{"url":"https://kiln.example/fhir/StructureDefinition/change-reason","valueString":"` + text + `"}]`
	}
	value := `,"valueString":"y"`
	t.Run("final_content_needs_an_amendment_and_a_reason", func(t *testing.T) {
		id := h.begin("Observation", "final")
		h.wantCode(h.change(h.doc, id, bodyOf("Observation", "final", value)), fhir.Conflict, "illegal-transition")
		h.wantCode(h.change(h.doc, id, bodyOf("Observation", "final", value+reason("x"))), fhir.Conflict, "illegal-transition")
		h.wantCode(h.change(h.doc, id, bodyOf("Observation", "amended", value)), fhir.BusinessRule, "change-reason")
		h.wantCode(h.change(h.doc, id, bodyOf("Observation", "amended", value+reason("  "))), fhir.BusinessRule, "change-reason")
		if err := h.change(h.doc, id, bodyOf("Observation", "amended", value+reason("read the wrong line"))); err != nil {
			t.Fatal(describe(err))
		}
		h.wantCode(h.change(h.doc, id, bodyOf("Observation", "amended", `,"valueString":"z"`+reason("read the wrong line"))), fhir.BusinessRule, "change-reason")
		if err := h.change(h.doc, id, bodyOf("Observation", "amended", `,"valueString":"z"`+reason("and once more"))); err != nil {
			t.Fatal(describe(err))
		}
		if got := h.found(h.doc, "Provenance", "target=Observation/"+id); len(strings.Fields(got)) != 2 {
			t.Errorf("Provenances: %q", got)
		}
	})
	t.Run("a_provenance_gives_the_reason_for_a_change", func(t *testing.T) {
		id := h.begin("Observation", "final")
		change := func(reason string) error {
			_, err := h.Do(t.Context(), Request{Interaction: Transaction, Principal: h.doc, Body: parse(t, transactionOf(
				entryOf("", "PUT", "Observation/"+id, strings.Replace(bodyOf("Observation", "amended", value), "{", `{"id":"`+id+`",`, 1)),
				entryOf("", "POST", "Provenance", `{"resourceType":"Provenance","recorded":"2026-03-02T10:00:00Z","target":[{"reference":"Observation/`+id+`"}],
"agent":[{"who":{"reference":"Practitioner/dora"}}]`+reason+`}`)))})
			return err
		}
		h.wantCode(change(""), fhir.BusinessRule, "change-reason")
		if err := change(`,"reason":[{"text":"the wrong line"}]`); err != nil {
			t.Error(describe(err))
		}
	})
	t.Run("patches_meet_the_same_rules", func(t *testing.T) {
		id := h.begin("Observation", "final")
		_, err := h.Do(t.Context(), Request{Principal: h.doc, Interaction: Patch, Type: "Observation", ID: id,
			JSONPatch: []byte(`[{"op":"replace","path":"/code/text","value":"another"}]`)})
		h.wantCode(err, fhir.Conflict, "illegal-transition")
		_, err = h.Do(t.Context(), Request{Interaction: Transaction, Principal: h.doc, Body: parse(t, transactionOf(entryOf("", "PUT", "Observation/"+id,
			strings.Replace(bodyOf("Observation", "preliminary", ""), "{", `{"id":"`+id+`",`, 1))))})
		h.wantCode(err, fhir.Conflict, "illegal-transition")
	})
	t.Run("tags_of_a_signed_record_change", func(t *testing.T) {
		id := h.begin("Observation", "final")
		if err := h.change(h.doc, id, bodyOf("Observation", "final", `,"meta":{"tag":[{"system":"urn:x","code":"seen"}]}`)); err != nil {
			t.Error(describe(err))
		}
	})
	t.Run("what_is_superseded_keeps_its_content", func(t *testing.T) {
		id := h.begin("DocumentReference", "final")
		h.wantCode(h.change(h.doc, id, bodyOf("DocumentReference", "superseded", `,"description":"y"`)), fhir.Conflict, "illegal-transition")
	})
	t.Run("retracted_is_for_good", func(t *testing.T) {
		id := h.begin("Observation", records.EnteredInError)
		h.wantCode(h.change(h.doc, id, bodyOf("Observation", records.EnteredInError, value)), fhir.Conflict, "illegal-transition")
		h.wantCode(h.change(auth.Operator("test"), id, bodyOf("Observation", "final", "")), fhir.Conflict, "illegal-transition")
	})
	t.Run("the_message_names_from_to_and_what_is_allowed", func(t *testing.T) {
		err := h.change(h.doc, h.begin("Encounter", "finished"), bodyOf("Encounter", "in-progress", ""))
		if e, _ := err.(*fhir.Error); e == nil || !strings.Contains(e.Error(), "finished") || !strings.Contains(e.Error(), "in-progress") || !strings.Contains(e.Error(), "entered-in-error") {
			t.Error(describe(err))
		}
	})
	t.Run("stopping_needs_a_status_reason", func(t *testing.T) {
		id := h.begin("MedicationRequest", "active")
		h.wantCode(h.change(h.doc, id, bodyOf("MedicationRequest", "stopped", "")), fhir.BusinessRule, "reason-required")
	})
}
