package conformance

import (
	"bytes"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"kiln/fhir"
	"kiln/fhir/search"
)

func TestCompartments(t *testing.T) {
	t.Parallel()
	r := registry(t)
	for _, c := range []struct{ name, typ, want string }{
		{"Patient", "Observation", "subject performer"},
		{"Patient", "AllergyIntolerance", "patient recorder asserter"},
		{"Patient", "Appointment", "actor"},
		{"Patient", "Patient", "link"},
		{"Patient", "Slot", ""},
		{"Encounter", "Condition", "encounter"},
		{"Practitioner", "Schedule", "actor"},
		{"RelatedPerson", "Appointment", "actor"},
		{"Device", "Observation", "subject device"},
	} {
		if got := strings.Join(r.Compartment(c.name).Params(c.typ), " "); got != c.want {
			t.Errorf("%s compartment, %s: %q, want %q", c.name, c.typ, got, c.want)
		}
	}
	if r.Compartment("Organization") != nil {
		t.Error("Organization is no compartment")
	}
	for name, c := range r.compartments {
		for typ, params := range c.params {
			for _, code := range params {
				p := r.SearchParameter(typ, code)
				if p == nil || p.Type != search.Reference || !slices.Contains(p.Targets, name) {
					t.Errorf("%s compartment: %s.%s is %+v", name, typ, code, p)
				}
			}
		}
	}
}

func TestBindingCodes(t *testing.T) {
	t.Parallel()
	r := registry(t)
	gender := r.BindingCodes("http://hl7.org/fhir/ValueSet/administrative-gender|4.0.1")
	const system = "http://hl7.org/fhir/administrative-gender"
	if !gender.Has(system, "female") || gender.Has("http://example.org", "female") || gender.Has(system, "Female") ||
		!gender.HasCode("male") || gender.HasCode("m") || gender.HasCode("") || gender.System("other") != system ||
		gender.System("m") != "" || strings.Join(gender.Codes(), " ") != "female male other unknown" {
		t.Errorf("administrative-gender: %+v", gender)
	}
	types := r.BindingCodes("http://hl7.org/fhir/ValueSet/all-types")
	if types.System("Patient") != "http://hl7.org/fhir/resource-types" || types.System("Any") == "" ||
		types.System("HumanName") != "http://hl7.org/fhir/data-types" {
		t.Error("all-types lacks the codes of its systems")
	}
	if c := r.BindingCodes("http://hl7.org/fhir/ValueSet/currencies"); c.System("NOK") != "urn:iso:std:iso:4217" || !c.HasCode("XCG") {
		t.Error("no Norwegian krone")
	}
	if c := r.BindingCodes("http://hl7.org/fhir/ValueSet/issue-type"); !c.HasCode("too-costly") || !c.HasCode("processing") {
		t.Error("issue-type lacks the codes below others")
	}
	for _, url := range []string{"http://hl7.org/fhir/ValueSet/mimetypes", "http://hl7.org/fhir/ValueSet/ucum-units",
		"http://hl7.org/fhir/ValueSet/languages", "http://example.org", ""} {
		if r.BindingCodes(url) != nil {
			t.Errorf("%s is listed", url)
		}
	}
}

// TestBindingCodesAreThoseOfTheExpansions compares the lists with the expansions that HL7 publishes.
func TestBindingCodesAreThoseOfTheExpansions(t *testing.T) {
	t.Parallel()
	r, compared := registry(t), 0
	sets := loadCodes().sets
	readZip(t, filepath.Join(sharedData(t), "r4-aggregates.zip"), "Bundle-valueset-expansions", func(_ string, n *fhir.Node) {
		for e := range n.Get("entry").Items() {
			v := e.Get("resource")
			set := r.BindingCodes(v.GetText("url"))
			if set == nil {
				continue
			}
			compared++
			count := 0
			v.Get("expansion").Walk(func(n *fhir.Node) bool {
				if code := n.GetText("code"); code != "" && !(n.Get("abstract") != nil && n.Get("abstract").Text == "true") {
					if count++; !set.Has(n.GetText("system"), code) {
						t.Errorf("%s lacks %s %s", v.GetText("url"), n.GetText("system"), code)
					}
				}
				return n.Name != "designation"
			})
			if strings.HasSuffix(v.GetText("url"), "/currencies") {
				count += 4 // what ISO 4217 has added since
			}
			if count != len(set.members) {
				t.Errorf("%s has %d codes, its expansion %d", v.GetText("url"), len(set.members), count)
			}
		}
	})
	if compared != len(sets) {
		t.Errorf("%d of %d value sets compared", compared, len(sets))
	}
}

