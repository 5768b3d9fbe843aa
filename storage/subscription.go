package storage

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"kiln/fhir"
	"kiln/fhir/search"
)

// Subscription is what the server knows of one beside its resource.
type Subscription struct {
	ID, Status string
	// Types are those of the resources that it is about.
	Types []string
	// Owner is who asked for it, as JSON.
	Owner  []byte
	Secret string
	// Events and Delivered are the numbers of the newest event, and of the newest that was delivered.
	Events, Delivered int64
	// Called is when the endpoint last answered well, zero for never; Beat how long it may go without a call.
	Called time.Time
	Beat   time.Duration

	looked  HistoryMark
	numbers []int16
}

// SubscriptionEvent is one event: what happened to a resource.
type SubscriptionEvent struct {
	Number int64
	Key
	At time.Time
}

const subscriptionColumns = `id, types, status, owner, secret, looked_time, looked_seq, events, delivered, called, coalesce(extract(epoch FROM beat), 0)::bigint`

func (s *Store) scanSubscription(row pgx.CollectableRow) (*Subscription, error) {
	v := &Subscription{}
	var called *time.Time
	var beat int64
	err := row.Scan(&v.ID, &v.numbers, &v.Status, &v.Owner, &v.Secret, &v.looked.LastUpdated, &v.looked.Seq, &v.Events, &v.Delivered, &called, &beat)
	if err != nil {
		return nil, err
	}
	for _, n := range v.numbers {
		v.Types = append(v.Types, s.Registry().TypeName(n))
	}
	if v.Beat = time.Duration(beat) * time.Second; called != nil {
		v.Called = called.UTC()
	}
	return v, nil
}

const sqlSaveSubscription = `
INSERT INTO subscription (id, types, status, owner, secret, looked_time, beat) VALUES ($1, $2, $3, $4, coalesce($5, ''), $6, make_interval(secs => nullif($7, 0)))
ON CONFLICT (id) DO UPDATE SET types = EXCLUDED.types, status = EXCLUDED.status, owner = EXCLUDED.owner, secret = coalesce($5, subscription.secret), beat = EXCLUDED.beat,
  looked_time = CASE WHEN subscription.status IN ('off', 'requested') OR subscription.types <> EXCLUDED.types THEN EXCLUDED.looked_time ELSE subscription.looked_time END`

// SaveSubscription queues what a client asked for: from the transaction's time on. A nil secret keeps the one there is.
func (tx *Tx) SaveSubscription(v *Subscription, secret *string) {
	tx.exec(sqlSaveSubscription, v.ID, tx.store.numbers(v.Types), v.Status, v.Owner, secret, tx.store.options.Now().UTC().Truncate(time.Millisecond), v.Beat.Seconds())
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
	rows, err := reader{s.pool}.Query(ctx, sqlLiveSubscriptions)
	if err != nil {
		return nil, translate(err)
	}
	list, err := pgx.CollectRows(rows, s.scanSubscription)
	return list, translate(err)
}

// Subscription is one, or nil.
func (s *Store) Subscription(ctx context.Context, id string) (*Subscription, error) {
	rows, err := reader{s.pool}.Query(ctx, sqlSubscription, id)
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
	Key
	Version int
	At      time.Time
}

// Each type has an order of its own in the index: they are read one by one, and merged.
const sqlChangesAfter = `
SELECT c.seq, c.last_updated, c.type, r.id, c.version FROM unnest($1::smallint[]) t, LATERAL (
  SELECT * FROM resource_change c WHERE c.type = t AND (c.last_updated, c.seq) > ($2, $3) AND c.last_updated < $4 ORDER BY c.last_updated, c.seq LIMIT $5) c
JOIN resource r USING (rk) ORDER BY c.last_updated, c.seq LIMIT $5`

const sqlNewChanges = `
SELECT EXISTS (SELECT FROM unnest($1::smallint[]) t WHERE EXISTS (SELECT FROM resource_change c WHERE c.type = t AND (c.last_updated, c.seq) > ($2, $3)))`

// HasChanges says whether there may be changes that a subscription has not been looked at with.
func (s *Store) HasChanges(ctx context.Context, v *Subscription) (has bool, err error) {
	err = s.pool.QueryRow(ctx, sqlNewChanges, v.numbers, v.looked.LastUpdated, v.looked.Seq).Scan(&has)
	return has, translate(err)
}

const sqlTransitions = `
WITH asked AS (SELECT * FROM unnest($1::bigint[], $2::integer[]) AS u(rk, version))
SELECT r.type, r.id, r.version, r.last_updated, r.method, r.content, r.literal, r.compartments FROM asked a JOIN resource r ON r.rk = a.rk AND r.version = a.version
UNION ALL
SELECT r.type, r.id, h.version, h.last_updated, h.method, h.content, h.literal, h.compartments
FROM asked a JOIN resource_history h ON h.rk = a.rk AND h.version = a.version JOIN resource r ON r.rk = a.rk`

