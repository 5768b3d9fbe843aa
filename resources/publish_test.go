package resources

import (
	"testing"

	"kiln/conformance"
	"kiln/conformance/validate"
	"kiln/fhir"
	"kiln/resources/scheduling"
	"kiln/storage"
)

func TestPublish_stores_valid_definitions_once(t *testing.T) {
	t.Parallel()
	registry, err := conformance.R4()
	if err != nil {
		t.Fatal(err)
	}
	v, err := validate.New(registry, validate.Options{Invariants: true})
	if err != nil {
		t.Fatal(err)
	}
	s := newService(t, func(o *Options, _ *storage.Options) { o.Validate = v.Resource })
	for range 2 {
		if err := s.Publish(t.Context()); err != nil {
			t.Fatal(describe(err))
		}
	}
	for _, url := range []string{scheduling.ExtensionBookingPolicy, scheduling.ExtensionAvailability, scheduling.ExtensionRequestedTime, fhir.HeldUntilExtension, fhir.AlternativeExtension} {
		found := do(t, s, Request{Interaction: SearchType, Type: "StructureDefinition", Query: "url=" + url}).Bundle.Entries
		if len(found) != 1 || found[0].Version.Number != 1 {
			t.Errorf("%s: %d found", url, len(found))
		}
	}
}
