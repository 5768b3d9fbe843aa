package storage

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// Subscription is what the server knows of one beside its resource.
type Subscription struct {
	ID, Type, Status string
	// Owner is who asked for it, as JSON.
	Owner  []byte
	Secret string
	// Events and Delivered are the numbers of the newest event, and of the newest that was delivered.
	Events, Delivered int64
	// Called is when the endpoint last answered well, zero for never; Beat how long it may go without a call.
	Called time.Time
	Beat   time.Duration

	looked HistoryMark
	number int16
}

// SubscriptionEvent is one event: a resource came to match, or changed and matches.
type SubscriptionEvent struct {
	Number int64
	ID     string
	At     time.Time
}

const subscriptionColumns = `id, type, status, owner, secret, looked_time, looked_seq, events, delivered, called, coalesce(extract(epoch FROM beat), 0)::bigint`

func (s *Store) scanSubscription(row pgx.CollectableRow) (*Subscription, error) {
	v := &Subscription{}
	var called *time.Time
	var beat int64
	err := row.Scan(&v.ID, &v.number, &v.Status, &v.Owner, &v.Secret, &v.looked.LastUpdated, &v.looked.Seq, &v.Events, &v.Delivered, &called, &beat)
	if err != nil {
		return nil, err
	}
	v.Type = s.Registry().TypeName(v.number)
	if v.Beat = time.Duration(beat) * time.Second; called != nil {
		v.Called = called.UTC()
	}
	return v, nil
}

const sqlSaveSubscription = `
INSERT INTO subscription (id, type, status, owner, secret, looked_time, beat) VALUES ($1, $2, $3, $4, coalesce($5, ''), $6, make_interval(secs => nullif($7, 0)))
ON CONFLICT (id) DO UPDATE SET type = EXCLUDED.type, status = EXCLUDED.status, owner = EXCLUDED.owner, secret = coalesce($5, subscription.secret), beat = EXCLUDED.beat,
  looked_time = CASE WHEN subscription.status IN ('off', 'requested') OR subscription.type <> EXCLUDED.type THEN EXCLUDED.looked_time ELSE subscription.looked_time END`

// SaveSubscription queues what a client asked for: from the transaction's time on. A nil secret keeps the one there is.
func (tx *Tx) SaveSubscription(v *Subscription, secret *string) {
	tx.exec(sqlSaveSubscription, v.ID, tx.store.Registry().TypeNumber(v.Type), v.Status, v.Owner, secret, tx.store.options.Now().UTC().Truncate(time.Millisecond), v.Beat.Seconds())
}

const sqlDropSubscription = `DELETE FROM subscription WHERE id = $1`

// DropSubscription queues that one is gone, with its events.
func (tx *Tx) DropSubscription(id string) { tx.exec(sqlDropSubscription, id) }

const sqlSubscriptionStatus = `UPDATE subscription SET status = $2 WHERE id = $1`

// SetSubscriptionStatus queues a status.
func (tx *Tx) SetSubscriptionStatus(id, status string) { tx.exec(sqlSubscriptionStatus, id, status) }

const (
	sqlLiveSubscriptions = `SELECT ` + subscriptionColumns + ` FROM subscription WHERE status <> 'off' ORDER BY id`
	sqlSubscription      = `SELECT ` + subscriptionColumns + ` FROM subscription WHERE id = $1`
	sqlLockSubscription  = sqlSubscription + ` FOR UPDATE SKIP LOCKED`
	sqlCountLive         = `SELECT count(*) FROM subscription WHERE status <> 'off' AND id <> $1`
)

// Subscriptions lists those that are not off.
func (s *Store) Subscriptions(ctx context.Context) ([]*Subscription, error) {
	rows, err := s.pool.Query(ctx, sqlLiveSubscriptions)
	if err != nil {
		return nil, translate(err)
	}
	list, err := pgx.CollectRows(rows, s.scanSubscription)
	return list, translate(err)
}

// Subscription is one, or nil.
func (s *Store) Subscription(ctx context.Context, id string) (*Subscription, error) {
	rows, err := s.pool.Query(ctx, sqlSubscription, id)
	if err != nil {
		return nil, translate(err)
	}
	list, err := pgx.CollectRows(rows, s.scanSubscription)
	if err != nil || len(list) == 0 {
		return nil, translate(err)
	}
	return list[0], nil
}

// OtherSubscriptions counts those that are not off, one left out.
func (tx *Tx) OtherSubscriptions(ctx context.Context, id string) (n int, err error) {
	err = tx.system(ctx, func(rows pgx.Rows) (err error) {
		n, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[int])
		return err
	}, sqlCountLive, id)
	return n, err
}

