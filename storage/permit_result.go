package storage

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"kiln/fhir"
)

const (
	sqlConsented = `SELECT visible.consented($1, $2, $3) OR visible.broken($2)`
	sqlThere     = `SELECT count(*) FROM resource r WHERE r.rk = ANY($1) AND r.content IS NOT NULL`
	sqlContent   = `SELECT content FROM public.resource WHERE rk = ANY($1) AND content IS NOT NULL`
)

// shownToWriter says whether whoever writes a resource may see what becomes of it: consents and labels bind writes as
// they bind reads. Patients neither put nor take away labels that restrict others; they have Consents for that.
func (tx *Tx) shownToWriter(ctx context.Context, ix *Indexer, a *Access, before, after *indexRow) (ok bool, err error) {
	if after == nil || a.whole {
		return true, nil
	}
	var had int32
	if before != nil {
		had = before.labels
	}
	if overlap(after.compartments, a.record) {
		return (after.labels^had)&^a.clearance&^a.withheld == 0, nil
	}
	if after.labels&^had&^a.clearance != 0 {
		return false, nil
	}
	typ := ix.registry.TypeName(after.typ)
	// Before anybody has consented, somebody has to write down who the patient is and what the consent says.
	if a.consent == "off" || len(after.compartments) == 0 || typ == "Consent" || typ == "Patient" && before == nil {
		return true, nil
	}
	err = tx.query(ctx, func(rows pgx.Rows) (err error) {
		ok, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[bool])
		return err
	}, sqlConsented, after.typ, after.compartments, after.labels)
	return ok, err
}

// SeesTargets says whether the access in ctx sees all that a resource newly takes its compartments from: a Provenance of
// what is hidden would be hidden from its writer, and so tell that there is something.
func (tx *Tx) SeesTargets(ctx context.Context, p *Prepared, old *Version) (bool, error) {
	if !tx.guarded || len(p.row.inherit) == 0 {
		return true, nil
	}
	fresh := unique(slices.Clone(p.row.inherit))
	if old != nil && !old.Deleted {
		n, err := fhir.ParseJSON(old.Content)
		if err != nil {
			return false, err
		}
		before, err := p.by.row(n)
		if err != nil {
			return false, err
		}
		if fresh = without(fresh, before.inherit); len(fresh) == 0 {
			return true, nil
		}
	}
	var seen int
	err := tx.query(ctx, func(rows pgx.Rows) (err error) {
		seen, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[int])
		return err
	}, sqlThere, fresh)
	return seen == len(fresh), err
}

// ownedSlots are rows as they count for who may write what is their own: a Slot names the practitioners, and belongs to the
// patients, that its Schedule does.
func (tx *Tx) ownedSlots(ctx context.Context, ix *Indexer, rows ...*indexRow) ([]*indexRow, error) {
	owned := slices.Clone(rows)
	for i, row := range rows {
		if row == nil {
			continue
		}
		var schedule []byte
		if err := tx.system(ctx, func(rows pgx.Rows) error {
			for rows.Next() {
				if err := rows.Scan(&schedule); err != nil {
					return err
				}
			}
			return rows.Err()
		}, sqlContent, row.schedules); err != nil {
			return nil, err
		}
		if schedule == nil {
			continue
		}
		n, err := fhir.ParseJSON(schedule)
		if err != nil {
			return nil, err
		}
		of, err := ix.row(n)
		if err != nil {
			return nil, err
		}
		slot := *row
		slot.practitioners, slot.compartments = of.practitioners, of.compartments
		owned[i] = &slot
	}
	return owned, nil
}
