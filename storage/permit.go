package storage

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"kiln/fhir"
	"kiln/fhir/search"
)

// Whole says whether nothing of a type is hidden from whoever has the access in ctx: only then may a client choose the
// ids of new resources, since a refusal would tell of those that are hidden.
func (s *Store) Whole(ctx context.Context, typ string) bool {
	a, err := s.access(ctx)
	if err != nil {
		return false
	}
	return a.everything || a.whole && slices.ContainsFunc(a.reach[s.Registry().TypeNumber(typ)], func(g grant) bool {
		return g.reach == search.ReachAny && len(g.where) == 0
	})
}

// Permits says whether the caller may make the content of old, nil for none, into that of p, nil where it is deleted.
// That the caller may change the resource that holds old is the business of Lock; this is about the contents: nothing
// may come into the compartment of a patient whom the caller does not reach, move into it or move out of it, and
// granular scopes must let both through. It sees relationships as they are before the write. SeesWhose completes it.
func (tx *Tx) Permits(ctx context.Context, p *Prepared, old *Version) (bool, error) {
	a, err := tx.store.access(ctx)
	if err != nil || a.everything {
		return err == nil, err
	}
	for _, p := range a.proxies {
		if acts, err := tx.ask(ctx, sqlRepresents, p.by, p.record); err != nil || !acts {
			return false, err
		}
	}
	ix := tx.store.indexer.Load()
	var before, after *indexRow
	if p != nil {
		after = p.row
	}
	if old != nil && !old.Deleted {
		n, err := fhir.ParseJSON(old.Content)
		if err != nil {
			return false, err
		}
		if before, err = ix.row(n); err != nil {
			return false, err
		}
		if len(before.inherit) > 0 { // its compartments are those that were found when it was written
			earlier := &Prepared{Node: n, rk: tx.store.hash.Resource(old.Type, old.ID), row: before, by: ix}
			if err := tx.Inherit(ctx, earlier); err != nil {
				return false, err
			}
		}
	}
	row := after
	if row == nil {
		row = before
	}
	if row == nil {
		return true, nil
	}
	permitted, strangers := false, false
	for _, g := range a.reach[row.typ] {
		if permitted && g.reach == search.ReachAny {
			continue
		}
		ok, err := tx.permits(ctx, ix, a, g, before, after)
		if err != nil {
			return false, err
		}
		if ok {
			permitted, strangers = true, g.reach == search.ReachAny
		}
		if permitted && !strangers {
			break
		}
	}
	if !permitted {
		return false, nil
	}
	if strangers && after != nil {
		after.strangers = tx.strangers(ix, a, before, after)
	}
	return tx.shownToWriter(ctx, ix, a, before, after)
}

func (tx *Tx) permits(ctx context.Context, ix *Indexer, a *Access, g grant, before, after *indexRow) (bool, error) {
	for _, row := range []*indexRow{before, after} {
		if row == nil {
			continue
		}
		for _, m := range g.where {
			ok, err := ix.rowMatches(row, m)
			if err != nil || !ok {
				return false, err
			}
		}
	}
	var was, is []int64
	if before != nil {
		was = before.compartments
	}
	if after == nil {
		is = was
	} else {
		is = after.compartments
	}
	switch g.reach {
	case search.ReachAny:
		return true, nil
	case search.ReachShared:
		return len(is) == 0 && len(was) == 0, nil
	case search.ReachSelf:
		named := func(row *indexRow) bool {
			return row == nil || len(row.compartments) == 0 && len(without(row.practitioners, a.self)) == 0 && len(row.practitioners) > 0
		}
		if ix.registry.TypeName(typeOf(before, after)) == "Slot" {
			owned, err := tx.ownedSlots(ctx, ix, before, after)
			return err == nil && named(owned[0]) && named(owned[1]), err
		}
		return named(before) && named(after), nil
	case search.ReachOwn:
		if !overlap(is, a.patients) || before != nil && !overlap(was, a.patients) {
			return false, nil
		}
		// Others may be in it already, as in a visit of two; who they are is not this caller's to change.
		if !slices.Equal(without(is, a.patients), without(was, a.patients)) {
			return false, nil
		}
		return after == nil || ix.aboutPatient(after, a.patients), nil
	case search.ReachTreated:
		if g.context && !overlap(is, a.patients) {
			return false, nil
		}
		all := unique(slices.Concat(was, is))
		treated, err := tx.treated(ctx, all)
		if err != nil {
			return false, err
		}
		reached := append(treated, a.self...)
		moved := slices.Concat(without(is, was), without(was, is))
		return overlap(is, reached) && len(without(moved, reached)) == 0, nil
	}
	return false, nil
}

