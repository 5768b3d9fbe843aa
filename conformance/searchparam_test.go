package conformance

import (
	"slices"
	"strings"
	"testing"

	"kiln/fhir/search"
)

// TestSearchParameters checks rows against the search parameter tables of hl7.org/fhir/R4.
func TestSearchParameters(t *testing.T) {
	t.Parallel()
	r := registry(t)
	for _, c := range []struct {
		base, code, id string
		typ            search.Kind
		expression     string
		targets        string
	}{
		{"Patient", "birthdate", "individual-birthdate", search.Date, "Patient.birthDate", ""},
		{"Patient", "name", "Patient-name", search.String, "Patient.name", ""},
		{"Patient", "phone", "individual-phone", search.Token, "Patient.telecom.where(system='phone')", ""},
		{"Patient", "deceased", "Patient-deceased", search.Token,
			"Patient.deceased.exists() and Patient.deceased != false", ""},
		{"Patient", "_id", "Resource-id", search.Token, "Patient.id", ""},
		{"Patient", "_lastUpdated", "Resource-lastUpdated", search.Date, "Patient.meta.lastUpdated", ""},
		{"Bundle", "_profile", "Resource-profile", search.URI, "Bundle.meta.profile", ""},
		{"Resource", "_tag", "Resource-tag", search.Token, "Resource.meta.tag", ""},
		{"Patient", "_text", "DomainResource-text", search.String, "", ""},
		{"Patient", "_content", "Resource-content", search.String, "", ""},
		{"Patient", "general-practitioner", "Patient-general-practitioner", search.Reference,
			"Patient.generalPractitioner", "Practitioner Organization PractitionerRole"},
		{"Observation", "code", "clinical-code", search.Token, "Observation.code", ""},
		{"AllergyIntolerance", "code", "clinical-code", search.Token,
			"AllergyIntolerance.code | AllergyIntolerance.reaction.substance", ""},
		{"Medication", "code", "clinical-code", search.Token, "Medication.code", ""},
		{"MedicationRequest", "code", "clinical-code", search.Token,
			"MedicationRequest.medication.ofType(CodeableConcept)", ""},
		{"Observation", "patient", "clinical-patient", search.Reference,
			"Observation.subject.where(resolve() is Patient)", "Patient"},
		{"AllergyIntolerance", "patient", "clinical-patient", search.Reference, "AllergyIntolerance.patient", "Patient"},
		{"Observation", "subject", "Observation-subject", search.Reference, "Observation.subject",
			"Group Device Patient Location"},
		{"Observation", "date", "clinical-date", search.Date, "Observation.effective", ""},
		{"Observation", "value-string", "Observation-value-string", search.String,
			"Observation.value.ofType(string) | Observation.value.ofType(CodeableConcept).text", ""},
		{"Observation", "combo-value-quantity", "Observation-combo-value-quantity", search.Quantity,
			"Observation.value.ofType(Quantity) | Observation.value.ofType(SampledData) | " +
				"Observation.component.value.ofType(Quantity) | Observation.component.value.ofType(SampledData)", ""},
		{"Condition", "onset-age", "Condition-onset-age", search.Quantity,
			"Condition.onset.ofType(Age) | Condition.onset.ofType(Range)", ""},
		{"InsurancePlan", "name", "InsurancePlan-name", search.String, "InsurancePlan.name | InsurancePlan.alias", ""},
		{"Bundle", "composition", "Bundle-composition", search.Reference, "Bundle.entry[0].resource", "Composition"},
		{"Slot", "schedule", "Slot-schedule", search.Reference, "Slot.schedule", "Schedule"},
		{"Location", "near", "Location-near", search.Special, "Location.position", ""},
	} {
		p := r.SearchParameter(c.base, c.code)
		if p == nil {
			t.Errorf("%s has no parameter %s", c.base, c.code)
			continue
		}
		if p.Base != c.base || p.ID != c.id || p.Type != c.typ || p.Expression != c.expression ||
			strings.Join(p.Targets, " ") != c.targets || p.URL != "http://hl7.org/fhir/SearchParameter/"+c.id ||
			p.Key != Key(c.base, c.code) || r.SearchParameterByKey(p.Key) != p ||
			r.SearchParameterByURL(c.base, p.URL+"|4.0.1") != p {
			t.Errorf("%s.%s: %+v", c.base, c.code, *p)
		}
	}
	for _, c := range [][2]string{{"Bundle", "_text"}, {"Patient", "_query"}, {"Patient", "_has"}, {"Patient", "date"},
		{"Nothing", "_id"}, {"Observation", ""}} {
		if p := r.SearchParameter(c[0], c[1]); p != nil {
			t.Errorf("%s must not have %q", c[0], c[1])
		}
	}
	if got := r.SearchParameter("Patient", "given").Description; got != "A portion of the given name of the patient" {
		t.Errorf("description of given: %q", got)
	}
}

