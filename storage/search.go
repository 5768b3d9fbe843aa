package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"kiln/fhir/search"
)

// SearchPage is a stretch of the matches of a search.
type SearchPage struct {
	Matches []*Version
	// Next and Previous are where the neighbouring pages begin; nil where there is none.
	Next, Previous *SearchMark
	// Complete says that these are all matches, so that their number is the total.
	Complete bool
}

// SearchMark is a place in the order of a search: the sort keys and the row key of the last match before it.
type SearchMark struct {
	// Backward asks for the matches before the place instead of those behind it.
	Backward bool `json:"b,omitempty"`
	// Keys are the sort keys as PostgreSQL writes them; nil stands for a missing value.
	Keys []*string `json:"k"`
	Row  int64     `json:"r"`
	// Snapshot is what the first page saw: a snapshot of PostgreSQL and, behind a slash, the transaction that the page was
	// part of, where that had written.
	Snapshot string `json:"s,omitempty"`
}

// Search returns up to limit matches after mark, or the first ones. tx may be nil; inside a transaction the search sees
// what the transaction has written. Pages behind the first show, in its order, what was there at the first: each match
// once, as it is now, without those that are gone or hidden from the caller meanwhile.
//
// Errors: TooCostly where more than MaxChangedWhilePaging resources have changed since the first page, or more than
// MaxSortedByContent match a search sorted by a code or a reference that cannot go from text to text: see groups.
func (s *Store) Search(ctx context.Context, tx *Tx, q *search.Query, limit int, mark *SearchMark) (*SearchPage, error) {
	ctx = s.WithinTime(ctx)
	run, err := s.runner(ctx, tx)
	if err != nil {
		return nil, translate(err)
	}
	p := s.pastOf(q, mark)
	page, err := s.page(ctx, run, q, limit, mark, p)
	if errors.Is(err, errChanged) {
		page, err = s.later(ctx, tx, q, limit, mark, p)
	}
	if errors.Is(err, errSteps) {
		err = s.transact(ctx, true, func(tx *Tx) (err error) {
			steady := *run
			steady.tx = tx
			page, err = s.page(ctx, &steady, q, limit, mark, p)
			return err
		})
	}
	if err == nil {
		err = takeOut(page.Matches)
	}
	return page, translate(err)
}

// page returns one page, of which p tells what the first one saw.
//
// The server chooses the plan and does not leave it to the statistics: first it looks at a bounded number of rows in
// the order asked for, which is enough for what matches often; what matches seldom it collects as a set and sorts.
func (s *Store) page(ctx context.Context, run *runner, q *search.Query, limit int, mark *SearchMark, p *past) (*SearchPage, error) {
	if q.Contained != "" {
		return s.containedPage(ctx, run, q, limit, mark, p)
	}
	backward := mark != nil && mark.Backward
	plan, err := s.planSince(ctx, run, q, limit+1, mark, p)
	if err != nil {
		return nil, err
	}
	if rows, full, err := plan.amongNewest(ctx, run, q, mark, limit+1); full || err != nil {
		return pageOf(rows, limit, true, mark, backward), err
	}
	if page, done, err := plan.grouped(ctx, run, q, mark, limit); done || err != nil {
		return page, err
	}
	var rows []found
	all := false
	how := plan.strategy(q)
	walks := how == walk
	if how == walk && !plan.walkable(mark) {
		how = set
	}
	if how == probe && plan.bounded { // a look at so many rows that the caller sees may go through all that others have
		few, err := run.treatsFew(ctx)
		if err != nil {
			return nil, err
		}
		if few || run.near && plan.number == s.Registry().TypeNumber("Patient") { // of whom each has one row
			how = set
		}
	}
	switch how {
	case direct:
		rows, err = plan.run(ctx, run, plan.ordered(mark, limit+1, 0), limit+1)
	case probe:
		rows, err = plan.run(ctx, run, plan.ordered(mark, limit+1, probeRows), limit+1)
	case walk:
		if plan.sifts() {
			rows, how, err = plan.sift(ctx, run, mark, limit+1)
			break
		}
		rows, err = plan.firsts(ctx, run, limit+1, func(p *searchPlan) statement { return p.walk(mark, limit+1, 0) })
		all = len(rows) > 0 && rows[0].last
	case gather:
		rows, err = plan.run(ctx, run, plan.gather(mark, limit+1), limit+1)
	case listed:
		rows, err = plan.run(ctx, run, plan.listed(mark, limit+1), limit+1)
	case record:
		rows, err = plan.run(ctx, run, plan.record(mark, limit+1), limit+1)
	case whole:
		rows, err = plan.run(ctx, run, plan.inRecord(mark, limit+1), limit+1)
	case asks:
		rows, all, err = plan.ask(ctx, run, plan.asks(q), mark, limit+1)
		how = set // where the look has not found all
	}
	all = all || how == whole || how == direct || how == gather || how == listed || how == record
	if err == nil && !all && how != set && unchanged(rows) <= limit {
		all, err = plan.covers(ctx, run, how, mark, limit+1)
	}
	if err == nil && !all && walks && unchanged(rows) <= limit {
		if page, done, err := plan.afterWalk(ctx, run, q, mark, limit); done || err != nil {
			return page, err
		}
	}
	if err == nil && !all && how == set {
		err = plan.sortable(ctx, run, q)
	}
	if err == nil && !all && unchanged(rows) <= limit {
		rows, err = plan.run(ctx, plan.gathering(run), plan.all(mark, limit+1), limit+1)
	}
	if err != nil {
		return nil, err
	}
	return pageOf(rows, limit, len(rows) > limit, mark, backward), nil
}

