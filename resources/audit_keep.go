package resources

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	"kiln/fhir"
)

// auditTick is how long the worker waits for new entries; auditBatch is how many at a time are many, and auditAtOnce how many
// become AuditEvents in one transaction where so many wait.
const (
	auditTick   = 200 * time.Millisecond
	auditBatch  = 250
	auditAtOnce = 500
)

// While there are requests, the worker rests auditYield times as long as it works, and altogether while auditBatch of them come in an
// auditTick: they are what the machine is there for. What is behind for longer than auditPatience it works off at half of the speed
// there is, and what a search of AuditEvents waits for at all of it.
const (
	auditYield    = 7
	auditPatience = 30 * time.Second
	// auditWait is how long such a search waits.
	auditWait = 3 * time.Second
	// auditRetry is how long the worker waits after an error.
	auditRetry = 5 * time.Second
)

// auditWorker is what the worker and the searches that wait for it know of each other.
type auditWorker struct {
	running atomic.Bool
	hurry   chan struct{}
	// late is until when, in nanoseconds since 1970, nobody waits any more, since one has waited in vain.
	late atomic.Int64
}

// KeepAudit makes AuditEvents of what the log has noted, until ctx ends. All servers of a database do it in turn. report
// is told of what fails and will be tried again.
func (s *Service) KeepAudit(ctx context.Context, report func(error)) {
	s.worker.running.Store(true)
	defer s.worker.running.Store(false)
	var behind time.Time // since when there has been a backlog
	for ctx.Err() == nil {
		began, asked := time.Now(), s.asked.Load()
		n, err := s.ChainAudit(ctx)
		wait := auditTick
		switch {
		case err != nil && ctx.Err() == nil:
			report(err)
			select {
			case <-ctx.Done():
			case <-time.After(auditRetry):
			}
		case n < auditBatch:
			behind = time.Time{}
		default:
			if behind.IsZero() {
				behind = began
			}
			wait = auditRest(time.Since(began), began.Sub(behind), s.asked.Load() != asked)
		}
		for s.crowded(ctx, wait) && (behind.IsZero() || time.Since(behind) < auditPatience) {
			if wait = auditTick; behind.IsZero() {
				behind = time.Now()
			}
		}
	}
}

// crowded rests, or until somebody waits for AuditEvents, and says whether requests came meanwhile that leave no time for anything else.
func (s *Service) crowded(ctx context.Context, wait time.Duration) bool {
	if wait == 0 {
		return false
	}
	began, asked := time.Now(), s.asked.Load()
	select {
	case <-ctx.Done():
		return false
	case <-s.worker.hurry:
		return false
	case <-time.After(wait):
		return float64(s.asked.Load()-asked) >= auditBatch*float64(time.Since(began))/float64(auditTick)
	}
}

// auditRest is how long the worker leaves the machine to requests after a batch that took some time, where more is waiting.
func auditRest(took, behind time.Duration, requests bool) time.Duration {
	switch {
	case !requests:
		return 0
	case behind < auditPatience:
		return auditYield * took
	}
	return took
}

// unlogged lets a search for AuditEvents wait until what was noted before it can be found. It tells what cannot.
func (s *Service) unlogged(ctx context.Context, r *Request) []fhir.Issue {
	if !s.worker.running.Load() || r.Type != auditEventType && !strings.Contains(r.Query, auditEventType) {
		return nil
	}
	if time.Now().UnixNano() > s.worker.late.Load() {
		waiting, cancel := context.WithTimeout(ctx, auditWait)
		defer cancel()
		caught, err := s.store.AwaitAudit(waiting, func() {
			select {
			case s.worker.hurry <- struct{}{}:
			default:
			}
		})
		if err != nil || caught {
			return nil // where the database fails, the search says so
		}
		s.worker.late.Store(time.Now().Add(auditWait).UnixNano())
	}
	return []fhir.Issue{{Severity: fhir.SeverityWarning, Code: fhir.CodeIncomplete,
		Text: "There is much to write into the log at the moment: what was noted last is not found yet. Nothing of it is lost; search again in a minute."}}
}

// ChainAudit makes AuditEvents and Provenances of the oldest entries that have none yet, some auditAtOnce at most, and says how many it took.
func (s *Service) ChainAudit(ctx context.Context) (int, error) {
	return s.store.ChainAudit(ctx, auditAtOnce, s.auditEvents, s.provenances)
}
