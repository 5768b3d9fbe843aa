package resources

import (
	"context"
	"strconv"

	"kiln/fhir"
)

// diff answers $diff: what changed between two versions of a resource, as a FHIRPath Patch.
//
// Errors: NotFound, Gone (a version that is a delete); TooCostly where the two have little in common.
func (s *Service) diff(ctx context.Context, c *call) (*Response, error) {
	read := Request{Interaction: Read, Type: c.Type, ID: c.ID, Principal: c.Principal}
	current, err := s.Do(ctx, read)
	if err != nil && fhir.KindOf(err) != fhir.Gone {
		return nil, err
	}
	to, from := c.text("to"), c.text("from")
	if to == "" {
		to = strconv.Itoa(current.Version.Number)
	}
	if n, err := strconv.Atoi(to); from == "" && err == nil {
		if from = strconv.Itoa(n - 1); n == 1 {
			from = to
		}
	}
	var sides [2]*fhir.Node
	for i, number := range []string{from, to} {
		read.Interaction, read.Version = VRead, number
		resp, err := s.Do(ctx, read)
		if err != nil {
			return nil, err
		}
		if sides[i], err = fhir.ParseJSON(resp.Version.Content); err != nil {
			return nil, fhir.NewError(fhir.Internal, fhir.CodeException, "A stored resource cannot be read").Because(err)
		}
	}
	patch, err := DiffFHIRPath(sides[0], sides[1], s.registry.Schema())
	if err != nil {
		return nil, err
	}
	return &Response{Resource: patch}, nil
}
