package storage

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"kiln/fhir"
)

// BreakGlass is a clinician's claim that a patient's life or health depends on access, and what became of it. The access
// itself is a row of treatment, which the rule of the views looks at.
type BreakGlass struct {
	ID int64
	// Caller names who asks, as auth.Principal.Caller does; Practitioner is the resource, such as Practitioner/1.
	Caller, Practitioner string
	// Patient is the id alone.
	Patient          string
	Purpose, Reason  string
	Created, Expires time.Time
	// Reviewed is zero until somebody has looked at it.
	Reviewed          time.Time
	Reviewer, Verdict string
}

const (
	sqlPatientsOf = `
SELECT p.id FROM public.resource r JOIN public.resource p ON p.rk = ANY(r.compartments) AND p.type = 'Patient'
WHERE r.rk = $1 ORDER BY p.id`
	// One after the other for one practitioner, so that the same claim twice at once opens one grant.
	sqlGlassLock = `SELECT pg_advisory_xact_lock(7265, hashint8($1))`
	sqlGlassOpen = `
SELECT count(*), max(high) FILTER (WHERE patient = $2) FROM public.treatment WHERE source = 0 AND kind = 0 AND actor = $1 AND high > now()`
	sqlBreakGlass = `
WITH g AS (
  INSERT INTO public.break_glass (caller, practitioner, patient, purpose, reason, expires)
  VALUES ($1, $2, $3, $4, $5, now() + $6::interval) RETURNING expires),
t AS (
  INSERT INTO public.treatment (source, kind, actor, patient, since, until, low, high)
  SELECT 0, 0, $7, $8, now(), expires, now(), expires FROM g)
SELECT expires FROM g`
)

// PatientsOf are the ids of the patients to whose record a resource belongs, whoever may see it. What it returns must not
// be shown.
func (s *Store) PatientsOf(ctx context.Context, typ, id string) ([]string, error) {
	rows, err := reader{s.pool}.Query(ctx, sqlPatientsOf, s.hash.Resource(typ, id))
	if err != nil {
		return nil, translate(err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return ids, translate(err)
}

// MaxGlasses is how many patients one practitioner may have broken the glass for at a time.
const MaxGlasses = 20

// BreakGlass opens access to a patient's record for a time, or finds it open. entry is noted with it where it is new.
//
// Errors: Throttled where MaxGlasses are open.
func (s *Store) BreakGlass(ctx context.Context, g BreakGlass, life time.Duration, entry AuditEntry) (expires time.Time, err error) {
	typ, id, _ := strings.Cut(g.Practitioner, "/")
	actor, patient := s.hash.Resource(typ, id), s.hash.Resource("Patient", g.Patient)
	err = s.Write(asSystem(ctx), func(tx *Tx) error {
		var open int
		var until *time.Time
		tx.begin()
		tx.queue.Queue(sqlGlassLock, actor)
		tx.queue.Queue(sqlGlassOpen, actor, patient).QueryRow(func(row pgx.Row) error { return row.Scan(&open, &until) })
		if err := tx.flush(ctx); err != nil {
			return err
		}
		if until != nil {
			expires = *until
			return nil
		}
		if open >= MaxGlasses {
			e := fhir.NewError(fhir.Throttled, fhir.CodeThrottled, "The glass is broken for many patients already; wait until one of them is closed again")
			e.RetryAfter = time.Minute
			return e.Coded("break-glass-limit")
		}
		tx.queue.Queue(sqlBreakGlass, g.Caller, g.Practitioner, "Patient/"+g.Patient, g.Purpose, g.Reason, life, actor, patient).
			QueryRow(func(row pgx.Row) error { return row.Scan(&expires) })
		if err := tx.flush(ctx); err != nil {
			return err
		}
		tx.Audit(entry)
		return nil
	})
	return expires, err
}

const (
	sqlGlasses = `
SELECT id, practitioner, patient, purpose, reason, created, expires, reviewed, coalesce(reviewer, ''), coalesce(verdict, '')
FROM public.break_glass WHERE $1 OR reviewed IS NULL ORDER BY id DESC LIMIT $2`
	sqlReviewGlass = `UPDATE public.break_glass SET reviewed = now(), reviewer = $2, verdict = $3
WHERE id = $1 AND reviewed IS NULL AND practitioner <> $4 RETURNING patient`
	sqlGlassState = `SELECT reviewed IS NOT NULL FROM public.break_glass WHERE id = $1`
)

// Glasses lists the claims, newest first: all of them, or those that nobody has reviewed.
func (s *Store) Glasses(ctx context.Context, all bool, limit int) ([]BreakGlass, error) {
	rows, err := reader{s.pool}.Query(ctx, sqlGlasses, all, limit)
	if err != nil {
		return nil, translate(err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (g BreakGlass, err error) {
		var reviewed *time.Time
		if err = row.Scan(&g.ID, &g.Practitioner, &g.Patient, &g.Purpose, &g.Reason, &g.Created, &g.Expires, &reviewed, &g.Reviewer, &g.Verdict); reviewed != nil {
			g.Reviewed = *reviewed
		}
		return g, err
	})
	return list, translate(err)
}

// ReviewGlass says what came of looking at a claim. self is the practitioner that the reviewer is, "" for none: nobody
// reviews the own claims.
//
// Errors: NotFound; Conflict where it was reviewed before; Forbidden for the own.
func (s *Store) ReviewGlass(ctx context.Context, id int64, reviewer, self, verdict string, entry AuditEntry) error {
	return s.Write(asSystem(ctx), func(tx *Tx) error {
		var patient string
		var reviewed *bool
		if err := tx.system(ctx, func(rows pgx.Rows) error {
			for rows.Next() {
				if err := rows.Scan(&patient); err != nil {
					return err
				}
			}
			return rows.Err()
		}, sqlReviewGlass, id, reviewer, verdict, self); err != nil {
			return err
		}
		if patient != "" {
			entry.Patients = []string{patient[len("Patient/"):]}
			tx.Audit(entry)
			return nil
		}
		if err := tx.system(ctx, func(rows pgx.Rows) error {
			for rows.Next() {
				if err := rows.Scan(&reviewed); err != nil {
					return err
				}
			}
			return rows.Err()
		}, sqlGlassState, id); err != nil {
			return err
		}
		switch {
		case reviewed == nil:
			return fhir.NewError(fhir.NotFound, fhir.CodeNotFound, "There is no such break-glass grant")
		case *reviewed:
			return fhir.NewError(fhir.Conflict, fhir.CodeConflict, "This break-glass grant was reviewed before").Coded("reviewed-before")
		}
		return fhir.NewError(fhir.Forbidden, fhir.CodeForbidden, "Nobody reviews the own break-glass grants").Coded("own-grant")
	})
}
