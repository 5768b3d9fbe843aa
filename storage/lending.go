package storage

import (
	"context"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5"

	"kiln/conformance"
	"kiln/fhir"
)

// This file keeps Provenances and Binaries with those whose compartments and labels they share: what changes whom a resource
// belongs to, or what keeps it from others, changes that for what was written about it before, in the same transaction. What was
// written before its target was there, or at the same time as the target changed, is brought up to date by the worker a moment
// later.

// securityContext stands among references for Binary.securityContext, which no search parameter is for.
var securityContext = conformance.Key("Binary", "securityContext")

const (
	// Those whose compartments and labels may come from others: $2 are their references. One by one, since of many at a time the
	// planner would guess that nearly all rows have one; and the type afterwards, else it may read all rows of it.
	sqlBorrowers = `
WITH b AS MATERIALIZED (
  SELECT DISTINCT i.rk FROM unnest($2::bigint[]) AS t(term)
  CROSS JOIN LATERAL (SELECT i.rk, i.type FROM public.search_index i WHERE i.refs @> ARRAY[t.term] OFFSET 0) i WHERE i.type = ANY($1))
SELECT r.rk, r.labels, r.type, r.id, r.version, r.last_updated, r.method, r.content, r.literal, r.compartments
FROM b JOIN public.resource r USING (rk) WHERE r.content IS NOT NULL ORDER BY r.rk FOR UPDATE OF r`

	// The current version only: the others are history, and judged by what they said when they were written. A transaction may
	// have written very many versions at one moment: those of it are read once, whatever the number of rows.
	sqlRelabel = `
WITH u AS (SELECT u.rk, u.compartments::bigint[], u.labels FROM unnest($1::bigint[], $2::text[], $3::integer[]) AS u(rk, compartments, labels)),
r AS (
  UPDATE public.resource r SET compartments = u.compartments, labels = u.labels FROM u WHERE r.rk = u.rk
  RETURNING r.rk, r.version, r.type_number, r.last_updated, u.compartments, u.labels),
i AS (
  UPDATE public.search_index i SET compartments = u.compartments, labels = u.labels FROM u
  WHERE i.rk = u.rk AND (i.compartments, i.labels) IS DISTINCT FROM (u.compartments, u.labels)),
c AS (
  SELECT c.seq, r.compartments, r.labels
  FROM (SELECT DISTINCT type_number, last_updated FROM r) d
  CROSS JOIN LATERAL (
    SELECT x.seq, x.rk, x.version FROM public.resource_change x WHERE x.type = d.type_number AND x.last_updated = d.last_updated OFFSET 0) c
  JOIN r ON r.rk = c.rk AND r.version = c.version)
UPDATE public.resource_change x SET compartments = c.compartments, labels = c.labels FROM c WHERE x.seq = c.seq`

	sqlAwait = `INSERT INTO public.lending_due (target) SELECT unnest($1::bigint[])`
	// What is awaited is there.
	sqlArrived = `UPDATE public.lending_due SET ready = true, seen = NULL WHERE target = ANY($1)`
	sqlAnyDue  = `SELECT EXISTS (SELECT FROM lending_due WHERE ready)`
	sqlSeenDue = `UPDATE lending_due SET seen = clock_timestamp() WHERE ready AND seen IS NULL`
	// Until all transactions have ended that may have looked before it was due, they may leave something behind.
	sqlTakeDue = `
SELECT d.id, d.target, EXISTS (SELECT FROM public.resource r WHERE r.rk = d.target) FROM public.lending_due d
WHERE d.ready AND d.seen < (SELECT coalesce(min(a.xact_start), 'infinity') FROM pg_stat_activity a
  WHERE a.datname = current_database() AND a.application_name = 'kiln' AND a.pid <> pg_backend_pid())
ORDER BY d.target LIMIT $1 FOR UPDATE OF d SKIP LOCKED`
	sqlDoneDue = `DELETE FROM public.lending_due WHERE id = ANY($1::bigint[])`
	sqlAwaitOn = `UPDATE public.lending_due SET ready = false WHERE id = ANY($1::bigint[])`

	// maxLenders is how many lenders one statement looks for the borrowers of.
	maxLenders = 500
)

// borrows makes the references of a row by which relend finds it. Those of a Provenance are there already.
func (ix *Indexer) borrows(row *indexRow, typ string) {
	if typ == "Binary" {
		row.refs = append(row.refs, salted(row.inherit, ix.hash.Salt(securityContext))...)
	}
}

// lends notes a resource whose next version belongs to others than old did, or is kept from others.
func (tx *Tx) lends(p *Prepared, old *Version) {
	if old.labels == nil || *old.labels != p.row.labels || !slices.Equal(old.Compartments, p.row.compartments) || !p.row.withheld.IsZero() {
		tx.lenders = append(tx.lenders, p.rk)
		tx.await([]int64{p.rk})
	}
	tx.await(p.awaits)
}

