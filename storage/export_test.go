package storage

import (
	"context"

	"kiln/fhir/search"
)

// PlannedOnce says whether the first statement of a search is planned once and not with its values.
func (s *Store) PlannedOnce(ctx context.Context, q *search.Query) (bool, error) {
	run, err := s.runner(ctx, nil)
	if err != nil {
		return false, err
	}
	plan, err := s.plan(ctx, run, q)
	if err != nil {
		return false, err
	}
	statements, err := s.statements(ctx, run, q, 20)
	if err != nil {
		return false, err
	}
	return statements[0].once || !plan.anew(), nil
}

// ElementTargets is Indexer.elementTargets, as keys of resources.
func (s *Store) ElementTargets(of []*Version, in search.Include, candidates ...Key) (found []Key, ok bool) {
	ix := s.indexer.Load()
	keys, ok := ix.elementTargets(of, in)
	for _, k := range candidates {
		for _, rk := range keys {
			if rk == ix.hash.Resource(k.Type, k.ID) {
				found = append(found, k)
			}
		}
	}
	return found, ok && len(found) == len(keys)
}

// SortBounds sets up to how many matches a search by a code or a reference reads and sorts at once, how many texts a page goes through
// otherwise, and up to how many matches it then sorts after all.
func (s *Store) SortBounds(atOnce, texts, most int) { s.sorting = sortBounds{atOnce, texts, most} }

// SortsByText says whether a search of a type goes from text to text of a parameter that it is sorted by.
func (s *Store) SortsByText(typ, code string) bool {
	p, err := s.indexer.Load().param(typ, code)
	return err == nil && p != nil && p.sortListed
}