func TestSearchParametersOfOneType(t *testing.T) {
	t.Parallel()
	var codes []string
	for _, p := range registry(t).SearchParameters("Slot") {
		codes = append(codes, p.Code)
	}
	want := "_content _id _lastUpdated _profile _security _source _tag _text appointment-type identifier overbooked schedule " +
		"service-category service-type specialty start status"
	if got := strings.Join(codes, " "); got != want {
		t.Errorf("Slot has %s\nwant %s", got, want)
	}
}

func TestCompositesKnowTheirParts(t *testing.T) {
	t.Parallel()
	r := registry(t)
	p := r.SearchParameter("Observation", "code-value-quantity")
	if p.MultipleOr || !p.MultipleAnd || p.Expression != "Observation" || len(p.Components) != 2 {
		t.Fatalf("%+v", *p)
	}
	if c := p.Components; c[0].Param != r.SearchParameter("Observation", "code") || c[0].Expression != "code" ||
		c[1].Param != r.SearchParameter("Observation", "value-quantity") || c[1].Expression != "value.ofType(Quantity)" {
		t.Errorf("%+v", c)
	}
	count := 0
	for _, name := range r.Schema().Resources {
		for _, p := range r.SearchParameters(name) {
			for _, c := range p.Components {
				count++
				if c.Param == nil || c.Param.Base != name || c.Param.Type == search.Composite {
					t.Errorf("%s.%s: component %s is %+v", name, p.Code, c.Definition, c.Param)
				}
			}
			if (p.Type == search.Composite) != (len(p.Components) >= 2) {
				t.Errorf("%s.%s has %d components", name, p.Code, len(p.Components))
			}
		}
	}
	if count < 92 {
		t.Errorf("only %d components", count)
	}
}

func TestKeysDoNotCollide(t *testing.T) {
	t.Parallel()
	r, seen := registry(t), map[uint32]string{}
	for number := int16(1); number <= 148; number++ {
		for _, p := range r.SearchParameters(r.TypeName(number)) {
			name := p.Base + "." + p.Code
			if other := seen[p.Key]; other != "" {
				t.Errorf("%s and %s have one key", name, other)
			}
			seen[p.Key] = name
		}
	}
	if len(seen) < 2500 || len(seen) != len(r.keys) {
		t.Errorf("%d keys seen, %d known", len(seen), len(r.keys))
	}
	if got := Key("Patient", "name"); got != 0x66d13cf3 {
		t.Errorf("the key of Patient.name is %#x: keys are stored and must not change", got)
	}
}

// TestExpressionsLeadToElements follows every path of the official expressions through the types.
func TestExpressionsLeadToElements(t *testing.T) {
	t.Parallel()
	r := registry(t)
	for _, name := range r.Schema().Resources {
		for _, p := range r.SearchParameters(name) {
			if p.Expression == "" || p.Code == "deceased" {
				continue
			}
			for _, b := range splitUnion(p.Expression) {
				if branchTypes(r.Schema(), b) == nil {
					t.Errorf("%s.%s: %s leads nowhere", name, p.Code, b)
				}
			}
			if p.Type == search.Reference && len(p.Targets) == 0 && p.ID != "RequestGroup-instantiates-canonical" {
				t.Errorf("%s.%s has no targets", name, p.Code)
			}
		}
	}
}

func TestSplitUnion(t *testing.T) {
	t.Parallel()
	for expression, want := range map[string][]string{
		"a":                              {"a"},
		"a.b | c":                        {"a.b", "c"},
		"(a | b).c|d":                    {"(a | b).c", "d"},
		"a.where(x = '|') | b":           {"a.where(x = '|')", "b"},
		`a.where(x = 'it\'s | ') | b`:    {`a.where(x = 'it\'s | ')`, "b"},
		"a.where(x in (1 | 2)) | b[0|1]": {"a.where(x in (1 | 2))", "b[0|1]"},
		"a.where(x = 'open":              {"a.where(x = 'open"},
	} {
		if got := splitUnion(expression); !slices.Equal(got, want) {
			t.Errorf("%s: %q", expression, got)
		}
	}
}
