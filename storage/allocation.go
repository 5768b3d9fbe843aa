package storage

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// AllocationKind is why time is taken.
type AllocationKind string

// The kinds of allocations.
const (
	AllocationHold   AllocationKind = "hold"   // until a patient has made up their mind; it expires
	AllocationBusy   AllocationKind = "busy"   // an appointment
	AllocationBuffer AllocationKind = "buffer" // what a service wants free before or after
	AllocationBlock  AllocationKind = "block"  // leave, closing, a Slot that somebody else keeps busy
)

// Claim asks for the time of one actor, in one of its lanes.
type Claim struct {
	// Actor is a relative reference: "Practitioner/1".
	Actor string
	// Start and End bound the time, half-open.
	Start, End time.Time
	Kind       AllocationKind
	// Capacity is how many claims the actor can serve at a time; zero counts as one.
	Capacity int
	// Beside is how many lanes beyond the capacity it may take too: others keep those below, and give them back later.
	Beside int
	// Whole takes every lane: nobody else is served beside it.
	Whole bool
	// Over may go beyond the capacity: an override, for which the caller answers.
	Over bool
}

// Allocation is time that is taken.
type Allocation struct {
	Actor      string
	Lane       int
	Start, End time.Time
	Kind       AllocationKind
	// Owner is what takes it: "Appointment/1", "Slot/2", "Schedule/3".
	Owner string
	// Expires is when a hold ends; zero for never.
	Expires time.Time
	// Capacity is how many the actor serves at a time, as it was when this was taken; zero for closed time. A Lane from it
	// on is beyond.
	Capacity int
}

// Beyond says whether an actor serves more than it usually does because of this: an override took it.
func (a Allocation) Beyond() bool { return a.Capacity > 0 && a.Lane >= a.Capacity }

// maxLane bounds how far an override may go beyond the capacity.
const maxLane = 1000

// sqlExpire removes whole owners whose hold on a time that is wanted now has ended. Rows that another transaction is
// just removing are left to it: taking the time waits for that.
const sqlExpire = `
WITH over AS (
  SELECT DISTINCT a.owner FROM unnest($1::text[], $2::timestamptz[], $3::timestamptz[]) AS c(actor, low, high)
  JOIN allocation a ON a.actor = c.actor AND a.during && tstzrange(c.low, c.high) AND a.expires <= $4),
locked AS (
  SELECT id FROM allocation WHERE owner IN (SELECT owner FROM over) AND expires <= $4 ORDER BY id FOR UPDATE SKIP LOCKED)
DELETE FROM allocation WHERE id IN (SELECT id FROM locked) RETURNING owner`

// Whose names actors: themselves, those of Schedules, those of the Schedules that Slots are of, and those whose time appointments
// take now; all are relative references.
type Whose struct{ Actors, Schedules, Slots, Appointments []string }

const sqlFence = `
SELECT pg_advisory_xact_lock(7262, h) FROM (
  SELECT DISTINCT hashtext('time of ' || actor) AS h FROM (
    SELECT unnest($1::text[])
    UNION ALL SELECT unnest($2::text[]) -- which nobody may have given an actor yet
    UNION ALL SELECT actor FROM schedule_actor WHERE schedule = ANY($2)
    UNION ALL SELECT s.actor FROM slot_time t JOIN schedule_actor s USING (schedule) WHERE t.slot = ANY($3)
    UNION ALL SELECT unnest(actors) FROM booking WHERE appointment = ANY($4)) AS w(actor)
  ORDER BY 1) AS u`

// Fence queues that nobody else takes or gives back time of some actors until the transaction ends. It comes before a row is locked
// that has to do with that time: who had locked a Slot, and then waited for the time, would wait for whoever has that time, who in
// the end has to bring the same Slot in step. The lanes that others have taken are counted behind it besides, which the exclusion
// constraint cannot do. Who makes a Slot puts up the fence of its Schedule, so that no Slot comes to the time behind a fence.
func (tx *Tx) Fence(w Whose) {
	tx.exec(sqlFence, w.Actors, w.Schedules, w.Slots, w.Appointments)
	tx.fenced = true
}

