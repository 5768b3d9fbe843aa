package storage

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"kiln/conformance"
	"kiln/fhir"
	"kiln/internal/kilntest"
)

// What reads several times may take no longer than one statement: the last gets what is left, on whichever way it is sent, and the
// connection is as good as before.
func TestRunner_time_left(t *testing.T) {
	t.Parallel()
	registry, err := conformance.R4()
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), Options{URL: kilntest.DB(t), PoolSize: 2, StatementTimeout: time.Hour, Registry: registry, Unrestricted: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	const sleep = "SELECT pg_sleep(3600)"
	none := func(rows pgx.Rows) error {
		rows.Close()
		return rows.Err()
	}
	within := func(t *testing.T, left time.Duration) context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // which a statement without a bound would meet
		t.Cleanup(cancel)
		return context.WithValue(ctx, untilKey{}, time.Now().Add(left))
	}
	one := func(ctx context.Context, run *runner) error { return run.rows(ctx, none, sleep) }
	several := func(ctx context.Context, run *runner) error { return query(ctx, run, true, sleep, nil, none, nil) }
	for name, work := range map[string]func(context.Context, *runner) error{
		"one statement": one,
		"a batch":       several,
		"a transaction": func(ctx context.Context, run *runner) error {
			return s.transact(ctx, true, func(tx *Tx) error {
				steady := *run
				steady.tx = tx
				return one(ctx, &steady)
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, left := range []time.Duration{100 * time.Millisecond, -time.Millisecond} {
				ctx := within(t, left)
				run, err := s.runner(ctx, nil)
				if err != nil {
					t.Fatal(err)
				}
				if err := translate(work(ctx, run)); fhir.KindOf(err) != fhir.TooCostly {
					t.Errorf("with %v left: %v", left, err)
				}
			}
			run, err := s.runner(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			for range 4 { // whichever connection it is
				setting := ""
				if err := run.rows(t.Context(), func(rows pgx.Rows) (err error) {
					setting, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[string])
					return err
				}, "SHOW statement_timeout"); err != nil || setting != "1h" {
					t.Errorf("afterwards a statement may take %q, %v", setting, err)
				}
			}
		})
	}
	ctx := s.WithinTime(t.Context())
	if s.WithinTime(ctx) != ctx {
		t.Error("work within work has a time of its own")
	}
}
