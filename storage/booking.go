package storage

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// Booking is where an appointment stands.
type Booking struct {
	// Appointment is a relative reference, "Appointment/1".
	Appointment string
	State       string
	// Start and End are zero where the appointment has no time.
	Start, End time.Time
	// Due is when a hold ends, or until when an answer is awaited; zero for never.
	Due     time.Time
	Moves   int
	Patient string
	// Slots are those that it was booked by, Actors whose time it takes.
	Slots, Actors []string
	// Zone and LocalStart are the wall time of the visit.
	Zone, LocalStart string
	// Overbooked says that it takes time of an actor beside as many others as that actor usually serves.
	Overbooked bool
	// Replaces is the appointment that is cancelled when this one, which comes from the waitlist, is booked; or "".
	Replaces string
}

const bookingColumns = `appointment, state, lower(during), upper(during), due, moves, coalesce(patient, ''), slots, actors, coalesce(zone, ''), coalesce(local_start, ''), overbooked, coalesce(replaces, '')`

func scanBooking(row pgx.CollectableRow) (*Booking, error) {
	b := &Booking{}
	var start, end, due *time.Time
	if err := row.Scan(&b.Appointment, &b.State, &start, &end, &due, &b.Moves, &b.Patient, &b.Slots, &b.Actors, &b.Zone, &b.LocalStart, &b.Overbooked, &b.Replaces); err != nil {
		return nil, err
	}
	for to, from := range map[*time.Time]*time.Time{&b.Start: start, &b.End: end, &b.Due: due} {
		if from != nil {
			*to = from.UTC()
		}
	}
	return b, nil
}

const sqlBooking = `SELECT ` + bookingColumns + ` FROM booking WHERE appointment = $1`

// Booking is where an appointment stands, or nil. The appointment's lock protects it.
func (tx *Tx) Booking(ctx context.Context, appointment string) (*Booking, error) {
	var list []*Booking
	err := tx.system(ctx, func(rows pgx.Rows) (err error) {
		list, err = pgx.CollectRows(rows, scanBooking)
		return err
	}, sqlBooking, appointment)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return list[0], nil
}

const sqlSaveBooking = `
INSERT INTO booking (appointment, state, during, due, moves, patient, slots, actors, zone, local_start, overbooked, replaces)
VALUES ($1, $2, CASE WHEN $3::timestamptz IS NOT NULL THEN tstzrange($3, $4) END, $5, $6, nullif($7, ''), $8, $9, nullif($10, ''), nullif($11, ''), $12, nullif($13, ''))
ON CONFLICT (appointment) DO UPDATE SET state = EXCLUDED.state, during = EXCLUDED.during, due = EXCLUDED.due, moves = EXCLUDED.moves,
  patient = EXCLUDED.patient, slots = EXCLUDED.slots, actors = EXCLUDED.actors, zone = EXCLUDED.zone, local_start = EXCLUDED.local_start,
  overbooked = EXCLUDED.overbooked, replaces = EXCLUDED.replaces`

// SaveBooking queues where an appointment stands from now on.
func (tx *Tx) SaveBooking(b *Booking) {
	optional := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		return &t
	}
	list := func(l []string) []string {
		if l == nil {
			return []string{}
		}
		return l
	}
	tx.exec(sqlSaveBooking, b.Appointment, b.State, optional(b.Start), optional(b.End), optional(b.Due), b.Moves, b.Patient,
		list(b.Slots), list(b.Actors), b.Zone, b.LocalStart, b.Overbooked, b.Replaces)
}

const sqlLeavesVisits = `
SELECT EXISTS (SELECT FROM allocation a JOIN booking b ON b.appointment = a.owner
  WHERE a.actor = ANY($2) AND a.during && tstzrange($4, NULL) AND (a.expires IS NULL OR a.expires > $4)
    AND b.slots && ARRAY(SELECT slot FROM slot_time WHERE schedule = $1 AND during && tstzrange($4, NULL))
    AND NOT EXISTS (SELECT FROM allocation o WHERE o.owner = a.owner AND o.actor = ANY($3)))`

// LeavesVisits says whether visits that are still to come were booked by Slots of a Schedule and take time of those who leave it,
// and of none of those who are its actors from now on.
func (tx *Tx) LeavesVisits(ctx context.Context, schedule string, leave, actors []string) (leaves bool, err error) {
	err = tx.system(ctx, func(rows pgx.Rows) (err error) {
		leaves, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[bool])
		return err
	}, sqlLeavesVisits, schedule, leave, actors, tx.store.options.Now().UTC())
	return leaves, err
}

const sqlDropBooking = `DELETE FROM booking WHERE appointment = $1`

// DropBooking queues that an appointment is gone.
func (tx *Tx) DropBooking(appointment string) { tx.exec(sqlDropBooking, appointment) }

const sqlDue = `SELECT ` + bookingColumns + ` FROM booking WHERE due <= $1 ORDER BY due LIMIT $2`

// DueBookings lists appointments whose hold or awaited answer has run out, the oldest first.
func (s *Store) DueBookings(ctx context.Context, limit int) ([]*Booking, error) {
	rows, err := s.pool.Query(ctx, sqlDue, s.options.Now().UTC(), limit)
	if err != nil {
		return nil, translate(err)
	}
	list, err := pgx.CollectRows(rows, scanBooking)
	return list, translate(err)
}

