package storage

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Finding is one disagreement between what is booked and what is written about it.
type Finding struct {
	// Problem is one of a few sentences, Resource what it is about.
	Problem, Resource string
}

// What cannot be wrong is checked nevertheless: this is what finds a fault in everything else.
const sqlVerify = `
WITH live AS (
  SELECT * FROM booking WHERE state IN ('hold', 'awaiting', 'booked', 'arrived', 'checked-in', 'fulfilled', 'noshow')),
current AS (
  SELECT 'Appointment/' || id AS name, content FROM resource WHERE type = 'Appointment' AND content IS NOT NULL),
slots AS (
  SELECT 'Slot/' || id AS name, content FROM resource WHERE type = 'Slot' AND content IS NOT NULL)
SELECT 'the time of one of its actors is not taken' AS problem, b.appointment AS resource
FROM live b CROSS JOIN LATERAL unnest(b.actors) AS u(actor)
WHERE NOT (b.state = 'hold' AND b.due <= $1)
  AND NOT EXISTS (SELECT FROM allocation a WHERE a.owner = b.appointment AND a.actor = u.actor HAVING range_agg(a.during) @> b.during)
UNION ALL
SELECT 'time is taken for an appointment that takes none', a.owner
FROM allocation a WHERE a.owner LIKE 'Appointment/%' AND NOT EXISTS (SELECT FROM live b WHERE b.appointment = a.owner AND a.actor = ANY(b.actors))
UNION ALL
SELECT 'a hold does not end, or a booking does', a.owner
FROM allocation a JOIN live b ON b.appointment = a.owner WHERE (a.kind = 'hold') <> (b.state = 'hold')
UNION ALL
SELECT 'two visits have the same lane of an actor at the same time', a.owner
FROM allocation a JOIN allocation b ON a.id < b.id AND a.actor = b.actor AND a.lane = b.lane AND a.during && b.during
UNION ALL
SELECT 'an appointment is not known to the schedule', c.name
FROM current c WHERE NOT EXISTS (SELECT FROM booking b WHERE b.appointment = c.name)
UNION ALL
SELECT 'the status disagrees with where it stands', c.name
FROM current c JOIN booking b ON b.appointment = c.name
WHERE c.content ->> 'status' <> CASE WHEN b.state IN ('hold', 'awaiting') THEN 'pending' ELSE b.state END
  AND NOT (b.state = 'proposed' AND b.during IS NULL)
UNION ALL
SELECT 'start or end disagrees with what is taken', c.name
FROM current c JOIN live b ON b.appointment = c.name
WHERE (c.content ->> 'start')::timestamptz - lower(b.during) NOT BETWEEN '0' AND '1 microsecond' -- which PostgreSQL rounds to
  OR (c.content ->> 'end')::timestamptz - upper(b.during) NOT BETWEEN '0' AND '1 microsecond'
UNION ALL
SELECT 'where an appointment stands is known, and the appointment is not there', b.appointment
FROM booking b WHERE NOT EXISTS (SELECT FROM current c WHERE c.name = b.appointment)
UNION ALL
SELECT 'the status of a Slot is not the one that is known of it', t.slot
FROM slot_time t LEFT JOIN slots s ON s.name = t.slot WHERE s.content ->> 'status' IS DISTINCT FROM t.status
UNION ALL
SELECT 'whether a Slot is overbooked is not what is known of it', t.slot
FROM slot_time t LEFT JOIN slots s ON s.name = t.slot WHERE coalesce((s.content ->> 'overbooked')::boolean, false) <> coalesce(t.overbooked, false)
UNION ALL
SELECT 'an appointment is booked beyond the capacity of one of its actors and does not say so', b.appointment
FROM live b WHERE upper(b.during) > $1 AND NOT b.overbooked AND EXISTS (
  SELECT FROM allocation a WHERE a.owner = b.appointment AND a.lane >= a.capacity AND a.actor NOT LIKE 'Patient/%')
UNION ALL
SELECT 'a Slot is not known to the schedule', s.name
FROM slots s WHERE s.content ->> 'status' <> 'entered-in-error' AND NOT EXISTS (SELECT FROM slot_time t WHERE t.slot = s.name)
UNION ALL
SELECT 'closed time is open', c.owner
FROM closing c CROSS JOIN LATERAL generate_series(0, c.lanes - 1) AS l(lane)
WHERE upper(c.during) > $1 AND NOT isempty(c.during) AND tstzmultirange(c.during) - coalesce(
  (SELECT range_agg(a.during) FROM allocation a WHERE a.actor = c.actor AND a.lane = l.lane AND a.during && c.during), '{}') <> '{}'
UNION ALL
SELECT 'the status of a Slot is ' || t.status || ' and should be ' || t.due, t.slot
FROM (` + sqlDeriveNow + `true) AS t(slot, schedule, low, high, status, kept, due, overbooked, due_overbooked, service)
JOIN (` + sqlDeriveHeld + `true) AS h(slot, schedule, low, high, status, kept, due, overbooked, due_overbooked, service) USING (slot)
WHERE t.status NOT IN (t.due, h.due) AND t.low > $1
UNION ALL
SELECT CASE WHEN t.overbooked THEN 'a Slot is said to be overbooked and is not' ELSE 'a Slot is overbooked and does not say so' END, t.slot
FROM (` + sqlDeriveNow + `true) AS t(slot, schedule, low, high, status, kept, due, overbooked, due_overbooked, service)
JOIN (` + sqlDeriveHeld + `true) AS h(slot, schedule, low, high, status, kept, due, overbooked, due_overbooked, service) USING (slot)
WHERE t.overbooked NOT IN (t.due_overbooked, h.due_overbooked) AND t.low > $1`

// A hold that has ended keeps its Slot busy until the next tidying, which follows within seconds.
const (
	sqlDeriveNow  = sqlDeriveSlot + `$1` + sqlDeriveTaken
	sqlDeriveHeld = sqlDeriveSlot + `'-infinity'` + sqlDeriveTaken
)

// VerifySchedule compares everything that is written about bookings with everything else, and lists what disagrees, up
// to a number. On a healthy database it finds nothing.
func (s *Store) VerifySchedule(ctx context.Context, most int) ([]Finding, error) {
	var list []Finding
	err := pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SET LOCAL statement_timeout = 0`); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `SELECT problem, resource FROM (`+sqlVerify+`) AS f ORDER BY problem, resource LIMIT $2`, s.options.Now().UTC(), most)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Finding])
		return err
	})
	return list, translate(err)
}
