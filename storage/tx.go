package storage

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Tx is one transaction. Writes are queued and go out together, so that a create is one round trip; a read inside
// sends what is queued before it. A Tx is not safe for concurrent use and holds exactly one connection.
type Tx struct {
	store *Store
	conn  *pgxpool.Conn
	queue pgx.Batch
	begun bool
	// Now is the time of the transaction: the lastUpdated of what it writes.
	Now time.Time
	// newShapes are remembered by the process once the transaction has committed.
	newShapes []int64
	// checked says that the generation of the index rows is being checked; parameters that search parameters changed.
	checked, parameters bool
}

const (
	maxAttempts = 5
	retryBase   = 5 * time.Millisecond
)

// Write runs work in a transaction, READ COMMITTED, and commits. When the transaction meets a conflict with another
// one, work runs again from its start, with a fresh Tx: it must keep nothing from a failed try. What does not work
// after several tries is fhir.Transient.
func (s *Store) Write(ctx context.Context, work func(*Tx) error) error {
	var err error
	for attempt := range maxAttempts {
		if attempt > 0 {
			wait := time.Duration(rand.Int64N(int64(retryBase << attempt)))
			select {
			case <-ctx.Done():
				return translate(ctx.Err())
			case <-time.After(wait):
			}
		}
		err = s.try(ctx, work)
		if outdated(err) {
			if refresh := s.RefreshParameters(ctx); refresh != nil {
				return refresh
			}
			continue
		}
		if err == nil || !retryable(err) {
			break
		}
	}
	if retryable(err) || outdated(err) {
		return transient("Others are writing the same resources at the same time; try again.", err)
	}
	return translate(err)
}

func (s *Store) try(ctx context.Context, work func(*Tx) error) (err error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	tx := &Tx{store: s, conn: conn, Now: s.options.Now().UTC().Truncate(time.Millisecond)}
	committed := false
	defer func() {
		if !committed && tx.begun {
			// The caller's context may be over; the rollback must not be.
			end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			if _, rollback := conn.Exec(end, "ROLLBACK"); rollback != nil {
				conn.Conn().Close(end)
			}
			cancel()
		}
		conn.Release()
	}()
	if err := work(tx); err != nil {
		return err
	}
	if err := tx.commit(ctx); err != nil {
		return err
	}
	committed = true
	s.shapes.remember(tx.newShapes)
	if tx.parameters {
		// What fails here, the watch makes up for.
		_ = s.RefreshParameters(context.WithoutCancel(ctx))
	}
	return nil
}

// commit sends what is queued. Without an earlier read the whole transaction is one implicit transaction: the
// statements of one pipeline up to its Sync commit together or not at all.
func (tx *Tx) commit(ctx context.Context) error {
	if tx.begun {
		tx.queue.Queue("COMMIT")
	}
	if tx.queue.Len() == 0 {
		return nil
	}
	return tx.flush(ctx)
}

// flush sends the queue and waits for all its answers.
func (tx *Tx) flush(ctx context.Context) error {
	if tx.queue.Len() == 0 {
		return nil
	}
	batch := tx.queue
	tx.queue = pgx.Batch{}
	return tx.conn.SendBatch(ctx, &batch).Close()
}

// begin makes sure that an explicit transaction is open before what is queued next.
func (tx *Tx) begin() {
	if !tx.begun {
		queued := tx.queue.QueuedQueries
		tx.queue = pgx.Batch{}
		tx.queue.Queue("BEGIN")
		tx.queue.QueuedQueries = append(tx.queue.QueuedQueries, queued...)
		tx.begun = true
	}
}

// query runs a statement that answers with rows, after everything queued, in one round trip.
func (tx *Tx) query(ctx context.Context, read func(pgx.Rows) error, sql string, args ...any) error {
	tx.begin()
	tx.queue.Queue(sql, args...).Query(read)
	return tx.flush(ctx)
}

// exec queues a statement.
func (tx *Tx) exec(sql string, args ...any) { tx.queue.Queue(sql, args...) }

// Flush sends what is queued, within the transaction. Work with many writes calls it now and then, to bound the memory
// that the queue takes.
func (tx *Tx) Flush(ctx context.Context) error {
	tx.begin()
	return tx.flush(ctx)
}

// Pending is the number of statements queued.
func (tx *Tx) Pending() int { return tx.queue.Len() }
