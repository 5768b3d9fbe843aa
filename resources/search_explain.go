package resources

import (
	"context"

	"kiln/fhir"
	"kiln/fhir/search"
)

// explain adds the statements and plans of a search to its answer, as an entry of information.
//
// Errors: Forbidden for who may not see them: they tell how many resources there are of what.
func (s *Service) explain(ctx context.Context, r *Request, q *search.Query, answer *Bundle) error {
	if !r.Principal.IsOperator() {
		return fhir.NewError(fhir.Forbidden, fhir.CodeForbidden, "Search parameter \"_explain\": only administrators may ask how a search runs.")
	}
	size := q.Count
	if size < 0 {
		size = s.limits.DefaultPageSize
	}
	text, err := s.store.Explain(ctx, q, min(size, s.limits.MaxPageSize)+1)
	if err != nil {
		return err
	}
	answer.Issues = append(answer.Issues, fhir.Issue{Severity: fhir.SeverityInformation, Code: fhir.CodeInformational, Text: text})
	return nil
}
