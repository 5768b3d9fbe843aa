package terminology

import (
	"context"

	"github.com/jackc/pgx/v5"

	"kiln/conformance"
)

const (
	sqlOffered = `
SELECT s.key, s.source, s.url, s.version, s.content, s.concepts, s.stored,
  EXISTS (SELECT FROM concept c WHERE c.system = s.key AND c.parents <> '{}') FROM code_system s
WHERE s.source <> 'R' AND s.content IN ('complete', 'fragment') ORDER BY s.url, s.version`
	sqlOfferedState = `SELECT count(*)::text || ' ' || coalesce(max(stored)::text, '') FROM code_system WHERE source <> 'R'`
)

// OfferedState changes when what Offered answers does.
func (r *Resolver) OfferedState(ctx context.Context) (state string, err error) {
	err = r.query(ctx, sqlOfferedState, nil, func(rows pgx.Rows) error { return rows.Scan(&state) })
	return state, err
}

// Offered lists the code systems that are everybody's, with those that have a grammar: official and loaded ones, in
// the order of their URLs.
func (r *Resolver) Offered(ctx context.Context) ([]conformance.OfferedSystem, error) {
	var list []conformance.OfferedSystem
	var group []*System
	var hierarchical []bool
	flush := func() {
		first := best(group)
		for i, s := range group {
			list = append(list, conformance.OfferedSystem{URL: s.URL, Version: s.Version, Default: s == first, Hierarchical: hierarchical[i]})
		}
		group, hierarchical = nil, nil
	}
	err := r.query(ctx, sqlOffered, nil, func(rows pgx.Rows) error {
		s, tree := &System{}, false
		if err := rows.Scan(&s.Key, &s.Source, &s.URL, &s.Version, &s.Content, &s.Concepts, &s.stored, &tree); err != nil {
			return err
		}
		if len(group) > 0 && group[0].URL != s.URL {
			flush()
		}
		group, hierarchical = append(group, s), append(hierarchical, tree)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(group) > 0 {
		flush()
	}
	for _, url := range grammarSystems {
		list = append(list, conformance.OfferedSystem{URL: url})
	}
	return list, nil
}
