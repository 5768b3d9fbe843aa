package path_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"kiln/fhir"
	fhirpath "kiln/fhir/path"
)

const patient = `{"resourceType":"Patient","id":"p1","contained":[{"resourceType":"Organization","id":"o1","name":"Acme"}],
"name":[{"family":"Chalmers","given":["Peter",null,"James"],"_given":[null,{"id":"g2","extension":[{"url":"urn:x","valueCode":"masked"}]},null]}],
"birthDate":"1974-12-25","_birthDate":{"extension":[{"url":"urn:time","valueDateTime":"1974-12-25T14:35:45-05:00"}]},
"_gender":{"extension":[{"url":"urn:absent","valueString":"unknown"}]},
"deceasedBoolean":false,"multipleBirthInteger":2,"managingOrganization":{"reference":"#o1"},
"generalPractitioner":[{"reference":"Practitioner/1"},{"reference":"http://a.example/fhir/Organization/2/_history/3"},
{"reference":"urn:uuid:4f1a0c8e-7c8e-4f43-8f6d-5a4d1f6d7a11","type":"PractitionerRole"},{"display":"somebody"}]}`

// eval returns the results as texts with types, or the error.
func eval(t testing.TB, src string, env *fhirpath.Env, root fhirpath.Element, schema *fhir.Schema) string {
	t.Helper()
	x, err := fhirpath.Compile(src, schema)
	if err != nil {
		return "compile: " + err.Error()
	}
	items, err := x.Eval(env, root)
	if err != nil {
		return fmt.Sprintf("error %d", fhir.KindOf(err))
	}
	var texts []string
	for _, e := range items {
		texts = append(texts, strings.TrimSpace(e.TypeName()+" "+e.Text()))
	}
	return strings.Join(texts, ", ")
}