// sqlTake takes what is free and says, for every lane it picked, whether it got it. The order by actor and DO NOTHING
// keep transactions that want the same time from waiting for each other in a ring: bare inserts deadlock.
// Of several calendars of an actor the least capacity counts: who serves one visit alone is in no group meanwhile, and
// time that one of them closes is closed.
const sqlTake = `
WITH pick AS MATERIALIZED (
  SELECT c.n, c.actor, c.low, c.high, c.kind, c.capacity, l.lane
  FROM unnest($3::text[], $4::timestamptz[], $5::timestamptz[], $6::text[], $7::smallint[], $8::boolean[], $9::smallint[])
    WITH ORDINALITY AS c(actor, low, high, kind, lanes, whole, capacity, n)
  CROSS JOIN LATERAL (
    SELECT g::smallint AS lane FROM generate_series(0, c.lanes - 1) AS g
    WHERE c.whole OR NOT EXISTS (
      SELECT FROM allocation a WHERE a.actor = c.actor AND a.lane = g AND a.during && tstzrange(c.low, c.high))
    AND (c.lanes > c.capacity OR (
      SELECT count(DISTINCT a.lane) < least(c.lanes, min(CASE a.kind WHEN 'block' THEN 0 ELSE a.capacity END))
      FROM allocation a WHERE a.actor = c.actor AND a.during && tstzrange(c.low, c.high)))
    ORDER BY g LIMIT CASE WHEN c.whole THEN 32767 ELSE 1 END) AS l),
taken AS (
  INSERT INTO allocation (actor, lane, during, kind, owner, capacity, expires)
  SELECT actor, lane, tstzrange(low, high), kind, $1, capacity, CASE WHEN kind IN ('hold', 'buffer') THEN $2::timestamptz END
  FROM pick ORDER BY actor, lane, low
  ON CONFLICT DO NOTHING
  RETURNING actor, lane, lower(during) AS low)
SELECT p.n, t.actor IS NOT NULL FROM pick p LEFT JOIN taken t USING (actor, lane, low)`

