package storage

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Span is some time of one actor.
type Span struct {
	Actor      string
	Start, End time.Time
}

// SlotTime is what is known of a Slot beside its content.
type SlotTime struct {
	// Slot and Schedule are relative references.
	Slot, Schedule string
	Start, End     time.Time
	// Service is what it is for alone: "HealthcareService/x" or a code; "" for any.
	Service string
	// Status is what is written in it, Kept the status that a client keeps it in: "" where it follows from allocations.
	Status, Kept string
	// Due is the status that follows from what is taken now.
	Due string
	// Overbooked is what is written in it, DueOverbooked what follows: more visits than usual at some moment of it.
	Overbooked, DueOverbooked bool
}

const sqlRelease = `DELETE FROM allocation WHERE owner = $1 RETURNING actor, lower(during), upper(during)`

// sqlClosings are the closings over some time, each cut to it.
const sqlClosings = `
SELECT owner, lower(during * tstzrange($2, $3)), upper(during * tstzrange($2, $3)), lanes
FROM closing WHERE actor = $1 AND during && tstzrange($2, $3) ORDER BY owner`

// Release gives back the time that owner has taken; what lies in closed time stays closed, and visits beyond the capacity move up.
func (tx *Tx) Release(owner string) {
	tx.elevate()
	tx.releasing = true
	tx.queue.Queue(sqlRelease, owner).Query(func(rows pgx.Rows) error {
		var s Span
		_, err := pgx.ForEachRow(rows, []any{&s.Actor, &s.Start, &s.End}, func() error {
			tx.touched, tx.released = append(tx.touched, s), append(tx.released, s)
			return nil
		})
		return err
	})
}

// sqlBeyond are visits beyond the capacity of an actor over some time.
const sqlBeyond = `
SELECT id, owner FROM allocation WHERE actor = $1 AND during && tstzrange($2, $3) AND lane >= capacity AND expires IS NULL ORDER BY lane, id`

// sqlLockFree locks those of some resources that nobody else is changing.
const sqlLockFree = `SELECT rk FROM public.resource WHERE rk = ANY($1) FOR UPDATE SKIP LOCKED`

// sqlMoveUp gives a visit a lane within the capacity, if one is free for all of its time.
const sqlMoveUp = `
WITH moved AS (
  INSERT INTO allocation (actor, lane, during, kind, owner, expires, capacity)
  SELECT x.actor, l.lane, x.during, x.kind, x.owner, x.expires, x.capacity FROM allocation x
  CROSS JOIN LATERAL (
    SELECT g::smallint AS lane FROM generate_series(0, x.capacity - 1) AS g
    WHERE NOT EXISTS (SELECT FROM allocation a WHERE a.actor = x.actor AND a.lane = g AND a.during && x.during)
    ORDER BY g LIMIT 1) AS l
  WHERE x.id = $1 AND x.lane >= x.capacity AND x.expires IS NULL
  ON CONFLICT DO NOTHING RETURNING lane)
DELETE FROM allocation WHERE id = $1 AND EXISTS (SELECT FROM moved)`

