package resources

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"kiln/fhir"
	"kiln/storage"
)

// bundle performs a batch or a transaction. Spec: FHIR R4 http.html#transaction.
//
// Errors: Invalid for what is no such Bundle; TooLarge for too many entries.
func (s *Service) bundle(ctx context.Context, r Request) (*Response, error) {
	if err := checkBody(r.Body, "Bundle"); err != nil {
		return nil, err
	}
	kind := Interaction(r.Body.GetText("type"))
	if kind != Batch && kind != Transaction {
		text := "Bundle.type is missing; a Bundle that is posted to the base must say batch or transaction"
		if kind != "" {
			text = "Bundle.type is " + quote(string(kind)) + "; a Bundle that is posted to the base must be a batch or a transaction"
		}
		return nil, fhir.NewError(fhir.Invalid, fhir.CodeValue, text).At("Bundle.type").Coded("bundle-type")
	}
	r.Interaction = kind
	if t := trailOf(ctx); t != nil {
		t.request.Interaction = kind
	}
	list := r.Body.Get("entry")
	if list != nil && list.Kind != fhir.Array {
		return nil, fhir.NewError(fhir.Invalid, fhir.CodeStructure, "Bundle.entry must be an array").At("Bundle.entry")
	}
	var entries []fhir.Node
	if list != nil {
		entries = list.Kids
	}
	if limit := s.limits.MaxBundleEntries; len(entries) > limit {
		return nil, fhir.NewError(fhir.TooLarge, fhir.CodeTooLong, fmt.Sprintf(
			"The Bundle has %d entries, and %d are the most that one may have; send several Bundles", len(entries), limit)).
			At("Bundle.entry").Coded("bundle-too-large")
	}
	if kind == Batch {
		return s.batch(ctx, r, entries)
	}
	return s.transaction(ctx, r, entries)
}

// atEntry makes an error of an entry tell which one: its expressions, which begin at the resource or at the entry,
// begin at the Bundle afterwards. What is no error of ours stays as it is, so that a transaction can be tried again.
func atEntry(err error, i int) error {
	var e *fhir.Error
	if !errors.As(err, &e) {
		return err
	}
	located := &fhir.Error{Kind: e.Kind, Issues: atEntryIssues(e.Issues, i), RetryAfter: e.RetryAfter, Allow: e.Allow}
	return located.Because(err)
}

func atEntryIssues(issues []fhir.Issue, i int) []fhir.Issue {
	here := entryPath(i)
	located := make([]fhir.Issue, len(issues))
	for j, issue := range issues {
		if len(issue.Expression) == 0 {
			issue.Expression = []string{here}
		} else {
			list := make([]string, len(issue.Expression))
			for k, x := range issue.Expression {
				list[k] = here + belowEntry(x)
			}
			issue.Expression = list
		}
		located[j] = issue
	}
	return located
}

// belowEntry is an expression of an interaction, such as Patient.name[0] or http.identifier, as a path in its entry.
func belowEntry(x string) string {
	first, rest, more := strings.Cut(x, ".")
	switch {
	case first == "http":
		return ".request.url"
	case first == "request", first == "resource", first == "fullUrl", first == "":
		return "." + x
	case first[0] == '[':
		return ".resource" + x
	case first[0] >= 'A' && first[0] <= 'Z' && more:
		return ".resource." + rest
	case first[0] >= 'A' && first[0] <= 'Z':
		return ".resource"
	}
	return ".resource." + x
}

func entryPath(i int) string { return fmt.Sprintf("Bundle.entry[%d]", i) }

// readEntry performs an entry that changes nothing.
func (s *Service) readEntry(ctx context.Context, tx *storage.Tx, r Request) (*Response, error) {
	ctx, err := authorize(ctx, &r)
	if err != nil {
		return nil, err
	}
	switch r.Interaction {
	case Read:
		return s.read(ctx, tx, r)
	case VRead:
		return s.vread(ctx, tx, r)
	case SearchType, SearchSystem:
		return s.searchIn(ctx, tx, r)
	}
	return s.history(ctx, tx, r)
}
