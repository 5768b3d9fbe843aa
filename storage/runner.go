package storage

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// runner is what reads run on: connections of the pool, or that of a transaction, with the access of the caller. Every
// read for a caller goes through send.
type runner struct {
	store  *Store
	tx     *Tx // nil for none
	access *Access
	// caller says that somebody asks who may see everything, and not the server itself.
	caller bool
	// about are the patients whose records are read, as far as they are known beforehand: what the rule asks of them is asked
	// once, and not for each row.
	about []int64
	// near says that the caller treats few enough patients to ask an index for all of them, each whether the views look for each row's patient by
	// itself ("on") or read all of them for it ("off"); "" where it makes no difference. See treated.go.
	// scarce says that the caller treats few.
	near, scarce bool
	each         string
	// many says that what a search sorts is known to be much, few that it is little.
	many, few bool
	// until is when the last statement ends; zero for no bound: see WithinTime.
	until time.Time
}

type untilKey struct{}

// WithinTime returns a context for a piece of work that reads several times: outside of transactions all that is read with it
// takes no longer than one statement may. Within such work it returns ctx itself.
func (s *Store) WithinTime(ctx context.Context) context.Context {
	if _, bounded := ctx.Value(untilKey{}).(time.Time); bounded {
		return ctx
	}
	return context.WithValue(ctx, untilKey{}, time.Now().Add(s.options.StatementTimeout))
}

// timeSpared is how much of the time may be gone before a statement is told what is left of it: that costs a little, and few searches
// take as long.
const timeSpared = time.Second

// sqlTimeLeft bounds the statements behind it, in their transaction.
const sqlTimeLeft = `SELECT set_config('statement_timeout', $1, true)`

// timeLeft says how long the next statement may take, in milliseconds as PostgreSQL reads them; "" for as long as any.
//
// Errors: TooCostly where no time is left.
func (r *runner) timeLeft() (string, error) {
	if r.until.IsZero() {
		return "", nil
	}
	left := time.Until(r.until)
	switch {
	case left <= 0:
		return "", tooLong(errors.New("storage: the statements before took too long"))
	case left > r.store.options.StatementTimeout-timeSpared:
		return "", nil
	}
	return strconv.FormatInt(max(left.Milliseconds(), 1), 10), nil
}

// inTime puts before statements what bounds them, where time is short.
//
// Errors: TooCostly where no time is left.
func (r *runner) inTime(statements *pgx.Batch) error {
	left, err := r.timeLeft()
	if err != nil || left == "" {
		return err
	}
	bounded := &pgx.Batch{}
	bounded.Queue(sqlTimeLeft, left)
	statements.QueuedQueries = append(bounded.QueuedQueries, statements.QueuedQueries...)
	return nil
}

func (s *Store) runner(ctx context.Context, tx *Tx) (*runner, error) {
	a, err := s.access(ctx)
	if err != nil {
		return nil, err
	}
	if tx != nil {
		return &runner{store: s, tx: tx, access: a}, nil
	}
	until, _ := ctx.Value(untilKey{}).(time.Time)
	if a.all { // the same without the views, which cost as much again as a read and would hide nothing
		return &runner{store: s, access: Everything(), caller: true, until: until}, nil
	}
	return &runner{store: s, access: a, until: until}, nil
}

// send runs the statements of a batch so that they see what the caller may see.
func (r *runner) send(ctx context.Context, statements *pgx.Batch) error {
	if err := r.inTime(statements); err != nil {
		return err
	}
	switch {
	case r.tx != nil:
		if err := r.tx.as(r.access); err != nil {
			return err
		}
		r.saysEach(&r.tx.queue)
		r.tx.queue.QueuedQueries = append(r.tx.queue.QueuedQueries, statements.QueuedQueries...)
		return r.tx.flush(ctx)
	case r.access.everything && r.settled(ctx):
		return reader{r.store.pool}.Send(ctx, statements)
	}
	batch, pool := &pgx.Batch{}, r.store.pool
	if !r.access.everything {
		pool = r.store.guarded
	}
	told := r.introduce(ctx, batch)
	r.saysEach(batch)
	batch.QueuedQueries = append(batch.QueuedQueries, statements.QueuedQueries...)
	if err := (reader{pool}).Send(ctx, batch); err != nil {
		return err
	}
	return told()
}

// settled says whether nothing is to be proven with what is asked next.
func (r *runner) settled(ctx context.Context) bool {
	_, proves := toProve(ctx)
	return !r.caller || !proves
}

// rows runs one statement.
func (r *runner) rows(ctx context.Context, read func(pgx.Rows) error, sql string, args ...any) error {
	left, err := r.timeLeft()
	if err != nil {
		return err
	}
	if left == "" && r.tx == nil && r.access.everything && r.settled(ctx) { // one statement less on the way of most reads of a trial and of commands
		rows, err := reader{r.store.pool}.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		if err := read(rows); err != nil {
			return err
		}
		return rows.Err()
	}
	batch := &pgx.Batch{}
	batch.Queue(sql, args...).Query(read)
	return r.send(ctx, batch)
}

// Connections run with plan_cache_mode = force_generic_plan: a statement is planned once and then only executed, which
// takes half the time of a small search (docs/adr/0006). That is right for statements that leave the planner nothing
// to choose. The others are planned anew with their values.
const (
	sqlPlanAnew = `SELECT set_config('plan_cache_mode', 'force_custom_plan', true)`
	sqlPlanOnce = `SELECT set_config('plan_cache_mode', 'force_generic_plan', true)`
)

// dependsOnValues says whether the best plan of conditions depends on the values in them: on ranges and on the sizes
// of inner sets, not on terms, patients or keys, for which there is an index each.
func dependsOnValues(where string) bool {
	return strings.Contains(where, "(SELECT") || strings.Contains(where, ".date_") || strings.Contains(where, ".last_updated")
}

// query runs a statement, planned anew or once, and gives its rows to read. after, nil for none, adds statements
// to the same round trip.
func query(ctx context.Context, run *runner, anew bool, sql string, args []any, read func(pgx.Rows) error, after func(*pgx.Batch)) error {
	if !anew && after == nil {
		return run.rows(ctx, read, sql, args...)
	}
	batch := &pgx.Batch{}
	if anew {
		batch.Queue(sqlPlanAnew)
	}
	batch.Queue(sql, args...).Query(read)
	if anew {
		batch.Queue(sqlPlanOnce)
	}
	if after != nil {
		after(batch)
	}
	return run.send(ctx, batch)
}
