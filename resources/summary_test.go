package resources

import (
	"slices"
	"strings"
	"testing"

	"kiln/auth"
	"kiln/conformance"
	"kiln/conformance/validate"
	"kiln/fhir"
)

func patientSummary(t testing.TB, s *Service, p auth.Principal, id string) *fhir.Node {
	t.Helper()
	return do(t, s, Request{Principal: p, Interaction: Operate, Type: "Patient", ID: id, Operation: "summary"}).Resource
}

// sectionsOf are the sections of a summary: the names of the entries by title.
func sectionsOf(bundle *fhir.Node) map[string][]string {
	list := map[string][]string{}
	for section := range bundle.At("entry", "resource").Get("section").Items() {
		title := section.GetText("title")
		for ref := range section.Get("entry").Items() {
			list[title] = append(list[title], ref.GetText("reference"))
		}
	}
	return list
}

// checkDocument looks for what every summary has to be: a valid document whose references lead to its entries.
func checkDocument(t *testing.T, bundle *fhir.Node) {
	t.Helper()
	r4, err := conformance.R4()
	if err != nil {
		t.Fatal(err)
	}
	v, err := validate.New(r4, validate.Options{Invariants: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, issue := range v.Resource(bundle) {
		if issue.Severity == fhir.SeverityError || issue.Severity == fhir.SeverityFatal {
			t.Errorf("%v %s", issue.Expression, issue.Text)
		}
	}
	urls := map[string]bool{}
	for e := range bundle.Get("entry").Items() {
		if url := e.GetText("fullUrl"); urls[url] {
			t.Errorf("%s is there twice", url)
		} else {
			urls[url] = true
		}
	}
	for title, refs := range sectionsOf(bundle) {
		for _, ref := range refs {
			if !urls[ref] && !urls[testBase+"/"+ref] {
				t.Errorf("%s refers to %s, which is not in the document", title, ref)
			}
		}
	}
	for _, code := range []string{"11450-4", "48765-2", "10160-0"} {
		found := false
		for section := range bundle.At("entry", "resource").Get("section").Items() {
			if section.At("code", "coding", "code").IsString(code) {
				found = true
			}
			if section.At("text", "div") == nil || section.At("entry") == nil || section.GetText("title") == "" {
				t.Errorf("a section lacks something: %s", section.JSON())
			}
		}
		if !found {
			t.Errorf("there is no section %s", code)
		}
	}
}

func TestSummary(t *testing.T) {
	t.Parallel()
	h := newHospital(t)
	t.Run("nothing_known_is_said", func(t *testing.T) {
		bundle := patientSummary(t, h.Service, h.doc, "bela")
		checkDocument(t, bundle)
		text := string(bundle.JSON())
		for _, code := range []string{"no-problem-info", "no-allergy-info", "no-medication-info"} {
			if !strings.Contains(text, code) {
				t.Errorf("no %s in %s", code, text)
			}
		}
		if n := len(sectionsOf(bundle)); n != 3 {
			t.Errorf("%d sections", n)
		}
	})
	made := map[string]string{}
	for name, body := range map[string]string{
		"problem": bodyOf("Condition", "active", `,"note":[{"text":"n"}]`), "past": bodyOf("Condition", "resolved", ""), "wrong": bodyOf("Condition", "entered-in-error", ""),
		"allergy":  strings.Replace(bodyOf("AllergyIntolerance", "active", `,"criticality":"high"`), `"text":"x"`, `"text":"<script>alert(1)</script> & nuts"`, 1),
		"medicine": bodyOf("MedicationRequest", "active", `,"dosageInstruction":[{"text":"one a day"}]`), "stopped": bodyOf("MedicationRequest", "stopped", ""),
		"vaccine": bodyOf("Immunization", "completed", ""), "procedure": bodyOf("Procedure", "completed", ""), "plan": bodyOf("CarePlan", "active", ""),
		"report":   bodyOf("DiagnosticReport", "final", ""),
		"result":   bodyOf("Observation", "final", `,"effectiveDateTime":"2026-01-01","valueQuantity":{"value":1.50,"unit":"mmol/L"},`+categorised("laboratory")),
		"early":    bodyOf("Observation", "preliminary", `,`+categorised("laboratory")),
		"pressure": bodyOf("Observation", "final", `,"effectiveDateTime":"2026-01-02",`+categorised("vital-signs")),
		"older":    bodyOf("Observation", "final", `,"effectiveDateTime":"2025-01-02",`+categorised("vital-signs")),
		"withheld": bodyOf("Condition", "active", withheld("later", "9000-01-01T00:00:00Z")),
	} {
		h.put(strings.Replace(body, "{", `{"id":"`+name+`",`, 1))
		made[name] = parse(t, body).ResourceType() + "/" + name
	}
	inLOINC := func(code string) string {
		return `"code":{"coding":[{"system":"http://loinc.org","code":"` + code + `"}]}`
	}
	for name, body := range map[string]string{
		"smokes":   bodyOf("Observation", "final", `,"effectiveDateTime":"2026-01-02",`+categorised("social-history")),
		"pregnant": `{"resourceType":"Observation","status":"final","effectiveDateTime":"2026-01-02","subject":{"reference":"Patient/anna"},` + inLOINC("82810-3") + `,"valueCodeableConcept":{"text":"Pregnant"}}`,
		"before":   `{"resourceType":"Observation","status":"final","effectiveDateTime":"2025-01-02","subject":{"reference":"Patient/anna"},` + inLOINC("82810-3") + `}`,
		"due":      `{"resourceType":"Observation","status":"final","effectiveDateTime":"2026-01-02","subject":{"reference":"Patient/anna"},` + inLOINC("11778-8") + `,"valueDateTime":"2026-09-01"}`,
		"alert":    `{"resourceType":"Flag","status":"active","code":{"text":"Bites"},"subject":{"reference":"Patient/anna"}}`,
		"calm":     `{"resourceType":"Flag","status":"inactive","code":{"text":"Bit once"},"subject":{"reference":"Patient/anna"}}`,
		"walks":    `{"resourceType":"ClinicalImpression","status":"completed","subject":{"reference":"Patient/anna"},` + inLOINC("47420-5") + `,"summary":"walks with a stick"}`,
		"thinks":   `{"resourceType":"ClinicalImpression","status":"completed","subject":{"reference":"Patient/anna"},"summary":"a cold"}`,
		"dnr":      `{"resourceType":"Consent","status":"active","scope":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/consentscope","code":"adr"}]},"category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/consentcategorycodes","code":"dnr"}]}],"patient":{"reference":"Patient/anna"},"dateTime":"2026-01-01","policyRule":{"text":"x"}}`,
		"old-dnr":  `{"resourceType":"Consent","status":"inactive","scope":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/consentscope","code":"adr"}]},"category":[{"text":"x"}],"patient":{"reference":"Patient/anna"},"policyRule":{"text":"x"}}`,
		"will":     `{"resourceType":"DocumentReference","status":"current","type":{"coding":[{"system":"http://loinc.org","code":"42348-3"}]},"subject":{"reference":"Patient/anna"},"content":[{"attachment":{"url":"http://example.org/x"}}],"description":"Living will"}`,
		"story":    `{"resourceType":"DocumentReference","status":"current","type":{"coding":[{"system":"http://loinc.org","code":"81338-6"}]},"subject":{"reference":"Patient/anna"},"content":[{"attachment":{"url":"http://example.org/x"}}]}`,
	} {
		h.put(strings.Replace(body, "{", `{"id":"`+name+`",`, 1))
		made[name] = parse(t, body).ResourceType() + "/" + name
	}
	h.put(`{"resourceType":"Device","id":"pump","patient":{"reference":"Patient/anna"},"deviceName":[{"name":"Pump","type":"user-friendly-name"}]}`)
	h.put(`{"resourceType":"DeviceUseStatement","id":"uses","status":"active","subject":{"reference":"Patient/anna"},"device":{"reference":"Device/pump"}}`)
	want := map[string][]string{"Problems": {"problem", "withheld"}, "Allergies and intolerances": {"allergy"}, "Medications": {"medicine"}, "Immunizations": {"vaccine"},
		"Results": {"report", "result"}, "Procedures": {"procedure"}, "Vital signs": {"pressure"}, "Past illness": {"past"}, "Plan of care": {"plan"},
		"Social history": {"smokes"}, "Pregnancy": {"pregnant", "due"}, "Alerts": {"alert"}, "Functional status": {"walks"}, "Advance directives": {"dnr", "will"}, "What the patient tells": {"story"}}
	compare := func(t *testing.T, got map[string][]string, want map[string][]string) {
		t.Helper()
		for title, names := range want {
			var refs []string
			for _, n := range names {
				refs = append(refs, made[n])
			}
			has := slices.Clone(got[title])
			slices.Sort(has)
			slices.Sort(refs)
			if !slices.Equal(has, refs) {
				t.Errorf("%s: %v, want %v", title, has, refs)
			}
		}
	}
	t.Run("what_is_known_stands_in_its_section", func(t *testing.T) {
		bundle := patientSummary(t, h.Service, h.doc, "anna")
		checkDocument(t, bundle)
		got := sectionsOf(bundle)
		compare(t, got, want)
		if !slices.Equal(got["Devices"], []string{"DeviceUseStatement/uses"}) || !strings.Contains(string(bundle.JSON()), `"Pump"`) {
			t.Errorf("devices: %v", got["Devices"])
		}
		sections := map[string]*fhir.Node{}
		for section := range bundle.At("entry", "resource").Get("section").Items() {
			sections[section.GetText("title")] = section
		}
		for title, code := range map[string]string{"Alerts": "104605-1", "Pregnancy": "10162-6", "Functional status": "47420-5", "Advance directives": "42348-3", "Social history": "29762-2",
			"Vital signs": "8716-3", "Plan of care": "18776-5", "Past illness": "11348-0", "Devices": "46264-8", "Results": "30954-2", "Procedures": "47519-4", "Immunizations": "11369-6", "What the patient tells": "81338-6"} {
			if s := sections[title]; !s.At("code", "coding", "code").IsString(code) {
				t.Errorf("the section %s has not the code %s: %s", title, code, s.Get("code").JSON())
			}
		}
		text := string(bundle.JSON())
		for _, cell := range []string{"<td>Living will</td>", "<td>walks with a stick</td>", "<td>2026-09-01</td>", "<td>Pregnant</td>", "<td>Bites</td>"} {
			if !strings.Contains(text, cell) {
				t.Errorf("no %s", cell)
			}
		}
		if strings.Contains(text, "<td><script>") || !strings.Contains(text, "&lt;script&gt;") || !strings.Contains(text, "1.50 mmol/L") || !strings.Contains(text, "one a day") {
			t.Error("the narrative is not escaped, or lacks something")
		}
	})
	t.Run("the_patient_sees_what_the_patient_may", func(t *testing.T) {
		bundle := patientSummary(t, h.Service, patientApp("anna", "patient/*.rs"), "anna")
		checkDocument(t, bundle)
		mine := map[string][]string{"Problems": {"problem"}}
		compare(t, sectionsOf(bundle), mine)
		if text := string(bundle.JSON()); strings.Contains(text, made["early"]) || strings.Contains(text, made["withheld"]) {
			t.Error("it shows what is withheld")
		}
	})
	t.Run("scopes_bound_it", func(t *testing.T) {
		bundle := patientSummary(t, h.Service, doctor("dora", "user/Patient.rs user/Condition.rs"), "anna")
		checkDocument(t, bundle)
		if got := sectionsOf(bundle); len(got) != 4 || !strings.HasPrefix(got["Medications"][0], "urn:uuid:") {
			t.Errorf("%v", got)
		}
	})
	t.Run("strangers_find_nobody", func(t *testing.T) {
		for _, p := range []auth.Principal{doctor("dirk", "user/*.rs"), patientApp("bela", "patient/*.rs")} {
			refused(t, h.Service, fhir.NotFound, Request{Principal: p, Interaction: Operate, Type: "Patient", ID: "anna", Operation: "summary"})
		}
	})
	t.Run("by_identifier", func(t *testing.T) {
		h.put(`{"resourceType":"Patient","id":"dana","identifier":[{"system":"urn:x","value":"a,b"}],"generalPractitioner":[{"reference":"Practitioner/dora"}]}`)
		r := Request{Principal: h.doc, Interaction: Operate, Type: "Patient", Operation: "summary", Query: "identifier=urn:x%7Ca,b"}
		checkDocument(t, do(t, h.Service, r).Resource)
		r.Query = "identifier=urn:x%7Cnobody"
		refused(t, h.Service, fhir.NotFound, r)
		r.Query = ""
		refused(t, h.Service, fhir.Invalid, r)
		r.Query = "identifier=urn:x%7Ca,b&profile=http://example.org/other"
		refused(t, h.Service, fhir.NotSupported, r)
		r.Query = "identifier=urn:x%7Ca,b&graph=http://example.org/other"
		refused(t, h.Service, fhir.NotSupported, r)
	})
	t.Run("the_label_of_the_document_is_the_highest", func(t *testing.T) {
		h.put(strings.Replace(bodyOf("Procedure", "completed", `,"meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"R"}]}`), "{", `{"id":"secret",`, 1))
		if got := patientSummary(t, h.Service, h.doc, "anna").At("entry", "resource").GetText("confidentiality"); got != "R" {
			t.Errorf("%q", got)
		}
	})
}

func categorised(code string) string {
	return `"category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"` + code + `"}]}]`
}
