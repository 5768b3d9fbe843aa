package storage

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// orderedPages is how many pages of texts need no order: a search reads that many soon.
	orderedPages = 100
	// orderedAtOnce is how many texts one statement writes anew.
	orderedAtOnce = 2000
)

// sqlOrderDue begins putting the texts in order, or goes on with it: where a quarter has come to them since the last time.
// $1 is the least number of pages.
const sqlOrderDue = `
UPDATE search_string_order o SET param = coalesce(o.param, -2147483648), value = coalesce(o.value, '') FROM pg_class c
WHERE c.oid = 'search_string_value'::regclass AND (o.param IS NOT NULL OR c.relpages >= $1 AND c.reltuples > 1.25 * o.texts)
RETURNING o.param, o.value`

// sqlOrderNext writes the next texts behind the others, in their order. Whoever looks for a text meanwhile sees it where it was
// or where it is, and so does the trigger that adds those that are missing. $3 is how many.
const sqlOrderNext = `
WITH next AS MATERIALIZED (SELECT v.ctid AS at, v.param, v.value FROM search_string_value v WHERE (v.param, v.value) > ($1::integer, $2::text)
  ORDER BY v.param, v.value LIMIT $3),
gone AS (DELETE FROM search_string_value v WHERE v.ctid = ANY(ARRAY(SELECT n.at FROM next n)) RETURNING v.param, v.value),
again AS (INSERT INTO search_string_value SELECT DISTINCT g.param, g.value FROM gone g ORDER BY g.param, g.value)
UPDATE search_string_order o SET param = l.param, value = l.value
FROM (SELECT n.param, n.value FROM next n ORDER BY n.param DESC, n.value DESC LIMIT 1) l RETURNING o.param, o.value`

const sqlOrderDone = `UPDATE search_string_order SET param = NULL, value = NULL, texts = (SELECT count(*) FROM search_string_value)`

// OrderTexts writes the texts of the index down in their order, where many have come since it last did: a part of a text is then
// found on few pages. It takes half of the time, and goes on where it was when ctx ends.
func (s *Store) OrderTexts(ctx context.Context) error {
	var param int32
	var value string
	err := s.pool.QueryRow(ctx, sqlOrderDue, orderedPages).Scan(&param, &value)
	for err == nil {
		began := time.Now()
		if err = s.pool.QueryRow(ctx, sqlOrderNext, param, value, orderedAtOnce).Scan(&param, &value); err == nil {
			err = sleep(ctx, time.Since(began))
		} else if errors.Is(err, pgx.ErrNoRows) {
			_, err = s.pool.Exec(ctx, sqlOrderDone)
			return translate(err)
		}
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	return translate(err)
}