// lendsNew notes resources that were not there before: others may have been written about one whose id the client chose.
func (tx *Tx) lendsNew(method string, list ...*Prepared) {
	rks := make([]int64, len(list))
	for i, p := range list {
		tx.await(p.awaits)
		rks[i] = p.rk
	}
	if method == MethodUpdate {
		tx.exec(sqlArrived, rks)
	}
}

// await has the worker look at what borrows from some resources, once they are there.
func (tx *Tx) await(targets []int64) {
	if len(targets) > 0 {
		tx.exec(sqlAwait, targets)
	}
}

// lendAwaited does what is due, as far as it can be done by now.
func (s *Store) lendAwaited(ctx context.Context) error {
	var more bool
	if err := s.pool.QueryRow(ctx, sqlAnyDue).Scan(&more); err != nil || !more {
		return err
	}
	if _, err := s.pool.Exec(ctx, sqlSeenDue); err != nil {
		return err
	}
	for more {
		err := s.Write(asSystem(ctx), func(tx *Tx) error {
			var done, missing []int64
			err := tx.system(ctx, func(rows pgx.Rows) error {
				for rows.Next() {
					var id, target int64
					var there bool
					if err := rows.Scan(&id, &target, &there); err != nil {
						return err
					}
					if there {
						done, tx.lenders = append(done, id), append(tx.lenders, target)
					} else {
						missing = append(missing, id)
					}
				}
				return rows.Err()
			}, sqlTakeDue, maxLenders)
			if err != nil {
				return err
			}
			if more = len(done)+len(missing) > 0; more {
				tx.exec(sqlDoneDue, done)
				tx.exec(sqlAwaitOn, missing)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// relend gives what belongs to whom others belong the compartments and labels that those have by now.
func (tx *Tx) relend(ctx context.Context) error {
	done := map[int64]bool{}
	for len(tx.lenders) > 0 {
		lenders := tx.lenders[:min(len(tx.lenders), maxLenders)]
		tx.lenders = tx.lenders[len(lenders):]
		for _, rk := range lenders {
			done[rk] = true
		}
		list, err := tx.borrowers(ctx, lenders)
		if err != nil {
			return err
		}
		for _, p := range list {
			if !done[p.rk] {
				tx.lenders = append(tx.lenders, p.rk)
			}
		}
	}
	return nil
}

// borrowers brings what borrows from some resources up to date, and returns what is different now.
func (tx *Tx) borrowers(ctx context.Context, lenders []int64) ([]*Prepared, error) {
	ix := tx.store.indexer.Load()
	target := conformance.Key("Provenance", "target")
	terms := slices.Concat(salted(lenders, ix.hash.Salt(target)), salted(lenders, ix.hash.Salt(securityContext)))
	types := []int16{ix.registry.TypeNumber("Provenance"), ix.registry.TypeNumber("Binary")}
	var all []*Prepared
	old := map[int64]*Version{}
	err := tx.system(ctx, func(rows pgx.Rows) error {
		for rows.Next() {
			var rk int64
			var labels int32
			v, err := scanVersion(rows, &rk, &labels)
			if err != nil {
				return err
			}
			n, err := fhir.ParseJSON(v.Content)
			if err != nil {
				return err
			}
			row, err := ix.row(n)
			if err != nil {
				return err
			}
			v.labels, old[rk] = &labels, v
			all = append(all, &Prepared{Node: n, rk: rk, row: row, by: ix})
		}
		return rows.Err()
	}, sqlBorrowers, types, terms)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	if err := tx.Inherit(ctx, all...); err != nil {
		return nil, err
	}
	for _, p := range all {
		if !p.row.withheld.IsZero() {
			tx.exec(sqlWithhold, p.rk, timestamp(p.row.withheld))
		}
	}
	return tx.relabel(all, old), nil
}

// relabel queues the compartments and labels of those that have others than their current versions old, and returns them.
func (tx *Tx) relabel(list []*Prepared, old map[int64]*Version) (changed []*Prepared) {
	var rks []int64
	var compartments []string
	var labels []int32
	for _, p := range list {
		if v := old[p.rk]; *v.labels == p.row.labels && slices.Equal(v.Compartments, p.row.compartments) {
			continue
		}
		changed, rks, labels = append(changed, p), append(rks, p.rk), append(labels, p.row.labels)
		text := []byte{'{'}
		for i, c := range p.row.compartments {
			if i > 0 {
				text = append(text, ',')
			}
			text = strconv.AppendInt(text, c, 10)
		}
		compartments = append(compartments, string(append(text, '}')))
	}
	if len(changed) > 0 {
		tx.exec(sqlRelabel, rks, compartments, labels)
	}
	return changed
}
