package storage

import (
	"github.com/jackc/pgx/v5/pgtype"
)

const (
	// What was confirmed once stays so, as long as it says the same.
	sqlRelate = `
WITH old AS (DELETE FROM public.treatment WHERE source = $1 RETURNING kind, actor, patient, confirmed)
INSERT INTO public.treatment (source, kind, actor, patient, since, until, low, high, confirmed)
SELECT $1, u.kind, u.actor, u.patient, $5, $6, $5, $6, u.confirmed OR EXISTS (
  SELECT FROM old o WHERE o.kind = u.kind AND o.actor = u.actor AND o.patient = u.patient AND o.confirmed)
FROM unnest($2::smallint[], $3::bigint[], $4::bigint[], $7::boolean[]) AS u(kind, actor, patient, confirmed)`

	sqlUnrelate = `
WITH a AS (DELETE FROM public.treatment WHERE source = $1), b AS (DELETE FROM public.acting WHERE source = $1),
p AS (DELETE FROM public.proxy WHERE source = $1)
DELETE FROM public.consent_rule WHERE source = $1`

	sqlUnact = `
WITH b AS (DELETE FROM public.acting WHERE source = $1), p AS (DELETE FROM public.proxy WHERE source = $1) DELETE FROM public.consent_rule WHERE source = $1`

	sqlActing = `INSERT INTO public.acting (source, practitioner, also, low, high) VALUES ($1, $2, $3, $4, $5)`

	sqlProxy = `INSERT INTO public.proxy (source, patient, low, high) VALUES ($1, $2, $3, $4)`

	sqlConsent = `
INSERT INTO public.consent_rule (source, patient, deny, specificity, low, high, actors, types, labels, purposes)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`

	// What stays behind when a label is taken away decides over old versions alone.
	sqlWithhold = `
INSERT INTO public.withholding (rk, until) VALUES ($1, $2) ON CONFLICT (rk) DO UPDATE SET until = EXCLUDED.until`
)

// accessRows queues what a resource says about who treats whom and who consents to what. again says that an earlier
// version may have said something.
func (tx *Tx) accessRows(p *Prepared, again bool) {
	row := p.row
	related := p.by.rules != nil && p.by.relates(p.Node.ResourceType())
	if len(row.treatments) > 0 || again && related {
		n := len(row.treatments)
		kinds, actors, patients, confirmed := make([]int16, n), make([]int64, n), make([]int64, n), make([]bool, n)
		for i, t := range row.treatments {
			kinds[i], actors[i], patients[i] = t.kind, t.actor, t.patient
			confirmed[i] = t.confirmed || !tx.unconfirmed
		}
		low, high := row.period()
		tx.exec(sqlRelate, p.rk, kinds, actors, patients, low, high, confirmed)
	}
	if !row.withheld.IsZero() {
		tx.exec(sqlWithhold, p.rk, timestamp(row.withheld))
	}
	if typ := p.Node.ResourceType(); again && (typ == "PractitionerRole" || typ == "Consent" || typ == "RelatedPerson") {
		tx.exec(sqlUnact, p.rk)
	}
	for _, a := range row.acting {
		tx.exec(sqlActing, p.rk, a.practitioner, a.also, timestamp(a.period.low), timestamp(a.period.high))
	}
	if x := row.proxy; x != nil {
		tx.exec(sqlProxy, p.rk, x.patient, timestamp(x.period.low), timestamp(x.period.high))
	}
	for _, c := range row.consents {
		tx.exec(sqlConsent, p.rk, c.patient, c.deny, c.specificity, timestamp(c.low), timestamp(c.high), c.actors, c.types, c.labels, c.purposes)
	}
}

// period is the time that a resource is about: its main date, or always.
func (row *indexRow) period() (low, high pgtype.Timestamptz) {
	if row.dateHigh.IsZero() {
		return timestamp(beginningOfTime), timestamp(endOfTime)
	}
	return timestamp(row.dateLow), timestamp(row.dateHigh)
}

// relates says whether rules look at resources of a type.
func (ix *Indexer) relates(typ string) bool {
	for _, r := range ix.rules.relationships {
		if r.typ == typ {
			return true
		}
	}
	return false
}

// accessTables are those rows of many resources: one table each, in the order of copyAccess.
func accessTables() (care, roles, consent, withheld, proxies *tableRows) {
	return &tableRows{table: "treatment", columns: []string{"source", "kind", "actor", "patient", "since", "until", "low", "high", "confirmed"}},
		&tableRows{table: "acting", columns: []string{"source", "practitioner", "also", "low", "high"}},
		&tableRows{table: "consent_rule", columns: []string{"source", "patient", "deny", "specificity", "low", "high", "actors", "types", "labels", "purposes"}},
		&tableRows{table: "withholding", columns: []string{"rk", "until"}},
		&tableRows{table: "proxy", columns: []string{"source", "patient", "low", "high"}}
}

// copyAccess is accessRows for COPY, which only operators use, and only for what is new.
func (tx *Tx) copyAccess(care, roles, consent, withheld, proxies *tableRows, p *Prepared) {
	low, high := p.row.period()
	if !p.row.withheld.IsZero() {
		withheld.add(p.rk, timestamp(p.row.withheld))
	}
	if x := p.row.proxy; x != nil {
		proxies.add(p.rk, x.patient, timestamp(x.period.low), timestamp(x.period.high))
	}
	for _, t := range p.row.treatments {
		care.add(p.rk, t.kind, t.actor, t.patient, low, high, low, high, t.confirmed || !tx.unconfirmed)
	}
	for _, a := range p.row.acting {
		roles.add(p.rk, a.practitioner, a.also, timestamp(a.period.low), timestamp(a.period.high))
	}
	for _, c := range p.row.consents {
		consent.add(p.rk, c.patient, c.deny, c.specificity, timestamp(c.low), timestamp(c.high), c.actors, c.types, c.labels, c.purposes)
	}
}
