package storage

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"kiln/conformance/profile"
	"kiln/fhir"
	"kiln/storage/terminology"
)

// This file keeps the StructureDefinitions that clients have stored, by which writes are checked. They are read by the
// server, not for the caller: who checks is not who asks, and a rule that holds for some callers only would be none.

// definedProfile is a row of profile_definition.
type definedProfile struct {
	rk           int64
	url, version string
	of           string // the type of resource that it is a profile of; "" for extensions and profiles of datatypes
}

// profiles are the definitions of one state of profile_set.
type profiles struct {
	changed int64
	set     *profile.Set
	byType  map[string][]string
}

const (
	sqlProfilesChanged = `SELECT changed FROM profile_set`
	sqlProfiles        = `
SELECT p.rk, p.url, p.version, coalesce((SELECT r.content->>'type' FROM public.resource r
  WHERE r.rk = p.rk AND r.content->>'kind' = 'resource' AND r.content->>'derivation' = 'constraint'), '')
FROM profile_definition p ORDER BY p.rk`
	sqlDefinition    = `SELECT coalesce(literal, content::text) FROM public.resource WHERE rk = $1 AND type = 'StructureDefinition' AND content IS NOT NULL`
	sqlForgetProfile = `DELETE FROM profile_definition WHERE rk = $1`
	sqlAddProfile    = `INSERT INTO profile_definition (rk, url, version) VALUES ($1, $2, $3)`
	sqlTouchProfiles = `UPDATE profile_set SET changed = changed + 1`
)

// Profiles are the profiles that hold now: FHIR's own and those stored here. It is another set after each change.
func (s *Store) Profiles() *profile.Set { return s.profiles.Load().set }

// SupportedProfiles are the URLs of the stored profiles of resources, by their type, and a number that is another one after
// each change.
func (s *Store) SupportedProfiles() (byType map[string][]string, changed int64) {
	p := s.profiles.Load()
	return p.byType, p.changed
}

// refreshProfiles makes a new set where the stored definitions have changed. s.refreshing is held.
func (s *Store) refreshProfiles(ctx context.Context) error {
	var changed int64
	if err := (reader{s.pool}).QueryRow(ctx, sqlProfilesChanged).Scan(&changed); err != nil {
		return translate(fmt.Errorf("storage: read the state of the profiles: %w", err))
	}
	if old := s.profiles.Load(); old != nil && old.changed == changed {
		return nil
	}
	rows, err := reader{s.pool}.Query(ctx, sqlProfiles)
	if err != nil {
		return translate(fmt.Errorf("storage: read the profiles: %w", err))
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (d definedProfile, err error) {
		return d, row.Scan(&d.rk, &d.url, &d.version, &d.of)
	})
	if err != nil {
		return translate(fmt.Errorf("storage: read the profiles: %w", err))
	}
	byURL, byType := map[string][]definedProfile{}, map[string][]string{}
	for _, d := range list {
		byURL[d.url] = append(byURL[d.url], d)
		if d.of != "" {
			byType[d.of] = append(byType[d.of], d.url)
		}
	}
	for typ, urls := range byType {
		slices.Sort(urls)
		byType[typ] = slices.Compact(urls)
	}
	for _, versions := range byURL { // the latest first: it is what a canonical without a version means
		slices.SortStableFunc(versions, func(a, b definedProfile) int { return terminology.CompareVersions(b.version, a.version) })
	}
	s.profiles.Store(&profiles{changed: changed, byType: byType, set: profile.NewSet(s.options.Registry, func(ctx context.Context, canonical string) (*fhir.Node, error) {
		url, version, _ := strings.Cut(canonical, "|")
		for _, d := range byURL[url] {
			if version == "" || version == d.version {
				return s.definition(ctx, d)
			}
		}
		return nil, nil
	})})
	return nil
}

type txKey struct{}

// InTx is a context in which profiles are read on the connection of a transaction. Whoever holds one must not wait for
// another: all of them could be held by such.
func InTx(ctx context.Context, tx *Tx) context.Context { return context.WithValue(ctx, txKey{}, tx) }

// definition reads a StructureDefinition; nil where it has gone since.
func (s *Store) definition(ctx context.Context, d definedProfile) (*fhir.Node, error) {
	var text string
	read := func(rows pgx.Rows) error {
		for rows.Next() {
			if err := rows.Scan(&text); err != nil {
				return err
			}
		}
		return rows.Err()
	}
	var err error
	if tx, _ := ctx.Value(txKey{}).(*Tx); tx != nil {
		err = tx.system(ctx, read, sqlDefinition, d.rk)
	} else {
		var rows pgx.Rows
		if rows, err = (reader{s.pool}).Query(ctx, sqlDefinition, d.rk); err == nil {
			err = read(rows)
			rows.Close()
		}
	}
	if err != nil || text == "" {
		return nil, translate(err)
	}
	n, err := fhir.ParseJSON([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("storage: read a StructureDefinition: %w", err)
	}
	if n.GetText("url") != d.url { // hashes alone decide nothing
		return nil, nil
	}
	return n, nil
}

// SetProfile queues that a StructureDefinition resource defines the profile of this url and version from now on; none
// with url "", as after it is deleted or retired.
func (tx *Tx) SetProfile(id, url, version string) {
	rk := tx.store.hash.Resource("StructureDefinition", id)
	tx.exec(sqlForgetProfile, rk)
	if url != "" {
		tx.exec(sqlAddProfile, rk, url, version)
	}
	tx.parameters = true
	tx.exec(sqlTouchProfiles)
}
