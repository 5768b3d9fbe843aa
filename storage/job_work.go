package storage

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
)

var (
	everyState = rivertype.JobStates()
	openStates = []rivertype.JobState{rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateRunning,
		rivertype.JobStateRetryable, rivertype.JobStateScheduled}
)

// Postponed is what a job's work returns to be done later; that is no failed try.
type Postponed struct{ Until time.Time }

func (*Postponed) Error() string { return "postponed" }

// Dropped is what a job's work returns where there is nothing to do any more. Why is kept with the job: no data of
// patients.
type Dropped struct{ Why string }

func (d *Dropped) Error() string { return d.Why }

// JobOptions are how jobs are worked on. A zero field means its default.
type JobOptions struct {
	// Do does one job; several run at a time. What it returns is kept with the job, so it must tell nothing of patients.
	Do     func(context.Context, Job) error
	Logger *slog.Logger
	// Upkeep is done as the servers start and then once an hour, by one of them; nil for nothing. UpkeepTimeout is how long
	// it may take: 10 min.
	Upkeep        func(context.Context) error
	UpkeepTimeout time.Duration
	// Poll is how often new jobs are looked for: 1 s.
	Poll time.Duration
	// Timeout is how long one may take, RescueAfter when one counts as left behind by a server that died: 30 s, 45 s.
	Timeout, RescueAfter time.Duration
	// Pause is the shortest time between tries: 1 s.
	Pause time.Duration
}

const (
	workersPerQueue = 3
	// keepDone and keepFailed are how long jobs stay in the list: done ones also keep the same from being ordered again.
	keepDone   = 7 * 24 * time.Hour
	keepFailed = 90 * 24 * time.Hour
	// longestPause is the most that lies between two tries.
	longestPause = 4 * time.Hour
	upkeepEvery  = time.Hour
	// jobGrace is how long jobs that run may go on when the server stops.
	jobGrace = 5 * time.Second
)

// WorkJobs does jobs until ctx ends. It waits for a database that is away.
func (s *Store) WorkJobs(ctx context.Context, o JobOptions) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	orDefault(&o.Poll, time.Second)
	orDefault(&o.Timeout, 30*time.Second)
	orDefault(&o.RescueAfter, 45*time.Second)
	orDefault(&o.Pause, time.Second)
	orDefault(&o.UpkeepTimeout, 10*time.Minute)
	for ctx.Err() == nil {
		client, err := s.newJobClient(o)
		if err == nil {
			// River ends what runs when its context ends; here it shall have a moment to finish.
			err = client.Start(context.WithoutCancel(ctx))
		}
		if err == nil {
			<-ctx.Done()
			stopJobs(client)
			return
		}
		o.Logger.Error("messages: cannot begin, and will try again", "error", err)
		if sleep(ctx, 5*time.Second) != nil {
			return
		}
	}
}

func stopJobs(client *jobClient) {
	soft, cancel := context.WithTimeout(context.Background(), jobGrace)
	defer cancel()
	if client.Stop(soft) == nil {
		return
	}
	hard, cancel := context.WithTimeout(context.Background(), jobGrace)
	defer cancel()
	client.StopAndCancel(hard)
}

func orDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (s *Store) newJobClient(o JobOptions) (*jobClient, error) {
	workers := river.NewWorkers()
	if err := river.AddWorkerSafely(workers, &jobWorker{do: o.Do}); err != nil {
		return nil, err
	}
	queues := map[string]river.QueueConfig{QueueMessages: {MaxWorkers: workersPerQueue}, QueueHooks: {MaxWorkers: workersPerQueue}}
	var periodic []*river.PeriodicJob
	if o.Upkeep != nil {
		if err := river.AddWorkerSafely(workers, &upkeepWorker{options: o}); err != nil {
			return nil, err
		}
		queues[queueUpkeep] = river.QueueConfig{MaxWorkers: 1}
		once := &river.InsertOpts{Queue: queueUpkeep, MaxAttempts: 1, UniqueOpts: river.UniqueOpts{ByArgs: true, ByState: openStates}}
		periodic = append(periodic, river.NewPeriodicJob(river.PeriodicInterval(upkeepEvery),
			func() (river.JobArgs, *river.InsertOpts) { return upkeepArgs{}, once }, &river.PeriodicJobOpts{RunOnStart: true}))
	}
	return river.NewClient(s.jobDriver(), &river.Config{
		Queues:                      queues,
		PeriodicJobs:                periodic,
		Workers:                     workers,
		Logger:                      slog.New(atLeast{o.Logger.Handler(), slog.LevelError}),
		PollOnly:                    true,
		FetchPollInterval:           o.Poll,
		FetchCooldown:               min(o.Poll, 100*time.Millisecond),
		JobTimeout:                  o.Timeout,
		RescueStuckJobsAfter:        o.RescueAfter,
		RetryPolicy:                 jobPause{o.Pause},
		CompletedJobRetentionPeriod: keepDone,
		CancelledJobRetentionPeriod: keepDone,
		DiscardedJobRetentionPeriod: keepFailed,
	})
}

// jobWorker hands jobs to the function that does them.
type jobWorker struct {
	river.WorkerDefaults[jobArgs]
	do func(context.Context, Job) error
}

func (w *jobWorker) Work(ctx context.Context, job *river.Job[jobArgs]) error {
	order := job.Args.Job
	order.Last = job.Attempt >= job.MaxAttempts
	err := w.do(asSystem(ctx), order)
	var later *Postponed
	var dropped *Dropped
	switch {
	case errors.As(err, &later):
		return river.JobSnooze(max(time.Until(later.Until), time.Second))
	case errors.As(err, &dropped):
		return river.JobCancel(dropped)
	}
	return err
}

// upkeepWorker does what keeps the database in order. What fails is told to the operator, and comes again in an hour.
type upkeepWorker struct {
	river.WorkerDefaults[upkeepArgs]
	options JobOptions
}

func (w *upkeepWorker) Timeout(*river.Job[upkeepArgs]) time.Duration { return w.options.UpkeepTimeout }

func (w *upkeepWorker) Work(ctx context.Context, _ *river.Job[upkeepArgs]) error {
	err := w.options.Upkeep(asSystem(ctx))
	if err != nil && ctx.Err() == nil {
		w.options.Logger.Error("clearing what need not be kept failed and will be tried again", "error", err)
	}
	return err
}

// jobPause makes the pauses between tries longer, up to longestPause: the fourth power of the number of tries in
// seconds, more or less.
type jobPause struct{ shortest time.Duration }

func (p jobPause) NextRetry(job *rivertype.JobRow) time.Time {
	n := time.Duration(len(job.Errors) + 1)
	pause := min(n*n*n*n*p.shortest, longestPause)
	return time.Now().Add(pause*9/10 + rand.N(pause/5+1))
}

// atLeast leaves out what River logs that is not worth an operator's attention: a job's failure is in the list of jobs.
type atLeast struct {
	slog.Handler
	level slog.Level
}

func (h atLeast) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= h.level && h.Handler.Enabled(ctx, l)
}
func (h atLeast) WithAttrs(a []slog.Attr) slog.Handler {
	return atLeast{h.Handler.WithAttrs(a), h.level}
}
func (h atLeast) WithGroup(name string) slog.Handler {
	return atLeast{h.Handler.WithGroup(name), h.level}
}
