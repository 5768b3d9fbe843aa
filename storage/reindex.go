package storage

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"kiln/fhir"
)

// This file rebuilds index rows in the background. A job is a row of reindex_job that says how far it is; whichever
// server holds the advisory lock works on it, one batch a transaction, and after a crash the next one goes on there.

// Reindex is a job that rebuilds the index rows of some types.
type Reindex struct {
	ID     int64
	Status string // waiting, running or completed
	Types  []string
	// Total is how many rows there were to rebuild when it started, Done how many of them are, Failed how many kept
	// their old values because the new ones could not be extracted.
	Total, Done, Failed        int64
	Created, Started, Finished time.Time // zero: not yet
	// Problem is why the last batch failed; the job tries on. It is for the log and for administrators.
	Problem string

	generation int32
	numbers    []int16
	place      *int16
	updated    pgtype.Timestamptz
	row        *int64
}

const (
	reindexBatch = 500
	reindexIdle  = 2 * time.Second
	// reindexLock is the advisory lock of the one worker on a database.
	reindexLock = 0x6b696c6e0001
)

const reindexColumns = `id, status, types, total, done, failed, created, started, finished, coalesce(problem, ''), generation,
place, place_updated, place_rk`

func (s *Store) scanReindex(row pgx.CollectableRow) (*Reindex, error) {
	j := &Reindex{}
	var started, finished *time.Time
	err := row.Scan(&j.ID, &j.Status, &j.numbers, &j.Total, &j.Done, &j.Failed, &j.Created, &started, &finished, &j.Problem,
		&j.generation, &j.place, &j.updated, &j.row)
	if started != nil {
		j.Started = *started
	}
	if finished != nil {
		j.Finished = *finished
	}
	for _, n := range j.numbers {
		j.Types = append(j.Types, s.Registry().TypeName(n))
	}
	return j, err
}

const (
	sqlSameReindex = `
SELECT ` + reindexColumns + ` FROM reindex_job
WHERE status <> 'completed' AND types @> $1 AND generation = (SELECT generation FROM search_parameter_set) ORDER BY id LIMIT 1`
	sqlStartReindex = `
INSERT INTO reindex_job (generation, types) SELECT generation, $1 FROM search_parameter_set RETURNING ` + reindexColumns
)

