package storage

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"kiln/fhir/search"
)

// This file has searches sorted by a code or a reference, by several keys, or of several types. No table has resources in the order of a
// code, but search_sort_text has the texts: a page goes from text to text, and what has one is found by its hash, like what a search for
// it would find. What has the text among others, and sorts by another, is told by the resource itself. Then comes what has none. Of
// what other tables have the order of, search_values.go goes along the values; of several types search_several.go puts the first together.

const (
	// fewSorted is up to how many matches are read and sorted at once.
	fewSorted = 2000
	// textsAtOnce is how many texts one statement asks about at most, and MaxSortTexts how many a page goes through, of which few have
	// matches. One that is asked about alone counts as textAlone.
	textsAtOnce  = 1024
	MaxSortTexts = 5000
	textAlone    = 10
	// firstTexts is how many are gone through before it is known how many match: some four hundred values.
	firstTexts = 16
	// MaxSortedAfterTexts is how many matches are sorted at once where those texts have not filled a page.
	MaxSortedAfterTexts = 20_000
)

// groups says whether a search can go from text to text, or from value to value. One compartment has little, and is collected.
func (p *searchPlan) groups(q *search.Query) bool {
	if q.Contained != "" || p.own || p.rare(q) || !p.c.ix.complete {
		return false
	}
	if !p.c.access.everything && slices.ContainsFunc(p.order.keys, func(k sortKey) bool { return p.unlisted(k) || k.dear != "" && k.content == nil }) { // whether it is refused must not depend on what others have
		return false
	}
	if len(q.Types) != 1 {
		return p.merges(q) && !(p.c.access.everything && len(p.c.words) > 0 && len(p.order.keys) == 1 && p.order.keys[0].column != "") // all that has a word is found once, and not for each type
	}
	return (len(p.order.keys) > 1 || p.stepwise) && len(q.Sort) > 0 && p.steps()
}

// afterWalk answers a search in the order of one table of values, or of the main date going up, whose walk has not filled the page. What has no value comes behind
// all that have one; it may be nearly all of a type, and was read and sorted for each page.
func (p *searchPlan) afterWalk(ctx context.Context, on *runner, q *search.Query, mark *SearchMark, limit int) (page *SearchPage, done bool, err error) {
	side := p.order.side
	if !on.access.everything || len(p.order.keys) != 1 || side == nil && !p.order.dated || side != nil && (side.unique || side.condition != "") {
		return nil, false, nil
	}
	p.stepwise = true
	page, done, err = p.grouped(ctx, on, q, mark, limit)
	p.stepwise = false
	return page, done, err
}

// steps says whether the first key of an order is one that has many matches, and the others order what has one value of it.
func (p *searchPlan) steps() bool {
	if len(p.order.keys) == 0 || p.own {
		return false
	}
	by := p.order.keys[0]
	switch {
	case by.content != nil:
		return !p.unlisted(by)
	case by.column == "" && by.side == nil:
		return false
	case len(p.order.keys) > 1 || p.merged || p.stepwise:
		return true
	}
	return p.common && by.sql != "x.date_low"
}

// unlisted says whether a key is read from the resources, and its texts are not, or not yet, in search_sort_text.
func (p *searchPlan) unlisted(k sortKey) bool {
	return k.content != nil && (p.c.ix.building[k.content.def.Key] || !k.content.sortListed)
}

// errSteps says that a first page takes several statements, which must see the same: what moves on between them would come twice, or, where
// it moves back, never. A later page notices changes by itself.
var errSteps = errors.New("storage: the page takes several statements")

// grouped answers a search sorted so that has many matches; done is false where it is for the set to do. Where so many texts or values
// have no match that the page is not full by then, and too many match to collect them, it is shown as it is, and the next one goes on
// there. Who sees a part never gets such a page, which would tell of what others have: then all are collected, however many.
//
// Errors: TooCostly where more than MaxSortedByContent have the value of a key, or none, and the next key is of no listed texts.
func (p *searchPlan) grouped(ctx context.Context, on *runner, q *search.Query, mark *SearchMark, limit int) (page *SearchPage, done bool, err error) {
	if !p.groups(q) {
		return nil, false, nil
	}
	p.named = p.namesBefore()
	first := on.access.everything && len(q.Types) == 1 && p.order.keys[0].content == nil
	if !first {
		if set, err := p.collects(ctx, on, q); set || err != nil {
			return nil, false, err
		}
	}
	if p.past == nil && on.tx == nil {
		return nil, false, errSteps
	}
	snapshot := ""
	err = on.rows(ctx, func(rows pgx.Rows) (err error) {
		snapshot, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[string])
		return err
	}, "SELECT "+sqlPresent)
	if err != nil {
		return nil, false, err
	}
	var places []SearchMark
	var end *SearchMark
	if first { // of what matches often the first values have a page: nothing needs to be counted
		few := min(firstTexts, on.store.sorting.texts)
		if places, end, err = p.along(ctx, on, mark, limit+1, few); err != nil {
			return nil, false, err
		}
		if end != nil && len(places) <= limit {
			if set, err := p.collects(ctx, on, q); set || err != nil {
				return nil, false, err
			}
			first = false
		}
	}
	if !first {
		if places, end, err = p.find(ctx, on, q, mark, limit+1); err != nil {
			return nil, false, err
		}
	}
	if end == nil || len(places) > limit {
		end = nil
	} else if few, err := p.collectsAfterAll(ctx, on); few || err != nil {
		p.unsparing = few
		return nil, false, err
	}
	page, err = p.show(ctx, on, mark, limit, places, end, snapshot)
	return page, true, err
}

