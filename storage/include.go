package storage

import (
	"context"
	"slices"
	"strings"

	"kiln/fhir"
	"kiln/fhir/search"
)

// sqlIncluded looks at each reference with the salts of the parameters of its type: $2 are these, $5 the types. With all but one of
// them it makes the key of nothing.
const sqlIncluded = `
SELECT ` + versionColumns + ` FROM resource r
WHERE r.rk = ANY(ARRAY(
  SELECT DISTINCT u.f # s.salt FROM search_index x, unnest(x.refs) AS u(f), unnest($2::bigint[], $5::smallint[]) AS s(salt, type)
  WHERE x.rk = ANY($1::bigint[]) AND s.type = x.type))
AND r.content IS NOT NULL AND ($3::text[] IS NULL OR r.type = ANY($3::text[]))
ORDER BY r.rk LIMIT $4`

// sqlIncludedByURL finds what canonical references lead to: see Indexer.canonicalTerm.
const sqlIncludedByURL = `
WITH m AS MATERIALIZED (SELECT t.rk FROM search_index t WHERE t.refs && ARRAY(
  SELECT DISTINCT u.f # s.salt FROM search_index x, unnest(x.refs) AS u(f), unnest($2::bigint[], $5::smallint[]) AS s(salt, type)
  WHERE x.rk = ANY($1::bigint[]) AND s.type = x.type))
SELECT ` + versionColumns + ` FROM m JOIN resource r USING (rk)
WHERE r.content IS NOT NULL AND ($3::text[] IS NULL OR r.type = ANY($3::text[]))
ORDER BY r.rk LIMIT $4`

// fromInside makes a statement look for references of contained resources as well.
var fromInside = strings.NewReplacer("FROM search_index x,", "FROM (SELECT rk, type, refs FROM search_index UNION ALL SELECT rk, type, refs FROM search_contained) x,")

// sqlRevIncluded is MATERIALIZED, or the planner walks the primary key in the hope of finding enough soon.
const sqlRevIncluded = `
WITH m AS MATERIALIZED (SELECT x.rk FROM search_index x WHERE x.type + 0 = ANY($1::smallint[]) AND x.refs && $2::bigint[])
SELECT ` + versionColumns + ` FROM resource r
WHERE r.rk = ANY(ARRAY(SELECT rk FROM m ORDER BY rk LIMIT $3)) AND r.content IS NOT NULL ORDER BY r.rk`

// manyTerms is how many terms a statement looks for at once. PostgreSQL looks through an index of hashes in a time that grows with
// the square of their number (startScanKey of ginget.c): 16,000 of them, which a _revinclude of everything makes of a page of 40,
// took 1.3 s of processor time, and take 0.06 s in parts.
const manyTerms = 128

// sqlRevIncludedByMany is sqlRevIncluded in parts of at most $4 terms.
const sqlRevIncludedByMany = `
WITH m AS MATERIALIZED (
  SELECT DISTINCT x.rk FROM (
    SELECT array_agg(u.term) AS terms FROM unnest($2::bigint[]) WITH ORDINALITY AS u(term, n) GROUP BY u.n / $4::bigint) part
  JOIN search_index x ON x.refs && part.terms WHERE x.type + 0 = ANY($1::smallint[]))
SELECT ` + versionColumns + ` FROM resource r
WHERE r.rk = ANY(ARRAY(SELECT rk FROM m ORDER BY rk LIMIT $3)) AND r.content IS NOT NULL ORDER BY r.rk`

// sqlRevIncludedOfPatients is sqlRevIncluded by the column of what is about patients: the index of it has all that is asked.
const sqlRevIncludedOfPatients = `
WITH m AS MATERIALIZED (SELECT x.rk FROM search_index x WHERE x.type = $1::smallint AND x.patient = ANY($2::bigint[]))
SELECT ` + versionColumns + ` FROM resource r
WHERE r.rk = ANY(ARRAY(SELECT rk FROM m ORDER BY rk LIMIT $3)) AND r.content IS NOT NULL ORDER BY r.rk`