// StartReindex orders that the index rows of some types be rebuilt: those that were written before the newest search
// parameter, or with all those that were written until now. A job under way that does the same anyway is not doubled.
func (s *Store) StartReindex(ctx context.Context, types []string, all bool) (*Reindex, error) {
	numbers := make([]int16, 0, len(types))
	for _, t := range types {
		numbers = append(numbers, s.Registry().TypeNumber(t))
	}
	slices.Sort(numbers)
	numbers = slices.Compact(numbers)
	var job *Reindex
	err := s.Write(asSystem(ctx), func(tx *Tx) error {
		job = nil
		take := func(rows pgx.Rows) error {
			list, err := pgx.CollectRows(rows, s.scanReindex)
			if len(list) > 0 {
				job = list[0]
			}
			return err
		}
		if all {
			tx.exec(sqlNextGeneration)
			tx.parameters = true
		} else if err := tx.system(ctx, take, sqlSameReindex, numbers); err != nil || job != nil {
			return err
		}
		return tx.system(ctx, take, sqlStartReindex, numbers)
	})
	if err == nil {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
	return job, err
}

const sqlReindexJobs = `SELECT ` + reindexColumns + ` FROM reindex_job ORDER BY status = 'completed', id * CASE status WHEN 'completed' THEN -1 ELSE 1 END LIMIT $1`

// Reindexes returns the jobs: those to be done in their order, then those done, the newest first.
func (s *Store) Reindexes(ctx context.Context, limit int) ([]*Reindex, error) {
	rows, err := reader{s.pool}.Query(ctx, sqlReindexJobs, limit)
	if err != nil {
		return nil, translate(err)
	}
	list, err := pgx.CollectRows(rows, s.scanReindex)
	return list, translate(err)
}

// Work does the reindex jobs of the database until ctx ends; then it stops between two batches. One server at a time
// works, the others wait in case it ends. It also lends what was awaited (lending.go), merges pending lists (pending.go), sees to the terms of words (words.go) and puts texts in order (order_texts.go). report is told of what fails and will be tried again; it may be nil.
func (s *Store) Work(ctx context.Context, report func(error)) {
	tick, pending := time.NewTicker(reindexIdle), time.NewTicker(pendingEvery)
	defer tick.Stop()
	defer pending.Stop()
	var ordering sync.WaitGroup
	defer ordering.Wait()
	ordering.Go(func() { s.orderInTime(ctx, report) })
	for {
		if err := errors.Join(s.lendAwaited(ctx), s.work(ctx)); err != nil && ctx.Err() == nil && report != nil {
			report(err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-s.wake:
		case <-pending.C:
			_, err := s.MergePending(ctx)
			if err = errors.Join(err, s.HashWords(ctx)); err != nil && ctx.Err() == nil && report != nil {
				report(translate(err))
			}
		}
	}
}

const (
	sqlNextReindex = `SELECT ` + reindexColumns + ` FROM reindex_job WHERE status <> 'completed' ORDER BY id LIMIT 1`
	sqlTryWork     = `SELECT pg_try_advisory_lock($1)`
	sqlEndWork     = `SELECT pg_advisory_unlock($1)`
	sqlProblem     = `UPDATE reindex_job SET problem = $2 WHERE id = $1`
)

func (s *Store) work(ctx context.Context) (err error) {
	job, err := s.nextReindex(ctx)
	if err != nil || job == nil {
		return err
	}
	return s.alone(ctx, reindexLock, func(conn *pgxpool.Conn) error {
		for {
			// Between the look and the lock somebody else may have done it.
			if job, err = s.nextReindex(ctx); err != nil || job == nil {
				return err
			}
			if err := s.reindex(ctx, conn, job); err != nil {
				if ctx.Err() == nil {
					_, _ = s.pool.Exec(ctx, sqlProblem, job.ID, err.Error())
				}
				return err
			}
		}
	})
}

// alone runs work on a connection that holds an advisory lock, and whose statements may take as long as they do: counting the rows of a large
// table takes longer than a request may. It does nothing where another holds the lock.
func (s *Store) alone(ctx context.Context, lock int64, work func(*pgxpool.Conn) error) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	var mine bool
	if err := conn.QueryRow(ctx, sqlTryWork, lock).Scan(&mine); err != nil || !mine {
		return err
	}
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_, reset := conn.Exec(end, "RESET statement_timeout")
		_, unlock := conn.Exec(end, sqlEndWork, lock)
		if reset != nil || unlock != nil {
			conn.Conn().Close(end)
		}
	}()
	if _, err := conn.Exec(ctx, "SET statement_timeout = 0"); err != nil {
		return err
	}
	return work(conn)
}

func (s *Store) nextReindex(ctx context.Context) (*Reindex, error) {
	rows, err := s.pool.Query(ctx, sqlNextReindex)
	if err != nil {
		return nil, err
	}
	list, err := pgx.CollectRows(rows, s.scanReindex)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return list[0], nil
}

const (
	sqlCountOld     = `SELECT count(*) FROM search_index WHERE type = ANY($1) AND generation < $2`
	sqlBeginReindex = `
UPDATE reindex_job SET status = 'running', total = done + $2, started = coalesce(started, now()), place = NULL WHERE id = $1`
	sqlPlace = `
UPDATE reindex_job SET done = least(done + $2, total), failed = failed + $3, place = $4, place_updated = $5, place_rk = $6, problem = NULL
WHERE id = $1`
	sqlEndReindex = `UPDATE reindex_job SET status = 'completed', done = total, finished = now(), problem = NULL WHERE id = $1`
)

// reindex does one job to its end.
func (s *Store) reindex(ctx context.Context, conn *pgxpool.Conn, job *Reindex) error {
	if err := s.RefreshParameters(ctx); err != nil {
		return err
	}
	if err := waitForOlder(ctx, conn); err != nil {
		return err
	}
	// A walk passes over rows that others hold locked. Where those were not rewritten in the end, it walks again.
	for {
		if job.place == nil {
			var total int64
			if err := conn.QueryRow(ctx, sqlCountOld, job.numbers, job.generation).Scan(&total); err != nil {
				return err
			}
			if total == 0 {
				complete, err := noneOlder(ctx, conn, job)
				if err != nil {
					return err
				}
				return s.endReindex(ctx, job, complete)
			}
			if _, err := conn.Exec(ctx, sqlBeginReindex, job.ID, total); err != nil {
				return err
			}
		}
		if err := s.walk(ctx, job); err != nil {
			return err
		}
		job.place = nil
	}
}

