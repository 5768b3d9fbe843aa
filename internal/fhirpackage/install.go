package fhirpackage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"kiln/fhir"
	"kiln/resources"
	"kiln/storage"
)

// Result tells what became of a package.
type Result struct {
	Stored, Unchanged int
	// BuiltIn counts the SearchParameters that find nothing but what one of FHIR's own finds.
	BuiltIn int
	// Refused are those that cannot be used.
	Refused []Refusal
	// Reindexed are the types whose index is being built for the search parameters of the package.
	Reindexed []string
}

// Install stores the resources of a package under ids made of their canonical URLs and versions, so that two versions
// of a package stand side by side and the same one again changes nothing. It goes on where an earlier try stopped.
func Install(ctx context.Context, service *resources.Service, store *storage.Store, p *Package) (Result, error) {
	var result Result
	for _, n := range p.Resources {
		typ, name := n.ResourceType(), n.ID()
		id := storedID(n)
		n.Set("id", fhir.Str(id))
		resp, err := service.Do(ctx, resources.Request{Interaction: resources.Update, Type: typ, ID: id, Body: n})
		switch {
		case err != nil:
			return result, fmt.Errorf("%s %q: %w", typ, name, err)
		case resp.Unchanged:
			result.Unchanged++
		default:
			result.Stored++
		}
	}
	kept, err := result.installParameters(ctx, service, store, p)
	if err != nil {
		return result, err
	}
	return result, store.SetPackage(ctx, p.Name, p.Version, len(p.Resources)+kept)
}

// maxID is how long an id may be (FHIR R4 datatypes.html#id).
const maxID = 64

// storedID is the id in the package, to be read, with a hash of what the resource is, to be its own.
func storedID(n *fhir.Node) string {
	sum := sha256.Sum256([]byte(n.ResourceType() + "\x00" + n.GetText("url") + "\x00" + n.GetText("version") + "\x00" + n.ID()))
	tail := "-" + hex.EncodeToString(sum[:6])
	id := n.ID()
	if !fhir.ValidID(id) {
		id = "resource"
	}
	return id[:min(len(id), maxID-len(tail))] + tail
}
