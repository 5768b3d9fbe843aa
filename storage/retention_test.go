package storage_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"kiln/internal/kilntest"
	"kiln/storage"
)

// TestForget_clears_what_is_old_and_not_needed also does it as River does: by one of two servers, once.
func TestForget_clears_what_is_old_and_not_needed(t *testing.T) {
	t.Parallel()
	url := kilntest.DB(t)
	a, b := openOn(t, url), openOn(t, url)
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	exec := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	exec(`INSERT INTO coverage_answer (request, response, outcome, asked, due)
		SELECT 'CoverageEligibilityRequest/' || n, 'CoverageEligibilityResponse/' || n, 'complete', now() - make_interval(days => 40), NULL FROM generate_series(1, 12000) n`)
	exec(`INSERT INTO coverage_answer (request, response, outcome, asked, due) VALUES ('CoverageEligibilityRequest/fresh', 'CoverageEligibilityResponse/fresh', 'complete', now() - interval '20 days', NULL),
		('CoverageEligibilityRequest/asked', NULL, 'queued', now() - interval '40 days', now()),
		('CoverageEligibilityRequest/used', 'CoverageEligibilityResponse/used', 'complete', now() - interval '40 days', NULL)`)
	exec(`INSERT INTO booking (appointment, state, during) VALUES ('Appointment/1', 'booked', tstzrange(now() + interval '1 day', now() + interval '2 days'))`)
	exec(`INSERT INTO coverage_check (appointment, coverage, response, visit, state) VALUES ('Appointment/1', 'Coverage/1', 'CoverageEligibilityResponse/used', current_date + 1, 'passed')`)
	for _, days := range []string{"5", "50"} {
		exec(`INSERT INTO kept_message VALUES (gen_random_uuid(), now() - interval '` + days + ` days', 'Appointment/` + days + `', '', '', 'en', '', '')`)
		exec(`INSERT INTO idempotency (key, request, status, answer, created) VALUES (sha256('` + days + `'), sha256('x'), 0, '', now() - interval '` + days + ` days')`)
		exec(`INSERT INTO treatment (source, kind, actor, patient, since, until, low, high) VALUES (0, 0, 1, ` + days + `, now(), now(), now(), now() - make_interval(days => ` + days + ` - 5))`)
	}
	exec(`INSERT INTO treatment (source, kind, actor, patient, since, until, low, high) VALUES (7, 1, 1, 7, now(), now(), now(), now() - interval '1 year')`)
	exec(`INSERT INTO message_sent VALUES (gen_random_uuid(), '', now() - interval '25 hours'), (gen_random_uuid(), '', now() - interval '23 hours')`)

	keep := storage.Retention{Answers: 7 * 24 * time.Hour, CoverageAnswers: 30 * 24 * time.Hour, Messages: 30 * 24 * time.Hour}
	for _, s := range []*storage.Store{a, b} {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.WorkJobs(ctx, storage.JobOptions{Do: func(context.Context, storage.Job) error { return nil }, Poll: 20 * time.Millisecond,
				Upkeep: func(ctx context.Context) error { return s.Forget(ctx, time.Now(), keep) }})
		}()
		t.Cleanup(func() { cancel(); <-done })
	}
	rows := func(sql string) (n int) {
		t.Helper()
		if err := conn.QueryRow(t.Context(), sql).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	until(t, "it is done", func() bool {
		return rows(`SELECT count(*) FROM river_job WHERE queue = 'upkeep' AND state = 'completed'`) > 0
	})
	// Whoever becomes the leader after another begins with it, too.
	until(t, "none of it fails", func() bool {
		return rows(`SELECT count(*) FROM river_job WHERE queue = 'upkeep' AND state <> 'completed'`) == 0
	})
	for sql, want := range map[string]int{
		`SELECT count(*) FROM coverage_answer`:                            3,
		`SELECT count(*) FROM kept_message`:                               1,
		`SELECT count(*) FROM kept_message WHERE about = 'Appointment/5'`: 1,
		`SELECT count(*) FROM idempotency`:                                1,
		`SELECT count(*) FROM idempotency WHERE key = sha256('5')`:        1,
		`SELECT count(*) FROM treatment`:                                  2,
		`SELECT count(*) FROM treatment WHERE source = 7 OR patient = 5`:  2,
		`SELECT count(*) FROM message_sent`:                               1,
	} {
		if got := rows(sql); got != want {
			t.Errorf("%s: %d, want %d", sql, got, want)
		}
	}
	if n := counts(t, a); len(n) != 0 {
		t.Errorf("administrators see upkeep among messages: %v", n)
	}
}
