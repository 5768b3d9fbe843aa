package storage

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"
)

// runner is what a search runs on: the pool, or the connection of a transaction.
type runner interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

func (s *Store) runner(ctx context.Context, tx *Tx) (runner, error) {
	if _, err := s.access(ctx); err != nil {
		return nil, err
	}
	if tx == nil {
		return s.pool, nil
	}
	tx.begin()
	return tx.conn, tx.flush(ctx)
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

// query runs a statement whose conditions are where and gives its rows to read.
func query(ctx context.Context, run runner, where, sql string, args []any, read func(pgx.Rows) error) error {
	if !dependsOnValues(where) {
		rows, err := run.Query(ctx, sql, args...)
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
	batch.Queue(sqlPlanAnew)
	batch.Queue(sql, args...).Query(read)
	batch.Queue(sqlPlanOnce)
	return run.SendBatch(ctx, batch).Close()
}
