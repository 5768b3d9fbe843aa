package path_test

import (
	"testing"

	"kiln/fhir"
	fhirpath "kiln/fhir/path"
)

const observation = `{"resourceType":"Observation","id":"o1","meta":{"versionId":"1","profile":["http://example.org/p"]},
"status":"final","category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category",
"code":"vital-signs"}]}],"code":{"coding":[{"system":"http://loinc.org","code":"85354-9"}]},
"subject":{"reference":"Patient/p1"},"encounter":{"reference":"Encounter/e1"},"effectiveDateTime":"2024-05-06T07:08:09Z",
"valueQuantity":{"value":120.50,"unit":"mm[Hg]","system":"http://unitsofmeasure.org","code":"mm[Hg]"},
"component":[{"code":{"coding":[{"system":"http://loinc.org","code":"8480-6"}]},"valueQuantity":{"value":107}},
{"code":{"coding":[{"system":"http://loinc.org","code":"8462-4"}]},"valueQuantity":{"value":60}}]}`

func parse(t testing.TB, text string) *fhir.Node {
	t.Helper()
	n, err := fhir.ParseJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

var benchmarks = []struct{ name, expression string }{
	{"path", "Observation.code"},
	{"long", "Observation.component.code.coding.code"},
	{"choice", "Observation.effective"},
	{"as", "(Observation.value as Quantity)"},
	{"absent", "Observation.derivedFrom"},
	{"resolve", "Observation.subject.where(resolve() is Patient)"},
	{"union", "Observation.code | Observation.component.code"},
	{"where", "Observation.category.coding.where(code = 'vital-signs')"},
}

func BenchmarkEach(b *testing.B) {
	schema := registrySchema(b)
	root := fhirpath.Root(parse(b, observation), schema)
	for _, bm := range benchmarks {
		b.Run(bm.name, func(b *testing.B) {
			x, err := fhirpath.Compile(bm.expression, schema)
			if err != nil {
				b.Fatal(err)
			}
			env, n := &fhirpath.Env{}, 0
			b.ReportAllocs()
			for b.Loop() {
				if err := x.Each(env, root, func(fhirpath.Element) { n++ }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkInvariant(b *testing.B) {
	schema := registrySchema(b)
	root := fhirpath.Root(parse(b, observation), schema)
	for _, bm := range []struct{ name, expression string }{
		{"ele-1", "hasValue() or (children().count() > id.count())"},
		{"ext-1", "extension.exists() != value.exists()"},
		{"obs-6", "dataAbsentReason.empty() or value.empty()"},
		{"obs-7", "value.empty() or component.code.where(coding.intersect(%resource.code.coding).exists()).empty()"},
		{"dom-3", "contained.where((('#'+id in (%resource.descendants().reference | %resource.descendants().as(canonical) | " +
			"%resource.descendants().as(uri) | %resource.descendants().as(url))) or " +
			"descendants().where(reference = '#').exists() or descendants().where(as(canonical) = '#').exists() or " +
			"descendants().where(as(canonical) = '#').exists()).not()).trace('unmatched', id).empty()"},
	} {
		b.Run(bm.name, func(b *testing.B) {
			x, err := fhirpath.Compile(bm.expression, schema)
			if err != nil {
				b.Fatal(err)
			}
			env := &fhirpath.Env{Resource: root}
			b.ReportAllocs()
			for b.Loop() {
				if ok, err := x.EvalBool(env, root); err != nil || !ok {
					b.Fatal(ok, err)
				}
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	schema := registrySchema(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := fhirpath.Compile("Observation.subject.where(resolve() is Patient)", schema); err != nil {
			b.Fatal(err)
		}
	}
}
