package resources

import (
	"context"
	"time"

	"kiln/conformance"
	"kiln/fhir"
)

// definitionsPatience is how long a search waits for the built-in definitions, which the first start of a database loads beside
// serving. After that it answers with what is there, and says so.
const definitionsPatience = 5 * time.Second

// awaitDefinition lets who asks for a built-in definition by its id wait until it is there. Whatever else clients have stored is
// there already.
//
// Errors: Transient where that takes longer than the request may.
func (s *Service) awaitDefinition(ctx context.Context, r *Request) error {
	switch r.Interaction {
	case Read, VRead, HistoryInstance:
	default:
		return nil
	}
	if r.ID == "" || !conformance.Publishes(r.Type) {
		return nil
	}
	if _, official := s.registry.Definition(r.Type, r.ID); !official || s.store.Defined(ctx) {
		return nil
	}
	e := fhir.NewError(fhir.Transient, fhir.CodeTransient, "The definitions of FHIR are being loaded; try again.")
	e.RetryAfter = time.Second
	return e
}

// lacking waits a little for the definitions where a search is for their type, and warns where they are not there yet.
func (s *Service) lacking(ctx context.Context, r *Request) []fhir.Issue {
	if !conformance.Publishes(r.Type) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, definitionsPatience)
	defer cancel()
	if s.store.Defined(ctx) {
		return nil
	}
	return []fhir.Issue{{Severity: fhir.SeverityWarning, Code: fhir.CodeIncomplete,
		Text: "The definitions of FHIR are being loaded: those that are not there yet are not found."}}
}