func TestEvaluation(t *testing.T) {
	schema := registrySchema(t)
	root := fhirpath.Root(parse(t, patient), schema)
	env := &fhirpath.Env{Now: time.Date(2024, 2, 29, 12, 30, 0, 0, time.UTC)}
	for src, want := range map[string]string{
		// Primitives and their siblings
		"Patient.name.given":                                  "string Peter, string, string James",
		"Patient.name.given.hasValue()":                       "Boolean false",
		"Patient.name.given.where(hasValue())":                "string Peter, string James",
		"Patient.name.given[1].extension('urn:x').value":      "code masked",
		"Patient.name.given[1].id":                            "string g2",
		"Patient.gender.extension.value":                      "string unknown",
		"Patient.gender.exists() and gender.hasValue().not()": "Boolean true",
		"birthDate.extension('urn:time').value.toString()":    "String 1974-12-25T14:35:45-05:00",
		"birthDate.getValue() is Date":                        "Boolean true",
		// Choices
		"Patient.deceased":                                "boolean false",
		"Patient.deceased is boolean":                     "Boolean true",
		"Patient.deceased.exists() and deceased != false": "Boolean false",
		"(Patient.multipleBirth as integer) + 1":          "Integer 3",
		"Patient.deceased.ofType(dateTime)":               "",
		"Patient.deceasedBoolean":                         "",
		// Prefixes
		"Resource.id":                   "id p1",
		"DomainResource.contained.name": "string Acme",
		"Observation.code":              "",
		"contained.is(Organization)":    "Boolean true",
		// References
		"generalPractitioner.where(resolve() is Practitioner).count()":     "Integer 1",
		"generalPractitioner.where(resolve() is Organization).count()":     "Integer 1",
		"generalPractitioner.where(resolve() is PractitionerRole).count()": "Integer 1",
		"managingOrganization.resolve().name":                              "string Acme",
		// Time
		"today()":                        "Date 2024-02-29",
		"today() + 1 year":               "Date 2025-02-28",
		"now() - 1 month":                "DateTime 2024-01-29T12:30:00.000Z",
		"timeOfDay()":                    "Time 12:30:00.000",
		"@T23:30 + 45 minutes":           "Time 00:15",
		"@2014 + 24 months":              "Date 2016",
		"@2014-01-31 + 1 month":          "Date 2014-02-28",
		"@9999-12-31 + 1 day":            "",
		"@2014-01-01 + 99999999999 days": "",
		// Numbers
		"0.1 + 0.2":               "Decimal 0.3",
		"1.10 * 1":                "Decimal 1.10",
		"1.0 / 3":                 "Decimal 0.3333333333333333",
		"2147483647 + 1":          "",
		"2.power(0.5)":            "Decimal 1.414213562373095",
		"2.power(-1)":             "Decimal 0.5",
		"1.exp()":                 "Decimal 2.7182818284590452",
		"10.ln()":                 "Decimal 2.3025850929940457",
		"1000.log(10)":            "Decimal 3",
		"(-2.5).round()":          "Decimal -3",
		"(-7) mod 2":              "Integer -1",
		"5 'kg' + 500 'g'":        "Quantity 5.5 'kg'",
		"1 year = 12 months":      "Boolean true",
		"180 'mm[Hg]' > 17 'kPa'": "Boolean true",
		"1 'g/L' = 100 'mg/dL'":   "Boolean true",
		"37 'Cel' = 37 'Cel'":     "Boolean true",
		"37 'Cel' < 300 'K'":      "Boolean false",
		"37 'Cel' + 1 'K'":        "",
		"5 'g'.toQuantity('mg')":  "Quantity 5000 'mg'",
		// Scopes
		"name.select(given.select($index))":    "Integer 0, Integer 1, Integer 2",
		"(1|2|3).select($this * $this)":        "Integer 1, Integer 4, Integer 9",
		"(1|2|3).aggregate($total + $this, 0)": "Integer 6",
		"%context.id = %resource.id":           "Boolean true",
		"%unknown":                             "error 1",
		// Errors
		"1 + 'a'":              "error 1",
		"name.given.upper()":   "error 1",
		"'a'.matches('(')":     "compile: FHIRPath, character 5: FHIRPath: the regular expression is not one that the server knows",
		"Patient.nosuch()":     "compile: FHIRPath, character 9: there is no function nosuch()",
		"Patient.name.as(Nix)": "compile: FHIRPath, character 17: there is no type Nix",
		"Patient.":             "compile: FHIRPath, character 9: the expression ends where a name should stand",
		"":                     "compile: FHIRPath, character 1: the expression ends where a value should stand",
	} {
		if got := eval(t, src, env, root, schema); got != want {
			t.Errorf("%s\n\tgives  %s\n\twanted %s", src, got, want)
		}
	}
}

func TestResolveUsesTheEnvironment(t *testing.T) {
	schema := registrySchema(t)
	root := fhirpath.Root(parse(t, patient), schema)
	target := parse(t, `{"resourceType":"Practitioner","id":"1","active":true}`)
	env := &fhirpath.Env{Resolve: func(ref string) *fhir.Node {
		if ref == "Practitioner/1" {
			return target
		}
		return nil
	}}
	if got := eval(t, "generalPractitioner.resolve().active", env, root, schema); got != "boolean true" {
		t.Error(got)
	}
	if got := eval(t, "generalPractitioner.resolve().count()", env, root, schema); got != "Integer 1" {
		t.Error(got)
	}
}

func TestPaths(t *testing.T) {
	schema := registrySchema(t)
	root := fhirpath.Root(parse(t, patient), schema)
	for src, want := range map[string]string{
		"Patient":                        "Patient",
		"name.given[1]":                  "Patient.name[0].given[1]",
		"gender":                         "Patient.gender",
		"multipleBirth":                  "Patient.multipleBirth.ofType(integer)",
		"contained.name":                 "Patient.contained[0].name",
		"birthDate.extension.value":      "Patient.birthDate.extension[0].value.ofType(dateTime)",
		"managingOrganization.resolve()": "Patient.contained[0]",
		"1 + 1":                          "",
	} {
		x, err := fhirpath.Compile(src, schema)
		if err != nil {
			t.Fatal(err)
		}
		items, err := x.Eval(nil, root)
		if err != nil || len(items) != 1 || items[0].Path() != want {
			t.Errorf("%s: %v %v, wanted %s", src, items, err, want)
		}
	}
}

