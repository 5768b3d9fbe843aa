package storage

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// auditGather is how long the carrier waits for more entries to take along.
	auditGather = 20 * time.Millisecond
	// auditRetry is how long it rests after the database has refused them.
	auditRetry = time.Second
	// maxJournal is how many entries may be in the journal at a time. Beyond, requests wait for the database.
	maxJournal = 20_000
)

// auditJournal is where the entries of what changes nothing are kept until the database has them: in files of this
// machine, since a round trip to the database would cost a read as much again as the read. A carrier takes all that are
// there to the database, and keeps the file until they have been committed to disk there.
type auditJournal struct {
	folder, owner string

	mu      sync.Mutex
	current *auditBatch // nil: nothing can be kept
	lines   *auditLines // what current holds
	// kept and carried are how many entries the journal has had, and how many of them the database has.
	kept, carried int64
	// late says that the database did not take the last batch.
	late bool

	wake, stop chan struct{}
	carrying   sync.WaitGroup
}

// openJournal opens the journal in a folder and carries over what earlier processes have left there for this database.
func (s *Store) openJournal(ctx context.Context, folder string) error {
	instance := sha256.Sum256(s.cursor)
	owner := make([]byte, 8)
	rand.Read(owner)
	j := &auditJournal{folder: filepath.Join(folder, hex.EncodeToString(instance[:8])), owner: hex.EncodeToString(owner),
		lines: &auditLines{}, wake: make(chan struct{}, 1), stop: make(chan struct{})}
	if err := os.MkdirAll(j.folder, 0o700); err != nil {
		return unkept(err)
	}
	left, err := leftBatches(j.folder)
	if err != nil {
		return unkept(err)
	}
	for i, b := range left {
		lines, err := b.entries()
		if err == nil {
			err = s.carry(ctx, b, lines)
		}
		if err == nil {
			err = b.remove()
		}
		if err == nil && (i+1 == len(left) || left[i+1].owner != b.owner) {
			err = s.forgetJournal(ctx, b.owner)
		}
		if err != nil {
			return fmt.Errorf("storage: carry over what %s holds: %w", b.path(), err)
		}
	}
	if j.current, err = newAuditBatch(j.folder, j.owner, 1); err != nil {
		return unkept(err)
	}
	spare, err := newAuditBatch(j.folder, j.owner, 2)
	if err != nil {
		return unkept(err)
	}
	s.journal = j
	j.carrying.Go(func() { s.carryAll(j, spare) })
	return nil
}

// unkept says why a server without a place for its journal does not start, and how it can.
func unkept(err error) error {
	return fmt.Errorf("storage: the journal of the audit log: %w (KILN_AUDIT=database does without a journal)", err)
}

// keep writes entries into the journal and says whether it did. Otherwise the database must have them at once.
func (j *auditJournal) keep(list []AuditEntry) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.current == nil || j.late || j.lines.entries+len(list) > maxJournal {
		return false
	}
	begin := j.lines.write(list)
	if j.current.append(j.lines.text[begin:]) != nil {
		j.lines.text = j.lines.text[:begin]
		return false
	}
	j.lines.note(begin, list[0].Recorded, len(list))
	j.kept += int64(len(list))
	select {
	case j.wake <- struct{}{}:
	default:
	}
	return true
}

// waiting is how many entries the journal holds, and since when.
func (j *auditJournal) waiting() (n int, since time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if n = j.lines.entries; n > 0 {
		since = j.lines.rows[0].recorded
	}
	return n, since
}

// counts are kept and carried.
func (j *auditJournal) counts() (kept, carried int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.kept, j.carried
}

// turn gives the carrier what is there, and puts what comes next into another file and into empty lines.
func (j *auditJournal) turn(next *auditBatch, empty *auditLines) (full *auditBatch, lines *auditLines) {
	j.mu.Lock()
	defer j.mu.Unlock()
	full, lines = j.current, j.lines
	j.current, j.lines = next, empty
	return full, lines
}

// carryAll carries entries until the journal is closed and empty.
func (s *Store) carryAll(j *auditJournal, spare *auditBatch) {
	last, empty := false, &auditLines{}
	for !last {
		select {
		case <-j.wake:
			select {
			case <-time.After(auditGather):
			case <-j.stop:
			}
		case <-j.stop:
			last = true
		}
		if last {
			spare.remove()
			spare = nil
		}
		full, lines := j.turn(spare, empty)
		if !s.carryOn(j, full, lines) {
			// The next process carries what is left.
			for _, b := range []*auditBatch{full, spare} {
				if b != nil {
					b.file.Close()
				}
			}
			return
		}
		if last {
			if full.remove() == nil {
				ctx, cancel := context.WithTimeout(context.Background(), s.options.StatementTimeout)
				_ = s.forgetJournal(ctx, j.owner) // a row that nobody looks at any more
				cancel()
			}
			return
		}
		if err := full.renew(full.number + 2); err != nil { // the database must have everything at once from now on
			full, lines = j.turn(nil, &auditLines{})
			s.carryOn(j, full, lines)
			return
		}
		spare, empty = full, lines
		empty.reset()
	}
}

// carryOn tries until the database has a batch, or the journal is closed.
func (s *Store) carryOn(j *auditJournal, b *auditBatch, lines *auditLines) bool {
	for {
		ctx, cancel := context.WithTimeout(context.Background(), s.options.StatementTimeout)
		err := s.carry(ctx, b, lines)
		cancel()
		j.mu.Lock()
		if j.late = err != nil; !j.late {
			j.carried += int64(lines.entries)
		}
		j.mu.Unlock()
		if err == nil {
			return true
		}
		select {
		case <-j.stop:
			return false
		case <-time.After(auditRetry):
		}
	}
}

const (
	// A batch whose number the database knows is there already: who carried it did not live to take the file away.
	sqlCarry = `
WITH fresh AS (
  INSERT INTO public.audit_journal AS j (owner, batch) VALUES ($4, $5)
  ON CONFLICT (owner) DO UPDATE SET batch = EXCLUDED.batch WHERE j.batch < EXCLUDED.batch RETURNING true)
INSERT INTO public.audit_entry (recorded, entry, lines)
SELECT t, e, nullif(n, 1) FROM fresh, unnest($1::timestamptz[], $2::text[], $3::integer[]) AS u(t, e, n)`
	// The file goes once the database has the entries on disk.
	sqlOnDisk        = `SELECT set_config('synchronous_commit', 'on', true)`
	sqlForgetJournal = `DELETE FROM public.audit_journal WHERE owner = $1`
)

// carry writes the entries of one batch into the database, once, however often it is called.
func (s *Store) carry(ctx context.Context, b *auditBatch, lines *auditLines) error {
	if lines.entries == 0 {
		return nil
	}
	batch := &pgx.Batch{}
	batch.Queue(sqlOnDisk)
	batch.Queue(sqlCarry, append(lines.columns(), b.owner, b.number)...)
	return s.log.SendBatch(ctx, batch).Close()
}

func (s *Store) forgetJournal(ctx context.Context, owner string) error {
	_, err := s.log.Exec(ctx, sqlForgetJournal, owner)
	return err
}

// close carries what is left and waits for that.
func (j *auditJournal) close() {
	close(j.stop)
	j.carrying.Wait()
}
