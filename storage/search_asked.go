package storage

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"kiln/fhir/search"
)

// This file has searches for what others refer to. Where much does, all that matches inside costs far more to collect than a page: the
// resources of the page's type are asked one after the other, in its order, whether one of those that refer to them matches. So few of a type
// are all asked; and where little matches inside, that is collected as before, after a short look.

const (
	// referrersAsked is how many of those that refer to a resource are looked at, by a long look at what refers by itself referrersMost. Where
	// none of so many matches and there may be more, nobody knows, and the look ends.
	referrersAsked, referrersMost = 200, 5000
	// shortLook and longLook are how many that do not match are looked at beside it, of all that refer to what is asked.
	shortLook, longLook = 500, 10_000
	// fewInside is up to how many matches inside are collected before the long look.
	fewInside = 5000
)

// askedKey stands for the key of the resource that is asked.
const askedKey = "{asked}"

// askedMost stands for how many of those that refer to it are looked at.
const askedMost = "{most}"

func keyed(sql, key string, most int) string {
	return strings.NewReplacer(askedKey, key, askedMost, strconv.Itoa(most)).Replace(sql)
}

// asking is a condition that something refers to a resource, and how each resource x is asked for it.
type asking struct {
	// all is the condition as a set of keys. each is the same of the key askedKey: true, false, or NULL where that would take too long to tell.
	all, each string
	// rows are those that refer to the key, up to referrersAsked, and inside what meets the innermost condition, whatever it refers to.
	rows, inside string
	// typ is the condition on the type of what refers, of rows h, where the key is that of its patient; "" for others.
	typ string
	// nested says that the condition on what refers is of the same kind.
	nested bool
	// near says that what the caller sees of what refers is found by whose it is.
	near bool
	of   *search.Has
}

// asksEach notes how a resource is asked whether something refers to it: y is what refers, cond the condition on it, which begins with the type,
// and reference that it refers to the key askedKey.
func (c *compiler) asksEach(e *search.Has, all, y, cond, reference string, patient bool) {
	if c.was || c.others != "" || c.access == nil {
		return
	}
	typ, _, _ := strings.Cut(cond, " AND ")
	if typ = strings.Replace(typ, ".type + 0 =", ".type =", 1); !patient { // no index beside that of the references
		typ = strings.Replace(typ, ".type =", ".type + 0 =", 1)
	}
	each, left, nested, inside := cond, cond, false, fmt.Sprintf("SELECT FROM search_index %s WHERE %s", y, cond)
	if i := slices.IndexFunc(c.asking, func(a asking) bool { return search.Expr(a.of) == e.Where }); i >= 0 {
		a := c.asking[i]
		each, left, nested, inside = strings.Replace(cond, a.all, keyed(a.each, y+".rk", referrersAsked), 1), strings.Replace(cond, a.all, "", 1), true, a.inside
	}
	for i := 0; i < len(c.innerRow); i += 2 {
		if strings.Contains(left, c.innerRow[i]) {
			each, left = strings.ReplaceAll(each, c.innerRow[i], c.innerRow[i+1]), strings.ReplaceAll(left, c.innerRow[i], "")
		}
	}
	if strings.Contains(left, "(SELECT") { // a set of keys, which would be found for each resource anew
		return
	}
	a := asking{all: all, of: e, nested: nested, inside: inside, near: !patient && c.isNear(c.ix.registry.TypeNumber(e.Type))}
	if patient {
		a.typ = strings.ReplaceAll(typ, y+".", "h.")
	}
	a.rows = fmt.Sprintf("(SELECT * FROM search_index %s WHERE %s AND %s LIMIT %s) %s", y, reference, typ, askedMost, y)
	unknown := fmt.Sprintf("(SELECT count(*) FROM %s) = %s", a.rows, askedMost)
	if nested {
		unknown += fmt.Sprintf(" OR EXISTS (SELECT FROM %s WHERE (%s) IS NULL)", a.rows, each)
	}
	a.each = fmt.Sprintf("CASE WHEN EXISTS (SELECT FROM %s WHERE %s) THEN true WHEN %s THEN NULL ELSE false END", a.rows, each, unknown)
	c.asking = append(c.asking, a)
}

