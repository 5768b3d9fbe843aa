package storage

import (
	"cmp"
	"context"
	"slices"
)

// What a page of a record refers to lies in that record, mostly, or belongs to nobody. It is read by a fixed statement like those of surely.go,
// once it is known whose record it is and that the rule asks no more of the patients (visible.clear), and weighed again by what it has.

// plainGrounds is what speaks for showing a resource in records that need nothing more: see migrations/0170_about_patients.sql.
type plainGrounds struct {
	types  []byte  // for each type, at the place of its number: plainRecord, plainShared
	open   []int64 // the records that the caller opens; nil: those that are clear
	barred int32   // labels that hide
}

const sqlSurelyReferred = `
SELECT r.labels, ` + versionColumns + ` FROM resource r
WHERE r.rk = ANY($1::bigint[]) AND r.content IS NOT NULL AND r.compartments <@ $2::bigint[]
  AND get_byte($3::bytea, r.type_number) & CASE WHEN r.compartments = '{}' THEN 2 ELSE 1 END <> 0
  AND (r.labels = 0 OR r.compartments <> '{}' AND r.labels & $4::integer = 0)
ORDER BY r.rk`

// shows says whether what lies in compartments, nil for unknown ones, is surely visible to who opens these records. It does not trust the statement to have asked.
func (p *plainGrounds) shows(open []int64, labels int32, number int16, compartments []int64) bool {
	if compartments == nil || int(number) >= len(p.types) {
		return false
	}
	if len(compartments) == 0 {
		return p.types[number]&plainShared != 0 && labels == 0
	}
	for _, rk := range compartments {
		if !slices.Contains(open, rk) {
			return false
		}
	}
	return p.types[number]&plainRecord != 0 && labels&p.barred == 0
}

// plainlyOpen are the records of which the rule asks no more of this caller, as far as sources tell; nil where they do not.
func (a *Access) plainlyOpen(sources []*Version) (open []int64) {
	if p := &a.plainly; p.types == nil || p.open != nil {
		return p.open
	}
	for _, v := range sources {
		if v.cleared == nil || v.cleared.of != a { // what holds for one caller, and one action, says nothing of others
			continue
		}
		for _, rk := range v.cleared.patients {
			if !slices.Contains(open, rk) {
				open = append(open, rk)
			}
		}
	}
	return open
}

// referred reads up to limit of the resources that have keys, in their order, and which sources refer to.
func (r *runner) referred(ctx context.Context, sources []*Version, keys []int64, limit int) (found []*Version, err error) {
	var sure []*Version
	open := r.access.plainlyOpen(sources)
	_, proves := toProve(ctx)
	if r.tx == nil && open != nil && !proves && len(keys) <= limit {
		if sure, err = r.surelyReferred(ctx, sqlSurelyReferred, open, keys); err != nil {
			return nil, err
		}
		known := map[int64]bool{}
		for _, v := range sure {
			known[r.store.hash.Resource(v.Type, v.ID)] = true
		}
		if keys = slices.DeleteFunc(slices.Clone(keys), func(rk int64) bool { return known[rk] }); len(keys) == 0 {
			return sure, nil
		}
	}
	if _, err = r.closely(ctx, r.store.versionsInto(&found), r.store.texts.nearby(sqlReferred), sqlReferred, keys, limit); err != nil || len(sure) == 0 {
		return found, err
	}
	found = append(found, sure...)
	slices.SortStableFunc(found, func(a, b *Version) int {
		return cmp.Compare(r.store.hash.Resource(a.Type, a.ID), r.store.hash.Resource(b.Type, b.ID))
	})
	return found, nil
}

// surelyReferred reads those resources that the caller surely sees; none where they have no room on a page.
func (r *runner) surelyReferred(ctx context.Context, sql string, open, keys []int64) (found []*Version, err error) {
	p, left, clear := &r.access.plainly, r.store.room(), &cleared{r.access, open}
	rows, err := reader{r.store.pool}.Query(ctx, sql, keys, open, p.types, p.barred)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		v, g, err := scanGrounds(rows)
		if err != nil {
			return nil, err
		}
		if !p.shows(open, g.labels, r.store.Registry().TypeNumber(v.Type), v.Compartments) {
			continue
		}
		if left.take(v); v.beyond {
			return nil, nil
		}
		v.cleared = clear
		found = append(found, v)
	}
	return found, rows.Err()
}
