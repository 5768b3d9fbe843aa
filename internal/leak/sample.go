package leak

import (
	"context"
	"fmt"

	"kiln/auth"
	"kiln/conformance"
	"kiln/fhir"
	"kiln/resources"
)

// operator is who sees everything.
var operator = auth.Operator("verify-access")

// Sample reads some resources of each type, the newest and the oldest, and some of what refers to the people among them.
func Sample(ctx context.Context, s *resources.Service, registry *conformance.Registry, base string, each int) (*World, error) {
	var nodes []*fhir.Node
	seen := map[string]bool{}
	add := func(r resources.Request) error {
		r.Principal = operator
		resp, err := s.Do(ctx, r)
		if err != nil {
			return err
		}
		for _, e := range resp.Bundle.Entries {
			if key := e.Version.Type + "/" + e.Version.ID; !seen[key] {
				seen[key] = true
				n, err := fhir.ParseJSON(e.Version.Content)
				if err != nil {
					return fmt.Errorf("%s cannot be read: %w", key, err)
				}
				nodes = append(nodes, n)
			}
		}
		return nil
	}
	for _, typ := range registry.Schema().Resources {
		for _, order := range []string{"-_lastUpdated", "_lastUpdated"} {
			if err := add(resources.Request{Interaction: resources.SearchType, Type: typ, Query: fmt.Sprintf("_count=%d&_sort=%s", each, order)}); err != nil {
				return nil, err
			}
		}
	}
	people := map[string]int{}
	for _, n := range nodes {
		typ := n.ResourceType()
		if typ != "Patient" && typ != "Practitioner" || people[typ] >= each/2 {
			continue
		}
		people[typ]++
		if err := add(resources.Request{Interaction: resources.SearchSystem, Compartment: typ, CompartmentID: n.ID(), Query: fmt.Sprintf("_count=%d", each/2)}); err != nil {
			return nil, err
		}
	}
	return NewWorld(registry, base, nodes), nil
}

// Caller is somebody who asks.
type Caller struct {
	Name string
	auth.Principal
}
