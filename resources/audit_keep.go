package resources

import (
	"context"
	"time"
)

// auditBatch is how many entries become AuditEvents in one transaction; auditTick is how long the worker waits for new
// ones.
const (
	auditBatch = 250
	auditTick  = 200 * time.Millisecond
)

// While there are requests, the worker rests auditYield times as long as it works. What is behind for longer than auditPatience it
// works off at half of the speed there is.
const (
	auditYield    = 7
	auditPatience = 30 * time.Second
)

// KeepAudit makes AuditEvents of what the log has noted, until ctx ends. All servers of a database do it in turn. report
// is told of what fails and will be tried again.
func (s *Service) KeepAudit(ctx context.Context, report func(error)) {
	var behind time.Time // since when there has been a backlog
	for {
		began, asked := time.Now(), s.asked.Load()
		n, err := s.ChainAudit(ctx)
		if err != nil && ctx.Err() == nil {
			report(err)
		}
		wait := auditTick
		switch {
		case err != nil:
			wait = 5 * time.Second
		case n < auditBatch:
			behind = time.Time{}
		default:
			if behind.IsZero() {
				behind = began
			}
			wait = auditRest(time.Since(began), began.Sub(behind), s.asked.Load() != asked)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
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

// ChainAudit makes AuditEvents and Provenances of the oldest entries that have none yet, auditBatch at most, and says how many it took.
func (s *Service) ChainAudit(ctx context.Context) (int, error) {
	return s.store.ChainAudit(ctx, auditBatch, s.auditEvents, s.provenances)
}
