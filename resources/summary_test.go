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
			list[title] = append(list[title], strings.TrimPrefix(ref.GetText("reference"), testBase+"/"))
		}
	}
	return list
}

// checkDocument looks for what every summary has to be: a valid document by R4 and by IPS.
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
	checkIPS(t, bundle)
}

// ipsEntries are the types that the entries of each section may have (Composition-uv-ips of IPS 2.0, which allows more than 1.1).
var ipsEntries = map[string]string{
	"11450-4": "Condition DocumentReference", "48765-2": "AllergyIntolerance DocumentReference",
	"10160-0": "MedicationStatement MedicationRequest MedicationAdministration MedicationDispense DocumentReference",
	"11369-6": "Immunization DocumentReference", "30954-2": "Observation DiagnosticReport Media DocumentReference", "47519-4": "Procedure DocumentReference",
	"46264-8": "DeviceUseStatement DocumentReference", "8716-3": "Observation DocumentReference", "29762-2": "Observation DocumentReference",
	"11348-0": "Condition DocumentReference", "10162-6": "Observation DocumentReference", "47420-5": "Condition ClinicalImpression DocumentReference",
	"18776-5": "CarePlan DocumentReference", "42348-3": "Consent DocumentReference", "104605-1": "Flag DocumentReference", "81338-6": "DocumentReference",
}

// checkIPS checks a summary by the rules of the profiles Bundle-uv-ips, Composition-uv-ips and Patient-uv-ips, and that references
// lead to its entries as FHIR R4 bundle.html#references resolves them. There is no package of IPS to validate against here.
func checkIPS(t *testing.T, bundle *fhir.Node) {
	t.Helper()
	entries := map[string]*fhir.Node{}
	patients := 0
	first := true
	for e := range bundle.Get("entry").Items() {
		url, n := e.GetText("fullUrl"), e.Get("resource")
		if entries[url] != nil || url == "" || e.Get("search") != nil || e.Get("request") != nil || e.Get("response") != nil {
			t.Errorf("the entry %q is there twice, or is not one of a document", url)
		}
		entries[url] = n
		if typ := n.ResourceType(); first != (typ == "Composition") { // bdl-ips-1
			t.Errorf("the first entry, and no other, is a Composition: %s", typ)
		} else if typ == "Patient" {
			patients++
			name := firstOf(n.Get("name"))
			if name.Get("family") == nil && name.Get("given") == nil && name.Get("text") == nil && name.Get("_text") == nil { // ips-pat-1
				t.Errorf("the patient has no name: %s", n.JSON())
			}
			if n.Get("birthDate") == nil && n.Get("_birthDate") == nil {
				t.Error("the patient has no birth date")
			}
		}
		first = false
	}
	if patients != 1 || bundle.GetText("type") != "document" || bundle.GetText("timestamp") == "" || bundle.At("identifier").GetText("value") == "" {
		t.Errorf("%d patients; %s", patients, bundle.GetText("type"))
	}
	// What the server makes has a fullUrl that is no RESTful URL, so its references are absolute.
	for url, n := range entries {
		if !strings.HasPrefix(url, "urn:uuid:") {
			continue
		}
		if url != "urn:uuid:"+n.ID() {
			t.Errorf("%s is the id of %s", n.ID(), url)
		}
		n.Walk(func(x *fhir.Node) bool {
			if x.Name == "reference" && x.Kind == fhir.String && entries[x.Text] == nil {
				t.Errorf("%s in %s leads to no entry", x.Text, n.ResourceType())
			}
			return true
		})
	}
	head := bundle.At("entry", "resource")
	if !head.At("type", "coding", "code").IsString("60591-5") || entries[head.Get("subject").GetText("reference")].ResourceType() != "Patient" || head.GetText("title") == "" || head.GetText("date") == "" {
		t.Errorf("%s", head.JSON())
	}
	found := map[string]bool{}
	for section := range head.Get("section").Items() {
		code := firstOf(section.At("code").Get("coding")).GetText("code")
		types, known := ipsEntries[code]
		if !known || found[code] || section.GetText("title") == "" || section.At("text", "div") == nil || section.Get("section") != nil {
			t.Errorf("a section that IPS does not know, or that lacks something: %s", section.JSON())
		}
		found[code] = true
		if section.Get("entry") == nil && section.Get("emptyReason") == nil { // ips-comp-1
			t.Errorf("the section %s has neither entries nor a reason", code)
		}
		for ref := range section.Get("entry").Items() {
			if typ := entries[ref.GetText("reference")].ResourceType(); !slices.Contains(strings.Fields(types), typ) {
				t.Errorf("%s in the section %s", typ, code)
			}
		}
	}
	for _, code := range []string{"11450-4", "48765-2", "10160-0"} {
		if !found[code] {
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
