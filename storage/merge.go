package storage

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"kiln/fhir"
)

// mergedPatients are the Patients that were found to be one person, by their keys.
type mergedPatients struct {
	// group has for each key the keys of all the ids of that person, the one in use first.
	group map[int64][]int64
	// target has for each id out of use the one in use.
	target map[string]string
}

const sqlMerged = `SELECT source, target FROM patient_merge ORDER BY target, source`

func (m *mergedPatients) read(hash Hasher) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		var source, target string
		_, err := pgx.ForEachRow(rows, []any{&source, &target}, func() error {
			if m.group == nil {
				m.group, m.target = map[int64][]int64{}, map[string]string{}
			}
			m.target[source] = target
			head := hash.Resource("Patient", target)
			if m.group[head] == nil {
				m.group[head] = []int64{head}
			}
			m.group[head] = append(m.group[head], hash.Resource("Patient", source))
			return nil
		})
		for _, keys := range m.group {
			for _, rk := range keys {
				m.group[rk] = keys
			}
		}
		return err
	}
}

// samePatient are the keys of all ids of the person whom one of them names: that one alone, nearly always.
func (ix *Indexer) samePatient(rk int64) []int64 {
	if ix.rules != nil {
		if keys := ix.rules.merged.group[rk]; keys != nil {
			return keys
		}
	}
	return []int64{rk}
}

// sameTarget are the keys that a reference to a resource may stand for: that of the resource, and of a Patient those of
// all its ids.
func (ix *Indexer) sameTarget(typ, id string) []int64 {
	rk := ix.hash.Resource(typ, id)
	if typ != "Patient" {
		return []int64{rk}
	}
	return ix.samePatient(rk)
}

// MergedPatient is the id out of use, and the one in use, of a Patient that a resource is or refers to, as far as this
// server has heard; both are "" as a rule. Patients may link to it, and Provenance testifies of it.
func (s *Store) MergedPatient(p *Prepared) (source, target string) {
	merged := &s.rules.Load().merged
	if len(merged.target) == 0 {
		return "", ""
	}
	switch p.Node.ResourceType() {
	case "Patient":
		if target = merged.target[p.Node.ID()]; target != "" {
			source = p.Node.ID()
		}
		return source, target
	case "Provenance", "AuditEvent":
		return "", ""
	}
	p.Node.Walk(func(n *fhir.Node) bool {
		if n.Name == "reference" && n.Kind == fhir.String && source == "" {
			if id := patientID(n.Text, p.by.base); merged.target[id] != "" {
				source, target = id, merged.target[id]
			}
		}
		return source == ""
	})
	return source, target
}

const sqlMergedInto = `SELECT target FROM patient_merge WHERE source = $1`

// MergedInto is the id in use of a Patient whose id is out of use, or "": as it is, where MergedPatient tells what was heard.
func (tx *Tx) MergedInto(ctx context.Context, id string) (target string, err error) {
	err = tx.system(ctx, func(rows pgx.Rows) error {
		for rows.Next() {
			if err := rows.Scan(&target); err != nil {
				return err
			}
		}
		return rows.Err()
	}, sqlMergedInto, id)
	return target, err
}

// patientID is the id in a reference to a Patient of this server that names no version, or "".
func patientID(text, base string) string {
	ref, ok := fhir.ParseReference(text, func(t string) bool { return t == "Patient" })
	if !ok || ref.Type != "Patient" || ref.Version != "" || ref.Base != "" && ref.Base != base {
		return ""
	}
	return ref.ID
}

const sqlReferrers = `SELECT ` + versionColumns + ` FROM resource r WHERE r.rk = ANY(ARRAY(
  SELECT x.rk FROM search_index x WHERE x.refs && $1 OR x.compartments && $2)) AND r.rk <> $3 AND r.content IS NOT NULL
  AND r.type <> ALL('{Provenance,AuditEvent}') ORDER BY r.rk LIMIT $4 FOR NO KEY UPDATE`

// Referrers are the resources that refer to a Patient or are part of its record, locked in the order of their keys, but
// for what testifies of the past: Provenance and AuditEvent.
func (tx *Tx) Referrers(ctx context.Context, id string, limit int) (list []*Version, err error) {
	ix := tx.store.indexer.Load()
	rk := tx.store.hash.Resource("Patient", id)
	var terms []int64
	for _, salt := range ix.patientSalts() {
		terms = append(terms, rk^salt)
	}
	err = tx.system(ctx, func(rows pgx.Rows) error {
		for rows.Next() {
			v, err := scanVersion(rows)
			if err != nil {
				return err
			}
			list = append(list, v)
		}
		return rows.Err()
	}, sqlReferrers, terms, []int64{rk}, rk, limit)
	return list, err
}

// patientSalts are those of all reference parameters that may lead to a Patient.
func (ix *Indexer) patientSalts() []int64 {
	var salts []int64
	for _, t := range ix.registry.Schema().Resources {
		for _, def := range ix.registry.SearchParameters(t) {
			if p, err := ix.param(t, def.Code); err == nil && p != nil && p.salt != 0 && (len(def.Targets) == 0 || slices.Contains(def.Targets, "Patient")) {
				salts = append(salts, p.salt)
			}
		}
	}
	return unique(salts)
}

const (
	sqlMerge     = `INSERT INTO patient_merge (source, target) VALUES ($1, $2) ON CONFLICT DO NOTHING`
	sqlMergeOn   = `UPDATE patient_merge SET target = $2 WHERE target = $1`
	sqlMergeTime = `
UPDATE allocation a SET actor = $2, lane = a.lane + coalesce((SELECT max(b.lane) + 1 FROM allocation b WHERE b.actor = $2 AND b.during && a.during), 0)
WHERE a.actor = $1`
	sqlMergeVisits = `
UPDATE booking SET patient = CASE patient WHEN $1 THEN $2 ELSE patient END, actors = array_replace(actors, $1, $2) WHERE patient = $1 OR actors @> ARRAY[$1]`
	sqlMergeAccounts = `UPDATE account SET fhir_user = array_replace(fhir_user, $1, $2) WHERE fhir_user @> ARRAY[$1]`
)

// MergePatient queues that one id of a person is out of use: its time, its visits and its accounts become those of the
// other. Both had visits at one time? Then both stay booked, side by side.
func (tx *Tx) MergePatient(source, target string) {
	tx.exec(sqlMerge, source, target)
	tx.exec(sqlMergeOn, source, target)
	from, to := "Patient/"+source, "Patient/"+target
	tx.exec(sqlMergeTime, from, to)
	tx.exec(sqlMergeVisits, from, to)
	tx.exec(sqlMergeAccounts, from, to)
}

// OtherIDs are the ids of Patients that were found to be the same person as some of these, as far as this server has heard.
func (s *Store) OtherIDs(ids []string) (others []string) {
	target := s.rules.Load().merged.target
	if len(target) == 0 || len(ids) == 0 {
		return nil
	}
	asked, heads := map[string]bool{}, map[string]bool{}
	for _, id := range ids {
		asked[id] = true
		if head := target[id]; head != "" {
			id = head
		}
		heads[id] = true
	}
	add := func(id string) {
		if !asked[id] {
			asked[id] = true
			others = append(others, id)
		}
	}
	for source, head := range target {
		if heads[head] {
			add(head)
			add(source)
		}
	}
	return others
}
