package storage

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// What is begun again, and how often: transactions that met another one (conflict), and what met a connection that
// PostgreSQL had ended (dead) and surely has changed nothing: a transaction before its commit, a read before its first row.

const (
	maxAttempts = 5
	retryBase   = 5 * time.Millisecond
)

// attempts are those of one piece of work.
type attempts struct{ conflicts, dead int }

// afterConflict says whether work that met another transaction is begun again, and waits before it is, unless at once.
func (a *attempts) afterConflict(ctx context.Context, atOnce bool) bool {
	if a.conflicts++; a.conflicts == maxAttempts {
		return false
	}
	return atOnce || sleep(ctx, time.Duration(rand.Int64N(int64(retryBase<<a.conflicts)))) == nil
}

// afterDead says whether what met a dead connection is begun again, on the next one. A pool whose connections were all
// ended has as many of them as it holds at most, and then makes a new one.
func (a *attempts) afterDead(ctx context.Context, pool *pgxpool.Pool) bool {
	a.dead++
	return ctx.Err() == nil && a.dead <= int(pool.Stat().MaxConns())
}

// conflict says whether a transaction that failed with err may succeed if it is run again from its start.
func conflict(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return false
	}
	switch pg.Code {
	case "40001", "40P01", "KN001", "KN002":
		return true
	case "23505": // somebody made the same resource between our look and our insert
		// Which of the two tables notices is up to PostgreSQL: one statement fills both.
		return pg.ConstraintName == "resource_pkey" || pg.ConstraintName == "search_index_pkey"
	}
	return false
}

// dead says whether err tells that a connection had been ended, by PostgreSQL or by what lies between. One that cannot
// be made is another matter: the next could not be made either.
func dead(err error) bool {
	var connect *pgconn.ConnectError
	if err == nil || errors.As(err, &connect) {
		return false
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) { // PostgreSQL ends the session after a FATAL
		return pg.SeverityUnlocalized == "FATAL" || pg.Severity == "FATAL"
	}
	var network net.Error
	return pgconn.SafeToRetry(err) || errors.Is(err, pgconn.ErrConnClosed) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &network) && !network.Timeout()
}

// reader runs statements that change nothing, on connections of a pool. Where a connection turns out to be dead before
// it has given a row, they run on another one.
type reader struct{ pool *pgxpool.Pool }

// Query runs one statement.
func (r reader) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	rows := &rereadRows{ctx: ctx, pool: r.pool, sql: sql, args: args}
	return rows, rows.query()
}

// QueryRow runs one statement, of whose rows the first counts.
func (r reader) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	rows, err := r.Query(ctx, sql, args...)
	return firstRow{rows, err}
}

// Send runs several, which are queued with what reads their rows.
func (r reader) Send(ctx context.Context, batch *pgx.Batch) error {
	for tries, begun := (attempts{}), false; ; {
		sent := &pgx.Batch{} // anew each time, since pgx keeps in a statement what belongs to the connection
		for _, q := range batch.QueuedQueries {
			again := sent.Queue(q.SQL, q.Arguments...)
			if q.Fn != nil {
				again.Fn = func(results pgx.BatchResults) error { return q.Fn(notedResults{results, &begun}) }
			}
		}
		if err := r.pool.SendBatch(ctx, sent).Close(); begun || !dead(err) || !tries.afterDead(ctx, r.pool) {
			return err
		}
	}
}

// rereadRows are the rows of a statement that is sent again while connections are dead.
type rereadRows struct {
	pgx.Rows
	ctx   context.Context
	pool  *pgxpool.Pool
	sql   string
	args  []any
	tries attempts
	begun bool // there was a row
}

func (r *rereadRows) query() (err error) {
	for {
		if r.Rows, err = r.pool.Query(r.ctx, r.sql, r.args...); !dead(err) || !r.tries.afterDead(r.ctx, r.pool) {
			return err
		}
	}
}

func (r *rereadRows) Next() bool {
	for !r.Rows.Next() {
		if r.begun || !dead(r.Rows.Err()) || !r.tries.afterDead(r.ctx, r.pool) {
			return false
		}
		_ = r.query() // which the rows tell as well
	}
	r.begun = true
	return true
}

type firstRow struct {
	rows pgx.Rows
	err  error
}

func (r firstRow) Scan(into ...any) error {
	if r.err != nil {
		return r.err
	}
	defer r.rows.Close()
	if !r.rows.Next() {
		if err := r.rows.Err(); err != nil {
			return err
		}
		return pgx.ErrNoRows
	}
	if err := r.rows.Scan(into...); err != nil {
		return err
	}
	r.rows.Close()
	return r.rows.Err()
}

// notedResults note whether they have told something.
type notedResults struct {
	pgx.BatchResults
	told *bool
}

func (n notedResults) Exec() (pgconn.CommandTag, error) {
	tag, err := n.BatchResults.Exec()
	*n.told = *n.told || err == nil
	return tag, err
}

func (n notedResults) Query() (pgx.Rows, error) {
	rows, err := n.BatchResults.Query()
	return notedRows{rows, n.told}, err
}

func (n notedResults) QueryRow() pgx.Row {
	rows, err := n.Query()
	return firstRow{rows, err}
}

type notedRows struct {
	pgx.Rows
	told *bool
}

func (n notedRows) Next() bool {
	there := n.Rows.Next()
	*n.told = *n.told || there
	return there
}
