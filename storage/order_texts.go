package storage

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// orderedPages is how many pages of texts need no order: a search reads that many soon.
	orderedPages = 100
	// orderedAtOnce is how many texts one statement writes anew.
	orderedAtOnce = 2000
	// orderedMore is how many times orderedAtOnce one run writes at most beside the texts that it began with: where they come faster than it
	// writes, behind those that it has written, it would go on for ever.
	orderedMore = 10
	// orderLook is how often a server looks whether texts are to be put in order.
	orderLook = time.Minute
	// orderLock is the advisory lock of whoever puts them in order.
	orderLock = 0x6b696c6e0002
)

// sqlTexts is about how many texts there are, without looking at them: what the last VACUUM or ANALYZE counted, or what was counted as it was
// written, which a crash forgets.
const sqlTexts = `
SELECT greatest(c.reltuples::bigint, pg_stat_get_live_tuples(c.oid)) AS texts, pg_relation_size(c.oid) / current_setting('block_size')::bigint AS pages
FROM pg_class c WHERE c.oid = 'search_string_value'::regclass`

// sqlOrderDue begins putting the texts in order, or goes on with it: where a quarter has come to them since the last time.
// $1 is the least number of pages. It returns how many texts there are, too.
const sqlOrderDue = `
UPDATE search_string_order o SET param = coalesce(o.param, -2147483648), value = coalesce(o.value, '') FROM (` + sqlTexts + `) c
WHERE o.param IS NOT NULL OR c.pages >= $1 AND c.texts > 1.25 * o.texts
RETURNING o.param, o.value, c.texts`

// sqlOrderNext writes the next texts behind the others, in their order. Whoever looks for a text meanwhile sees it where it was
// or where it is, and so does the trigger that adds those that are missing. $3 is how many.
const sqlOrderNext = `
WITH next AS MATERIALIZED (SELECT v.ctid AS at, v.param, v.value FROM search_string_value v WHERE (v.param, v.value) > ($1::integer, $2::text)
  ORDER BY v.param, v.value LIMIT $3),
gone AS (DELETE FROM search_string_value v WHERE v.ctid = ANY(ARRAY(SELECT n.at FROM next n)) RETURNING v.param, v.value),
again AS (INSERT INTO search_string_value SELECT DISTINCT g.param, g.value FROM gone g ORDER BY g.param, g.value)
UPDATE search_string_order o SET param = l.param, value = l.value
FROM (SELECT n.param, n.value FROM next n ORDER BY n.param DESC, n.value DESC LIMIT 1) l RETURNING o.param, o.value`

// sqlOrderDone notes how many they are: as many as they seem to be, at least, so that a wrong number does not begin it again.
const sqlOrderDone = `UPDATE search_string_order SET param = NULL, value = NULL, texts = greatest(c.texts, (SELECT count(*) FROM search_string_value)) FROM (` + sqlTexts + `) c`

// sqlForgetPlaces takes out of the indexes where the texts lay before, each of which costs a search a page. Autovacuum would do it, too, in a while.
const sqlForgetPlaces = `VACUUM search_string_value`

// OrderTexts writes the texts of the index down in their order, where many have come since it last did: a part of a text is then
// found on few pages. It takes half of the time, and goes on where it was when ctx ends. Where another server is at it, it leaves it to that.
// begins hears that there is something to do, and with how many texts; it may be nil.
func (s *Store) OrderTexts(ctx context.Context, begins func(texts int64)) error {
	return translate(s.alone(ctx, orderLock, func(conn *pgxpool.Conn) error {
		var param int32
		var value string
		var texts int64
		err := conn.QueryRow(ctx, sqlOrderDue, orderedPages).Scan(&param, &value, &texts)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err == nil && begins != nil {
			begins(texts)
		}
		rounds := texts/orderedAtOnce + orderedMore
		for ; err == nil && rounds > 0; rounds-- {
			began := time.Now()
			if err = conn.QueryRow(ctx, sqlOrderNext, param, value, orderedAtOnce).Scan(&param, &value); err == nil {
				err = sleep(ctx, time.Since(began))
			}
		}
		if !errors.Is(err, pgx.ErrNoRows) { // nil where the next run goes on
			return err
		}
		if _, err := conn.Exec(ctx, sqlOrderDone); err != nil {
			return err
		}
		if _, err := conn.Exec(ctx, sqlMergePending); err != nil {
			return err
		}
		_, err = conn.Exec(ctx, sqlForgetPlaces) // who does not own the table is warned and no more
		return err
	}))
}

// orderInTime looks each minute whether texts are to be put in order, until ctx ends. While many come it waits for a minute in which few do: they
// would soon be to be put in order again. Upkeep, once an hour, does not wait.
func (s *Store) orderInTime(ctx context.Context, report func(error)) {
	tick := time.NewTicker(orderLook)
	defer tick.Stop()
	for before := int64(0); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var texts, pages int64
		err := s.pool.QueryRow(ctx, sqlTexts).Scan(&texts, &pages)
		if err == nil && few(before, texts) {
			err = s.OrderTexts(ctx, nil)
		}
		if before = texts; err != nil && ctx.Err() == nil && report != nil {
			report(translate(err))
		}
	}
}

// few says whether no more than a hundredth has come to a number of texts.
func few(before, now int64) bool { return now-before <= before/100 }
