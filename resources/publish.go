package resources

import (
	"context"

	"kiln/auth"
	"kiln/conformance"
	"kiln/fhir"
)

// Publish stores the StructureDefinitions of the server's own extensions, so that clients can read and search for them.
// What is there already, and the same, stays as it is.
func (s *Service) Publish(ctx context.Context) error {
	list, err := conformance.OwnDefinitions()
	if err != nil {
		return err
	}
	for _, data := range list {
		n, err := fhir.ParseJSON(data)
		if err != nil {
			return err
		}
		if n.ResourceType() != "StructureDefinition" {
			continue
		}
		if _, err := s.Do(ctx, Request{Principal: auth.System(), Interaction: Update, Type: n.ResourceType(), ID: n.ID(), Body: n}); err != nil {
			return err
		}
	}
	return nil
}