func TestCaseSensitive(t *testing.T) {
	t.Parallel()
	r := registry(t)
	for system, want := range map[string][2]bool{
		"http://hl7.org/fhir/administrative-gender":        {true, true},
		"http://snomed.info/sct":                           {false, true},
		"http://terminology.hl7.org/CodeSystem/v3-ActCode": {true, true},
		"http://example.org":                               {false, false},
	} {
		if sensitive, known := r.CaseSensitive(system); [2]bool{sensitive, known} != want {
			t.Errorf("%s: %v %v", system, sensitive, known)
		}
	}
}

func TestDefinition(t *testing.T) {
	t.Parallel()
	r := registry(t)
	for _, c := range []struct{ typ, name, id string }{
		{"StructureDefinition", "Patient", "Patient"},
		{"StructureDefinition", "http://hl7.org/fhir/StructureDefinition/Patient|4.0.1", "Patient"},
		{"SearchParameter", "http://hl7.org/fhir/SearchParameter/clinical-code", "clinical-code"},
		{"OperationDefinition", "Patient-everything", "Patient-everything"},
		{"CompartmentDefinition", "http://hl7.org/fhir/CompartmentDefinition/patient", "patient"},
		{"CodeSystem", "http://terminology.hl7.org/CodeSystem/v3-ActCode", "v3-ActCode"},
		{"CodeSystem", "http://hl7.org/fhir/administrative-gender", "administrative-gender"},
		{"CodeSystem", "http://snomed.info/sct", ""},
		{"ValueSet", "http://hl7.org/fhir/ValueSet/administrative-gender", "administrative-gender"},
		{"CodeSystem", "http://hl7.org/fhir/ValueSet/administrative-gender", "-"},
		{"CodeSystem", "http://example.org/administrative-gender", "-"},
		{"StructureDefinition", "http://example.org/Patient", "-"},
		{"Patient", "example", "-"}, {"StructureDefinition", "../Patient", "-"}, {"", "", "-"},
	} {
		data, ok := r.Definition(c.typ, c.name)
		if c.id == "-" {
			if ok {
				t.Errorf("%s %s is found", c.typ, c.name)
			}
			continue
		}
		if !ok {
			t.Errorf("%s %s is not found", c.typ, c.name)
			continue
		}
		n, err := fhir.ParseJSON(bytes.Clone(data))
		if err != nil || n.ResourceType() != c.typ || c.id != "" && n.ID() != c.id {
			t.Errorf("%s %s: %v %s/%s", c.typ, c.name, err, n.ResourceType(), n.ID())
		}
	}
}

// TestDefinitionsAreFoundByURL asks for definitions by their URLs: those that do not end in the id, and some others.
func TestDefinitionsAreFoundByURL(t *testing.T) {
	t.Parallel()
	r := registry(t)
	files, err := openZip()
	if err != nil {
		t.Fatal(err)
	}
	names := slices.Sorted(maps.Keys(files))
	special := slices.Collect(maps.Values(r.urls))
	if len(names) != 4475 {
		t.Errorf("%d definitions", len(names))
	}
	for i, name := range names {
		kind, id, _ := strings.Cut(strings.TrimSuffix(name, ".json"), "-")
		if i%50 != 0 && !slices.Contains(special, id) {
			continue
		}
		data, ok := r.Definition(kind, id)
		if !ok {
			t.Errorf("%s is not found by id", name)
			continue
		}
		n, err := fhir.ParseJSON(data)
		if err != nil {
			t.Fatal(err)
		}
		if url := n.GetText("url"); url != "" {
			if same, ok := r.Definition(kind, url); !ok || !bytes.Equal(same, data) {
				t.Errorf("%s is not found by %s", name, url)
			}
		}
	}
}
