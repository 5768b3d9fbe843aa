package conformance

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"kiln/fhir"
)

func TestSchemaCountsAreThoseOfR4(t *testing.T) {
	t.Parallel()
	s := registry(t).Schema()
	if len(s.Resources) != 146 || !slices.IsSorted(s.Resources) {
		t.Errorf("%d resources, sorted %v", len(s.Resources), slices.IsSorted(s.Resources))
	}
	for name, kind := range map[string]fhir.TypeKind{
		"Patient": fhir.Resource, "HumanName": fhir.Complex, "string": fhir.Primitive, "xhtml": fhir.Primitive,
		"Patient.contact": fhir.Backbone, "Timing.repeat": fhir.Backbone, "Resource": fhir.Resource,
	} {
		if typ := s.Type(name); typ == nil || typ.Kind != kind {
			t.Errorf("%s: %+v", name, typ)
		}
	}
	if s.Type("SimpleQuantity") != nil || s.Type("MetadataResource") != nil || s.Type("vitalsigns") != nil {
		t.Error("a profile or logical model counts as a type")
	}
}

// TestProperties checks rows of the definitions against hl7.org/fhir/R4.
func TestProperties(t *testing.T) {
	t.Parallel()
	s := registry(t).Schema()
	for _, c := range []struct {
		typ, property, path, want string // want is the name of the property's type, "" for any resource
		min, max                  int
		summary, modifier         bool
	}{
		{"Patient", "name", "Patient.name", "HumanName", 0, -1, true, false},
		{"Patient", "id", "Resource.id", "string", 0, 1, true, false},
		{"Patient", "implicitRules", "Resource.implicitRules", "uri", 0, 1, true, true},
		{"Patient", "contained", "DomainResource.contained", "", 0, -1, false, false},
		{"Patient", "active", "Patient.active", "boolean", 0, 1, true, true},
		{"Patient", "deceasedBoolean", "Patient.deceased[x]", "boolean", 0, 1, true, true},
		{"Patient", "deceasedDateTime", "Patient.deceased[x]", "dateTime", 0, 1, true, true},
		{"Patient", "contact", "Patient.contact", "Patient.contact", 0, -1, false, false},
		{"Patient.contact", "modifierExtension", "BackboneElement.modifierExtension", "Extension", 0, -1, true, true},
		{"Observation", "valueQuantity", "Observation.value[x]", "Quantity", 0, 1, true, false},
		{"Observation", "valueSampledData", "Observation.value[x]", "SampledData", 0, 1, true, false},
		{"Observation", "valuePeriod", "Observation.value[x]", "Period", 0, 1, true, false},
		{"Observation.component", "referenceRange", "Observation.component.referenceRange",
			"Observation.referenceRange", 0, -1, false, false},
		{"Questionnaire.item", "item", "Questionnaire.item.item", "Questionnaire.item", 0, -1, false, false},
		{"Bundle.entry", "resource", "Bundle.entry.resource", "", 0, 1, true, false},
		{"Bundle.entry", "link", "Bundle.entry.link", "Bundle.link", 0, -1, true, false},
		{"Parameters.parameter", "resource", "Parameters.parameter.resource", "", 0, 1, true, false},
		{"Parameters.parameter", "part", "Parameters.parameter.part", "Parameters.parameter", 0, -1, true, false},
		{"Extension", "url", "Extension.url", "uri", 1, 1, false, false},
		{"Extension", "valueMeta", "Extension.value[x]", "Meta", 0, 1, false, false},
		{"Narrative", "div", "Narrative.div", "xhtml", 1, 1, false, false},
		{"Age", "value", "Quantity.value", "decimal", 0, 1, true, false},
		{"string", "id", "Element.id", "string", 0, 1, false, false},
		{"xhtml", "extension", "xhtml.extension", "Extension", 0, 0, false, false},
	} {
		p, ok := s.Type(c.typ).Properties[c.property]
		if !ok {
			t.Errorf("%s.%s is not known", c.typ, c.property)
			continue
		}
		name := ""
		if p.Type != nil {
			name = p.Type.Name
		}
		e := p.Element
		if e.Path != c.path || name != c.want || e.Min != c.min || e.Max != c.max || e.IsSummary != c.summary ||
			e.IsModifier != c.modifier {
			t.Errorf("%s.%s: type %q, element %+v", c.typ, c.property, name, *e)
		}
	}
	for _, c := range [][2]string{
		{"Observation", "value"}, {"Observation", "value[x]"}, {"Observation", "valueAge"}, {"Patient", "resourceType"},
		{"string", "value"},
	} {
		if _, ok := s.Type(c[0]).Properties[c[1]]; ok {
			t.Errorf("%s.%s must not be known", c[0], c[1])
		}
	}
}