// typeOf is the type of the resource that one of two rows is of.
func typeOf(before, after *indexRow) int16 {
	if after != nil {
		return after.typ
	}
	return before.typ
}

const sqlTreated = `SELECT DISTINCT t.patient FROM visible.treated t WHERE t.patient = ANY($1)`

// treated are those of some patients whom the caller treats.
func (tx *Tx) treated(ctx context.Context, of []int64) (list []int64, err error) {
	err = tx.query(ctx, func(rows pgx.Rows) (err error) {
		list, err = pgx.CollectRows(rows, pgx.RowTo[int64])
		return err
	}, sqlTreated, of)
	return list, err
}

// aboutPatient says whether a resource is about one of some patients: for what patients write it is not enough that
// they performed or asserted it. A type without the parameter patient has no such difference.
func (ix *Indexer) aboutPatient(row *indexRow, patients []int64) bool {
	p, err := ix.param(ix.registry.TypeName(row.typ), "patient")
	if err != nil || p == nil {
		return err == nil
	}
	return slices.ContainsFunc(patients, func(rk int64) bool { return slices.Contains(row.refs, rk^p.salt) })
}

// rowMatches evaluates a condition that a scope may make on a row that is not in the database.
func (ix *Indexer) rowMatches(row *indexRow, m *search.Match) (bool, error) {
	terms, inRefs, err := ix.exactTerms(m)
	if err != nil {
		return false, err
	}
	if inRefs {
		return overlap(row.refs, terms), nil
	}
	return overlap(row.tokens, terms), nil
}

// Narrows says whether granular scopes apply to a type, or for "" to any at all: then what the views let through is still
// to go through Narrowed, and their counts tell too much.
func (s *Store) Narrows(ctx context.Context, typ string) bool {
	a, err := s.access(ctx)
	if err != nil || a.everything {
		return false
	}
	if typ != "" {
		return a.narrows(s.Registry().TypeNumber(typ))
	}
	for n := range a.reach {
		if a.narrows(n) {
			return true
		}
	}
	return false
}

// within says whether a version of the resource rk lies where a grant leads. That the caller treats its patients, the view alone finds out: a scope of one level
// goes with all the reaches that the roles have, so that where it leads no further, neither do the others of its level.
func (a *Access) within(g grant, row *indexRow, v *Version, rk int64) bool {
	lies := row.compartments
	if len(row.inherit) > 0 { // what a Provenance lies in, its own content does not say
		lies = slices.Concat(lies, v.Compartments)
	}
	switch g.reach {
	case search.ReachOwn:
		return overlap(lies, a.patients)
	case search.ReachShared, search.ReachSelf:
		return len(lies) == 0
	case search.ReachUser:
		return rk == a.user
	case search.ReachTreated:
		return !g.context || overlap(lies, a.patients)
	}
	return true
}

// Narrowed returns those of some versions that granular scopes let through, each by its own content, and whether such
// scopes apply to any of their types at all.
func (s *Store) Narrowed(ctx context.Context, list []*Version) (kept []*Version, applies bool, err error) {
	a, err := s.access(ctx)
	if err != nil || a.everything {
		return list, false, err
	}
	ix := s.indexer.Load()
	for _, v := range list {
		number := ix.registry.TypeNumber(v.Type)
		if !a.narrows(number) {
			kept = append(kept, v)
			continue
		}
		if applies = true; v.Deleted {
			continue
		}
		n, err := fhir.ParseJSON(v.Content)
		if err != nil {
			return nil, true, err
		}
		row, err := ix.row(n)
		if err != nil {
			return nil, true, err
		}
		for _, g := range a.reach[number] {
			fits := true
			for _, m := range g.where {
				ok, err := ix.rowMatches(row, m)
				if err != nil {
					return nil, true, err
				}
				fits = fits && ok
			}
			// Which of several ways a version came by, the view has judged; here each must fit in one of them.
			if fits && a.within(g, row, v, s.hash.Resource(v.Type, v.ID)) {
				kept = append(kept, v)
				break
			}
		}
	}
	return kept, applies, nil
}

func overlap(a, b []int64) bool {
	return slices.ContainsFunc(a, func(n int64) bool { return slices.Contains(b, n) })
}

func without(list, others []int64) []int64 {
	return slices.DeleteFunc(slices.Clone(list), func(n int64) bool { return slices.Contains(others, n) })
}
