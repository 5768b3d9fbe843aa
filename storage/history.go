package storage

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// HistoryQuery asks for versions, newest first. ID is "" for the history of a type, Type too for that of the system.
type HistoryQuery struct {
	Type, ID string
	// Since leaves out versions before it; zero for none.
	Since time.Time
	// From and Until are the half-open time of _at: versions that were current at some point of it. Zero for no bound.
	From, Until time.Time
	// Limit is the most versions to return.
	Limit int
	// After continues behind the last version of an earlier page; nil begins with the newest.
	After *HistoryMark
}

// HistoryMark is a place in a history. Settled is the time up to which the first page showed it, since later ones show
// no more; zero for no bound. Total is what the first page counted: to count again costs as much as the whole history.
type HistoryMark struct {
	LastUpdated time.Time
	Seq         int64
	Settled     time.Time
	Total       int64
}

// HistoryPage is a stretch of a history.
type HistoryPage struct {
	Versions []*Version
	// Marks are the places of Versions.
	Marks []HistoryMark
	// Next is where the page after this one begins; nil when this is the last.
	Next *HistoryMark
	// Total is the number of versions without Limit and After, as it was for the first page.
	Total int64
}

// The sources of the three histories. Each gives seq, rk, version and last_updated; $1 narrows it.
const (
	historyOfSystem   = ` FROM resource_change c WHERE $1::bigint IS NULL AND `
	historyOfType     = ` FROM resource_change c WHERE c.type = $1::bigint AND `
	historyOfInstance = ` FROM (
    SELECT version::bigint AS seq, rk, version, last_updated FROM resource WHERE rk = $1
    UNION ALL SELECT version, rk, version, last_updated FROM resource_history WHERE rk = $1) c WHERE `
)

// A version is current from its time to that of the next one: _at leaves out what was superseded by $4.
const (
	historyBounds = `c.last_updated >= $2 AND c.last_updated < $3`
	historyAt     = `
  AND NOT EXISTS (SELECT FROM resource_history n WHERE n.rk = c.rk AND n.version = c.version + 1 AND n.last_updated <= $4)
  AND NOT EXISTS (SELECT FROM resource n WHERE n.rk = c.rk AND n.version = c.version + 1 AND n.last_updated <= $4)`
	historyEver = ` AND $4::timestamptz IS NULL`
)

const historyPage = `
SELECT c.seq, r.type, r.id, c.version, c.last_updated, coalesce(h.method, r.method),
  CASE WHEN h.rk IS NULL THEN r.content ELSE h.content END, CASE WHEN h.rk IS NULL THEN r.literal ELSE h.literal END,
  CASE WHEN h.rk IS NULL THEN r.compartments ELSE h.compartments END
FROM (SELECT c.seq, c.rk, c.version, c.last_updated`

const historyOrder = ` AND (c.last_updated, c.seq) < ($5, $6)
  ORDER BY c.last_updated DESC, c.seq DESC LIMIT $7) c
JOIN resource r USING (rk) LEFT JOIN resource_history h ON h.rk = c.rk AND h.version = c.version
WHERE h.rk IS NOT NULL OR r.version = c.version
ORDER BY c.last_updated DESC, c.seq DESC`

// History returns a page of versions, newest first. Of a type or of the system it shows what is settled: no version
// can appear later below the newest shown, so that whoever asks for what is new since then misses nothing. (A version
// has the time at which its transaction began to write, and transactions do not end in that order.)
func (s *Store) History(ctx context.Context, q HistoryQuery) (*HistoryPage, error) {
	run, err := s.runner(ctx, nil)
	if err != nil {
		return nil, err
	}
	var settled time.Time
	switch {
	case q.After != nil:
		settled = q.After.Settled
	case q.ID == "": // the versions of one resource come one after the other
		if settled, err = s.settle(ctx); err != nil {
			return nil, translate(err)
		}
	}
	page, err := s.history(ctx, q, settled, run)
	return page, translate(err)
}

// History is Store.History as the transaction sees it, with what it has written itself.
func (tx *Tx) History(ctx context.Context, q HistoryQuery) (*HistoryPage, error) {
	run, err := tx.store.runner(ctx, tx)
	if err != nil {
		return nil, err
	}
	var settled time.Time
	if q.After != nil {
		settled = q.After.Settled
	}
	return tx.store.history(ctx, q, settled, run)
}

