package storage

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"

	"kiln/fhir/search"
)

// OrderLock and FewTexts are for the tests of the order of texts.
const OrderLock = orderLock

func FewTexts(before, now int64) bool { return few(before, now) }

// ExplainReferrers is the plan of a _revinclude of what is about a patient.
func (s *Store) ExplainReferrers(ctx context.Context, typ, patient string) (string, error) {
	run, err := s.runner(ctx, nil)
	if err != nil {
		return "", err
	}
	lines, err := run.explain(ctx, statement{sql: sqlRevIncludedOfPatients, args: []any{s.Registry().TypeNumber(typ), []int64{s.hash.Resource("Patient", patient)}, 1000}})
	return strings.Join(lines, "\n"), err
}

// ExplainProvenances is the plan of the look for Provenances of records.
func (s *Store) ExplainProvenances(ctx context.Context) (string, error) {
	run, err := s.runner(ctx, nil)
	if err != nil {
		return "", err
	}
	lines, err := run.explain(ctx, statement{sql: s.provenancesSQL(), once: true})
	return strings.Join(lines, "\n"), err
}

// PlannedOnce says whether the first statement of a search is planned once and not with its values.
func (s *Store) PlannedOnce(ctx context.Context, q *search.Query) (bool, error) {
	run, err := s.runner(ctx, nil)
	if err != nil {
		return false, err
	}
	statements, err := s.statements(ctx, run, q, 20)
	if err != nil {
		return false, err
	}
	return statements[0].once, nil
}

// ElementTargets is Indexer.elementTargets, as keys of resources.
func (s *Store) ElementTargets(of []*Version, in search.Include, candidates ...Key) (found []Key, ok bool) {
	ix := s.indexer.Load()
	keys, ok := ix.elementTargets(of, in)
	for _, k := range candidates {
		for _, rk := range keys {
			if rk == ix.hash.Resource(k.Type, k.ID) {
				found = append(found, k)
			}
		}
	}
	return found, ok && len(found) == len(keys)
}

// SearchThen is Search, for a page that is found and shown by two statements, with something done between them.
func (s *Store) SearchThen(ctx context.Context, q *search.Query, limit int, mark *SearchMark, between func()) (*SearchPage, error) {
	run, err := s.runner(ctx, nil)
	if err != nil {
		return nil, err
	}
	plan, err := s.planSince(ctx, run, q, limit+1, mark, s.pastOf(q, mark))
	if err != nil {
		return nil, err
	}
	snapshot := ""
	if err := run.rows(ctx, func(rows pgx.Rows) (err error) {
		snapshot, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[string])
		return err
	}, "SELECT "+sqlPresent); err != nil {
		return nil, err
	}
	places, end, err := plan.find(ctx, run, q, mark, limit+1)
	if err != nil {
		return nil, err
	}
	between()
	return plan.show(ctx, run, mark, limit, places, end, snapshot)
}

// SortBounds sets up to how many matches a sorted search reads and sorts at once, how many texts a page goes through otherwise, and up to
// how many matches it then sorts after all. A text counts as one, and 12 entries of a table of values are looked at at once.
func (s *Store) SortBounds(atOnce, texts, most int) {
	s.sorting = sortBounds{atOnce: atOnce, texts: texts, most: most, alone: 1, values: 12, treated: fewTreated, near: nearTreated, together: manyTreated}
}

// SortSteps sets how many entries of a table of values are looked at at once, and how many patients a practitioner of few has at most.
func (s *Store) SortSteps(values, treated int) { s.sorting.values, s.sorting.treated = values, treated }

// SortsByText says whether a search of a type goes from text to text of a parameter that it is sorted by.
func (s *Store) SortsByText(typ, code string) bool {
	p, err := s.indexer.Load().param(typ, code)
	return err == nil && p != nil && p.sortListed
}

// Plainly says whether a caller, asking about some patients (row keys), reads the views of about.go.
func (s *Store) Plainly(a *Access, patients []int64) bool {
	return (&runner{store: s, access: a, about: patients}).plainly()
}

