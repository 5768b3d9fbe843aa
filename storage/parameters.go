package storage

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"kiln/conformance"
	"kiln/fhir"
)

// This file keeps the search parameters that clients define. docs/search-parameters.md tells how they live.

// watchInterval is how long a server may not know what another has changed. Writes learn at once, since each asks
// check_generation.
const watchInterval = 2 * time.Second

// watchParameters follows what other servers on the database do with search parameters, until ctx ends.
func (s *Store) watchParameters(ctx context.Context) {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			// A database that cannot be reached is the requests' to complain about.
			_ = s.RefreshParameters(ctx)
		}
	}
}

const (
	sqlChanged    = `SELECT changed FROM search_parameter_set`
	sqlParameters = `
SELECT s.generation, s.changed, s.incomplete IS NULL, ` + sqlAllHashed + `, r.content, array_agg(p.base || '.' || p.code) FILTER (WHERE p.state = 'building')
FROM search_parameter_set s LEFT JOIN search_parameter p ON true LEFT JOIN resource r USING (rk)
GROUP BY 1, 2, 3, 4, p.rk, r.content ORDER BY p.rk`
)

// RefreshParameters reads the search parameters of clients anew where they have changed, and the profiles. Whatever runs with the old
// set finishes with it.
func (s *Store) RefreshParameters(ctx context.Context) error {
	s.refreshing.Lock()
	defer s.refreshing.Unlock()
	if err := s.refreshAccess(ctx); err != nil {
		return err
	}
	if err := s.refreshProfiles(ctx); err != nil {
		return err
	}
	var changed int64
	if err := (reader{s.pool}).QueryRow(ctx, sqlChanged).Scan(&changed); err != nil {
		return translate(fmt.Errorf("storage: read the state of the search parameters: %w", err))
	}
	if changed == s.changed {
		return nil
	}
	rows, err := reader{s.pool}.Query(ctx, sqlParameters)
	if err != nil {
		return translate(fmt.Errorf("storage: read the search parameters: %w", err))
	}
	defer rows.Close()
	var generation int32
	var complete, worded bool
	var list []*conformance.SearchParameter
	building := map[string]bool{}
	for rows.Next() {
		var content []byte
		var unfinished []string
		if err := rows.Scan(&generation, &changed, &complete, &worded, &content, &unfinished); err != nil {
			return translate(err)
		}
		if content == nil {
			continue
		}
		node, err := fhir.ParseJSON(content)
		if err != nil {
			return fmt.Errorf("storage: read a SearchParameter: %w", err)
		}
		// What was taken once and is refused now, after a change of ours, is not offered; it spoils nothing else.
		if parsed, err := conformance.ParseSearchParameter(node); err == nil {
			list = append(list, parsed...)
		}
		for _, name := range unfinished {
			building[name] = true
		}
	}
	if err := rows.Err(); err != nil {
		return translate(err)
	}
	ix := s.indexerWith(list, building, generation)
	ix.complete, ix.worded = complete, worded
	s.indexer.Store(ix)
	s.changed = changed
	return nil
}

func (s *Store) indexerWith(list []*conformance.SearchParameter, building map[string]bool, generation int32) *Indexer {
	registry := s.options.Registry
	if len(list) > 0 {
		registry = registry.With(list...)
	}
	ix := NewIndexer(s.hash, registry, s.options.Base, s.options.Zone)
	ix.official, ix.generation, ix.building, ix.rules = s.options.Registry, generation, map[uint32]bool{}, s.rules.Load()
	for _, p := range list {
		if building[p.Base+"."+p.Code] {
			for _, base := range Bases(registry, p.Base) {
				ix.building[conformance.Key(base, p.Code)] = true
			}
		}
	}
	return ix
}

// Bases returns the names under which a registry lists a parameter with this base: itself, and of an abstract type
// all types that are one.
func Bases(registry *conformance.Registry, base string) []string {
	list := []string{base}
	for _, name := range registry.Schema().Resources {
		if name != base && registry.Schema().Type(name).Is(base) {
			list = append(list, name)
		}
	}
	return list
}

// Official returns the definitions without those of clients.
func (s *Store) Official() *conformance.Registry { return s.options.Registry }

// Building says whether resources from before a parameter may still lack its values.
func (s *Store) Building(p *conformance.SearchParameter) bool {
	return s.indexer.Load().building[p.Key]
}

// Complete says whether all resources have in the index what this version of the server puts there. Where they have not, a reindex is
// under way, which it orders itself.
func (s *Store) Complete() bool { return s.indexer.Load().complete }

const (
	sqlForgetParameters = `DELETE FROM search_parameter WHERE rk = $1`
	sqlChangedSet       = `UPDATE search_parameter_set SET changed = changed + 1`
	sqlNextGeneration   = `UPDATE search_parameter_set SET generation = generation + 1, changed = changed + 1`
	sqlAddParameters    = `
INSERT INTO search_parameter (base, code, url, rk, generation)
SELECT b, $2, $3, $4, s.generation FROM search_parameter_set s, unnest($1::text[]) AS u(b)`
	sqlCheckGeneration = `SELECT check_generation($1)`
)

// SetParameters queues that the search parameters of a SearchParameter resource are these from now on; none after it
// is deleted or retired. Rows written before lack their values until a reindex.
func (tx *Tx) SetParameters(id string, list ...*conformance.SearchParameter) {
	rk := tx.store.hash.Resource("SearchParameter", id)
	tx.exec(sqlForgetParameters, rk)
	tx.parameters = true
	if len(list) == 0 {
		tx.exec(sqlChangedSet)
		return
	}
	tx.exec(sqlNextGeneration)
	bases := make([]string, len(list))
	for i, p := range list {
		bases[i] = p.Base
	}
	slices.Sort(bases)
	tx.exec(sqlAddParameters, slices.Compact(bases), list[0].Code, list[0].URL, rk)
}

// TouchParameters queues that all servers read the search parameters anew: a definition has changed in what no index
// row depends on.
func (tx *Tx) TouchParameters() {
	tx.parameters = true
	tx.exec(sqlChangedSet)
}

// current makes sure that index rows are those of the set of search parameters that this server knows. Whether it is
// the set that holds, the database says (Tx.announce). A set that changes after that waits for the transaction before
// older rows are rebuilt; see reindex.go.
func (tx *Tx) current(p *Prepared) {
	if now := tx.store.indexer.Load(); p.by != now {
		if row, err := now.row(p.Node); err == nil {
			p.row, p.by = row, now
			p.inherit()
		}
	}
}

// ParameterState is how far a search parameter of a client is.
type ParameterState struct {
	Base, Code, URL string
	Ready           bool
	generation      int32
}

const sqlParameterStates = `SELECT base, code, url, state = 'ready', generation FROM search_parameter ORDER BY base, code`

// ParameterStates tells of all search parameters of clients.
func (s *Store) ParameterStates(ctx context.Context) ([]ParameterState, error) {
	rows, err := reader{s.pool}.Query(ctx, sqlParameterStates)
	if err != nil {
		return nil, translate(err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (p ParameterState, err error) {
		return p, row.Scan(&p.Base, &p.Code, &p.URL, &p.Ready, &p.generation)
	})
	return list, translate(err)
}