// Include returns the resources that includes add to a page of matches, without those that are on it already, and
// whether there were more than limit of them.
func (s *Store) Include(ctx context.Context, tx *Tx, matches []*Version, includes []search.Include, limit int) (added []*Version, cut bool, err error) {
	if len(includes) == 0 || len(matches) == 0 {
		return nil, false, nil
	}
	run, err := s.runner(ctx, tx)
	if err != nil {
		return nil, false, translate(err)
	}
	seen := make(map[Key]bool, len(matches))
	for _, v := range matches {
		if v.Container == "" {
			seen[Key{v.Type, v.ID}] = true
		}
	}
	sources := matches
	for round := 0; len(sources) > 0; round++ {
		var fresh []*Version
		for _, in := range includes {
			if round > 0 && !in.Iterate {
				continue
			}
			run.about = compartmentsOf(sources)
			// Some of what is found may be on the page already; it must not push out what is not.
			found, err := s.visibleOf(ctx, limit+1+len(seen), func(most int) ([]*Version, error) { return s.include(ctx, run, sources, in, most) }, func(list []*Version) ([]*Version, error) {
				if !in.Reverse {
					return list, nil
				}
				return s.telling(ctx, list, sources)
			})
			if err != nil {
				return nil, false, translate(err)
			}
			for _, v := range found {
				if k := (Key{v.Type, v.ID}); !seen[k] {
					if len(added) == limit || v.beyond {
						return added, true, nil
					}
					seen[k] = true
					added, fresh = append(added, v), append(fresh, v)
				}
			}
		}
		sources = fresh
	}
	return added, false, nil
}

// compartmentsOf are the compartments that versions lie in, none where they are many.
func compartmentsOf(list []*Version) (rks []int64) {
	for _, v := range list {
		for _, rk := range v.Compartments {
			if !slices.Contains(rks, rk) {
				rks = append(rks, rk)
			}
		}
		if len(rks) > maxAbout {
			return nil
		}
	}
	return rks
}

// visibleOf is what look finds, at least limit or all there is, without what only the exact form of granular scopes leaves out, nor what keep
// does: that must neither count nor lead on to others.
func (s *Store) visibleOf(ctx context.Context, limit int, look func(limit int) ([]*Version, error), keep func([]*Version) ([]*Version, error)) ([]*Version, error) {
	narrowed := func(list []*Version) ([]*Version, error) {
		kept, _, err := s.Narrowed(ctx, list)
		if err != nil {
			return nil, err
		}
		return keep(kept)
	}
	for most := limit; ; most *= 4 {
		found, err := look(most)
		if err != nil {
			return nil, err
		}
		full := slices.IndexFunc(found, func(v *Version) bool { return v.beyond })
		if full >= 0 { // the first of those says that there is more
			kept, err := narrowed(found[:full:full])
			return append(kept, found[full]), err
		}
		kept, err := narrowed(found)
		if err != nil || len(kept) == len(found) || len(found) < most || len(kept) >= limit {
			return kept, err
		}
	}
}

func (s *Store) include(ctx context.Context, run *runner, sources []*Version, in search.Include, limit int) ([]*Version, error) {
	if in.Reverse {
		return s.includeFor(ctx, run, sources, in, limit)
	}
	rest, visits, err := s.apart(ctx, sources)
	if err != nil {
		return nil, err
	}
	if len(visits) == 0 {
		return s.includeFor(ctx, run, sources, in, limit)
	}
	found, err := s.includeFor(ctx, run, rest, in, limit)
	if err != nil {
		return nil, err
	}
	more, err := s.includeFor(ctx, run, visits, in, limit)
	shown := s.indexer.Load().referred(visits, nil)
	return append(found, slices.DeleteFunc(more, func(v *Version) bool { return !v.beyond && !slices.Contains(shown, s.hash.Resource(v.Type, v.ID)) })...), err
}

