package resources

import (
	"testing"

	"kiln/auth"
	"kiln/storage"
)

// BenchmarkCreate_observation is what the rules of records cost on the way that is used most.
func BenchmarkCreate_observation(b *testing.B) {
	s := newService(b, func(o *Options, so *storage.Options) { so.Unrestricted = false })
	for _, body := range []string{
		`{"resourceType":"Practitioner","id":"dora"}`,
		`{"resourceType":"Patient","id":"anna","generalPractitioner":[{"reference":"Practitioner/dora"}]}`,
		`{"resourceType":"Encounter","id":"ea","status":"in-progress","class":{"code":"AMB"},"subject":{"reference":"Patient/anna"}}`,
	} {
		put(b, s, body)
	}
	const plain = `{"resourceType":"Observation","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"8302-2"}]},"subject":{"reference":"Patient/anna"},"effectiveDateTime":"2026-01-01","valueQuantity":{"value":180,"unit":"cm"}}`
	during := plain[:len(plain)-1] + `,"encounter":{"reference":"Encounter/ea"}}`
	for _, c := range []struct {
		name string
		who  auth.Principal
		body string
	}{
		{"operator", auth.Operator("bench"), plain}, {"operator_in_a_visit", auth.Operator("bench"), during},
		{"doctor", doctor("dora", "user/*.cruds"), plain}, {"doctor_in_a_visit", doctor("dora", "user/*.cruds"), during},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				do(b, s, Request{Principal: c.who, Interaction: Create, Type: "Observation", Body: parse(b, c.body)})
			}
		})
	}
}
