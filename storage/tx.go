package storage

import (
	"context"
	"errors"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Tx is one transaction. Writes are queued and go out together, so that a create is one round trip; a read inside
// sends what is queued before it. A Tx is not safe for concurrent use and holds exactly one connection.
type Tx struct {
	store *Store
	conn  *pgxpool.Conn
	queue pgx.Batch
	begun bool
	// steady makes all statements see the database as it was at the first one. Such a transaction cannot write.
	steady bool
	// now is the lastUpdated of what the transaction writes, zero until it writes something or has announced it ahead.
	now time.Time
	// ahead says that the moment was announced before the work: see announceAhead.
	ahead bool
	// newShapes and newSortTexts are remembered by the process once the transaction has committed.
	newShapes    []int64
	newSortTexts map[int64]bool
	// parameters says that search parameters changed.
	parameters bool

	// guarded says that the connection is one of those on which callers read: it begins in the role that may read the views
	// alone (elevated: it has left that role, to write). declared is whose settings hold.
	guarded, elevated bool
	// unveiled says that plain names are those of the tables, not of the views.
	unveiled bool
	declared *Access
	// unconfirmed says that what this transaction writes confirms no relationship.
	unconfirmed bool
	// brought are row keys of what this transaction makes, sooner or later: see Brings.
	brought []int64
	// touched is whose time, and when, was taken or given back: see Touched.
	touched []Span
	// released are those given back, for Heal.
	released []Span
	// touchedSlots are Slots to look at by name.
	touchedSlots []string
	// fenced says that the fence of somebody's time was queued: see Fence.
	fenced bool
	// releasing says that Release was queued.
	releasing bool
	// kin are references to look at before the end.
	kin kinship
	// notes are what the work has left for its end: see Note.
	notes []any
	// unlisted says that what this transaction writes is in no history of a type or of the system: AuditEvents.
	unlisted bool
	// written are the versions of which a Provenance has to tell, testified the resources that a Provenance of the transaction
	// itself tells of, reasons why some are written: see Written.
	written   []writtenVersion
	testified map[string]bool
	reasons   map[string]string
	// lenders are what was written and lends something else than before: see relend.
	lenders []int64
}

// finishGrace is how long the end of a transaction may take beyond the longest statement. Whoever asked for the
// work may be gone by then; breaking it off would only leave open whether it was done.
const finishGrace = 5 * time.Second

// Write runs work in a transaction, READ COMMITTED, and commits. When the transaction meets a conflict with another
// one, or its connection breaks before the commit, work runs again from its start, with a fresh Tx: it must keep nothing from a
// failed try. What does not work after several tries is fhir.Transient.
func (s *Store) Write(ctx context.Context, work func(*Tx) error) error {
	return s.transact(ctx, false, work)
}

func (s *Store) transact(ctx context.Context, steady bool, work func(*Tx) error) error {
	overtaken := 0 // how often histories were shown up to a later time than the work's
	for tries := (attempts{}); ; {
		changed, err := s.try(ctx, steady, overtaken > 1, work)
		if changed || outdated(err) {
			// Without a connection in hand, since it takes one. What fails after a commit, the watch makes up for.
			if refresh := s.RefreshParameters(context.WithoutCancel(ctx)); refresh != nil && err != nil {
				return refresh
			}
		}
		late := shown(err) // this server's clock is behind what another one's history has shown
		if late {
			overtaken++
			if err := s.refreshShown(ctx); err != nil {
				return translate(err)
			}
		}
		var broken *brokenError
		switch {
		case errors.As(err, &broken) && tries.afterDead(ctx, broken.pool):
		case conflict(err) && tries.afterConflict(ctx, late): // while it waited, more would be shown
		case conflict(err) && ctx.Err() != nil:
			return translate(ctx.Err())
		case conflict(err):
			return transient("Others are writing the same resources at the same time; try again.", err)
		default:
			return translate(err)
		}
	}
}

// brokenError is why a transaction failed whose connection broke before its commit, so that nothing of it was stored.
type brokenError struct {
	error
	pool *pgxpool.Pool
}

func (b *brokenError) Unwrap() error { return b.error }

// try runs work once. changed says that it committed and that the search parameters are others now. ahead is for work that was
// overtaken: its moment is announced before it.
func (s *Store) try(ctx context.Context, steady, ahead bool, work func(*Tx) error) (changed bool, err error) {
	access, err := s.access(ctx)
	if err != nil {
		return false, err
	}
	pool := s.pool
	if !access.everything {
		pool = s.guarded
	}
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return false, err
	}
	tx := &Tx{store: s, conn: conn, steady: steady, guarded: !access.everything, unconfirmed: access.practitioner}
	committed := false
	defer func() {
		if !committed && tx.begun {
			// The caller's context may be over; the rollback must not be.
			end, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishGrace)
			if _, rollback := conn.Exec(end, "ROLLBACK"); rollback != nil {
				conn.Conn().Close(end)
			}
			cancel()
		}
		conn.Release()
	}()
	if ahead {
		err = tx.announceAhead(ctx)
	}
	if err == nil {
		err = work(tx)
	}
	if err != nil {
		if conn.Conn().IsClosed() {
			err = &brokenError{err, pool}
		}
		return false, err
	}
	if err := ctx.Err(); err != nil {
		return false, err // nobody waits for it any more
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.options.StatementTimeout+finishGrace)
	defer cancel()
	if s.options.Rehearse {
		return false, tx.rehearse(end)
	}
	if err := tx.commit(end); err != nil {
		if pgconn.SafeToRetry(err) {
			err = &brokenError{err, pool}
		}
		return false, err
	}
	committed = true
	s.shapes.remember(tx.newShapes)
	s.sortTexts.remember(slices.Collect(maps.Keys(tx.newSortTexts)))
	return tx.parameters, nil
}

