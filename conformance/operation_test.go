package conformance

import "testing"

// GET is for what changes nothing and needs nothing that a URL cannot hold (FHIR R4 operations.html#request).
func TestOperation_ByGet(t *testing.T) {
	t.Parallel()
	r, err := R4()
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]bool{
		"Resource-meta": true, "Resource-validate": true, "ValueSet-expand": true, "Patient-everything": true,
		"Resource-meta-add":       false, // a Meta; R4 does not say that it changes something
		"Patient-match":           false, // a resource
		"CodeSystem-find-matches": true, "Appointment-book": false, "reindex": false,
	} {
		o, err := r.Operation(id)
		if err != nil {
			t.Fatal(err)
		}
		if o.ByGet() != want {
			t.Errorf("%s by GET: %v", id, o.ByGet())
		}
	}
}
