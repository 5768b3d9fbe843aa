package resources

import (
	"strings"
	"testing"

	"kiln/fhir"
)

// TestSearchParameter_that_finds_nothing is refused: its expression gives nothing that its type compares. Where that is not certain, it is taken.
func TestSearchParameter_that_finds_nothing(t *testing.T) {
	t.Parallel()
	s := newService(t)
	for _, c := range []struct{ base, kind, expression, more, want string }{
		{"Patient", "reference", "Patient.birthDate", "", "it gives date, and a parameter of the type reference finds nothing by that"},
		{"Patient", "number", "Patient.birthDate", "", "it gives date"},
		{"Patient", "quantity", "Patient.name", "", "it gives HumanName"},
		{"Patient", "uri", "Patient.birthDate", "", "it gives date"},
		{"Patient", "date", "Patient.name.family | Patient.birthDate", "", ""},
		{"Patient", "date", "Patient.name | Patient.active", "", "it gives HumanName, boolean"},
		{"Patient", "token", "Patient.contact", "", "it gives Patient.contact"},
		{"Patient", "string", "Patient.maritalStatus", "", "it gives CodeableConcept"},
		{"Patient", "number", "Patient.name.count()", "", "it gives computed values"},
		{"Patient", "number", "Patient.multipleBirth", "", ""},
		{"Patient", "token", "Patient.name.exists()", "", ""},
		{"Patient", "string", "Patient.name.family.lower()", "", "it gives computed values"},
		{"Patient", "date", "Patient.extension('http://example.org/x').value", "", ""},
		{"Patient", "reference", "Patient.generalPractitioner.where(resolve() is Practitioner)", "", ""},
		{"Observation", "number", "Observation.value", "", ""},
		{"Observation", "reference", "Observation.value as Quantity", "", "it gives Quantity"},
		{"Observation", "token", "Observation.contained.where(id = 'a').code", "", ""},
		{"Observation", "composite", "Observation.component",
			`,"component":[{"definition":"http://hl7.org/fhir/SearchParameter/clinical-code","expression":"code"},{"definition":"http://hl7.org/fhir/SearchParameter/Observation-value-quantity","expression":"code"}]`,
			"it gives CodeableConcept, and a parameter of the type quantity"},
		{"Observation", "composite", "Observation.component",
			`,"component":[{"definition":"http://hl7.org/fhir/SearchParameter/clinical-code","expression":"code"},{"definition":"http://hl7.org/fhir/SearchParameter/Observation-value-quantity","expression":"value"}]`,
			""},
	} {
		body := parse(t, `{"resourceType":"SearchParameter","id":"x","url":"http://example.org/x","name":"X","status":"active","description":"x","code":"x-own","base":["`+c.base+
			`"],"type":"`+c.kind+`","expression":"`+c.expression+`"`+c.more+`}`)
		_, err := s.checkSearchParameter(body)
		if c.want == "" {
			if err != nil {
				t.Errorf("%s by %s: %v", c.kind, c.expression, err)
			}
			continue
		}
		if fhir.KindOf(err) != fhir.Unprocessable || !strings.Contains(textOf(err), c.want) {
			t.Errorf("%s by %s: %v, want %q", c.kind, c.expression, err, c.want)
		}
	}
}
