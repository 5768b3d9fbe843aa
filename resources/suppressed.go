package resources

import (
	"context"

	"kiln/auth"
	"kiln/fhir"
	"kiln/storage"
)

// suppressible is the question whether something of the record that a search names, or $everything, is withheld from the
// practitioner who asks, and a context in which what is read asks it beside. nil is no question.
func (s *Service) suppressible(ctx context.Context, r *Request) (context.Context, *storage.Withheld, error) {
	if !r.Principal.Has(auth.RolePractitioner) ||
		r.Interaction != SearchType && r.Interaction != SearchSystem && (r.Interaction != Operate || r.Operation != "everything") {
		return ctx, nil, nil
	}
	named := s.namedPatients(r)
	if len(named) != 1 {
		return ctx, nil, nil
	}
	w, err := s.store.AskWithheld(acting(ctx, auth.Read), named[0])
	if err != nil {
		return ctx, nil, err
	}
	return storage.WithQuestion(ctx, w), w, nil
}

// suppressed adds to what a search of one patient's record, or $everything, found that something of the record is withheld
// from the practitioner who asks, where breaking the glass would show it. It is said of the record and never of the query: it is
// the same whatever was searched for, so that no criteria can find out what it is. Who does not treat the patient is told
// nothing, nor is anybody else: neither that there is something, nor that there is a patient.
func (s *Service) suppressed(ctx context.Context, w *storage.Withheld, resp *Response) error {
	if w == nil || resp == nil || resp.Bundle == nil || resp.Bundle.Type != "searchset" {
		return nil
	}
	is, err := s.store.Withholds(ctx, w)
	if err == nil && is {
		resp.Bundle.Issues = append(resp.Bundle.Issues, fhir.Issue{Severity: fhir.SeverityInformation, Code: fhir.CodeSuppressed, Detail: "suppressed",
			Text: "Something of this patient's record is withheld from you. In an emergency, X-Break-Glass opens the record"})
	}
	return err
}
