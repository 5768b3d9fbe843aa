package resources

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"

	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/storage"
)

// normalCriteria is one spelling for search criteria that mean the same: what locks and comparisons go by.
func normalCriteria(typ, criteria string) string {
	pairs, err := search.ParsePairs(criteria)
	if err != nil {
		return typ + "?" + criteria // the search is going to refuse them
	}
	slices.SortFunc(pairs, func(a, b search.Pair) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Value, b.Value))
	})
	return typ + "?" + search.Encode(pairs)
}

// TrimCriteria takes off what clients put before criteria that stand without a URL: "?", "Patient?", or the whole
// address of the search, which HAPI FHIR's client sends in If-None-Exist.
func TrimCriteria(typ, criteria string) string {
	criteria = strings.TrimSpace(criteria)
	before, rest, found := strings.Cut(criteria, "?")
	absolute := strings.HasPrefix(before, "http://") || strings.HasPrefix(before, "https://")
	if found && (before == "" || before == typ || absolute && strings.HasSuffix(before, "/"+typ)) {
		return rest
	}
	return criteria
}

// matchOne gives the one resource that criteria find, or nil. Errors: Precondition where they find several.
func (s *Service) matchOne(ctx context.Context, tx *storage.Tx, typ, query string) (*storage.Key, error) {
	keys, err := s.match(ctx, tx, typ, query, 2)
	if err != nil || len(keys) == 0 {
		return nil, err
	}
	if len(keys) > 1 {
		return nil, severalMatches(typ, query)
	}
	return &keys[0], nil
}

func severalMatches(typ, query string) *fhir.Error {
	return fhir.NewError(fhir.Precondition, fhir.CodeMultipleMatches,
		"The criteria "+quote(typ+"?"+query)+" match several resources, and only one may match; make them more precise").
		Coded("multiple-matches")
}

// matchLocked gives the resources that criteria find, locked. As they may change between the search and the lock, the
// search is made again under the lock. The caller holds the lock on the criteria.
//
// Errors: Precondition where they find more than limit; Transient where they never hold still.
func (s *Service) matchLocked(ctx context.Context, tx *storage.Tx, typ, query string, limit int) ([]*storage.Version, error) {
	keys, err := s.match(ctx, tx, typ, query, limit+1)
	for range 5 {
		if err != nil || len(keys) == 0 {
			return nil, err
		}
		if len(keys) > limit {
			return nil, tooManyMatches(typ, query, limit)
		}
		var locked map[storage.Key]*storage.Version
		if locked, err = tx.Lock(ctx, keys...); err != nil {
			return nil, err
		}
		var again []storage.Key
		if again, err = s.match(ctx, tx, typ, query, limit+1); err != nil {
			return nil, err
		}
		sortKeys(keys)
		sortKeys(again)
		if slices.Equal(keys, again) {
			found := make([]*storage.Version, len(keys))
			for i, k := range keys {
				if found[i] = locked[k]; found[i] == nil { // found, and so seen, but not the caller's to change
					return nil, notYours(typ)
				}
			}
			return found, nil
		}
		keys = again
	}
	return nil, fhir.NewError(fhir.Transient, fhir.CodeTransient,
		"Others keep changing which resources "+quote(typ+"?"+query)+" matches; try again")
}

func tooManyMatches(typ, query string, limit int) *fhir.Error {
	if limit == 1 {
		return severalMatches(typ, query)
	}
	return fhir.NewError(fhir.Precondition, fhir.CodeMultipleMatches, "The criteria "+quote(typ+"?"+query)+
		" match more than "+strconv.Itoa(limit)+" resources, the most that one request may delete; make them more precise").
		Coded("too-many-matches")
}

func sortKeys(keys []storage.Key) { slices.SortFunc(keys, compareKeys) }

func compareKeys(a, b storage.Key) int {
	return cmp.Or(strings.Compare(a.Type, b.Type), strings.Compare(a.ID, b.ID))
}
