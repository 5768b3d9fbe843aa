package storage_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"kiln/fhir"
	"kiln/internal/kilntest"
	"kiln/storage"
)

func order(t *testing.T, s *storage.Store, jobs ...storage.Job) {
	t.Helper()
	if err := s.Write(t.Context(), func(tx *storage.Tx) error { return tx.Enqueue(t.Context(), jobs...) }); err != nil {
		t.Fatal(err)
	}
}

// works works on jobs until the test ends, or the function it returns is called.
func works(t *testing.T, s *storage.Store, do func(context.Context, storage.Job) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		s.WorkJobs(ctx, storage.JobOptions{Do: do, Poll: 20 * time.Millisecond, Pause: time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	})
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(stop)
	return stop
}

// until waits for a condition, as long as a test may take on a busy machine.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 30_000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("never: " + what)
}

func counts(t *testing.T, s *storage.Store) map[string]int64 {
	t.Helper()
	n, err := s.CountJobs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestJobs_are_ordered_with_the_transaction_or_not_at_all(t *testing.T) {
	t.Parallel()
	s := open(t)
	job := storage.Job{Task: "x", Subject: "Appointment/1", Version: 1, Event: "booked"}
	want := errors.New("no")
	err := s.Write(t.Context(), func(tx *storage.Tx) error {
		if err := tx.Enqueue(t.Context(), job); err != nil {
			return err
		}
		return want
	})
	if !errors.Is(err, want) || len(counts(t, s)) != 0 {
		t.Fatal(err, counts(t, s))
	}
	order(t, s, job)
	if n := counts(t, s); n["available"] != 1 {
		t.Fatal(n)
	}
}

func TestJobs_that_say_the_same_are_one(t *testing.T) {
	t.Parallel()
	s := open(t)
	job := storage.Job{Task: "x", Subject: "Appointment/1", Version: 1, Event: "booked"}
	order(t, s, job, job)
	order(t, s, job)
	other := job
	other.By = "Practitioner/1" // who did it makes no other message of it
	order(t, s, other)
	if n := counts(t, s); n["available"] != 1 {
		t.Fatal(n)
	}
	for _, change := range []func(*storage.Job){
		func(j *storage.Job) { j.Subject = "Appointment/2" }, func(j *storage.Job) { j.Version = 2 },
		func(j *storage.Job) { j.Event = "moved" }, func(j *storage.Job) { j.Before = time.Hour },
		func(j *storage.Job) { j.Recipient = "Patient/1" }, func(j *storage.Job) { j.State = "booked" },
	} {
		j := job
		change(&j)
		order(t, s, j)
	}
	if n := counts(t, s); n["available"] != 7 {
		t.Fatal(n)
	}
	// What was done is not ordered again, unless it says that it may be.
	var done sync.Map
	works(t, s, func(_ context.Context, j storage.Job) error { done.Store(fmt.Sprint(j), true); return nil })
	until(t, "all are done", func() bool { return counts(t, s)["completed"] == 7 })
	order(t, s, job)
	job.Repeats = true
	job.Task = "y"
	order(t, s, job)
	until(t, "it is done", func() bool { return counts(t, s)["completed"] == 8 })
	order(t, s, job)
	until(t, "it is done again", func() bool { return counts(t, s)["completed"] == 9 })
}

func TestJobs_two_servers_share_the_work(t *testing.T) {
	t.Parallel()
	url := kilntest.DB(t)
	a, b := openOn(t, url), openOn(t, url)
	var mu sync.Mutex
	times, by := map[string]int{}, map[string]int{}
	do := func(name string) func(context.Context, storage.Job) error {
		return func(_ context.Context, j storage.Job) error {
			time.Sleep(time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			times[j.Subject]++
			by[name]++
			return nil
		}
	}
	for i := range 200 {
		order(t, a, storage.Job{Task: "x", Subject: fmt.Sprintf("Appointment/%d", i)})
	}
	works(t, a, do("a"))
	works(t, b, do("b"))
	until(t, "all are done", func() bool { return counts(t, a)["completed"] == 200 })
	mu.Lock()
	defer mu.Unlock()
	for subject, n := range times {
		if n != 1 {
			t.Errorf("%s was done %d times", subject, n)
		}
	}
	if len(times) != 200 {
		t.Errorf("%d were done", len(times))
	}
}

func TestJobs_fail_come_again_and_are_given_up_and_retried_by_hand(t *testing.T) {
	t.Parallel()
	s := open(t)
	var mu sync.Mutex
	tries, broken := 0, true
	works(t, s, func(_ context.Context, j storage.Job) error {
		mu.Lock()
		defer mu.Unlock()
		switch j.Event {
		case "dropped":
			return &storage.Dropped{Why: "the visit was moved"}
		case "later":
			if tries++; tries == 1 {
				return &storage.Postponed{Until: time.Now().Add(time.Millisecond)}
			}
			return nil
		}
		if broken {
			return errors.New("the mail server is away")
		}
		return nil
	})
	order(t, s, storage.Job{Task: "x", Event: "dropped"}, storage.Job{Task: "x", Event: "later"}, storage.Job{Task: "x", Event: "fails"})
	until(t, "given up", func() bool { n := counts(t, s); return n["retryable"] == 1 || n["discarded"] == 1 })
	until(t, "the others are through", func() bool { n := counts(t, s); return n["cancelled"] == 1 && n["completed"] == 1 })
	var failed []storage.JobRow
	until(t, "it is listed", func() bool {
		var err error
		if failed, err = s.Jobs(t.Context(), "retryable", 1<<62, 10); err != nil {
			t.Fatal(err)
		}
		return len(failed) == 1
	})
	if failed[0].Fault != "the mail server is away" || failed[0].Job.Event != "fails" || failed[0].Tries == 0 {
		t.Fatalf("%+v", failed[0])
	}
	mu.Lock()
	broken = false
	mu.Unlock()
	if err := s.RetryJob(t.Context(), failed[0].ID); err != nil {
		t.Fatal(err)
	}
	until(t, "it is done", func() bool { return counts(t, s)["completed"] == 2 })
	if err := s.RetryJob(t.Context(), 1<<40); err == nil {
		t.Error("a job that is not there was retried")
	}
}

// Of work that was given up, and has been ordered again since, the new order is the one that counts.
func TestJobs_are_not_retried_beside_a_new_order(t *testing.T) {
	t.Parallel()
	s := open(t)
	works(t, s, func(context.Context, storage.Job) error { return &storage.Dropped{Why: "it is over"} })
	job := storage.Job{Task: "x", Event: "dropped", Repeats: true}
	order(t, s, job)
	until(t, "it is given up", func() bool { return counts(t, s)["cancelled"] == 1 })
	old, err := s.Jobs(t.Context(), "cancelled", 1<<62, 10)
	if err != nil || len(old) != 1 {
		t.Fatalf("%v %v", old, err)
	}
	job.At = time.Now().Add(time.Hour)
	order(t, s, job)
	if err := s.RetryJob(t.Context(), old[0].ID); fhir.KindOf(err) != fhir.Conflict {
		t.Errorf("%v", err)
	}
	if n := counts(t, s); n["cancelled"] != 1 || n["scheduled"] != 1 {
		t.Errorf("%v", n)
	}
}