// announce says to the database that versions are going to be written, and from which moment on. Work that first
// looks for a long time so keeps histories waiting for the writing only.
func (tx *Tx) announce(generation int32) {
	switch {
	case tx.now.IsZero():
		tx.stampNow()
		tx.exec(sqlBeginWrite, generation, tx.now.UnixMilli())
	case tx.ahead: // of whatever generation
		tx.ahead = false
		tx.exec(sqlCheckGeneration, generation)
	}
}

// announceAhead announces the moment from which on versions are going to be written before anything is done, and takes for it,
// in the same statement, what has been shown by then. Where histories are asked for all the time, a server whose clock is behind,
// or one that is slow, is overtaken again and again between learning what has been shown and announcing its own time; from here on
// histories wait for it.
func (tx *Tx) announceAhead(ctx context.Context) error {
	tx.stampNow()
	var moment int64
	err := tx.system(ctx, func(rows pgx.Rows) error {
		_, err := pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (any, error) { return nil, row.Scan(&moment, nil) })
		return err
	}, sqlBeginWriteAhead, int32(math.MaxInt32), tx.now.UnixMilli())
	tx.now, tx.ahead = time.UnixMilli(moment).UTC(), true
	return err
}

const (
	sqlBeginWrite      = `SELECT begin_write($1, $2)`
	sqlBeginWriteAhead = `SELECT m, begin_write($1, m) FROM (SELECT greatest($2, last_value) AS m FROM public.history_shown) s`
)

// stampNow sets the time of what the transaction writes: not before what histories have shown, as far as this server
// knows.
func (tx *Tx) stampNow() {
	tx.now = tx.store.options.Now().UTC().Truncate(time.Millisecond)
	if shown := time.UnixMilli(tx.store.shown.Load()).UTC(); tx.now.Before(shown) {
		tx.now = shown
	}
}