// collectsAfterAll says whether all matches are to be collected where the texts came to an end.
func (p *searchPlan) collectsAfterAll(ctx context.Context, on *runner) (bool, error) {
	if !on.access.everything {
		return true, nil
	}
	most := min(on.store.sorting.most, MaxSortedAfterTexts)
	n, err := p.count(ctx, on, most+1)
	return n <= int64(most), err
}

// collects says whether so little matches that it is read and sorted at once.
func (p *searchPlan) collects(ctx context.Context, on *runner, q *search.Query) (_ bool, err error) {
	if p.bounded {
		if p.scarce, err = on.treatsFew(ctx); err != nil {
			return false, err
		}
	}
	most := on.store.sorting.atOnce
	if len(q.Types) != 1 && (slices.ContainsFunc(q.Where, areMembers) || q.Types == nil && !on.access.everything) { // most have less of all types
		most = on.store.sorting.most
	}
	if on.many || on.few { // counted before, or before the transaction began
		return on.few, nil
	}
	n, err := p.countSome(ctx, on, most+1)
	on.many = n > int64(most)
	return !on.many, err
}

// countSome is count up to a number. Among what many patients have, so many are sooner found than all that they have.
func (p *searchPlan) countSome(ctx context.Context, on *runner, most int) (int64, error) {
	some := *p
	some.nearby = p.nearby && (p.scarce || p.own)
	return some.count(ctx, on, most)
}

// find are the first places behind mark, so many at most, and where the look ended, if it did before there were so many.
func (p *searchPlan) find(ctx context.Context, on *runner, q *search.Query, mark *SearchMark, limit int) (places []SearchMark, end *SearchMark, err error) {
	if len(q.Types) != 1 {
		return p.findSeveral(ctx, on, q, mark, limit)
	}
	texts := on.store.sorting.texts
	if p.bounded { // what is collected then is less
		texts = max(texts/4, 1)
	}
	return p.along(ctx, on, mark, limit, texts)
}

// along is find for a search of one type that goes through so many texts.
func (p *searchPlan) along(ctx context.Context, on *runner, mark *SearchMark, limit, texts int) (places []SearchMark, end *SearchMark, err error) {
	w := &grouping{ctx: ctx, on: on, bounds: on.store.sorting, texts: texts}
	places, err = w.places(p, mark, limit)
	if w.cut {
		end = p.behind(w.end)
	}
	return places, end, err
}

// show makes the page of some places. Nothing that comes behind end gets onto it; nil is no end.
func (p *searchPlan) show(ctx context.Context, on *runner, mark *SearchMark, limit int, places []SearchMark, end *SearchMark, snapshot string) (*SearchPage, error) {
	rows, err := p.run(ctx, on, p.placed(places, end, limit+1), limit+1)
	if err != nil {
		return nil, err
	}
	if p.past != nil {
		snapshot = p.past.mark
	} else {
		for i := range rows {
			rows[i].mark.Snapshot = snapshot
		}
	}
	backward := mark != nil && mark.Backward
	page := pageOf(rows, limit, len(rows) > limit || len(places) > limit || end != nil, mark, backward)
	page.Complete = page.Complete && end == nil
	// at is a place that a link leads on from, in the direction of the page or back.
	at := func(place *SearchMark, back bool) *SearchMark {
		return &SearchMark{Backward: backward != back, Keys: place.Keys, Row: place.Row, Snapshot: snapshot}
	}
	onward, back := &page.Next, &page.Previous
	if backward {
		onward, back = back, onward
	}
	if end != nil && roomFor(rows) == len(rows) && len(rows) <= limit {
		*onward = at(end, false)
	}
	switch {
	case len(rows) > 0:
	case len(places) > 0: // all of them are gone since they were found
		if places, err = p.inOrder(ctx, on, places, nil); err != nil {
			return nil, err
		}
		if len(places) > limit {
			*onward = at(&places[limit-1], false)
		}
		if mark != nil {
			*back = at(&places[0], true)
		}
	case mark != nil && (mark.Row == math.MaxInt64 || mark.Row == math.MinInt64): // no match stands there, so this leads back
		*back = at(mark, true)
	}
	return page, nil
}

