package storage

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"
)

// JobRow is a job and how it goes.
type JobRow struct {
	ID int64
	// State is River's: available, scheduled, running, retryable (failed, to be tried again), completed, cancelled (there
	// was nothing to do any more) or discarded (given up).
	State         string
	Job           Job
	Tries         int
	Ordered, Next time.Time
	Finished      time.Time // zero: not yet
	Fault         string    // of the last try
}

// JobStates are the states of jobs, those first that ask for attention.
func JobStates() []string {
	return []string{"discarded", "retryable", "running", "available", "scheduled", "completed", "cancelled"}
}

const sqlJobs = `
SELECT id, state::text, args, attempt, created_at, scheduled_at, finalized_at, coalesce(errors[array_upper(errors, 1)] ->> 'error', '')
FROM river_job WHERE state = $1::text::river_job_state AND id < $2 AND queue <> '` + queueUpkeep + `' ORDER BY id DESC LIMIT $3`

// Jobs lists jobs in a state but those of upkeep, newest first, from below an id on. It is for administrators.
func (s *Store) Jobs(ctx context.Context, state string, below int64, limit int) ([]JobRow, error) {
	rows, err := reader{s.pool}.Query(ctx, sqlJobs, state, below, limit)
	if err != nil {
		return nil, translate(err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (j JobRow, err error) {
		var args []byte
		var finished *time.Time
		if err = row.Scan(&j.ID, &j.State, &args, &j.Tries, &j.Ordered, &j.Next, &finished, &j.Fault); err != nil {
			return j, err
		}
		if finished != nil {
			j.Finished = *finished
		}
		return j, json.Unmarshal(args, &j.Job)
	})
	return list, translate(err)
}

const sqlCountJobs = `SELECT state::text, count(*) FROM river_job WHERE queue <> '` + queueUpkeep + `' GROUP BY state`

// CountJobs counts the same jobs in each state.
func (s *Store) CountJobs(ctx context.Context) (map[string]int64, error) {
	rows, err := reader{s.pool}.Query(ctx, sqlCountJobs)
	if err != nil {
		return nil, translate(err)
	}
	found := map[string]int64{}
	var state string
	var n int64
	_, err = pgx.ForEachRow(rows, []any{&state, &n}, func() error { found[state] = n; return nil })
	return found, translate(err)
}
