package resources

import (
	"fmt"
	"strings"
	"testing"

	"kiln/auth"
	"kiln/fhir"
)

// rx is a prescription for anna.
func rx(status, medicine, more string) string {
	return fmt.Sprintf(`{"resourceType":"MedicationRequest","status":%q,"intent":"order","medicationCodeableConcept":%s,"subject":{"reference":"Patient/anna"}%s}`, status, medicine, more)
}

// drug is a CodeableConcept of one code.
func drug(system, code, text string) string {
	return fmt.Sprintf(`{"coding":[{"system":%q,"code":%q}],"text":%q}`, system, code, text)
}

func override(reason string) string {
	return `,"extension":[{"url":"` + fhir.OverrideReasonExtension + `","valueString":"` + reason + `"}]`
}

// allergic gives anna an allergy.
func (h *hospital) allergic(id, to, more string) {
	h.put(fmt.Sprintf(`{"resourceType":"AllergyIntolerance","id":%q,"clinicalStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical","code":"active"}]},
"code":%s,"patient":{"reference":"Patient/anna"}%s}`, id, to, more))
}

const (
	drugs  = "http://example.org/drugs"
	rxnorm = "http://www.nlm.nih.gov/research/umls/rxnorm"
)

func newPharmacy(t testing.TB) *hospital {
	h := newHospital(t)
	h.put(`{"resourceType":"CodeSystem","id":"drugs","url":"` + drugs + `","status":"active","content":"complete","hierarchyMeaning":"is-a","concept":[
{"code":"penicillins","display":"Penicillins","concept":[{"code":"amoxicillin","display":"Amoxicillin"},{"code":"flucloxacillin","display":"Flucloxacillin"}]},{"code":"paracetamol","display":"Paracetamol"}]}`)
	h.put(`{"resourceType":"CodeSystem","id":"rxnorm","url":"` + rxnorm + `","status":"active","content":"complete","property":[{"code":"has_ingredient","type":"string"},{"code":"consists_of","type":"string"}],"concept":[
{"code":"723","display":"amoxicillin"},{"code":"161","display":"acetaminophen"},
{"code":"5001","display":"amoxicillin 500 MG","property":[{"code":"has_ingredient","valueString":"CUI:723"}]},
{"code":"5002","display":"amoxicillin 500 MG Oral Capsule","property":[{"code":"consists_of","valueString":"CUI:5001"}]},
{"code":"5003","display":"amoxicillin 250 MG Oral Tablet","property":[{"code":"consists_of","valueString":"CUI:5004"}]},
{"code":"5004","display":"amoxicillin 250 MG","property":[{"code":"has_ingredient","valueString":"CUI:723"}]}]}`)
	return h
}

func TestPrescription_is_compared_with_allergies(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ allergy, medicine string }{
		"the_same_code":                {drug(drugs, "amoxicillin", "a"), drug(drugs, "amoxicillin", "b")},
		"a_kind_of_it":                 {drug(drugs, "penicillins", "a"), drug(drugs, "amoxicillin", "b")},
		"its_ingredient":               {drug(rxnorm, "723", "a"), drug(rxnorm, "5002", "b")},
		"the_same_name":                {`{"text":"Penicillin V"}`, `{"text":"penicillin v"}`},
		"its_name_within":              {`{"text":"Amoxicillin"}`, drug("http://elsewhere.example", "1", "AMOXICILLIN 500 mg, capsules")},
		"the_same_code_of_what_is_not": {drug("http://elsewhere.example", "7", "a"), drug("http://elsewhere.example", "7", "b")},
	} {
		t.Run(name, func(t *testing.T) {
			h := newPharmacy(t)
			h.allergic("al", c.allergy, `,"criticality":"high","meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"R"}]}`)
			_, err := h.create(h.doc, rx("active", c.medicine, ""))
			h.wantCode(err, fhir.BusinessRule, "allergy-match")
			_, err = h.create(h.doc, rx("active", c.medicine, override(" ")))
			if fhir.KindOf(err) != fhir.BusinessRule && fhir.KindOf(err) != fhir.Unprocessable {
				t.Errorf("an empty reason: %s", describe(err))
			}
			if n := count(t, h.Service, "DetectedIssue"); n != 0 {
				t.Errorf("a refusal left %d behind", n)
			}
			draft := h.put(strings.Replace(rx("draft", c.medicine, ""), "{", `{"id":"later",`, 1))
			h.wantCode(h.change(h.doc, draft.ID, rx("active", c.medicine, "")), fhir.BusinessRule, "allergy-match")
			if err := h.change(h.doc, draft.ID, rx("active", c.medicine, override("tolerated before"))); err != nil {
				t.Fatal(describe(err))
			}
			issue := read(t, h.Service, "MedicationRequest", "later").At("detectedIssue").GetText("reference")
			for ref := range read(t, h.Service, "MedicationRequest", "later").Get("detectedIssue").Items() {
				issue = ref.GetText("reference")
			}
			_, id, _ := strings.Cut(issue, "/")
			n := read(t, h.Service, "DetectedIssue", id)
			if !n.At("mitigation", "action", "text").IsString("tolerated before") || !n.At("author", "reference").IsString("Practitioner/dora") ||
				!n.At("code", "coding", "code").IsString("ALGY") || n.GetText("severity") != "high" || !n.At("meta", "security", "code").IsString("R") ||
				!strings.Contains(string(n.JSON()), "AllergyIntolerance/al") || !strings.Contains(string(n.JSON()), "MedicationRequest/later") {
				t.Errorf("%s", n.JSON())
			}
			h.reads(h.doc, ok, "DetectedIssue/"+id)
		})
	}
}