func TestElementDetails(t *testing.T) {
	t.Parallel()
	s := registry(t).Schema()
	element := func(typ, property string) *fhir.Element { return s.Type(typ).Properties[property].Element }
	gender := element("Patient", "gender").Binding
	if gender.Strength != "required" || gender.ValueSet != "http://hl7.org/fhir/ValueSet/administrative-gender|4.0.1" {
		t.Errorf("Patient.gender: %+v", gender)
	}
	if got := s.Type("Patient").Properties["generalPractitioner"].Ref.Targets; !slices.Equal(got,
		[]string{"Organization", "Practitioner", "PractitionerRole"}) {
		t.Errorf("generalPractitioner targets %v", got)
	}
	for path, want := range map[string]bool{"Element.id": true, "Extension.url": true, "Resource.id": false} {
		typ, name, _ := strings.Cut(path, ".")
		if got := element(typ, name).XMLAttribute; got != want {
			t.Errorf("%s is an XML attribute: %v", path, got)
		}
	}
	for name, want := range map[string]string{
		"id": `[A-Za-z0-9\-\.]{1,64}`, "boolean": "true|false", "string": `[ \r\n\t\S]+`, "canonical": `\S*`,
		"positiveInt": "[1-9][0-9]*", "markdown": `[ \r\n\t\S]+`, "xhtml": "",
	} {
		if got := s.Type(name).Regex; got != want {
			t.Errorf("regex of %s: %q, want %q", name, got, want)
		}
	}
	for i, name := range []string{"id", "meta", "implicitRules", "language", "text", "contained", "extension",
		"modifierExtension", "identifier", "active", "name", "telecom"} {
		if e := s.Type("Patient").Elements[i]; e.Name != name || e.Order != i {
			t.Errorf("element %d of Patient is %s with order %d, want %s", i, e.Name, e.Order, name)
		}
	}
	if !s.Type("Age").Is("Quantity") || !s.Type("Age").Is("Element") || s.Type("Bundle").Is("DomainResource") ||
		!s.Type("Timing.repeat").Is("Element") || s.Type("Timing.repeat").Is("BackboneElement") {
		t.Error("wrong bases")
	}
}

func TestConstraintsStandWhereTheyAreAdded(t *testing.T) {
	t.Parallel()
	s := registry(t).Schema()
	keys := func(list []*fhir.Constraint) string {
		var k []string
		for _, c := range list {
			k = append(k, c.Key)
		}
		return strings.Join(k, " ")
	}
	for name, want := range map[string]string{
		"Element": "ele-1", "Extension": "ext-1", "Patient": "", "Patient.contact": "pat-1", "Reference": "ref-1",
		"DomainResource": "dom-2 dom-3 dom-4 dom-5 dom-6", "Quantity": "qty-3", "Age": "age-1", "string": "",
		"Observation": "obs-6 obs-7", "Observation.component": "", "Observation.referenceRange": "obs-3",
	} {
		if got := keys(s.Type(name).Constraints); got != want {
			t.Errorf("%s has %q, want %q", name, got, want)
		}
	}
	if got := keys(s.Type("Range").Properties["low"].Element.Constraints); got != "sqty-1" {
		t.Errorf("Range.low has %q", got)
	}
	if c := s.Type("Patient.contact").Constraints[0]; c.Severity != "error" || c.Human == "" ||
		c.Expression != "name.exists() or telecom.exists() or address.exists() or organization.exists()" {
		t.Errorf("pat-1 is %+v", c)
	}
}

// TestExamplesUseKnownProperties walks the official examples: every JSON property leads to an element.
func TestExamplesUseKnownProperties(t *testing.T) {
	t.Parallel()
	s, count := registry(t).Schema(), 0
	readZip(t, filepath.Join(sharedData(t), "r4-examples.zip"), "", func(name string, n *fhir.Node) {
		count++
		for _, fault := range unknownProperties(s, n, s.Type(n.ResourceType()), n.ResourceType()) {
			t.Errorf("%s: %s", name, fault)
		}
	})
	if count != 785 {
		t.Errorf("%d examples, want 785", count)
	}
}

func unknownProperties(s *fhir.Schema, n *fhir.Node, typ *fhir.Type, path string) (faults []string) {
	if typ == nil {
		return []string{path + ": unknown type"}
	}
	if n.Kind != fhir.Object {
		if typ.Kind != fhir.Primitive && n.Kind != fhir.Null {
			faults = append(faults, path+": a "+n.Kind.String()+" where an object belongs")
		}
		return faults
	}
	for i := range n.Kids {
		kid := &n.Kids[i]
		if kid.Name == "resourceType" && typ.Kind == fhir.Resource {
			continue
		}
		p, ok := typ.Properties[strings.TrimPrefix(kid.Name, "_")]
		if ok && strings.HasPrefix(kid.Name, "_") {
			ok = p.Type != nil && p.Type.Kind == fhir.Primitive
		}
		if !ok {
			faults = append(faults, path+"."+kid.Name+" is not known")
			continue
		}
		if (kid.Kind == fhir.Array) != (p.Element.Max != 1) {
			faults = append(faults, path+"."+kid.Name+": wrong use of an array")
		}
		for item := range kid.Items() {
			below := p.Type
			if below == nil {
				below = s.Type(item.ResourceType())
			}
			faults = append(faults, unknownProperties(s, item, below, path+"."+kid.Name)...)
		}
	}
	return faults
}