// behind is the place behind all that has the first keys of a path, in the order of the page.
func (p *searchPlan) behind(path []*string) *SearchMark {
	end := &SearchMark{Keys: slices.Clone(path), Row: math.MaxInt64}
	if p.order.rowDescending {
		end.Row = math.MinInt64
	}
	for i := len(path); i < len(p.order.keys); i++ {
		end.Keys = append(end.Keys, p.order.keys[i].end())
	}
	return end
}

// end is what no value of a key comes behind: nil where those that are missing come last.
func (k *sortKey) end() *string {
	last := "infinity"
	switch {
	case !k.nullsFirst && !k.notNull:
		return nil
	case k.typ == "text" && k.descending:
		last = ""
	case k.typ == "text":
		last = strings.Repeat("\U0010FFFF", MaxStringIndexed+1)
	case k.descending:
		last = "-infinity"
	}
	return &last
}

// placed fetches the first of what stands at some places, and not behind end.
func (p *searchPlan) placed(places []SearchMark, end *SearchMark, limit int) statement {
	c := p.compiler(len(p.c.args))
	if p.before == "" {
		c = p.compiler(0)
	}
	from := p.listOf(c, places)
	if p.before != "" { // the conditions are there only for their arguments, which must have a place
		from += " WHERE true OR EXISTS (SELECT FROM search_index x WHERE " + p.where + p.namesKeys() + ")"
	}
	beyond := ""
	if end != nil { // what has changed since may stand further on
		beyond = " AND " + p.after(c, end, func(i int) string { return fmt.Sprintf("m.k%d", i) }, "m.rk") + " IS NOT TRUE"
	}
	found := p.fetchOf(c, from, "", beyond, limit)
	found.once = p.before == ""
	return found
}

// listOf is a query of some places.
func (p *searchPlan) listOf(c *compiler, places []SearchMark) string {
	keys := make([]int64, len(places))
	for i, at := range places {
		keys[i] = at.Row
	}
	list, columns := "m.rk", c.arg(keys, "bigint[]")
	names := "rk"
	for k, key := range p.order.keys {
		texts := make([]*string, len(places))
		for i, at := range places {
			texts[i] = at.Keys[k]
		}
		as := "::" + key.typ
		if key.typ == "text" {
			as = ` COLLATE "C"`
		}
		list += fmt.Sprintf(", m.k%d%s AS k%d", k, as, k)
		columns += ", " + c.arg(texts, "text[]")
		names += fmt.Sprintf(", k%d", k)
	}
	return fmt.Sprintf("SELECT %s FROM unnest(%s) AS m(%s)", list, columns, names)
}

// inOrder puts places in the order of the page, without those behind end; nil is no end.
func (p *searchPlan) inOrder(ctx context.Context, on *runner, places []SearchMark, end *SearchMark) (list []SearchMark, err error) {
	c, key, where := p.compiler(0), func(i int) string { return fmt.Sprintf("m.k%d", i) }, "true"
	from := p.listOf(c, places)
	if end != nil {
		where = p.after(c, end, key, "m.rk") + " IS NOT TRUE"
	}
	sql := fmt.Sprintf("SELECT m.rk%s FROM (%s) m WHERE %s ORDER BY %s", p.keyTexts("m."), from, where, p.orderBy(key, "m.rk"))
	err = on.rows(ctx, func(rows pgx.Rows) error {
		list, err = p.read(rows)
		return err
	}, sql, c.args...)
	return list, err
}

// keyTexts are the sort keys of rows as text, each behind a comma.
func (p *searchPlan) keyTexts(prefix string) (list string) {
	for i := range p.order.keys {
		list += fmt.Sprintf(", %sk%d::text", prefix, i)
	}
	return list
}

// read reads rows of a key and the sort keys.
func (p *searchPlan) read(rows pgx.Rows) (list []SearchMark, err error) {
	for rows.Next() {
		at := SearchMark{Keys: make([]*string, len(p.order.keys))}
		into := []any{&at.Row}
		for i := range at.Keys {
			into = append(into, &at.Keys[i])
		}
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		list = append(list, at)
	}
	return list, rows.Err()
}

// namesBefore is a condition that holds, with the arguments of what has changed.
func (p *searchPlan) namesBefore() string {
	if p.before == "" {
		return ""
	}
	return " AND (true OR EXISTS (SELECT FROM (" + p.before + ") b))"
}

// namesKeys is a condition that holds, with all that the order is made of: its arguments must have a place in a statement.
func (p *searchPlan) namesKeys() string {
	var b strings.Builder
	for _, k := range p.order.keys {
		fmt.Fprintf(&b, " AND (true OR (%s) IS NULL)", k.sql)
	}
	return b.String()
}