// AboutRows gives the row keys that sql, over the views of about.go, finds for the caller in ctx, who asks about some patients: in a batch
// behind who asks, and in one statement with it, where all of the patients are clear.
func (s *Store) AboutRows(ctx context.Context, patients []int64, sql string) (behind, atOnce []int64, clear bool, err error) {
	run, err := s.runner(ctx, nil)
	if err != nil {
		return nil, nil, false, err
	}
	run.about = patients
	d := run.says(false, true, false)
	batch := &pgx.Batch{}
	batch.Queue(d.sql, d.args...)
	batch.Queue(sql).Query(keysInto(&behind))
	if err = (reader{s.guarded}).Send(ctx, batch); err != nil {
		return nil, nil, false, err
	}
	clear, err = run.atOnce(ctx, keysInto(&atOnce), sql, nil)
	return behind, atOnce, clear, err
}

// RuleRows gives the row keys that sql finds for the caller in ctx by the whole rule.
func (s *Store) RuleRows(ctx context.Context, sql string) (keys []int64, err error) {
	run, err := s.runner(ctx, nil)
	if err == nil {
		err = run.rows(ctx, keysInto(&keys), sql)
	}
	return keys, err
}

// sqlAnyOpened finds what is opened to anybody by any token.
func sqlAnyOpened(condition string) string {
	return surelyColumns(careGrounds) + `
FROM resource r LEFT JOIN LATERAL (SELECT k.actor, k.patient FROM opened k WHERE $1::bytea IS NOT NULL AND $2::timestamptz IS NOT NULL AND $7::bigint IS NOT NULL AND k.until > now() ORDER BY md5(k.patient::text || k.actor::text) LIMIT 1) k ON true
WHERE r.rk = $3 AND r.type = $4 AND r.id = $5 AND $6::integer IS NOT NULL` + condition
}

// ReadSurely says whether the caller in ctx surely sees a resource: by the statement and by what it finds, and by the latter alone, where the
// statement has forgotten all its conditions.
func (s *Store) ReadSurely(ctx context.Context, p *Proof, typ, id string) (shown, unconditionally bool, err error) {
	run, err := s.runner(ctx, nil)
	if err != nil {
		return false, false, err
	}
	way := run.surelyReads(s.Registry().TypeNumber(typ))
	if way == nil {
		return false, false, nil
	}
	forgetful := *way
	opened := func(place string) string {
		if len(way.opened) == 1 {
			return place + "::bigint"
		}
		return place + "::bigint[]"
	}
	forgetful.sql = map[reason]string{
		lawful:    sqlSurely(noGrounds, "", " AND $6::integer IS NOT NULL"),
		shared:    sqlSurely(noGrounds, "", " AND $6::integer IS NOT NULL"),
		own:       sqlSurely(noGrounds, "", " AND $6::integer IS NOT NULL AND "+opened("$7")+" IS NOT NULL"),
		treated:   sqlAnyOpened(""),
		inContext: sqlAnyOpened(" AND " + opened("$8") + " IS NOT NULL"),
		permitted: sqlSurely(consentGrounds, joinConsent, " AND $6::integer IS NOT NULL"),
	}[way.reason]
	for w, is := range map[*surely]*bool{way: &shown, &forgetful: &unconditionally} {
		v, _, err := run.surely(ctx, p, w, s.hash.Resource(typ, id), typ, id)
		if err != nil {
			return false, false, err
		}
		*is = v != nil
	}
	return shown, unconditionally, nil
}

// ForgetClearing has the next read look anew for rows of treatment that can be clear.
func (s *Store) ForgetClearing() { s.clearing.tried = nil }