// asks is the condition that the search asks of each resource; nil where it goes another way.
func (p *searchPlan) asks(q *search.Query) *asking {
	if p.c.access == nil || p.bounded && !p.passes || p.before != "" || p.merged || len(q.Types) != 1 || q.Contained != "" || p.rare(q) {
		return nil
	}
	byRow := len(p.order.keys) == 0
	if !byRow && !p.order.indexed {
		return nil
	}
	for i := range p.c.asking {
		a := &p.c.asking[i]
		if !slices.Contains(q.Where, search.Expr(a.of)) {
			continue
		}
		if byRow && a.typ == "" || a.near && !p.bounded || p.rarely(a.of.Where) || strings.Contains(strings.Replace(p.where, a.all, "", 1), "(SELECT") {
			return nil
		}
		return a
	}
	return nil
}

// ask looks for a page in the order asked for, and tells by all whether it has seen all that can match.
func (p *searchPlan) ask(ctx context.Context, run *runner, a *asking, mark *SearchMark, limit int) (rows []found, all bool, err error) {
	looks := []int{shortLook, longLook}
	if p.nearby { // little is collected
		looks = looks[:1]
	}
	for _, look := range looks {
		rows, err = p.run(ctx, run, p.asked(a, mark, limit, look), limit)
		if err != nil || len(rows) >= limit {
			return rows, false, err
		}
		if len(rows) > 0 {
			if rows[0].last {
				return rows, true, nil
			}
			continue
		}
		if all, err = p.askedAll(ctx, run, a, mark, limit, look); err != nil || all {
			return nil, all, err
		}
		if look == shortLook && !p.bounded { // through the views, which would judge what others have, it is not counted
			if few, err := p.fewInside(ctx, run, a); err != nil || few {
				return nil, false, err
			}
		}
	}
	return rows, false, nil
}

// asked is a look at resources in the order asked for, until limit match or as many rows that do not are looked at as look says. It tells
// whether that was all.
func (p *searchPlan) asked(a *asking, mark *SearchMark, limit, look int) statement {
	c := p.compiler(len(p.c.args))
	with := p.askEach(c, a, mark, limit, look)
	matches := ""
	if len(p.order.keys) == 0 {
		matches = fmt.Sprintf("SELECT w.rk FROM w WHERE w.ok ORDER BY %s LIMIT %d", p.orderBy(nil, "w.rk"), limit)
	} else {
		matches = fmt.Sprintf("SELECT x.rk, %s AS k0 FROM w JOIN search_index x ON x.rk = w.rk WHERE w.ok ORDER BY %s LIMIT %d",
			p.order.keys[0].sql, p.orderBy(func(int) string { return p.order.keys[0].sql }, "x.rk"), limit)
	}
	found := p.fetch(c, matches).telling("(" + sqlAskedAll(limit, look) + ")")
	found.sql = with + found.sql
	found.once = true // each table is looked at by the key that is asked
	return found
}