const sqlWaiting = `SELECT ` + bookingColumns + ` FROM booking WHERE state = 'waitlist' ORDER BY appointment LIMIT $1`

// Waiting lists appointments on the waitlist, those first that have waited longest: ids follow the time of their making.
func (s *Store) Waiting(ctx context.Context, limit int) ([]*Booking, error) {
	rows, err := s.pool.Query(ctx, sqlWaiting, limit)
	if err != nil {
		return nil, translate(err)
	}
	list, err := pgx.CollectRows(rows, scanBooking)
	return list, translate(err)
}

const sqlLiveHolds = `
SELECT count(*) FROM booking WHERE patient = $1 AND state = 'hold' AND due > $2 AND appointment <> $3`

// LiveHolds counts the holds of a patient that have not ended, one appointment left out.
func (tx *Tx) LiveHolds(ctx context.Context, patient, except string) (n int, err error) {
	err = tx.system(ctx, func(rows pgx.Rows) (err error) {
		n, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[int])
		return err
	}, sqlLiveHolds, patient, tx.store.options.Now().UTC(), except)
	return n, err
}

const sqlLockText = `SELECT pg_advisory_xact_lock(7262, h) FROM (SELECT DISTINCT hashtext(t) AS h FROM unnest($1::text[]) AS t ORDER BY 1) AS u`

// LockNames makes transactions that name the same things run one after the other from here on.
func (tx *Tx) LockNames(ctx context.Context, names ...string) error {
	return tx.system(ctx, func(rows pgx.Rows) error {
		for rows.Next() {
		}
		return rows.Err()
	}, sqlLockText, names)
}

const sqlBookingsIn = `
SELECT ` + bookingColumns + ` FROM booking WHERE appointment IN (
  SELECT owner FROM allocation WHERE actor = ANY($1) AND during && tstzrange($2, $3) AND kind IN ('hold', 'busy'))
AND state NOT IN ('hold') ORDER BY lower(during)`

// BookingsIn lists the appointments, holds left out, that take the time of actors within a time.
func (tx *Tx) BookingsIn(ctx context.Context, actors []string, start, end time.Time) (list []*Booking, err error) {
	err = tx.system(ctx, func(rows pgx.Rows) (err error) {
		list, err = pgx.CollectRows(rows, scanBooking)
		return err
	}, sqlBookingsIn, actors, start, end)
	return list, err
}

const sqlUpcoming = `
SELECT ` + bookingColumns + ` FROM booking
WHERE state IN ('awaiting', 'booked') AND lower(during) > $1 AND appointment > $2 ORDER BY appointment LIMIT $3`

// Upcoming lists appointments that are still to come and take time, holds left out, by their references after one.
func (tx *Tx) Upcoming(ctx context.Context, after string, limit int) (list []*Booking, err error) {
	err = tx.system(ctx, func(rows pgx.Rows) (err error) {
		list, err = pgx.CollectRows(rows, scanBooking)
		return err
	}, sqlUpcoming, tx.store.options.Now().UTC(), after, limit)
	return list, err
}

const sqlNamed = `SELECT rk, type, id FROM resource WHERE rk = ANY($1) AND content IS NOT NULL`

// Number is the number that stands for a resource in short ids.
func (s *Store) Number(k Key) int64 { return s.hash.Resource(k.Type, k.ID) }

// Named are the resources that numbers stand for.
func (s *Store) Named(ctx context.Context, numbers ...int64) (map[int64]Key, error) {
	rows, err := reader{s.pool}.Query(ctx, sqlNamed, numbers)
	if err != nil {
		return nil, translate(err)
	}
	found := map[int64]Key{}
	var number int64
	var k Key
	_, err = pgx.ForEachRow(rows, []any{&number, &k.Type, &k.ID}, func() error {
		found[number] = k
		return nil
	})
	return found, translate(err)
}

// Sign is a keyed hash of some bytes: nobody else can make it.
func (s *Store) Sign(data []byte) int64 { return s.hash.Term(0, 'j', string(data), "") }

// Now is the time by which holds are judged.
func (tx *Tx) Now() time.Time { return tx.store.options.Now().UTC() }

const sqlUnreminded = `
SELECT ` + bookingColumns + ` FROM booking b WHERE state = 'booked' AND during && tstzrange($1, $2) AND lower(during) >= $1
AND NOT EXISTS (SELECT FROM river_job j WHERE j.args @> jsonb_build_object('subject', b.appointment, 'event', 'reminder'))
ORDER BY lower(during) LIMIT $3`

// Unreminded lists booked visits that begin within a time and that no reminder was ever planned for, as those that an
// import brought, the next first.
func (s *Store) Unreminded(ctx context.Context, from, to time.Time, limit int) ([]*Booking, error) {
	rows, err := s.pool.Query(ctx, sqlUnreminded, from, to, limit)
	if err != nil {
		return nil, translate(err)
	}
	list, err := pgx.CollectRows(rows, scanBooking)
	return list, translate(err)
}