func TestCheckFindsMistakes(t *testing.T) {
	schema := registrySchema(t)
	for src, good := range map[string]bool{
		"Patient.name.given":                            true,
		"Patient.name.givn":                             false,
		"Patient.valueQuantity":                         false,
		"Patient.extension('x').value.unit":             true,
		"Observation.value.as(Quantity).unit":           true,
		"Observation.value.as(Period).unit":             false,
		"Nonsense.name":                                 false,
		"Patient.name.where(use = 'official').family":   true,
		"Patient.name.where(usage = 'official').family": false,
		"Bundle.entry.resource.name":                    true,
		"Patient.descendants().first()":                 false,
	} {
		x, err := fhirpath.Compile(src, schema)
		if err != nil {
			t.Fatal(err)
		}
		if err := x.Check(nil); (err == nil) != good {
			t.Errorf("%s: %v", src, err)
		}
	}
}

func TestLimits(t *testing.T) {
	schema := registrySchema(t)
	root := fhirpath.Root(parse(t, patient), schema)
	for name, src := range map[string]string{
		"doubling text":   "(1|2|3|4|5|6|7|8|9|10|11|12|13|14|15|16|17|18|19|20|21|22).aggregate($total + $total, 'abc')",
		"doubling list":   "repeat(descendants() | %resource).aggregate($total.combine($total), 1).count()",
		"nested products": "descendants().where(%resource.descendants().where(%resource.descendants().where(%resource.descendants().where(%resource.descendants().where(false).exists()).exists()).exists()).exists())",
		"squaring":        "(1|2|3|4|5|6|7|8|9|10|11|12|13|14).aggregate($total * $total, 9.9)",
	} {
		start := processorTime(t)
		if got := eval(t, src, nil, root, schema); got != fmt.Sprintf("error %d", fhir.TooCostly) {
			t.Errorf("%s: %.100s", name, got)
		}
		if d := processorTime(t) - start; d > 5*time.Second {
			t.Errorf("%s took %v", name, d)
		}
	}
	if got := eval(t, "'"+strings.Repeat("x", 1000)+"'.upper().length()", &fhirpath.Env{MaxSteps: 20}, root, schema); got != fmt.Sprintf("error %d", fhir.TooCostly) {
		t.Errorf("long texts cost no more than short ones: %s", got)
	}
	if got := eval(t, "descendants().count()", &fhirpath.Env{MaxSteps: 5}, root, schema); got != fmt.Sprintf("error %d", fhir.TooCostly) {
		t.Error(got)
	}
	for _, src := range []string{
		strings.Repeat("(", 300) + "1" + strings.Repeat(")", 300),
		strings.Repeat("a.where(", 300),
		strings.Repeat("-", 300) + "1",
		strings.Repeat("a", fhirpath.MaxSource+1),
	} {
		if _, err := fhirpath.Compile(src, schema); fhir.KindOf(err) != fhir.Invalid {
			t.Errorf("%.20s…: %v", src, err)
		}
	}
	long := "1" + strings.Repeat(" + 1", 10_000)
	if got := eval(t, long, nil, root, schema); got != "Integer 10001" {
		t.Error(got)
	}
}

func TestExpressionsAreShared(t *testing.T) {
	schema := registrySchema(t)
	x, err := fhirpath.Compile("id | meta.versionId | name.family", schema)
	if err != nil {
		t.Fatal(err)
	}
	roots := []fhirpath.Element{fhirpath.Root(parse(t, patient), schema), fhirpath.Root(parse(t, observation), schema)}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 200 {
				items, err := x.Eval(nil, roots[i%2])
				if err != nil || len(items) != 2 {
					t.Error(items, err)
					return
				}
			}
		})
	}
	wg.Wait()
}
