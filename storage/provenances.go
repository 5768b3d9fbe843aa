package storage

import (
	"context"
	"fmt"
	"slices"

	"kiln/conformance"
	"kiln/fhir/search"
)

const provenanceType = "Provenance"

// manyRecords is up to how many compartments a Provenance may lie in to have a term for each of them and each reference; one of more has one for each of its
// compartments alone, or what names two thousand patients would have four million (migrations/0340_provenances_of_records.sql).
const manyRecords = 10

// sqlProvenances finds Provenances by the halves of a compartment and a target (migrations/0340_provenances_of_records.sql), in parts of $5, and those of many
// records by their compartments and the targets $6. It leaves out those that are at hand, $2, and those with a reference of $3: a record may have one that names
// all that was imported, and is long.
const sqlProvenances = `
WITH m AS MATERIALIZED (
  SELECT DISTINCT x.rk, cardinality(x.compartments) <= %d OR x.refs && $6::bigint[] AS does FROM (
    SELECT array_agg(u.term) AS terms FROM unnest($1::bigint[]) WITH ORDINALITY AS u(term, n) GROUP BY u.n / $5::bigint) part
  JOIN search_index x ON record_terms(x.compartments, x.refs) && part.terms
  WHERE x.type + 0 = %d AND x.rk <> ALL($2::bigint[]) AND NOT x.refs && $3::bigint[])
SELECT ` + versionColumns + ` FROM resource r
WHERE r.rk = ANY(ARRAY(SELECT rk FROM m WHERE does ORDER BY rk LIMIT $4)) AND r.content IS NOT NULL ORDER BY r.rk`

// recordTerm is one of record_terms; reference is 0 for a Provenance of many records.
func recordTerm(compartment, reference int64) int64 {
	return compartment&^0xffffffff | reference&0xffffffff
}

// Provenances returns up to limit Provenances of versions that lie in records of patients, and whether there are more: without the versions
// themselves, those that have without as a target (nil for none), and those that lie in other records than the version alone. What is said of a version and names
// another patient is that patient's.
func (s *Store) Provenances(ctx context.Context, versions []*Version, without *Key, limit int) (found []*Version, cut bool, err error) {
	run, err := s.runner(ctx, nil)
	if err != nil {
		return nil, false, translate(err)
	}
	run.about = compartmentsOf(versions)
	targets := make(map[int64]*Version, len(versions))
	for _, v := range versions {
		targets[s.hash.Resource(v.Type, v.ID)] = v
	}
	look := func(most int) ([]*Version, error) { return s.provenances(ctx, run, versions, without, most) }
	keep := func(list []*Version) ([]*Version, error) {
		return slices.DeleteFunc(slices.Clone(list), func(v *Version) bool { return !s.attests(v, targets, without) }), nil
	}
	list, err := s.visibleOf(ctx, limit+1+len(versions), look, keep)
	if err != nil {
		return nil, false, translate(err)
	}
	seen := map[int64]bool{}
	for _, v := range list {
		if rk := s.hash.Resource(v.Type, v.ID); targets[rk] == nil && !seen[rk] {
			if len(found) == limit || v.beyond {
				return found, true, nil
			}
			seen[rk] = true
			found = append(found, v)
		}
	}
	return found, false, nil
}

// provenances finds those of versions, and perhaps others. The views of the rule hide the expression of the index, so that it is for who sees everything.
func (s *Store) provenances(ctx context.Context, run *runner, versions []*Version, without *Key, limit int) (found []*Version, err error) {
	others := versions
	if run.access.everything {
		salt := s.hash.Salt(conformance.Key(provenanceType, "target"))
		terms, refs, known, barred := []int64{}, []int64{}, []int64{}, []int64{} // an array that is NULL would leave out all
		others = nil
		for _, v := range versions {
			rk := s.hash.Resource(v.Type, v.ID)
			if v.Type == provenanceType {
				known = append(known, rk)
			}
			if !lendsCompartments(v) {
				others = append(others, v)
				continue
			}
			refs = append(refs, rk^salt)
			for _, compartment := range v.Compartments {
				terms = append(terms, recordTerm(compartment, rk^salt), recordTerm(compartment, 0))
			}
		}
		if without != nil {
			barred = append(barred, s.hash.Resource(without.Type, without.ID)^salt)
		}
		if found, err = collect(ctx, run, s.provenancesSQL(), unique(terms), known, barred, limit, manyTerms, refs); err != nil {
			return nil, err
		}
	}
	if len(others) == 0 {
		return found, nil
	}
	more, err := s.include(ctx, run, others, search.Include{Reverse: true, Source: provenanceType, Param: "target"}, limit)
	return append(found, more...), err
}

func (s *Store) provenancesSQL() string {
	return s.texts.of(provenanceType, sqlProvenances, func() string {
		return fmt.Sprintf(sqlProvenances, manyRecords, s.Registry().TypeNumber(provenanceType))
	})
}

// lendsCompartments says whether a Provenance of a version that names no patient lies in its compartments: see inherit.
func lendsCompartments(v *Version) bool { return len(v.Compartments) > 0 && v.Type != "Group" }

// attests says whether a Provenance has one of the versions as a target, in one of whose records it lies, and not the other one.
func (s *Store) attests(v *Version, targets map[int64]*Version, without *Key) (does bool) {
	if v.beyond { // there is no room for it, and that is told
		return true
	}
	ix, barred := s.indexer.Load(), false
	eachReference(member(v.Content, "target"), func(text []byte) {
		ref, ok := ix.parseReference(string(text))
		if !ok || ref.Type == "" || ref.ID == "" || ref.Base != "" {
			return
		}
		barred = barred || without != nil && *without == Key{ref.Type, ref.ID}
		if t := targets[s.hash.Resource(ref.Type, ref.ID)]; t != nil {
			does = does || !lendsCompartments(t) || overlap(t.Compartments, v.Compartments)
		}
	})
	return does && !barred
}