const (
	sqlClock = `SELECT clock_timestamp()`
	sqlOlder = `
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'kiln' AND pid <> pg_backend_pid() AND xact_start < $1`
)

// waitForOlder waits until the transactions that run now have ended: some may be writing rows of an older generation.
// begin_write keeps later ones from it.
func waitForOlder(ctx context.Context, conn *pgxpool.Conn) error {
	var now time.Time
	if err := conn.QueryRow(ctx, sqlClock).Scan(&now); err != nil {
		return err
	}
	for {
		var running int
		if err := conn.QueryRow(ctx, sqlOlder, now).Scan(&running); err != nil || running == 0 {
			return err
		}
		if err := sleep(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

const sqlOldRows = `
SELECT x.last_updated, x.rk, r.type, r.id, r.version, r.last_updated, r.method, r.content, r.literal, r.compartments
FROM (SELECT last_updated, rk FROM search_index WHERE type = $1 AND generation < $2 AND (last_updated, rk) > ($3, $4)
  ORDER BY last_updated, rk LIMIT $5) x
JOIN resource r USING (rk) WHERE r.content IS NOT NULL ORDER BY x.last_updated, x.rk`

// walk goes once through the old rows of a job's types, type by type, oldest first.
func (s *Store) walk(ctx context.Context, job *Reindex) error {
	size := s.options.ReindexBatch
	if size == 0 {
		size = reindexBatch
	}
	start := 0
	if job.place != nil {
		start = max(slices.Index(job.numbers, *job.place), 0)
	}
	for i, number := range job.numbers[start:] {
		after, row := timestamp(beginningOfTime), int64(math.MinInt64)
		if i == 0 && job.place != nil {
			after, row = job.updated, *job.row
		}
		for {
			began := time.Now()
			rows, err := s.pool.Query(ctx, sqlOldRows, number, job.generation, after, row, size)
			if err != nil {
				return err
			}
			var keys []int64
			list, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (*Version, error) {
				v, err := scanVersion(rows, &after, &row)
				keys = append(keys, row)
				return v, err
			})
			if err != nil {
				return err
			}
			if len(list) == 0 {
				break
			}
			mark := func(tx *Tx, failed int) { tx.exec(sqlPlace, job.ID, len(list), failed, number, after, row) }
			if err := s.rewrite(ctx, job, keys, list, mark); err != nil {
				return err
			}
			// Others have the database to themselves for a part of the time.
			pause := s.options.ReindexPause
			if pause == 0 {
				pause = time.Since(began) / 4
			}
			if err := sleep(ctx, pause); err != nil {
				return err
			}
		}
	}
	return nil
}

const (
	sqlLockOld = `
SELECT rk FROM search_index WHERE rk = ANY($1) AND generation < $2 ORDER BY rk FOR UPDATE SKIP LOCKED`
	sqlVersionsNow = `SELECT rk, version, compartments, labels FROM resource WHERE rk = ANY($1)`
	sqlKeepOld     = `UPDATE search_index SET generation = $2 WHERE rk = $1`
)

// rewrite makes the index rows of some resources anew. The values are extracted before anything is locked. A row is
// left to whoever is writing its resource at the same time: writers change the index row before its side rows, so
// holding it locked keeps them out, and what they have committed shows in the version.
func (s *Store) rewrite(ctx context.Context, job *Reindex, keys []int64, list []*Version, mark func(tx *Tx, failed int)) error {
	prepared := make(map[int64]*Prepared, len(list))
	versions := make(map[int64]*Version, len(list))
	all := make([]*Prepared, 0, len(list))
	for i, v := range list {
		versions[keys[i]] = v
		node, err := fhir.ParseJSON(v.Content)
		if err != nil {
			continue
		}
		if p, err := s.Prepare(node); err == nil {
			prepared[keys[i]] = p
			all = append(all, p)
		}
	}
	if err := s.DeclareShapes(ctx, all...); err != nil {
		return err
	}
	return s.Write(asSystem(ctx), func(tx *Tx) error {
		tx.unconfirmed = true // to rebuild is not to confirm
		for _, p := range all {
			tx.current(p)
		}
		if err := tx.Inherit(ctx, all...); err != nil {
			return err
		}
		if len(all) > 0 {
			if all[0].by.generation < job.generation {
				return errors.New("storage: reindex with an older set of search parameters than its own")
			}
			tx.exec(sqlCheckGeneration, all[0].by.generation)
		}
		var locked []int64
		err := tx.system(ctx, func(rows pgx.Rows) (err error) {
			locked, err = pgx.CollectRows(rows, pgx.RowTo[int64])
			return err
		}, sqlLockOld, keys, job.generation)
		if err != nil {
			return err
		}
		now := make(map[int64]*Version, len(locked))
		err = tx.system(ctx, func(rows pgx.Rows) error {
			for rows.Next() {
				var rk int64
				v := &Version{}
				if err := rows.Scan(&rk, &v.Number, &v.Compartments, &v.labels); err != nil {
					return err
				}
				now[rk] = v
			}
			return rows.Err()
		}, sqlVersionsNow, locked)
		if err != nil {
			return err
		}
		failed := 0
		var rewritten []*Prepared
		for _, rk := range locked {
			v, p := versions[rk], prepared[rk]
			if now[rk] == nil || now[rk].Number != v.Number {
				continue
			}
			if p == nil {
				failed++
				tx.exec(sqlKeepOld, rk, job.generation)
				continue
			}
			low, high := mainDateColumns(p.row)
			tx.exec(sqlReindex, rk, p.row.typ, v.LastUpdated, p.row.patient, low, high, p.row.tokens, p.row.refs, p.by.generation,
				p.row.compartments, p.row.labels)
			rewritten = append(rewritten, p)
			tx.await(p.awaits)
			tx.unindexSides(rk, v)
			tx.sideRows(p, v.LastUpdated)
			tx.accessRows(p, true)
		}
		for _, p := range tx.relabel(rewritten, now) {
			tx.lenders = append(tx.lenders, p.rk)
		}
		mark(tx, failed)
		return nil
	})
}

const sqlNoneOlder = `
SELECT NOT EXISTS (SELECT FROM search_index WHERE generation < s.incomplete) FROM search_parameter_set s WHERE s.incomplete <= $1`

// noneOlder says whether a job has rebuilt the last rows that lack something of what this version puts into the index.
func noneOlder(ctx context.Context, conn *pgxpool.Conn, job *Reindex) (complete bool, err error) {
	err = conn.QueryRow(ctx, sqlNoneOlder, job.generation).Scan(&complete)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	return complete, err
}

const (
	sqlReady    = `UPDATE search_parameter SET state = 'ready' WHERE base = $1 AND code = $2 AND generation <= $3`
	sqlComplete = `UPDATE search_parameter_set SET incomplete = NULL`
)

// endReindex declares the search parameters ready whose types the job has covered.
func (s *Store) endReindex(ctx context.Context, job *Reindex, complete bool) error {
	states, err := s.ParameterStates(ctx)
	if err != nil {
		return err
	}
	return s.Write(asSystem(ctx), func(tx *Tx) error {
		for _, p := range states {
			if !p.Ready && p.generation <= job.generation && s.covers(job, p.Base) {
				tx.exec(sqlReady, p.Base, p.Code, job.generation)
			}
		}
		if complete {
			tx.exec(sqlComplete)
		}
		tx.TouchParameters()
		tx.exec(sqlEndReindex, job.ID)
		return nil
	})
}

func (s *Store) covers(job *Reindex, base string) bool {
	for _, t := range s.ConcreteTypes(base) {
		if !slices.Contains(job.Types, t) {
			return false
		}
	}
	return true
}

// ConcreteTypes returns the resource types that a parameter with this base is for.
func (s *Store) ConcreteTypes(base string) []string {
	var list []string
	all := s.Registry().Schema().Resources
	for _, t := range Bases(s.Registry(), base) {
		if _, found := slices.BinarySearch(all, t); found {
			list = append(list, t)
		}
	}
	return list
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