// askEach is the beginning of a statement with a row w for each resource asked, in the order.
func (p *searchPlan) askEach(c *compiler, a *asking, mark *SearchMark, limit, look int) string {
	first, next, candidates := "", "", ""
	if len(p.order.keys) == 0 && !p.nearby { // from patient to patient of those who have something of the type
		op, direction := ">", ""
		if p.order.rowDescending {
			op, direction = "<", " DESC"
		}
		from := func(after string) string {
			return fmt.Sprintf("SELECT h.patient AS rk FROM search_index h WHERE %s AND h.patient <> h.rk AND %s ORDER BY h.patient%s LIMIT 1", a.typ, after, direction)
		}
		after := "true"
		if mark != nil {
			after = "h.patient " + op + " " + c.arg(mark.Row, "bigint")
		}
		first, next = from(after), from("h.patient "+op+" w.rk")
	} else {
		key := func(int) string { return p.order.keys[0].sql }
		bounds := p.bounds
		if p.nearby && len(p.order.keys) == 0 {
			bounds += " AND " + c.nearby("x", p.number)
		}
		candidates = fmt.Sprintf("c AS MATERIALIZED (SELECT ARRAY(SELECT x.rk FROM search_index x WHERE %s AND %s ORDER BY %s LIMIT %d) AS a),\n",
			bounds, p.after(c, mark, key, "x.rk"), p.orderBy(key, "x.rk"), probeRows+1)
		first = "SELECT c.a[1] AS rk FROM c WHERE cardinality(c.a) > 0"
		next = "SELECT c.a[w.looked + 1] AS rk FROM c WHERE cardinality(c.a) > w.looked"
	}
	weight, most := 1, referrersAsked
	if a.nested {
		weight = 10
	} else if look == longLook {
		most = referrersMost
	}
	asked := fmt.Sprintf("LATERAL (SELECT CASE WHEN EXISTS (SELECT FROM search_index x WHERE x.rk = n.rk AND %s) THEN %s ELSE false END AS ok OFFSET 0) m, "+
		"LATERAL (SELECT CASE WHEN m.ok THEN 0 ELSE (SELECT count(*) * %d FROM %s) END AS cost OFFSET 0) s",
		holds(p.where, a.all), keyed(a.each, "n.rk", most), weight, keyed(a.rows, "n.rk", most))
	return fmt.Sprintf(`WITH RECURSIVE %sw AS (
SELECT n.rk, m.ok, 1 AS looked, s.cost, coalesce(m.ok, false)::integer AS matched FROM (%s) n, %s
UNION ALL SELECT n.rk, m.ok, w.looked + 1, w.cost + s.cost, w.matched + coalesce(m.ok, false)::integer FROM w, LATERAL (%s) n, %s
WHERE w.ok IS NOT NULL AND w.looked < %d AND w.cost < %d AND w.matched < %d)
`, candidates, first, asked, next, asked, mostAsked(limit, look), look, limit)
}

// mostAsked is how many resources a look asks.
func mostAsked(limit, look int) int {
	if look == shortLook {
		return min(probeRows, 4*limit)
	}
	return probeRows
}

// sqlAskedAll says of the rows w whether the look went to the end.
func sqlAskedAll(limit, look int) string {
	return fmt.Sprintf("SELECT count(*) < %d AND coalesce(max(w.cost), 0) < %d AND count(*) FILTER (WHERE w.ok IS NULL) = 0 AND coalesce(max(w.matched), 0) < %d FROM w",
		mostAsked(limit, look), look, limit)
}

// askedAll says whether a look that found nothing went to the end.
func (p *searchPlan) askedAll(ctx context.Context, run *runner, a *asking, mark *SearchMark, limit, look int) (all bool, err error) {
	c := p.compiler(len(p.c.args))
	sql := p.askEach(c, a, mark, limit, look) + sqlAskedAll(limit, look) + " HAVING coalesce(max(w.matched), 0) = 0"
	var after func(*pgx.Batch)
	if p.past != nil {
		after = p.past.check
	}
	err = query(ctx, run, false, sql, c.args, func(rows pgx.Rows) (err error) {
		list, err := pgx.CollectRows(rows, pgx.RowTo[bool])
		all = len(list) == 1 && list[0]
		return err
	}, after)
	return all, err
}

// fewInside says whether little matches inside.
func (p *searchPlan) fewInside(ctx context.Context, run *runner, a *asking) (few bool, err error) {
	// The conditions are there only for their arguments, which must have a place.
	sql := fmt.Sprintf("SELECT count(*) <= %d FROM (%s LIMIT %d) y WHERE true OR EXISTS (SELECT FROM search_index x WHERE %s)", fewInside, a.inside, fewInside+1, p.where)
	err = query(ctx, run, true, sql, p.c.args[:p.conditions], func(rows pgx.Rows) (err error) {
		few, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[bool])
		return err
	}, nil)
	return few, err
}
