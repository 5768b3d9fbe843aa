package storage

import (
	"context"
	"errors"
	"fmt"

	"kiln/conformance/validate"
	"kiln/fhir"
	"kiln/storage/terminology"
)

// ValidateCodes is validate.Terminology for the caller in ctx, outside of a transaction.
func (s *Store) ValidateCodes(ctx context.Context, questions []validate.CodeQuestion) ([]validate.CodeAnswer, error) {
	return s.ValidateCodesIn(ctx, nil, questions)
}

// ValidateCodesIn is ValidateCodes that sees what a transaction has written.
func (s *Store) ValidateCodesIn(ctx context.Context, tx *Tx, questions []validate.CodeQuestion) ([]validate.CodeAnswer, error) {
	answers := make([]validate.CodeAnswer, len(questions))
	if len(questions) == 0 {
		return answers, nil
	}
	r, err := s.Terminology(ctx, tx, terminology.Options{})
	if err != nil {
		return nil, err
	}
	known := map[validate.CodeQuestion]validate.CodeAnswer{} // resources repeat themselves
	for i, q := range questions {
		a, ok := known[q]
		if !ok {
			if a, err = validateCode(ctx, r, q); err != nil {
				return nil, err
			}
			known[q] = a
		}
		answers[i] = a
	}
	return answers, nil
}

func validateCode(ctx context.Context, r *terminology.Resolver, q validate.CodeQuestion) (a validate.CodeAnswer, err error) {
	set, err := r.Set(ctx, q.ValueSet)
	var f *terminology.Finding
	if err == nil {
		f, err = r.Validate(ctx, set, terminology.Coding{System: q.System, Version: q.Version, Code: q.Code}, "")
	}
	var told *fhir.Error
	switch {
	case errors.As(err, &told) && told.Issues[0].Code == fhir.CodeMultipleMatches: // an element of type code does not mind
		a.Verdict = validate.CodeMember
	case errors.As(err, &told) && told.Kind != fhir.Internal && told.Kind != fhir.Transient:
		a.Text = told.Error()
	case err != nil:
		return a, err
	case !f.Member || f.Abstract:
		a.Verdict, a.Display = validate.CodeNotMember, f.Display
	default:
		a.Verdict, a.Display = validate.CodeMember, f.Display
		switch {
		case f.Inactive:
			a.Text = fmt.Sprintf("The code %q is inactive", q.Code)
		case f.Unchecked:
			a.Text = fmt.Sprintf("The value set lists the code %q; this server does not have the code system %q to check it with", q.Code, f.System)
		}
	}
	return a, nil
}