// includeFor is include as the index has it.
func (s *Store) includeFor(ctx context.Context, run *runner, sources []*Version, in search.Include, limit int) ([]*Version, error) {
	ix := s.indexer.Load()
	var rks []int64
	inside := false
	types := map[string]bool{}
	for _, v := range sources {
		if !in.Reverse && in.Source != "*" && in.Source != v.Type || in.Reverse && in.Target != "" && in.Target != v.Type {
			continue
		}
		if types[v.Type] = true; v.Container != "" {
			typ, id, _ := strings.Cut(v.Container, "/")
			rks, inside = append(rks, ix.containedKey(v.Type, typ, id, v.ID)), true
			continue
		}
		rks = append(rks, s.hash.Resource(v.Type, v.ID))
	}
	if len(rks) == 0 {
		return nil, nil
	}
	if in.Reverse {
		if !inside && len(types) == 1 && types["Patient"] && ix.aboutPatients(in) {
			return collect(ctx, run, sqlRevIncludedOfPatients, ix.registry.TypeNumber(in.Source), rks, limit)
		}
		numbers, salts := ix.referrers(in, types)
		terms := make([]int64, 0, len(rks)*len(salts))
		for _, rk := range rks {
			for _, salt := range salts {
				terms = append(terms, rk^salt)
			}
		}
		terms = s.canonicalReferrers(sources, in, salts, terms)
		if len(terms) > manyTerms {
			return collect(ctx, run, sqlRevIncludedByMany, numbers, terms, limit, manyTerms)
		}
		return collect(ctx, run, sqlRevIncluded, numbers, terms, limit)
	}
	if keys, ok := ix.elementTargets(sources, in); ok && !inside {
		if len(keys) == 0 {
			return nil, nil
		}
		return run.referred(ctx, sources, keys, limit)
	}
	salts, saltTypes := ix.saltsOf(types, func(typ string) []int64 { return ix.referenceSalts(typ, in.Param, "") })
	var targets []string
	if in.Target != "" {
		targets = []string{in.Target}
	}
	included := sqlIncluded
	if inside {
		included = fromInside.Replace(included)
	}
	found, err := collect(ctx, run, included, rks, salts, targets, limit, saltTypes)
	if err != nil {
		return nil, err
	}
	salts, saltTypes = ix.saltsOf(types, func(typ string) []int64 { return ix.canonicalSalts(typ, in.Param) })
	if len(salts) == 0 {
		return found, nil
	}
	if included = sqlIncludedByURL; inside {
		included = fromInside.Replace(included)
	}
	more, err := collect(ctx, run, included, rks, salts, targets, limit, saltTypes)
	return append(found, more...), err
}

// aboutPatients says whether the patient column tells which resources a _revinclude finds for Patients.
func (ix *Indexer) aboutPatients(in search.Include) bool {
	p, err := ix.param(in.Source, in.Param)
	return err == nil && p != nil && !ix.building[p.def.Key] && (&compiler{ix: ix}).impliesPatient(in.Source, p)
}

// saltsOf are the salts of types, each with the number of its type.
func (ix *Indexer) saltsOf(types map[string]bool, of func(typ string) []int64) (salts []int64, numbers []int16) {
	for typ := range types {
		one := of(typ)
		salts, numbers = append(salts, one...), append(numbers, slices.Repeat([]int16{ix.registry.TypeNumber(typ)}, len(one))...)
	}
	return salts, numbers
}

// canonicalSalts are those of a type's parameters that look at canonical URLs.
func (ix *Indexer) canonicalSalts(typ, code string) (salts []int64) {
	plan, err := ix.plan(typ)
	if err != nil {
		return nil // nothing of the type could be written
	}
	for _, p := range plan.params {
		if p.canonical && (code == "*" || p.def.Code == code) {
			salts = append(salts, p.salt)
		}
	}
	return salts
}

// canonicalReferrers adds the terms by which others refer to resources by their canonical URLs.
func (s *Store) canonicalReferrers(targets []*Version, in search.Include, salts, terms []int64) []int64 {
	ix := s.indexer.Load()
	for _, v := range targets {
		if in.Target != "" && in.Target != v.Type || ix.registry.SearchParameter(v.Type, "url") == nil {
			continue
		}
		var own indexRow
		if n, err := fhir.ParseJSON(v.Content); err == nil {
			ix.ownCanonicals(&own, n)
		}
		for _, term := range own.refs {
			for _, salt := range salts {
				terms = append(terms, term^salt)
			}
		}
	}
	return terms
}

// referenceSalts are those of a type's reference parameters: of the one called code, or of all for "*". With a target
// only those that can lead to it.
func (ix *Indexer) referenceSalts(typ, code, target string) (salts []int64) {
	for _, def := range ix.registry.SearchParameters(typ) {
		if def.Type == search.Reference && (code == "*" || def.Code == code) &&
			(target == "" || def.Targets == nil || slices.Contains(def.Targets, target)) {
			salts = append(salts, ix.hash.Salt(def.Key))
		}
	}
	return salts
}

// referrers are the types and parameters through which a _revinclude finds what refers to resources of targets.
func (ix *Indexer) referrers(in search.Include, targets map[string]bool) (numbers []int16, salts []int64) {
	types := []string{in.Source}
	if in.Source == "*" {
		types = ix.registry.Schema().Resources
	}
	for _, typ := range types {
		before := len(salts)
		for target := range targets {
			salts = append(salts, ix.referenceSalts(typ, in.Param, target)...)
		}
		if len(salts) > before {
			numbers = append(numbers, ix.registry.TypeNumber(typ))
		}
	}
	return numbers, unique(salts)
}