// Transitions reads what changes made of what: for each the version that it made, and the one before. Each is nil where
// there is none.
func (tx *Tx) Transitions(ctx context.Context, changes []Change) (before, after []*Version, err error) {
	type number struct {
		Key
		version int
	}
	found := map[number]*Version{}
	rks, versions := make([]int64, 0, 2*len(changes)), make([]int, 0, 2*len(changes))
	for _, c := range changes {
		for _, v := range []int{c.Version - 1, c.Version} {
			if n := (number{c.Key, v}); v > 0 {
				if _, asked := found[n]; !asked {
					found[n] = nil
					rks, versions = append(rks, tx.store.hash.Resource(c.Type, c.ID)), append(versions, v)
				}
			}
		}
	}
	err = tx.query(ctx, func(rows pgx.Rows) error {
		for rows.Next() {
			v, err := scanVersion(rows)
			if err != nil {
				return err
			}
			found[number{Key{v.Type, v.ID}, v.Number}] = v
		}
		return rows.Err()
	}, sqlTransitions, rks, versions)
	before, after = make([]*Version, len(changes)), make([]*Version, len(changes))
	for i, c := range changes {
		before[i], after[i] = found[number{c.Key, c.Version - 1}], found[number{c.Key, c.Version}]
	}
	return before, after, err
}

// Fits says whether a resource matches conditions, in a version that need not be a current one. They are on tokens, references
// and uris, and have no modifier, as those of scopes.
func (s *Store) Fits(n *fhir.Node, where []*search.Match) (bool, error) {
	ix := s.indexer.Load()
	row, err := ix.row(n)
	if err != nil {
		return false, err
	}
	for _, m := range where {
		if ok, err := ix.rowMatches(row, m); err != nil || !ok {
			return false, err
		}
	}
	return true, nil
}

// Settled is the time up to which the history is settled: no change can appear any more that is as old.
func (s *Store) Settled(ctx context.Context) (time.Time, error) {
	t, err := s.settle(ctx)
	return t, translate(err)
}

// Changes lists the next settled changes of the types of a locked subscription, oldest first, and notes that it has been
// looked at with them.
func (tx *Tx) Changes(ctx context.Context, v *Subscription, settled time.Time, limit int) (list []Change, err error) {
	mark := v.looked
	err = tx.system(ctx, func(rows pgx.Rows) error {
		for rows.Next() {
			var c Change
			var number int16
			if err := rows.Scan(&mark.Seq, &mark.LastUpdated, &number, &c.ID, &c.Version); err != nil {
				return err
			}
			c.Type, c.At = tx.store.Registry().TypeName(number), mark.LastUpdated.UTC()
			list = append(list, c)
		}
		return rows.Err()
	}, sqlChangesAfter, v.numbers, v.looked.LastUpdated, v.looked.Seq, settled.Add(time.Millisecond), limit)
	if len(list) > 0 {
		tx.exec(`UPDATE subscription SET looked_time = $2, looked_seq = $3 WHERE id = $1`, v.ID, mark.LastUpdated, mark.Seq)
	}
	return list, err
}

const sqlAddEvents = `
WITH event AS (INSERT INTO subscription_event (subscription, number, type, id, at)
  SELECT $1, $2 + n, type, id, at FROM unnest($3::text[], $4::timestamptz[], $6::smallint[]) WITH ORDINALITY AS u(id, at, type, n)),
old AS (DELETE FROM subscription_event WHERE subscription = $1 AND number <= $5)
UPDATE subscription SET events = $2 + cardinality($3::text[]) WHERE id = $1`

// keepEvents is how many events of a subscription can be asked for again.
const keepEvents = 1000

// AddEvents queues events of a locked subscription, and forgets old ones that were delivered.
func (tx *Tx) AddEvents(v *Subscription, events []Change) {
	ids, times, types := make([]string, len(events)), make([]time.Time, len(events)), make([]int16, len(events))
	for i, e := range events {
		ids[i], times[i], types[i] = e.ID, e.At, tx.store.Registry().TypeNumber(e.Type)
	}
	tx.exec(sqlAddEvents, v.ID, v.Events, ids, times, min(v.Delivered, v.Events-keepEvents), types)
}

const sqlEvents = `SELECT number, type, id, at FROM subscription_event WHERE subscription = $1 AND number >= $2 AND number <= $3 ORDER BY number LIMIT $4`

// SubscriptionEvents lists events by their numbers, oldest first.
func (s *Store) SubscriptionEvents(ctx context.Context, id string, from, to int64, limit int) ([]SubscriptionEvent, error) {
	rows, err := reader{s.pool}.Query(ctx, sqlEvents, id, from, to, limit)
	if err != nil {
		return nil, translate(err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e SubscriptionEvent, err error) {
		var number int16
		err = row.Scan(&e.Number, &number, &e.ID, &e.At)
		e.Type = s.Registry().TypeName(number)
		return e, err
	})
	return list, translate(err)
}

const sqlDelivered = `UPDATE subscription SET delivered = greatest(delivered, $2), called = $3 WHERE id = $1`

// Delivered notes that the endpoint has taken everything up to an event.
func (s *Store) Delivered(ctx context.Context, id string, number int64) error {
	_, err := s.pool.Exec(ctx, sqlDelivered, id, number, s.options.Now().UTC())
	return translate(err)
}
