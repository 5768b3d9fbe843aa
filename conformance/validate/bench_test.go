package validate

import (
	"testing"

	"kiln/conformance"
)

const height = `{"resourceType":"Observation","id":"0d9ea0d0-97d7-4c3c-9c0f-9d2a5a9a1f7b","meta":{"versionId":"1","lastUpdated":"2020-01-01T10:00:00.000Z","profile":["http://hl7.org/fhir/StructureDefinition/bodyheight"]},"identifier":[{"use":"official","system":"http://hospital.example/observations","value":"4711"}],"status":"final","category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"vital-signs","display":"vital-signs"}]}],"code":{"coding":[{"system":"http://loinc.org","code":"8302-2","display":"Body Height"}],"text":"Body Height"},"subject":{"reference":"Patient/1"},"encounter":{"reference":"Encounter/2"},"effectiveDateTime":"2011-07-28T15:02:18-04:00","issued":"2011-07-28T15:02:18.751-04:00","performer":[{"reference":"Practitioner/3","display":"Dr. Example"}],"valueQuantity":{"value":166.7,"unit":"cm","system":"http://unitsofmeasure.org","code":"cm"},"interpretation":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation","code":"N","display":"Normal"}]}],"referenceRange":[{"low":{"value":150,"unit":"cm"},"high":{"value":200,"unit":"cm"}}]}`

func BenchmarkResource(b *testing.B) {
	reg, err := conformance.R4()
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		options Options
	}{{"structure", Options{}}, {"invariants", Options{Invariants: true}}} {
		b.Run(c.name, func(b *testing.B) {
			v, err := New(reg, c.options)
			if err != nil {
				b.Fatal(err)
			}
			n := parse(b, []byte(height))
			b.SetBytes(int64(len(height)))
			b.ReportAllocs()
			for b.Loop() {
				if issues := v.Resource(n); len(issues) > 0 {
					b.Fatal(show(issues))
				}
			}
		})
	}
}

func BenchmarkNew(b *testing.B) {
	reg, err := conformance.R4()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := New(reg, Options{Invariants: true}); err != nil {
			b.Fatal(err)
		}
	}
}