// Take takes the time of all claims for owner, or says which actors' time it could not have; then the transaction must
// fail, since it may have taken a part. expires is for claims of the kind hold, and for the buffers beside them.
// Holds that have ended do not count: expired are their owners, whose allocations are gone and whose appointments the
// caller has to end.
func (tx *Tx) Take(ctx context.Context, owner string, expires time.Time, claims ...Claim) (lost, expired []string, err error) {
	claims = slices.Clone(claims)
	for _, c := range claims {
		tx.touched = append(tx.touched, Span{c.Actor, c.Start, c.End})
	}
	slices.SortFunc(claims, func(a, b Claim) int { return cmp.Or(cmp.Compare(a.Actor, b.Actor), a.Start.Compare(b.Start)) })
	actors, lows, highs := make([]string, len(claims)), make([]time.Time, len(claims)), make([]time.Time, len(claims))
	for i, c := range claims {
		actors[i], lows[i], highs[i] = c.Actor, c.Start, c.End
	}
	tx.Fence(Whose{Actors: actors})
	tx.begin()
	tx.queue.Queue(sqlExpire, actors, lows, highs, tx.store.options.Now().UTC()).Query(func(rows pgx.Rows) (err error) {
		expired, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	// A lane that looked free may be gone by the time it is wanted; then the next one is tried. Each try that loses a lane
	// sees one lane less, so the lanes bound the tries.
	for len(claims) > 0 && len(lost) == 0 {
		if claims, lost, err = tx.take(ctx, owner, expires, claims); err != nil {
			return nil, nil, err
		}
	}
	if err := tx.flush(ctx); err != nil { // where there is no claim
		return nil, nil, err
	}
	slices.Sort(lost)
	slices.Sort(expired)
	return slices.Compact(lost), slices.Compact(expired), nil
}

// take tries once. raced are the claims that lost the lane they picked and may find another; lost are the actors that
// have none.
func (tx *Tx) take(ctx context.Context, owner string, expires time.Time, claims []Claim) (raced []Claim, lost []string, err error) {
	n := len(claims)
	actors, kinds, wholes := make([]string, n), make([]string, n), make([]bool, n)
	lows, highs, lanes, capacities := make([]time.Time, n), make([]time.Time, n), make([]int16, n), make([]*int16, n)
	for i, c := range claims {
		actors[i], lows[i], highs[i], kinds[i], wholes[i] = c.Actor, c.Start, c.End, string(c.Kind), c.Whole
		lanes[i] = int16(min(max(c.Capacity, 1), maxLane))
		if c.Kind != AllocationBlock {
			capacity := lanes[i]
			capacities[i] = &capacity
		}
		if lanes[i] = min(lanes[i]+int16(c.Beside), maxLane); c.Over {
			lanes[i] = maxLane
		}
	}
	var until *time.Time
	if !expires.IsZero() {
		until = &expires
	}
	picked, failed := make([]bool, n), make([]bool, n)
	err = tx.system(ctx, func(rows pgx.Rows) error {
		var i int
		var got bool
		_, err := pgx.ForEachRow(rows, []any{&i, &got}, func() error {
			picked[i-1] = true
			failed[i-1] = failed[i-1] || !got
			return nil
		})
		return err
	}, sqlTake, owner, until, actors, lows, highs, kinds, lanes, wholes, capacities)
	for i, c := range claims {
		switch {
		case picked[i] && !failed[i]:
		case picked[i] && !c.Whole && lanes[i] > 1:
			raced = append(raced, c)
		default:
			lost = append(lost, c.Actor)
		}
	}
	return raced, lost, err
}

const sqlConfirm = `
UPDATE allocation SET kind = CASE kind WHEN 'hold' THEN 'busy' ELSE kind END, expires = NULL
WHERE owner = $1 AND expires IS NOT NULL RETURNING owner`

// Confirm makes the hold of an owner last. false: there is none any more.
func (tx *Tx) Confirm(ctx context.Context, owner string) (bool, error) {
	held, err := tx.owners(ctx, sqlConfirm, owner)
	return len(held) > 0, err
}

const sqlExpiredOwners = `
SELECT DISTINCT owner FROM (SELECT owner FROM allocation WHERE expires <= $1 ORDER BY expires LIMIT $2) AS a`

// ExpiredOwners lists up to limit owners whose holds have ended, for the work that tidies up.
func (s *Store) ExpiredOwners(ctx context.Context, limit int) ([]string, error) {
	rows, err := s.pool.Query(ctx, sqlExpiredOwners, s.options.Now().UTC(), limit)
	if err != nil {
		return nil, translate(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return list, translate(err)
}

func (tx *Tx) owners(ctx context.Context, sql string, args ...any) ([]string, error) {
	var list []string
	err := tx.system(ctx, func(rows pgx.Rows) error {
		var err error
		list, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	}, sql, args...)
	slices.Sort(list)
	return slices.Compact(list), err
}

// sqlBusy leaves out holds that have ended: they are free, whether or not somebody has tidied up.
const sqlBusy = `
SELECT actor, lane, lower(during), upper(during), kind, owner, expires, coalesce(capacity, 0) FROM allocation
WHERE actor = ANY($1) AND during && tstzrange($2, $3) AND (expires IS NULL OR expires > $4)
ORDER BY actor, lower(during), lane`

// Busy lists when actors are taken within a time. It is a look and no promise: only Take decides.
func (s *Store) Busy(ctx context.Context, actors []string, start, end time.Time) ([]Allocation, error) {
	rows, err := reader{s.pool}.Query(ctx, sqlBusy, actors, start, end, s.options.Now().UTC())
	if err != nil {
		return nil, translate(err)
	}
	list, err := pgx.CollectRows(rows, scanAllocation)
	return list, translate(err)
}

// Busy is Store.Busy as the transaction sees it.
func (tx *Tx) Busy(ctx context.Context, actors []string, start, end time.Time) ([]Allocation, error) {
	return tx.allocations(ctx, sqlBusy, actors, start, end, tx.store.options.Now().UTC())
}

const sqlTaken = `
SELECT actor, lane, lower(during), upper(during), kind, owner, expires, coalesce(capacity, 0) FROM allocation WHERE owner = $1 ORDER BY actor, lower(during), lane`

// Taken lists what an owner has taken, ended holds included.
func (tx *Tx) Taken(ctx context.Context, owner string) ([]Allocation, error) {
	return tx.allocations(ctx, sqlTaken, owner)
}

func (tx *Tx) allocations(ctx context.Context, sql string, args ...any) (list []Allocation, err error) {
	err = tx.system(ctx, func(rows pgx.Rows) error {
		var err error
		list, err = pgx.CollectRows(rows, scanAllocation)
		return err
	}, sql, args...)
	return list, err
}

func scanAllocation(row pgx.CollectableRow) (Allocation, error) {
	var a Allocation
	var kind string
	var expires *time.Time
	if err := row.Scan(&a.Actor, &a.Lane, &a.Start, &a.End, &kind, &a.Owner, &expires, &a.Capacity); err != nil {
		return a, err
	}
	a.Kind = AllocationKind(kind)
	if expires != nil {
		a.Expires = *expires
	}
	return a, nil
}