// Heal closes again what Release has given back within closed time; what is left goes to visits beyond the capacity: nobody
// shall be booked beside those only because they were there second.
func (tx *Tx) Heal(ctx context.Context) error {
	if err := tx.Flush(ctx); err != nil {
		return err
	}
	list := tx.released
	tx.released = nil
	slices.SortFunc(list, func(a, b Span) int { return cmp.Or(cmp.Compare(a.Actor, b.Actor), a.Start.Compare(b.Start)) })
	for _, s := range list {
		// One closing after the other: where two overlap, the second takes what the first has left.
		err := tx.system(ctx, func(rows pgx.Rows) error {
			var owner string
			var low, high time.Time
			var lanes int
			_, err := pgx.ForEachRow(rows, []any{&owner, &low, &high, &lanes}, func() error {
				tx.exec(sqlCloseRest, owner, s.Actor, low, high, lanes)
				return nil
			})
			return err
		}, sqlClosings, s.Actor, s.Start, s.End)
		if err != nil {
			return err
		}
		if err := tx.moveUp(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// moveUp gives visits beyond the capacity what became free. Whoever gives back the time of a visit has locked it, and would not see
// the row that this makes: those that others are changing are left to them.
func (tx *Tx) moveUp(ctx context.Context, s Span) error {
	rows := map[int64][]int64{}
	var keys []int64
	err := tx.system(ctx, func(r pgx.Rows) error {
		var id int64
		var owner string
		_, err := pgx.ForEachRow(r, []any{&id, &owner}, func() error {
			typ, name, _ := strings.Cut(owner, "/")
			rk := tx.store.hash.Resource(typ, name)
			keys, rows[rk] = append(keys, rk), append(rows[rk], id)
			return nil
		})
		return err
	}, sqlBeyond, s.Actor, s.Start, s.End)
	if err != nil || len(keys) == 0 {
		return err
	}
	return tx.system(ctx, func(r pgx.Rows) error {
		var rk int64
		_, err := pgx.ForEachRow(r, []any{&rk}, func() error {
			for _, id := range rows[rk] {
				tx.exec(sqlMoveUp, id)
			}
			return nil
		})
		return err
	}, sqlLockFree, keys)
}

// Touched says whose time was taken or given back since it was asked last, and which Slots are to be looked at besides.
func (tx *Tx) Touched(ctx context.Context) (spans []Span, slots []string, err error) {
	if err := tx.Flush(ctx); err != nil {
		return nil, nil, err
	}
	spans, slots = tx.touched, tx.touchedSlots
	tx.touched, tx.touchedSlots, tx.releasing = nil, nil, false
	return spans, slots, nil
}

// Touch notes that Slots of an actor are to be looked at, as if its time had been taken.
func (tx *Tx) Touch(s Span) { tx.touched = append(tx.touched, s) }

// TouchSlots notes Slots to be looked at.
func (tx *Tx) TouchSlots(slots ...string) { tx.touchedSlots = append(tx.touchedSlots, slots...) }

const (
	sqlClose = `
INSERT INTO closing (owner, actor, during, lanes) VALUES ($1, $2, tstzrange($3, $4), $5)
ON CONFLICT (owner, actor) DO UPDATE SET during = EXCLUDED.during, lanes = EXCLUDED.lanes`
	// sqlCloseRest takes what is left of the time in each lane.
	sqlCloseRest = `
INSERT INTO allocation (actor, lane, during, kind, owner)
SELECT $2, l.lane, r, 'block', $1
FROM generate_series(0, $5::integer - 1) AS l(lane)
CROSS JOIN LATERAL unnest(tstzmultirange(tstzrange($3, $4)) - coalesce(
  (SELECT range_agg(a.during) FROM allocation a WHERE a.actor = $2 AND a.lane = l.lane AND a.during && tstzrange($3, $4)), '{}')) AS r
ORDER BY l.lane, r ON CONFLICT DO NOTHING`
	sqlOpen = `DELETE FROM closing WHERE owner = $1`
)

// Close closes time of an actor, behind whose fence it is called, for everybody, in all its lanes; visits that are there stay.
func (tx *Tx) Close(owner string, s Span, lanes int) {
	tx.exec(sqlClose, owner, s.Actor, s.Start, s.End, lanes)
	tx.exec(sqlCloseRest, owner, s.Actor, s.Start, s.End, lanes)
	tx.Touch(s)
}

// Open ends what Close has begun for owner.
func (tx *Tx) Open(owner string) {
	tx.exec(sqlOpen, owner)
	tx.Release(owner)
}

// touches notes spans as touched.
func (tx *Tx) touches(rows pgx.Rows) error {
	var s Span
	_, err := pgx.ForEachRow(rows, []any{&s.Actor, &s.Start, &s.End}, func() error {
		tx.Touch(s)
		return nil
	})
	return err
}

// ScheduleActor is one actor of a Schedule, and how many visits it serves at a time.
type ScheduleActor struct {
	Actor    string
	Capacity int
}

const (
	// sqlRaise makes room beside the visits of a Schedule whose actors serve more from now on.
	sqlRaise = `
UPDATE allocation a SET capacity = u.capacity
FROM unnest($2::text[], $3::smallint[]) AS u(actor, capacity), schedule_actor s
WHERE s.schedule = $1 AND s.actor = u.actor AND s.capacity < u.capacity AND a.actor = u.actor AND a.capacity = s.capacity AND upper(a.during) > $4
  AND EXISTS (SELECT FROM booking b JOIN slot_time t ON t.slot = ANY (b.slots) WHERE b.appointment = a.owner AND t.schedule = $1)
RETURNING a.actor, lower(a.during), upper(a.during)`
	sqlDropActors = `DELETE FROM schedule_actor WHERE schedule = $1`
	sqlSaveActors = `
INSERT INTO schedule_actor (schedule, actor, capacity)
SELECT DISTINCT ON (a) $1, a, c FROM unnest($2::text[], $3::smallint[]) AS u(a, c)`
)

// SaveSchedule queues whose time a Schedule offers. Visits that are booked by it do not keep others from a capacity that grows.
func (tx *Tx) SaveSchedule(schedule string, actors []ScheduleActor) {
	names, capacities := make([]string, len(actors)), make([]int16, len(actors))
	for i, a := range actors {
		names[i], capacities[i] = a.Actor, int16(a.Capacity)
	}
	if len(actors) > 0 {
		tx.elevate()
		tx.releasing = true
		tx.queue.Queue(sqlRaise, schedule, names, capacities, tx.store.options.Now().UTC()).Query(tx.touches)
	}
	tx.exec(sqlDropActors, schedule)
	tx.exec(sqlSaveActors, schedule, names, capacities)
}

// Schedules fall into groups: who books by some holds theirs shared, who changes the actors of one holds its group alone.
const (
	sqlShareSchedules = `
SELECT pg_advisory_xact_lock_shared(7264, g) FROM (SELECT DISTINCT hashtext(s) & 63 AS g FROM unnest($1::text[]) AS s ORDER BY 1) AS u`
	sqlLockSchedule = `SELECT pg_advisory_xact_lock(7264, hashtext($1) & 63)`
)

// ChangesActors makes sure that nobody books by a Schedule until the transaction ends.
func (tx *Tx) ChangesActors(schedule string) { tx.exec(sqlLockSchedule, schedule) }

const sqlActorsOf = `SELECT schedule, actor, capacity FROM schedule_actor WHERE schedule = ANY($1) ORDER BY schedule, actor`

// ActorsOf are the actors of Schedules whose time is taken. They stay until the transaction ends.
func (tx *Tx) ActorsOf(ctx context.Context, schedules ...string) (map[string][]ScheduleActor, error) {
	found := map[string][]ScheduleActor{}
	tx.begin()
	tx.exec(sqlShareSchedules, schedules)
	err := tx.system(ctx, func(rows pgx.Rows) error {
		var schedule string
		var a ScheduleActor
		_, err := pgx.ForEachRow(rows, []any{&schedule, &a.Actor, &a.Capacity}, func() error {
			found[schedule] = append(found[schedule], a)
			return nil
		})
		return err
	}, sqlActorsOf, schedules)
	return found, err
}

const sqlSchedulesOf = `SELECT DISTINCT schedule FROM schedule_actor WHERE actor = ANY($1) ORDER BY schedule`

// SchedulesOf are the Schedules that offer time of actors.
func (tx *Tx) SchedulesOf(ctx context.Context, actors ...string) ([]string, error) {
	return tx.owners(ctx, sqlSchedulesOf, actors)
}

const (
	sqlSaveSlot = `
INSERT INTO slot_time (slot, schedule, during, status, kept, overbooked, service) VALUES ($1, $2, tstzrange($3, $4), $5, nullif($6, ''), $7, nullif($8, ''))
ON CONFLICT (slot) DO UPDATE SET schedule = EXCLUDED.schedule, during = EXCLUDED.during, status = EXCLUDED.status, kept = EXCLUDED.kept,
  overbooked = EXCLUDED.overbooked, service = EXCLUDED.service`
	sqlDropSlot = `DELETE FROM slot_time WHERE slot = $1`
)

// SaveSlot queues what is known of a Slot.
func (tx *Tx) SaveSlot(t SlotTime) {
	tx.exec(sqlSaveSlot, t.Slot, t.Schedule, t.Start, t.End, t.Status, t.Kept, t.Overbooked, t.Service)
}

// DropSlot queues that a Slot counts no more.
func (tx *Tx) DropSlot(slot string) { tx.exec(sqlDropSlot, slot) }

// sqlDerive says what the status of Slots follows to. A Slot is taken where an actor of its Schedule is closed, or serves
// as many as it can at some moment of it, or as a visit there allows. It is busy, or busy-tentative, where that is by a visit booked by the Slot
// itself, and busy-unavailable where by another. It is overbooked while, at some moment of it, an actor serves more than its
// Schedule and the policy of a visit there allow; a visit was put there by an override. Of the starts that lie in both, one
// is such a moment.
const sqlDerive = sqlDeriveSlot + `$2` + sqlDeriveTaken

const (
	sqlDeriveSlot = `
SELECT t.slot, t.schedule, lower(t.during), upper(t.during), t.status, coalesce(t.kept, ''),
  coalesce(t.kept, CASE
    WHEN own.state IN ('hold', 'awaiting') AND full_.is THEN 'busy-tentative'
    WHEN own.state IS NOT NULL AND full_.is THEN 'busy'
    WHEN full_.is THEN 'busy-unavailable'
    ELSE 'free' END),
  coalesce(t.overbooked, NOT over_.is), over_.is, coalesce(t.service, '')
FROM slot_time t
CROSS JOIN (SELECT `
	sqlDeriveTaken = `::timestamptz AS now) AS n
CROSS JOIN LATERAL (SELECT EXISTS (
  SELECT FROM schedule_actor s
  WHERE s.schedule = t.schedule AND (
    SELECT count(DISTINCT a.lane) >= least(s.capacity, min(a.capacity)) OR coalesce(bool_or(a.kind = 'block'), false)
    FROM allocation a WHERE a.actor = s.actor AND a.during && t.during AND (a.expires IS NULL OR a.expires > n.now)) IS TRUE) AS is) AS full_
CROSS JOIN LATERAL (SELECT EXISTS (
  SELECT FROM schedule_actor s
  JOIN allocation x ON x.actor = s.actor AND x.during && t.during AND x.lane >= x.capacity AND (x.expires IS NULL OR x.expires > n.now)
  JOIN allocation b ON b.actor = s.actor AND b.during && t.during AND b.during && x.during AND (b.expires IS NULL OR b.expires > n.now)
  WHERE s.schedule = t.schedule AND (
    SELECT count(*) FROM allocation c
    WHERE c.actor = s.actor AND c.during @> greatest(lower(x.during), lower(b.during), lower(t.during))
      AND (c.expires IS NULL OR c.expires > n.now)) > greatest(x.capacity, s.capacity)) AS is) AS over_
LEFT JOIN LATERAL (
  SELECT min(b.state) AS state FROM booking b
  WHERE b.slots @> ARRAY[t.slot] AND b.during && t.during
    AND (b.state IN ('awaiting', 'booked', 'arrived', 'checked-in', 'fulfilled', 'noshow') OR b.state = 'hold' AND b.due > n.now)) AS own ON true
WHERE `
)

const sqlSlots = sqlDerive + `t.slot = ANY($1) ORDER BY t.slot`

// Slots tells of Slots, and what their status follows to.
func (tx *Tx) Slots(ctx context.Context, slots ...string) ([]SlotTime, error) {
	return tx.slotTimes(ctx, sqlSlots, slots)
}

const sqlSlotsOf = sqlDerive + `t.schedule = ANY($1) AND t.during && tstzrange($3, $4) ORDER BY lower(t.during), t.slot`

// SlotsOf tells of the Slots of Schedules within a time.
func (tx *Tx) SlotsOf(ctx context.Context, schedules []string, start, end time.Time) ([]SlotTime, error) {
	return tx.slotTimes(ctx, sqlSlotsOf, schedules, start, end)
}

func (tx *Tx) slotTimes(ctx context.Context, sql string, names []string, more ...any) (list []SlotTime, err error) {
	args := append([]any{names, tx.store.options.Now().UTC()}, more...)
	err = tx.system(ctx, func(rows pgx.Rows) (err error) {
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (t SlotTime, err error) {
			err = row.Scan(&t.Slot, &t.Schedule, &t.Start, &t.End, &t.Status, &t.Kept, &t.Due, &t.Overbooked, &t.DueOverbooked, &t.Service)
			t.Start, t.End = t.Start.UTC(), t.End.UTC()
			return t, err
		})
		return err
	}, sql, args...)
	return list, err
}

const sqlSchedulesFor = `SELECT DISTINCT schedule FROM slot_time WHERE service = $1 AND upper(during) > $2 ORDER BY schedule`

// SchedulesFor are the Schedules with Slots to come that are for one service.
func (tx *Tx) SchedulesFor(ctx context.Context, service string) ([]string, error) {
	return tx.owners(ctx, sqlSchedulesFor, service, tx.store.options.Now().UTC())
}

const sqlSchedulesOfSlots = `SELECT slot, schedule FROM slot_time WHERE slot = ANY($1)`

// SchedulesOfSlots says whose Slots some are; those that are not known are absent.
func (tx *Tx) SchedulesOfSlots(ctx context.Context, slots ...string) (map[string]string, error) {
	found := map[string]string{}
	if len(slots) == 0 {
		return found, nil
	}
	err := tx.system(ctx, func(rows pgx.Rows) error {
		var slot, schedule string
		_, err := pgx.ForEachRow(rows, []any{&slot, &schedule}, func() error {
			found[slot] = schedule
			return nil
		})
		return err
	}, sqlSchedulesOfSlots, slots)
	return found, err
}

const sqlUnsettled = `SELECT slot FROM slot_time WHERE overbooked IS NULL ORDER BY slot LIMIT $1`

// UnsettledSlots lists Slots, up to a limit, of which nobody knows yet whether they are overbooked: a migration left them so.
func (s *Store) UnsettledSlots(ctx context.Context, limit int) ([]string, error) {
	rows, err := s.pool.Query(ctx, sqlUnsettled, limit)
	if err != nil {
		return nil, translate(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return list, translate(err)
}

const sqlSlotsTouched = `
SELECT DISTINCT t.slot FROM unnest($1::text[], $2::timestamptz[], $3::timestamptz[]) AS c(actor, low, high)
JOIN schedule_actor s ON s.actor = c.actor
JOIN slot_time t ON t.schedule = s.schedule AND t.during && tstzrange(c.low, c.high)`

// SlotsTouched are the Slots that lie over some time of their actors.
func (tx *Tx) SlotsTouched(ctx context.Context, spans []Span) ([]string, error) {
	actors, lows, highs := make([]string, len(spans)), make([]time.Time, len(spans)), make([]time.Time, len(spans))
	for i, s := range spans {
		actors[i], lows[i], highs[i] = s.Actor, s.Start, s.End
	}
	return tx.owners(ctx, sqlSlotsTouched, actors, lows, highs)
}

// HasTouched says whether there may be something for Touched to tell.
func (tx *Tx) HasTouched() bool {
	return len(tx.touched) > 0 || len(tx.touchedSlots) > 0 || tx.releasing
}
