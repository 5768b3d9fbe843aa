package resources

import (
	"fmt"
	"strings"
	"testing"

	"kiln/auth"
	"kiln/fhir"
)

// TestRecord_author: who wrote a record, in whose name, and when.
func TestRecord_author(t *testing.T) {
	t.Parallel()
	h := newHospital(t)
	value := `,"valueString":"y"`
	t.Run("authors_default_to_the_caller", func(t *testing.T) {
		for typ, path := range map[string][]string{"Observation": {"performer"}, "Condition": {"recorder"}, "MedicationRequest": {"requester"}, "ServiceRequest": {"requester"},
			"CarePlan": {"author"}, "Procedure": {"recorder"}, "Immunization": {"performer", "actor"}, "AllergyIntolerance": {"recorder"},
			"DiagnosticReport": {"performer"}, "DocumentReference": {"author"}, "Encounter": {"participant", "individual"}} {
			n, err := h.create(h.doc, bodyOf(typ, lifeOf(typ).States[len(lifeOf(typ).States)-2], ""))
			if err != nil {
				t.Error(describe(err))
				continue
			}
			if got := n.At(append(path, "reference")...); !got.IsString("Practitioner/dora") {
				t.Errorf("%s", n.JSON())
			}
			if at := lifeOf(typ).Recorded; at != "" && n.GetText(at) == "" {
				t.Errorf("%s has no %s", typ, at)
			}
		}
		n, err := h.create(auth.Operator("import"), bodyOf("Observation", "final", ""))
		if err != nil || n.Get("performer") != nil || n.Get("issued") != nil {
			t.Errorf("an import was changed: %s %s", n.JSON(), describe(err))
		}
	})
	t.Run("writing_as_another_is_refused", func(t *testing.T) {
		_, err := h.create(h.doc, bodyOf("Condition", "active", `,"recorder":{"reference":"Practitioner/dirk"}`))
		h.wantCode(err, fhir.BusinessRule, "not-the-author")
		_, err = h.create(h.doc, bodyOf("Observation", "final", `,"performer":[{"reference":"Practitioner/dirk"}]`))
		h.wantCode(err, fhir.BusinessRule, "not-the-author")
		if _, err := h.create(h.doc, bodyOf("Observation", "final", `,"performer":[{"reference":"Practitioner/dirk"},{"reference":"Practitioner/dora"}]`)); err != nil {
			t.Error(describe(err))
		}
		h.put(`{"resourceType":"PractitionerRole","id":"dora-role","active":true,"practitioner":{"reference":"Practitioner/dora"}}`)
		if _, err := h.create(h.doc, bodyOf("Observation", "final", `,"performer":[{"reference":"PractitionerRole/dora-role"}]`)); err != nil {
			t.Error(describe(err))
		}
		id := h.begin("Condition", "active")
		h.wantCode(h.change(h.doc, id, bodyOf("Condition", "active", `,"recorder":{"reference":"Practitioner/dirk"}`)), fhir.BusinessRule, "not-the-author")
	})
	t.Run("a_provenance_says_on_behalf_of_whom", func(t *testing.T) {
		post := func(who, behalf, target string) error {
			_, err := h.Do(t.Context(), Request{Interaction: Transaction, Principal: h.doc, Body: parse(t, transactionOf(
				entryOf("urn:uuid:c", "POST", "Condition", bodyOf("Condition", "active", `,"recorder":{"reference":"Practitioner/dirk"}`)),
				entryOf("urn:uuid:d", "POST", "Condition", bodyOf("Condition", "active", "")),
				entryOf("", "POST", "Provenance", fmt.Sprintf(`{"resourceType":"Provenance","recorded":"2026-03-02T10:00:00Z","target":[{"reference":%q}],
"agent":[{"who":{"reference":%q},"onBehalfOf":{"reference":%q}}]}`, target, who, behalf))))})
			return err
		}
		if err := post("Practitioner/dora", "Practitioner/dirk", "urn:uuid:c"); err != nil {
			t.Error(describe(err))
		}
		_, err := h.Do(t.Context(), Request{Interaction: Transaction, Principal: h.doc, Body: parse(t, transactionOf( // of a type that sorts behind it
			entryOf("urn:uuid:s", "POST", "ServiceRequest", bodyOf("ServiceRequest", "active", `,"requester":{"reference":"Practitioner/dirk"}`)),
			entryOf("", "POST", "Provenance", `{"resourceType":"Provenance","recorded":"2026-03-02T10:00:00Z","target":[{"reference":"urn:uuid:s"}],
"agent":[{"who":{"reference":"Practitioner/dora"},"onBehalfOf":{"reference":"Practitioner/dirk"}}]}`)))})
		if err != nil {
			t.Error(describe(err))
		}
		h.wantCode(post("Practitioner/dora", "Practitioner/dora", "urn:uuid:c"), fhir.BusinessRule, "not-the-author")
		h.wantCode(post("Practitioner/dirk", "Practitioner/dirk", "urn:uuid:c"), fhir.BusinessRule, "not-the-author")
		h.wantCode(post("Practitioner/dora", "Practitioner/dirk", "urn:uuid:d"), fhir.BusinessRule, "not-the-author")
	})
	t.Run("the_header_says_on_behalf_of_whom_and_why", func(t *testing.T) {
		header := func(more string) *fhir.Node {
			return parse(t, `{"resourceType":"Provenance","recorded":"2026-03-02T10:00:00Z","agent":[{"who":{"reference":"Practitioner/dora"}`+more)
		}
		write := func(r Request, body string) error {
			r.Principal, r.Body = h.doc, parse(t, body)
			r.Type = r.Body.ResourceType()
			_, err := h.Do(t.Context(), r)
			return err
		}
		other := bodyOf("Condition", "active", `,"recorder":{"reference":"Practitioner/dirk"}`)
		h.wantCode(write(Request{Interaction: Create, Provenance: header(`}]}`)}, other), fhir.BusinessRule, "not-the-author")
		if err := write(Request{Interaction: Create, Provenance: header(`,"onBehalfOf":{"reference":"Practitioner/dirk"}}]}`)}, other); err != nil {
			t.Error(describe(err))
		}
		id := h.begin("Observation", "final")
		amended := strings.Replace(bodyOf("Observation", "amended", value), "{", `{"id":"`+id+`",`, 1)
		h.wantCode(write(Request{Interaction: Update, ID: id, Provenance: header(`}]}`)}, amended), fhir.BusinessRule, "change-reason")
		if err := write(Request{Interaction: Update, ID: id, Provenance: header(`}],"reason":[{"text":"the wrong line"}]}`)}, amended); err != nil {
			t.Error(describe(err))
		}
	})
	t.Run("what_patients_report_is_theirs_and_unconfirmed", func(t *testing.T) {
		anna := patientApp("anna", "patient/*.cruds")
		n, err := h.create(anna, bodyOf("Observation", "final", ""))
		if err != nil || !n.At("performer", "reference").IsString("Patient/anna") {
			t.Errorf("%s", describe(err))
		}
		_, err = h.create(anna, bodyOf("Observation", "final", `,"performer":[{"reference":"Practitioner/dora"}]`))
		h.wantCode(err, fhir.BusinessRule, "not-the-author")
		_, err = h.create(anna, bodyOf("Observation", "amended", ""))
		h.wantCode(err, fhir.Forbidden, "not-your-step")
		n, err = h.create(anna, bodyOf("AllergyIntolerance", "active", ""))
		if err != nil || !n.At("verificationStatus", "coding", "code").IsString("unconfirmed") {
			t.Errorf("%s", describe(err))
		}
		for _, codes := range []string{`"code":"confirmed"}`, `"code":"unconfirmed"},{"system":"http://terminology.hl7.org/CodeSystem/allergyintolerance-verification","code":"confirmed"}`} {
			_, err = h.create(anna, bodyOf("AllergyIntolerance", "active", `,"verificationStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/allergyintolerance-verification",`+codes+`]}`))
			h.wantCode(err, fhir.BusinessRule, "unconfirmed-first")
		}
	})
	t.Run("late_entry_keeps_both_times", func(t *testing.T) {
		n, err := h.create(h.doc, bodyOf("Condition", "active", `,"onsetDateTime":"2020-05-01"`))
		if err != nil || n.GetText("onsetDateTime") != "2020-05-01" || !strings.HasPrefix(n.GetText("recordedDate"), "2026-03-02") {
			t.Fatalf("%s %s", n.JSON(), describe(err))
		}
		_, err = h.create(h.doc, bodyOf("Condition", "active", `,"recordedDate":"2026-03-03T10:00:00Z"`))
		h.wantCode(err, fhir.BusinessRule, "recorded-in-future")
		if _, err = h.create(h.doc, bodyOf("Condition", "active", `,"recordedDate":"2026-03-02"`)); err != nil {
			t.Error(describe(err))
		}
		h.wantCode(h.change(h.doc, n.ID(), bodyOf("Condition", "active", `,"recordedDate":"2020-05-01"`)), fhir.BusinessRule, "recorded-fixed")
	})
	t.Run("only_a_prescriber_makes_it_active", func(t *testing.T) {
		id := h.begin("MedicationRequest", "draft")
		h.wantCode(h.change(backend("system/*.cruds"), id, bodyOf("MedicationRequest", "active", "")), fhir.Forbidden, "not-your-step")
		nurse := `{"resourceType":"PractitionerRole","id":"rn","active":true,"practitioner":{"reference":"Practitioner/dora"},"code":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/practitioner-role","code":"%s"}]}]}`
		h.put(fmt.Sprintf(nurse, "nurse"))
		h.wantCode(h.change(h.doc, id, bodyOf("MedicationRequest", "active", "")), fhir.Forbidden, "not-a-prescriber")
		_, err := h.create(h.doc, bodyOf("MedicationRequest", "active", ""))
		h.wantCode(err, fhir.Forbidden, "not-a-prescriber")
		h.put(fmt.Sprintf(nurse, "doctor"))
		if err := h.change(h.doc, id, bodyOf("MedicationRequest", "active", "")); err != nil {
			t.Error(describe(err))
		}
	})
}