// ReferredSurely gives the row keys of the resources that the caller in ctx, who asks about some patients, surely sees, where all of these are
// clear: by the statement and what it finds, and by the latter alone.
func (s *Store) ReferredSurely(ctx context.Context, patients []int64) (shown, unconditionally []int64, err error) {
	run, err := s.runner(ctx, nil)
	if err != nil {
		return nil, nil, err
	}
	run.about = patients
	source := &Version{}
	if !run.access.everything && run.plainly() {
		clear, err := run.atOnce(ctx, keysInto(new([]int64)), "SELECT 1::bigint", nil)
		if err != nil {
			return nil, nil, err
		}
		if clear {
			source.cleared = &cleared{run.access, patients}
		}
	}
	open := run.access.plainlyOpen([]*Version{source})
	if open == nil {
		return nil, nil, nil
	}
	var all []int64
	err = s.pool.QueryRow(ctx, "SELECT array_agg(rk) FROM resource").Scan(&all)
	for sql, keys := range map[string]*[]int64{sqlSurelyReferred: &shown, "SELECT r.labels, " + versionColumns +
		" FROM resource r WHERE r.rk = ANY($1::bigint[]) AND $2::bigint[] IS NOT NULL AND $3::bytea IS NOT NULL AND $4::integer IS NOT NULL AND r.content IS NOT NULL ORDER BY r.rk": &unconditionally} {
		if err != nil {
			break
		}
		var found []*Version
		found, err = run.surelyReferred(ctx, sql, open, all)
		for _, v := range found {
			*keys = append(*keys, s.hash.Resource(v.Type, v.ID))
		}
	}
	return shown, unconditionally, err
}

// WeighedSearch gives the row keys of a search's first page by the statement with evidence (weighed.go), and whether it is enough. forgetful is one
// that finds each row plain.
func (s *Store) WeighedSearch(ctx context.Context, q *search.Query, forgetful bool) (keys []int64, ok bool, err error) {
	run, err := s.runner(ctx, nil)
	if err != nil {
		return nil, false, err
	}
	statements, err := s.statements(ctx, run, q, 100)
	if err != nil || statements[0].weighed == "" {
		return nil, false, err
	}
	sql := statements[0].weighed
	if forgetful {
		_, rest, _ := strings.Cut(sql, "& "+placeBarred+"::integer = 0), ")
		sql = "SELECT " + placeOpen + "::bigint[] IS NOT NULL AND " + placeTypes + "::bytea IS NOT NULL AND " + placeBarred + "::integer IS NOT NULL, " + rest
	}
	ok, _, err = run.weighed(ctx, func(rows pgx.Rows) error {
		for rows.Next() {
			var rk int64
			dest := make([]any, len(rows.FieldDescriptions()))
			dest[0] = &rk
			if err := rows.Scan(dest...); err != nil {
				return err
			}
			keys = append(keys, rk)
		}
		return rows.Err()
	}, sql, statements[0].args)
	return keys, ok, err
}

func keysInto(keys *[]int64) func(pgx.Rows) error {
	return func(rows pgx.Rows) (err error) {
		*keys, err = pgx.CollectRows(rows, pgx.RowTo[int64])
		return err
	}
}

// PlansWithToken are the plans that the one connection of the server's own pool keeps of statements that look for a token.
func (s *Store) PlansWithToken(ctx context.Context) (plans []string, err error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	rows, err := conn.Query(ctx, `SELECT format('EXPLAIN (COSTS OFF) EXECUTE %I(%s)', name, array_to_string(array_fill('NULL'::text, ARRAY[cardinality(parameter_types)]), ', '))
FROM pg_prepared_statements WHERE statement LIKE '%expires > $2%'`, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return nil, err
	}
	statements, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, err
	}
	for _, sql := range statements {
		rows, err := conn.Query(ctx, sql, pgx.QueryExecModeSimpleProtocol)
		if err != nil {
			return nil, err
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return nil, err
		}
		plans = append(plans, strings.Join(lines, "\n"))
	}
	return plans, nil
}

// Asks says whether a search asks each resource whether something refers to it.
func (s *Store) Asks(ctx context.Context, q *search.Query) bool {
	run, err := s.runner(ctx, nil)
	if err != nil {
		return false
	}
	plan, err := s.plan(ctx, run, q)
	return err == nil && plan.strategy(q) == asks
}

// CareBounds sets up to how many patients a practitioner treats few, those whom an index is asked for together, and those who are read at once.
func (s *Store) CareBounds(few, near, together int) {
	s.sorting.treated, s.sorting.near, s.sorting.together = few, near, together
}
