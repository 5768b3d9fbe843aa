package storage

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// This file has searches in the order of a table of values, such as that of names, for what lies in a range of time: where
// little does, a walk along the values goes on for long, and where much does, it ends soon.

const (
	// siftFirst is how many rows are looked at first: where much lies in the range, that fills a page.
	siftFirst = 200
	// fewDated is up to how many rows of a range are fetched and sorted at once.
	fewDated = 400
	// siftDated is up to how many a walk is told by their keys beforehand, without a look at the rows of all others, and
	// siftMost where a walk of the usual number of rows has not filled the page.
	siftDated, siftMost = 6000, 50_000
	// siftEntries is how many entries of the index of values it goes through. A row costs some thirty times an entry.
	siftEntries = 20_000
)

// sift is walk for such a search. A page that it does not fill may lack matches; then the set is to be taken.
func (p *searchPlan) sift(ctx context.Context, run *runner, mark *SearchMark, limit int) (rows []found, how strategy, err error) {
	full := func(walk func(*searchPlan) statement) bool {
		rows, err = p.firsts(ctx, run, limit, walk)
		return err != nil || unchanged(rows) >= limit
	}
	if full(func(p *searchPlan) statement { return p.walk(mark, limit, siftFirst+2*limit) }) {
		return rows, walk, err
	}
	n, err := p.countDated(ctx, run, siftDated)
	if err != nil || n <= fewDated {
		return rows, set, err
	}
	if n > siftDated {
		if full(func(p *searchPlan) statement { return p.walk(mark, limit, 0) }) {
			return rows, walk, err
		}
		if n, err = p.countDated(ctx, run, siftMost); err != nil || n > siftMost {
			return rows, set, err
		}
	}
	full(func(p *searchPlan) statement { return p.sifted(mark, limit) })
	return rows, set, err
}

// sifts says whether the search is for a range of the main date in the order of a table of values.
func (p *searchPlan) sifts() bool {
	side := p.order.side
	return side != nil && !side.unique && side.condition == "" && !p.bounded && p.before == "" && len(p.dates.low)+len(p.dates.high)+len(p.dates.since) > 0
}

// datedKeys is a query of the keys of what may lie in the range.
func (p *searchPlan) datedKeys() string {
	keys := "SELECT d.rk FROM search_index d WHERE d.type = " + p.typeArgument
	if len(p.dates.since) == 0 {
		return keys + p.dates.bounds("d.date_low")
	}
	return keys + p.dates.short("d.date_low") + " UNION ALL " + p.long()
}

// countDated counts them, no further than most + 1.
func (p *searchPlan) countDated(ctx context.Context, run *runner, most int) (n int, err error) {
	c := p.compiler(p.conditions)
	// The conditions are there only for their arguments, which must have a place.
	sql := fmt.Sprintf("SELECT count(*) FROM (%s LIMIT %d) y WHERE true OR EXISTS (SELECT FROM search_index x WHERE %s)", p.datedKeys(), most+1, p.where)
	err = query(ctx, run, false, sql, c.args, func(rows pgx.Rows) (err error) {
		n, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[int])
		return err
	}, nil)
	return n, err
}

// sifted is walk for a search for whose range countDated has counted few: the keys sift the entries of the index of values, and
// only what is left of them is looked at.
func (p *searchPlan) sifted(mark *SearchMark, limit int) statement {
	c := p.compiler(p.conditions)
	// The bound is for the planner, which must believe that the keys fit into memory.
	return p.firstOf(c, mark, fmt.Sprintf(`SELECT s.rk, s.k0 FROM (%s) s
WHERE CASE WHEN s.rk IN (SELECT k.rk FROM (%s LIMIT %d) k) THEN true ELSE false END`, p.window(c, mark, siftEntries), p.datedKeys(), 2*siftMost), "", limit)
}