// pageOf makes a page of the first rows; more says that others come behind them. Where there was no room for all it is short.
func pageOf(rows []found, limit int, more bool, mark *SearchMark, backward bool) *SearchPage {
	rows = rows[:min(len(rows), limit)]
	if full := roomFor(rows); full < len(rows) {
		rows, more = rows[:full], true
	}
	page := &SearchPage{Complete: mark == nil && !more}
	if backward {
		for i, j := 0, len(rows)-1; i < j; i, j = i+1, j-1 {
			rows[i], rows[j] = rows[j], rows[i]
		}
	}
	for _, r := range rows {
		page.Matches = append(page.Matches, r.version)
	}
	if len(rows) == 0 {
		return page
	}
	first, last := rows[0].mark, rows[len(rows)-1].mark
	if more && !backward || backward {
		page.Next = &SearchMark{Keys: last.Keys, Row: last.Row, Snapshot: last.Snapshot}
	}
	if mark != nil && (!backward || more) {
		page.Previous = &SearchMark{Backward: true, Keys: first.Keys, Row: first.Row, Snapshot: first.Snapshot}
	}
	return page
}

// roomFor is how many of the first rows there was room for.
func roomFor(rows []found) int {
	if full := slices.IndexFunc(rows, func(r found) bool { return r.version.beyond }); full >= 0 {
		return full
	}
	return len(rows)
}

// Count returns the number of matches, counting no further than most; 0 is no bound.
func (s *Store) Count(ctx context.Context, tx *Tx, q *search.Query, most int) (int64, error) {
	run, err := s.runner(ctx, tx)
	if err != nil {
		return 0, translate(err)
	}
	if q.Contained != "" {
		return s.countContained(ctx, run, q, most)
	}
	plan, err := s.plan(ctx, run, q)
	if err != nil {
		return 0, err
	}
	n, err := plan.count(ctx, run, most)
	return n, translate(err)
}

// count is Count for a plan.
func (p *searchPlan) count(ctx context.Context, run *runner, most int) (n int64, err error) {
	where, c := p.collected(p.conditions)
	from := "search_index x WHERE " + where + p.named
	if p.codeOnly && p.before == "" { // the index has it all; the rest only gives the arguments a place
		from = "search_code s WHERE s.term = " + p.code + " AND " + p.typeArgument + " IS NOT NULL"
	}
	if p.parted != nil {
		from = "(" + p.parted.rows(p, c) + ") x WHERE true" + p.named
	} else if len(p.c.unions) > 0 && p.before == "" {
		bound := "OFFSET 0"
		if most > 0 {
			bound = fmt.Sprintf("LIMIT %d", most)
		}
		from = p.eachType(c, where+p.named, bound)
	}
	sql := "SELECT count(*) FROM " + from
	if most > 0 {
		sql = fmt.Sprintf("SELECT count(*) FROM (SELECT FROM %s LIMIT %d) y", from, most)
	}
	s := statement{sql: sql, args: c.args}
	if p.past != nil {
		s = p.past.tables(s)
	}
	if most == 0 {
		run = p.gathering(run)
	}
	err = query(ctx, run, p.anew(), s.sql, s.args, func(rows pgx.Rows) (err error) {
		n, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[int64])
		return err
	}, nil)
	return n, err
}

// Keys returns up to limit matches, only by name: what conditional interactions need.
func (s *Store) Keys(ctx context.Context, tx *Tx, q *search.Query, limit int) ([]Key, error) {
	run, err := s.runner(ctx, tx)
	if err != nil {
		return nil, translate(err)
	}
	plan, err := s.plan(ctx, run, q)
	if err != nil {
		return nil, err
	}
	where, c := plan.collected(plan.conditions)
	sql := fmt.Sprintf(`WITH m AS MATERIALIZED (SELECT x.rk FROM search_index x WHERE %s)
SELECT r.type, r.id FROM m JOIN resource r USING (rk) LIMIT %d`, where, limit)
	var keys []Key
	err = query(ctx, run, plan.anew(), sql, c.args, func(rows pgx.Rows) (err error) {
		keys, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Key])
		return err
	}, nil)
	return keys, translate(err)
}