const (
	sqlShowHistory = `SELECT show_history()`
	sqlShown       = `SELECT last_value FROM history_shown`
	// Who may not write shows what is there without settling it: what is written later may belong before it.
	sqlNewest = `SELECT coalesce(floor(extract(epoch FROM max(last_updated)) * 1000), 0)::bigint FROM resource_change`
	// The locks of begin_write: the only ones that are shared and have one key.
	sqlWriting = `
SELECT coalesce(min(classid::bigint << 32 | objid::bigint), 9223372036854775807) FROM pg_locks
WHERE locktype = 'advisory' AND objsubid = 1 AND mode = 'ShareLock'
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`

	// settlePatience is how long a history waits for writers that began before the newest version. Most need a few
	// milliseconds; behind a long transaction the history ends where that began.
	settlePatience = 500 * time.Millisecond
)

// settle returns the time up to which the history is settled. See begin_write in migrations/0001_init.sql.
func (s *Store) settle(ctx context.Context) (time.Time, error) {
	var newest, writing int64
	show := sqlShowHistory
	if s.options.ReadOnly {
		show = sqlNewest
	}
	batch := &pgx.Batch{}
	batch.Queue(show).QueryRow(func(row pgx.Row) error { return row.Scan(&newest) })
	batch.Queue(sqlWriting).QueryRow(func(row pgx.Row) error { return row.Scan(&writing) })
	if err := (reader{s.pool}).Send(ctx, batch); err != nil {
		return time.Time{}, err
	}
	s.heardShown(newest)
	wait := 2 * time.Millisecond
	for until := time.Now().Add(settlePatience); writing <= newest && time.Now().Before(until); wait *= 2 {
		if err := sleep(ctx, wait); err != nil {
			return time.Time{}, err
		}
		if err := (reader{s.pool}).QueryRow(ctx, sqlWriting).Scan(&writing); err != nil {
			return time.Time{}, err
		}
	}
	return time.UnixMilli(min(newest, writing-1)).UTC(), nil
}

// refreshShown asks up to when histories have been shown.
func (s *Store) refreshShown(ctx context.Context) error {
	var moment int64
	err := reader{s.pool}.QueryRow(ctx, sqlShown).Scan(&moment)
	s.heardShown(moment)
	return err
}

func (s *Store) heardShown(moment int64) {
	for {
		known := s.shown.Load()
		if moment <= known || s.shown.CompareAndSwap(known, moment) {
			return
		}
	}
}

func (s *Store) history(ctx context.Context, q HistoryQuery, settled time.Time, run *runner) (*HistoryPage, error) {
	source, narrow := historyOfSystem, (*int64)(nil)
	switch {
	case q.ID != "":
		rk := s.hash.Resource(q.Type, q.ID)
		source, narrow = historyOfInstance, &rk
	case q.Type != "":
		number := int64(s.Registry().TypeNumber(q.Type))
		source, narrow = historyOfType, &number
	}
	after := HistoryMark{LastUpdated: endOfTime}
	if q.After != nil {
		after = *q.After
	}
	until := orElse(q.Until, endOfTime)
	if past := settled.Add(time.Millisecond); !settled.IsZero() && past.Before(until) {
		until = past
	}
	bounds, from := historyBounds+historyEver, (*time.Time)(nil)
	if !q.From.IsZero() {
		bounds, from = historyBounds+historyAt, &q.From
	}
	args := []any{narrow, timestamp(orElse(q.Since, beginningOfTime)), timestamp(until), from}
	page := &HistoryPage{}
	left, full := s.room(), false
	batch := &pgx.Batch{}
	batch.Queue(historyPage+source+bounds+historyOrder,
		append(args[:len(args):len(args)], timestamp(after.LastUpdated), after.Seq, q.Limit+1)...).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			var seq int64
			v, err := scanVersion(rows, &seq)
			if err != nil {
				return err
			}
			if left.take(v); v.beyond {
				full = true
				continue
			}
			page.Versions, page.Marks = append(page.Versions, v), append(page.Marks, HistoryMark{LastUpdated: v.LastUpdated, Seq: seq, Settled: settled})
		}
		return rows.Err()
	})
	if page.Total = after.Total; page.Total == 0 {
		batch.Queue(`SELECT count(*)`+source+bounds, args...).QueryRow(func(row pgx.Row) error { return row.Scan(&page.Total) })
	}
	if err := run.send(ctx, batch); err != nil {
		return nil, err
	}
	for i := range page.Marks {
		page.Marks[i].Total = page.Total
	}
	if len(page.Versions) > q.Limit {
		page.Versions, page.Marks = page.Versions[:q.Limit], page.Marks[:q.Limit]
		full = q.Limit > 0
	}
	if full {
		page.Next = &page.Marks[len(page.Marks)-1]
	}
	return page, nil
}

func orElse(t, otherwise time.Time) time.Time {
	if t.IsZero() {
		return otherwise
	}
	return t
}