func TestPrescription_is_compared_with_active_ones(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ has, medicine, want string }{
		"the_same_code":          {drug(drugs, "amoxicillin", "a"), drug(drugs, "amoxicillin", "b"), "duplicate-therapy"},
		"a_kind_of_it":           {drug(drugs, "amoxicillin", "a"), drug(drugs, "penicillins", "b"), "duplicate-therapy"},
		"the_same_ingredient":    {drug(rxnorm, "5003", "a"), drug(rxnorm, "5002", "b"), "duplicate-therapy"},
		"the_same_name":          {`{"text":"Aspirin"}`, `{"text":"aspirin"}`, "duplicate-therapy"},
		"siblings_are_different": {drug(drugs, "amoxicillin", "a"), drug(drugs, "flucloxacillin", "b"), ""},
		"others_are_different":   {drug(rxnorm, "5003", "a"), drug(rxnorm, "161", "b"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			h := newPharmacy(t)
			h.put(strings.Replace(rx("active", c.has, ""), "{", `{"id":"has",`, 1))
			_, err := h.create(h.doc, rx("active", c.medicine, ""))
			if c.want == "" {
				if err != nil {
					t.Error(describe(err))
				}
				return
			}
			h.wantCode(err, fhir.BusinessRule, c.want)
			n, err := h.create(h.doc, rx("active", c.medicine, override("two strengths")))
			if err != nil || n.At("detectedIssue") == nil {
				t.Errorf("%s", describe(err))
			}
			if err := h.change(h.doc, "has", rx("stopped", c.has, `,"statusReason":{"text":"replaced"}`)); err != nil {
				t.Fatal(describe(err))
			}
		})
	}
}

func TestPrescription_says_what_was_not_checked(t *testing.T) {
	t.Parallel()
	h := newPharmacy(t)
	h.allergic("al", drug(drugs, "penicillins", "Penicillins"), "")
	told := func(p auth.Principal, medicine string) fhir.Issue {
		resp, err := h.Do(t.Context(), Request{Principal: p, Interaction: Create, Type: "MedicationRequest", Body: parse(t, rx("active", medicine, ""))})
		if err != nil {
			t.Fatal(describe(err))
		}
		for _, i := range resp.Issues {
			if i.Detail == "safety-checked" {
				return i
			}
		}
		t.Fatal("nothing is told")
		return fhir.Issue{}
	}
	if i := told(h.doc, drug(drugs, "paracetamol", "p")); i.Severity != fhir.SeverityInformation || !strings.Contains(i.Text, "1 allergies") {
		t.Errorf("%+v", i)
	}
	if i := told(h.doc, drug("http://elsewhere.example", "x", "y")); i.Severity != fhir.SeverityWarning || !strings.Contains(i.Text, "elsewhere.example") {
		t.Errorf("%+v", i)
	}
	if i := told(h.doc, `{"text":"cough drops"}`); i.Severity != fhir.SeverityWarning || !strings.Contains(i.Text, "by name only") {
		t.Errorf("%+v", i)
	}
	// Who may not look at allergies is told that nobody has, and learns nothing of them.
	if i := told(doctor("dora", "user/MedicationRequest.cruds user/Patient.rs"), drug(drugs, "amoxicillin", "amoxicillin")); i.Severity != fhir.SeverityWarning || !strings.Contains(i.Text, "AllergyIntolerance") {
		t.Errorf("%+v", i)
	}
	h.put(strings.Replace(`{"resourceType":"AllergyIntolerance","id":"hidden","clinicalStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical","code":"active"}]},
"meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"V"}]},"code":CODE,"patient":{"reference":"Patient/anna"}}`, "CODE", drug(rxnorm, "161", "p"), 1))
	if i := told(h.doc, drug(rxnorm, "161", "tablets")); !strings.Contains(i.Text, "1 allergies") {
		t.Errorf("an allergy that is hidden shows: %+v", i)
	}
}

func TestPrescription_that_is_not_one_is_not_checked(t *testing.T) {
	t.Parallel()
	h := newPharmacy(t)
	amoxicillin := drug(drugs, "amoxicillin", "a")
	h.allergic("al", drug(drugs, "penicillins", "Penicillins"), "")
	plan := strings.Replace(rx("active", amoxicillin, ""), `"order"`, `"plan"`, 1)
	never := rx("active", amoxicillin, `,"doNotPerform":true`)
	for name, body := range map[string]string{"plan": plan, "never": never} {
		n, err := h.create(h.doc, body)
		if err != nil {
			t.Errorf("%s: %s", name, describe(err))
			continue
		}
		// What was judged does not become something else.
		h.wantCode(h.change(h.doc, n.ID(), strings.Replace(rx("active", amoxicillin, ""), "{", `{"authoredOn":"`+n.GetText("authoredOn")+`","requester":{"reference":"Practitioner/dora"},`, 1)), fhir.BusinessRule, "signed-element")
	}
	if _, err := h.create(auth.Operator("import"), rx("active", amoxicillin, "")); err != nil {
		t.Errorf("an import: %s", describe(err))
	}
	if _, err := h.create(backend("system/*.cruds"), rx("active", amoxicillin, "")); err != nil {
		t.Errorf("a backend: %s", describe(err))
	}
	h.put(strings.Replace(rx("draft", drug(drugs, "paracetamol", "p"), ""), "{", `{"id":"swap",`, 1))
	if err := h.change(h.doc, "swap", rx("active", drug(drugs, "paracetamol", "p"), "")); err != nil {
		t.Fatal(describe(err))
	}
	h.wantCode(h.change(h.doc, "swap", rx("active", amoxicillin, "")), fhir.BusinessRule, "signed-element")
}
