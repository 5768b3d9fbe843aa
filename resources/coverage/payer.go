package coverage

import (
	"context"
	"errors"

	"kiln/fhir"
)

// Payer answers what a coverage pays for. Adapters must give up when ctx ends.
//
// Errors: ErrNoAnswer, wrapped, where it is worth while to ask again later; any other error is an answer that will stay
// as it is: the question is wrong, or the payer cannot be reached this way at all.
type Payer interface {
	Ask(ctx context.Context, q *Question) (*Answer, error)
}

// ErrNoAnswer says that a payer has not answered in time, or not in a way that can be understood.
var ErrNoAnswer = errors.New("the payer has not answered")

// The adapters that an Organization can name in its extension payer-adapter.
const (
	AdapterLocal   = "local"
	AdapterSandbox = "sandbox"
	AdapterFHIR    = "fhir"
)

// The extensions on what payers are and offer. Each is a StructureDefinition on the server.
const (
	ExtensionPayerAdapter = fhir.CanonicalBase + "StructureDefinition/payer-adapter"
	ExtensionMemberID     = fhir.CanonicalBase + "StructureDefinition/member-id-pattern"
	ExtensionBenefitRule  = fhir.CanonicalBase + "StructureDefinition/benefit-rule"
)

// AdapterOf is the adapter of a payor: what its Organization says, else local.
func AdapterOf(payor *fhir.Node) string {
	if e := extension(payor, ExtensionPayerAdapter); e != nil {
		return e.GetText("valueCode")
	}
	return AdapterLocal
}

// extension is the first extension with a URL, or nil.
func extension(n *fhir.Node, url string) *fhir.Node {
	for e := range n.Get("extension").Items() {
		if e.GetText("url") == url {
			return e
		}
	}
	return nil
}
