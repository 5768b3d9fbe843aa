package profile

import (
	"context"
	"testing"
)

// BenchmarkCheck is what a claimed profile adds to a write, and what the engine costs a resource that claims none.
func BenchmarkCheck(b *testing.B) {
	definitions, examples := readPackage(b, "hl7.fhir.us.core-6.1.0.tgz")
	s := known(b, definitions...)
	for _, c := range []struct{ name, file string }{
		{"patient", "package/example/Patient-example.json"},
		{"bloodpressure", "package/example/Observation-blood-pressure.json"},
	} {
		n := examples[c.file]
		if n == nil {
			b.Fatalf("no %s", c.file)
		}
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Check(context.Background(), n, Options{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	plain := parse(b, `{"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": {"reference": "Patient/a"}, "valueQuantity": {"value": 1}}`)
	b.Run("without_profile", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.Check(context.Background(), plain, Options{}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