// LockSubscription is one, locked until the transaction ends, or nil where it is gone or somebody else works on it.
func (tx *Tx) LockSubscription(ctx context.Context, id string) (found *Subscription, err error) {
	err = tx.system(ctx, func(rows pgx.Rows) error {
		list, err := pgx.CollectRows(rows, tx.store.scanSubscription)
		if len(list) > 0 {
			found = list[0]
		}
		return err
	}, sqlLockSubscription, id)
	return found, err
}

// Change is a version that was made of a resource.
type Change struct {
	ID string
	At time.Time
}

const sqlChangesAfter = `
SELECT c.seq, c.last_updated, r.id FROM resource_change c JOIN resource r USING (rk)
WHERE c.type = $1::bigint AND (c.last_updated, c.seq) > ($2, $3) AND c.last_updated < $4
ORDER BY c.last_updated, c.seq LIMIT $5`

const sqlNewChanges = `
SELECT EXISTS (SELECT FROM resource_change c WHERE c.type = $1::bigint AND (c.last_updated, c.seq) > ($2, $3))`

// HasChanges says whether there may be changes that a subscription has not been looked at with.
func (s *Store) HasChanges(ctx context.Context, v *Subscription) (has bool, err error) {
	err = s.pool.QueryRow(ctx, sqlNewChanges, int64(v.number), v.looked.LastUpdated, v.looked.Seq).Scan(&has)
	return has, translate(err)
}

// Settled is the time up to which the history is settled: no change can appear any more that is as old.
func (s *Store) Settled(ctx context.Context) (time.Time, error) {
	t, err := s.settle(ctx)
	return t, translate(err)
}

// Changes lists the next settled changes of the type of a locked subscription, oldest first, and notes that it has been
// looked at with them.
func (tx *Tx) Changes(ctx context.Context, v *Subscription, settled time.Time, limit int) (list []Change, err error) {
	mark := v.looked
	err = tx.system(ctx, func(rows pgx.Rows) error {
		for rows.Next() {
			var c Change
			if err := rows.Scan(&mark.Seq, &mark.LastUpdated, &c.ID); err != nil {
				return err
			}
			c.At = mark.LastUpdated.UTC()
			list = append(list, c)
		}
		return rows.Err()
	}, sqlChangesAfter, int64(v.number), v.looked.LastUpdated, v.looked.Seq, settled.Add(time.Millisecond), limit)
	if len(list) > 0 {
		tx.exec(`UPDATE subscription SET looked_time = $2, looked_seq = $3 WHERE id = $1`, v.ID, mark.LastUpdated, mark.Seq)
	}
	return list, err
}

const sqlAddEvents = `
WITH event AS (INSERT INTO subscription_event (subscription, number, id, at)
  SELECT $1, $2 + n, id, at FROM unnest($3::text[], $4::timestamptz[]) WITH ORDINALITY AS u(id, at, n)),
old AS (DELETE FROM subscription_event WHERE subscription = $1 AND number <= $5)
UPDATE subscription SET events = $2 + cardinality($3::text[]) WHERE id = $1`

// keepEvents is how many events of a subscription can be asked for again.
const keepEvents = 1000

// AddEvents queues events of a locked subscription, and forgets old ones that were delivered.
func (tx *Tx) AddEvents(v *Subscription, events []Change) {
	ids, times := make([]string, len(events)), make([]time.Time, len(events))
	for i, e := range events {
		ids[i], times[i] = e.ID, e.At
	}
	tx.exec(sqlAddEvents, v.ID, v.Events, ids, times, min(v.Delivered, v.Events-keepEvents))
}

const sqlEvents = `SELECT number, id, at FROM subscription_event WHERE subscription = $1 AND number >= $2 AND number <= $3 ORDER BY number LIMIT $4`

// SubscriptionEvents lists events by their numbers, oldest first.
func (s *Store) SubscriptionEvents(ctx context.Context, id string, from, to int64, limit int) ([]SubscriptionEvent, error) {
	rows, err := s.pool.Query(ctx, sqlEvents, id, from, to, limit)
	if err != nil {
		return nil, translate(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[SubscriptionEvent])
	return list, translate(err)
}

const sqlDelivered = `UPDATE subscription SET delivered = greatest(delivered, $2), called = $3 WHERE id = $1`

// Delivered notes that the endpoint has taken everything up to an event.
func (s *Store) Delivered(ctx context.Context, id string, number int64) error {
	_, err := s.pool.Exec(ctx, sqlDelivered, id, number, s.options.Now().UTC())
	return translate(err)
}