// Explain returns the statements that the first page of a search takes, with the plans that PostgreSQL would use for
// them, without running any: first the bounded look in the order asked for, where there is one, then the set.
func (s *Store) Explain(ctx context.Context, q *search.Query, limit int) (string, error) {
	run, err := s.runner(ctx, nil)
	if err != nil {
		return "", err
	}
	var statements []statement
	if q.Contained != "" {
		plan, err := s.planContained(ctx, run, q, nil, nil)
		if err != nil {
			return "", err
		}
		statements = plan.last.asPlanned(plan.page(nil, limit))
	} else if statements, err = s.statements(ctx, run, q, limit); err != nil {
		return "", err
	}
	var text []string
	for _, one := range statements {
		lines, err := run.explain(ctx, one)
		if err != nil {
			return "", translate(err)
		}
		text = append(text, strings.TrimSpace(one.sql)+"\n\n"+strings.Join(lines, "\n"))
	}
	return strings.Join(text, "\n\nWhere that does not fill the page:\n\n"), nil
}

// sqlExplainOnce is the plan of a prepared statement whatever its values are: connections plan once (runner.go), so NULLs do.
const sqlExplainOnce = `EXPLAIN (COSTS) EXECUTE kiln_explain`

// explain returns the plan of a statement as it would run for the caller: over the views or over the tables, with its values or without.
func (r *runner) explain(ctx context.Context, one statement) (lines []string, err error) {
	pool := r.store.pool
	if !r.access.everything {
		pool = r.store.guarded
	}
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if !r.access.everything {
			asks := r.access.asks[0]
			if _, err := tx.Exec(ctx, asks.sql, asks.args...); err != nil {
				return err
			}
		}
		sql, args := "EXPLAIN (COSTS) "+one.sql, append([]any{pgx.QueryExecModeExec}, one.args...)
		if one.once {
			const name = "kiln_explain"
			prepared, err := tx.Conn().Prepare(ctx, name, one.sql)
			if err != nil {
				return err
			}
			defer func() { _ = tx.Conn().Deallocate(ctx, name) }() // it fails with the connection, and then there is nothing to forget
			sql, args = sqlExplainOnce, []any{pgx.QueryExecModeSimpleProtocol}
			if n := len(prepared.ParamOIDs); n > 0 {
				sql += "(" + strings.Repeat(", NULL", n)[2:] + ")"
			}
		}
		rows, err := tx.Query(ctx, sql, args...)
		if err == nil {
			lines, err = pgx.CollectRows(rows, pgx.RowTo[string])
		}
		return err
	})
	return lines, err
}

// statements are those that the first page of a search takes.
func (s *Store) statements(ctx context.Context, run *runner, q *search.Query, limit int) ([]statement, error) {
	plan, err := s.plan(ctx, run, q)
	if err != nil {
		return nil, err
	}
	statements := []statement{plan.all(nil, limit)}
	if types := plan.newestTypes(q); types != nil {
		others := types[:1]
		if len(plan.c.unions) == 0 {
			others = nil
		}
		return []statement{plan.newestOf(types, others, nil, nil, limit, probeRows), statements[0]}, nil
	}
	if plan.groups(q) {
		one := plan
		if len(q.Types) != 1 { // as for each of the types
			if one, err = plan.part(ctx, run, q, slices.Concat(q.Types, run.store.Registry().Schema().Resources)[0], nil); err != nil {
				return nil, err
			}
		}
		if one.steps() && one.order.keys[0].content != nil {
			return one.asPlanned(one.group(new(string)).leaves(nil, limit), statements[0]), nil
		} else if one.steps() {
			return one.asPlanned(one.values(nil, nil, true, valuesAtOnce, limit), one.group(nil).leaves(nil, limit), statements[0]), nil
		}
	}
	switch plan.strategy(q) {
	case direct:
		statements = []statement{plan.ordered(nil, limit, 0)}
	case probe:
		statements = []statement{plan.ordered(nil, limit, probeRows), statements[0]}
	case walk:
		statements = []statement{plan.walk(nil, limit, 0), statements[0]}
		if plan.sifts() {
			statements = slices.Insert(statements, 1, plan.sifted(nil, limit))
		}
	case gather:
		statements = []statement{plan.gather(nil, limit)}
	case listed:
		statements = []statement{plan.listed(nil, limit)}
	case record:
		statements = []statement{plan.record(nil, limit)}
	case whole:
		statements = []statement{plan.inRecord(nil, limit)}
	case asks:
		statements = []statement{plan.asked(plan.asks(q), nil, limit, shortLook), statements[0]}
	}
	return plan.asPlanned(statements...), nil
}

// asPlanned says of each statement whether it is planned once.
func (p *searchPlan) asPlanned(statements ...statement) []statement {
	for i := range statements {
		statements[i].once = p.planOnce(statements[i])
	}
	return statements
}
