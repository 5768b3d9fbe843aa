package storage

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"kiln/fhir"
)

const (
	sqlConsented  = `SELECT visible.consented($1, $2, $3) OR visible.broken($2)`
	sqlRepresents = `SELECT visible.represents($1, $2)`
	sqlThere      = `SELECT count(*) FROM resource r WHERE r.rk = ANY($1) AND r.content IS NOT NULL`
	sqlContent    = `SELECT content FROM public.resource WHERE rk = ANY($1) AND content IS NOT NULL`
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
	labels := after.labels &^ after.lent // SeesWhose asks about what is lent
	if overlap(after.compartments, a.record) {
		return (labels^had)&^a.clearance&^a.withheld == 0, nil
	}
	if labels&^had&^a.clearance != 0 {
		return false, nil
	}
	typ := ix.registry.TypeName(after.typ)
	// Before anybody has consented, somebody has to write down who the patient is and what the consent says.
	if a.consent == "off" || len(after.compartments) == 0 || typ == "Consent" || typ == "Patient" && before == nil {
		return true, nil
	}
	return tx.ask(ctx, sqlConsented, after.typ, after.compartments, after.labels)
}

// strangers are the patients in whose record a resource newly is, although its writer neither treats them nor is one of them:
// SeesWhose looks at them, since a Consent that refuses the writer must not tell them from those who are not there.
func (tx *Tx) strangers(ix *Indexer, a *Access, before, after *indexRow) []int64 {
	if after == nil || a.consent == "off" || overlap(after.compartments, a.record) || slices.Equal(after.compartments, unique(slices.Clone(after.practitioners))) {
		return nil
	}
	if typ := ix.registry.TypeName(after.typ); typ == "Consent" || typ == "Patient" {
		return nil
	}
	fresh := after.compartments
	if before != nil {
		fresh = without(fresh, before.compartments)
	}
	return without(without(fresh, tx.brought), a.self)
}

// ask runs a read for the caller that says yes or no.
func (tx *Tx) ask(ctx context.Context, sql string, args ...any) (yes bool, err error) {
	err = tx.query(ctx, func(rows pgx.Rows) (err error) {
		yes, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[bool])
		return err
	}, sql, args...)
	return yes, err
}

// Brings says which resources this transaction makes, sooner or later.
func (tx *Tx) Brings(list ...*Prepared) {
	for _, p := range list {
		tx.brought = append(tx.brought, p.rk)
	}
}

// SeesWhose says whether the access in ctx sees all that a resource takes its compartments from, and the patients whom Permits
// left to look at. A Provenance of what is hidden would be hidden from its writer, and so tell that there is something; and
// what rules say of a Binary they say of the document that it belongs to.
func (tx *Tx) SeesWhose(ctx context.Context, p *Prepared) (bool, error) {
	if !tx.guarded || len(p.row.inherit)+len(p.row.strangers) == 0 {
		return true, nil
	}
	if a, err := tx.store.access(ctx); err != nil || a.all {
		return err == nil, err
	}
	fresh := unique(slices.Concat(p.row.inherit, p.row.strangers))
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