// commit sends what is queued. Without an earlier read the whole transaction is one implicit transaction: the
// statements of one pipeline up to its Sync commit together or not at all.
func (tx *Tx) commit(ctx context.Context) error {
	if err := tx.relend(ctx); err != nil {
		return err
	}
	if err := tx.queueKin(); err != nil {
		return err
	}
	if tx.begun {
		tx.queue.Queue("COMMIT").Exec(func(tag pgconn.CommandTag) error {
			if tag.String() != "COMMIT" { // PostgreSQL answers so, without an error, when a statement had failed
				return errors.New("storage: the transaction was rolled back instead of committed")
			}
			return nil
		})
	}
	if tx.queue.Len() == 0 {
		return nil
	}
	err := tx.astray(tx.flush(ctx))
	var refused *pgconn.PgError
	if err != nil && !pgconn.SafeToRetry(err) && (dead(err) || !errors.As(err, &refused)) { // a session may also be ended once it has committed
		return uncertain(err)
	}
	return err
}

// rehearse does all that commit would find out; the transaction is then rolled back.
func (tx *Tx) rehearse(ctx context.Context) error {
	if err := tx.relend(ctx); err != nil {
		return err
	}
	if err := tx.queueKin(); err != nil {
		return err
	}
	if !tx.begun && tx.queue.Len() == 0 {
		return nil
	}
	tx.begin()
	tx.exec("SET CONSTRAINTS ALL IMMEDIATE")
	return tx.astray(tx.flush(ctx))
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
		begin := "BEGIN"
		switch {
		case tx.steady:
			begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
		case tx.store.options.Rehearse:
			begin = "BEGIN READ WRITE"
		}
		tx.queue.Queue(begin)
		tx.queue.QueuedQueries = append(tx.queue.QueuedQueries, queued...)
		tx.begun = true
	}
}

const (
	sqlRole   = `SELECT set_config('role', 'kiln_access', true)`
	sqlNoRole = `SELECT set_config('role', 'none', true)`
	sqlTables = `SELECT set_config('search_path', 'public', true)`
	sqlViews  = `SELECT set_config('search_path', 'visible, public', true)`
)

// as makes what is queued next see what a lets it see.
func (tx *Tx) as(a *Access) error {
	tx.begin()
	if !tx.guarded {
		if !a.everything {
			return errors.New("storage: a caller in a transaction of the server")
		}
		return nil
	}
	if a.everything {
		tx.elevate()
		if !tx.unveiled {
			tx.queue.Queue(sqlTables)
			tx.unveiled = true
		}
		return nil
	}
	if tx.unveiled {
		tx.queue.Queue(sqlViews)
		tx.unveiled = false
	}
	if tx.elevated {
		tx.queue.Queue(sqlRole)
		tx.elevated = false
	}
	if tx.declared != a {
		a.declare(&tx.queue, tx.declared != nil)
		tx.declared = a
	}
	return nil
}

// elevate makes what is queued next run with the rights of the server.
func (tx *Tx) elevate() {
	if tx.guarded && !tx.elevated {
		tx.queue.Queue(sqlNoRole)
		tx.elevated = true
	}
}

// query runs a read for the caller, after everything queued, in one round trip.
func (tx *Tx) query(ctx context.Context, read func(pgx.Rows) error, sql string, args ...any) error {
	run, err := tx.store.runner(ctx, tx)
	if err != nil {
		return err
	}
	return run.rows(ctx, read, sql, args...)
}

// system is query for what is none of the caller's business, such as whether a key was used before.
func (tx *Tx) system(ctx context.Context, read func(pgx.Rows) error, sql string, args ...any) error {
	tx.begin()
	tx.elevate()
	tx.queue.Queue(sql, args...).Query(read)
	return tx.flush(ctx)
}

// exec queues a write.
func (tx *Tx) exec(sql string, args ...any) {
	tx.elevate()
	tx.queue.Queue(sql, args...)
}

// Flush sends what is queued, within the transaction. Work with many writes calls it now and then, to bound the memory
// that the queue takes.
func (tx *Tx) Flush(ctx context.Context) error {
	tx.begin()
	return tx.flush(ctx)
}

// Pending is the number of statements queued.
func (tx *Tx) Pending() int { return tx.queue.Len() }
