package storage

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"kiln/fhir"
)

// Job is work that is left for after the transaction that orders it: a row of the outbox. It holds references and
// never what a resource says, since whoever does the work reads that anew. Two jobs that say the same are one.
type Job struct {
	// Task names the work.
	Task string `json:"task" river:"unique"`
	// Subject is the resource that it is about, such as Appointment/1, and Version the one that a change made of it.
	Subject string `json:"subject,omitempty" river:"unique"`
	Version int    `json:"version,omitempty" river:"unique"`
	// Event is what happened to the subject, Before how long ahead a reminder comes.
	Event  string        `json:"event,omitempty" river:"unique"`
	Before time.Duration `json:"before,omitempty" river:"unique"`
	// Recipient is who is told, such as Patient/1.
	Recipient string `json:"recipient,omitempty" river:"unique"`
	// State is where the subject stood: when it stands elsewhere at the time of the work, there is nothing to tell.
	State string `json:"state,omitempty" river:"unique"`
	// By is who brought it about.
	By string `json:"by,omitempty"`

	// At is when to do it; zero for as soon as possible.
	At time.Time `json:"-"`
	// Last says, to whoever does it, that it will not be tried again.
	Last bool `json:"-"`
	// Queue is one of the Queue constants; "" for QueueMessages.
	Queue string `json:"-"`
	// Repeats says that the same work may be ordered again once it has been done.
	Repeats bool `json:"-"`
}

// The queues have workers of their own, so that what waits for strangers' servers does not keep the rest waiting.
const (
	QueueMessages = "messages"
	QueueHooks    = "hooks"
	queueUpkeep   = "upkeep"
)

// jobArgs is a Job as River takes it.
type jobArgs struct{ Job }

func (jobArgs) Kind() string { return "kiln" }

// upkeepArgs is the job of JobOptions.Upkeep.
type upkeepArgs struct{}

func (upkeepArgs) Kind() string { return "kiln-upkeep" }

// jobClient orders jobs; those that work are made by WorkJobs.
type jobClient = river.Client[pgx.Tx]

// quietDriver is River's driver without NOTIFY: each commit that notifies waits for all others that do, and workers
// ask once a second anyhow.
type quietDriver struct{ *riverpgxv5.Driver }

func (quietDriver) SupportsListenNotify() bool { return false }
func (quietDriver) SupportsListener() bool     { return false }

// openTx lets River write within a transaction of ours, which is begun and ended here.
type openTx struct{ connection }

type connection = *pgx.Conn

var errNotRivers = errors.New("storage: the transaction is not River's to begin or end")

func (openTx) Begin(context.Context) (pgx.Tx, error) { return nil, errNotRivers }
func (openTx) Commit(context.Context) error          { return errNotRivers }
func (openTx) Rollback(context.Context) error        { return errNotRivers }
func (openTx) LargeObjects() pgx.LargeObjects        { return pgx.LargeObjects{} }
func (t openTx) Conn() *pgx.Conn                     { return t.connection }

// Enqueue orders jobs in the transaction: they are there when it commits, and never otherwise.
func (tx *Tx) Enqueue(ctx context.Context, jobs ...Job) error {
	if len(jobs) == 0 {
		return nil
	}
	if err := tx.as(Everything()); err != nil {
		return err
	}
	if err := tx.flush(ctx); err != nil {
		return err
	}
	params := make([]river.InsertManyParams, 0, len(jobs))
	said := map[Job]bool{} // one statement cannot meet the same row twice
	for _, j := range jobs {
		same := j
		same.By, same.At = "", time.Time{}
		if !said[same] {
			params = append(params, river.InsertManyParams{Args: jobArgs{j}, InsertOpts: j.options()})
		}
		said[same] = true
	}
	_, err := tx.store.jobs.InsertManyTx(ctx, openTx{tx.conn.Conn()}, params)
	return err
}

// maxJobAttempts is how often a job is tried, which the pauses of jobPause stretch over three days.
const maxJobAttempts = 26

func (j Job) options() *river.InsertOpts {
	o := &river.InsertOpts{MaxAttempts: maxJobAttempts, Queue: j.Queue, ScheduledAt: j.At, UniqueOpts: river.UniqueOpts{ByArgs: true, ByState: everyState}}
	if j.Queue == "" {
		o.Queue = QueueMessages
	}
	if j.Repeats {
		o.UniqueOpts.ByState = openStates
	}
	return o
}

func (s *Store) jobDriver() quietDriver { return quietDriver{riverpgxv5.New(s.pool)} }

// RetryJob does a job again, also one that was given up: as soon as possible, with as many tries as a new one.
//
// Errors: NotFound; Conflict where the same has been ordered again meanwhile and waits.
func (s *Store) RetryJob(ctx context.Context, id int64) error {
	_, err := s.jobs.JobRetry(ctx, id)
	if errors.Is(err, river.ErrNotFound) {
		return fhir.NewError(fhir.NotFound, fhir.CodeNotFound, "There is no such message any more")
	}
	if pg := (*pgconn.PgError)(nil); errors.As(err, &pg) && pg.ConstraintName == "river_job_unique_idx" {
		return fhir.NewError(fhir.Conflict, fhir.CodeConflict, "The same has been ordered again and is on its way").Because(err)
	}
	return translate(err)
}
