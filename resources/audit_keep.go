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

// KeepAudit makes AuditEvents of what the log has noted, until ctx ends. All servers of a database do it in turn. report
// is told of what fails and will be tried again. A backlog is worked off at half of the speed there is, so that requests
// have the other half.
func (s *Service) KeepAudit(ctx context.Context, report func(error)) {
	for {
		began := time.Now()
		n, err := s.ChainAudit(ctx)
		if err != nil && ctx.Err() == nil {
			report(err)
		}
		wait := auditTick
		if n == auditBatch {
			wait = time.Since(began)
		}
		if err != nil {
			wait = 5 * time.Second
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// ChainAudit makes AuditEvents and Provenances of the oldest entries that have none yet, auditBatch at most, and says how many it took.
func (s *Service) ChainAudit(ctx context.Context) (int, error) {
	return s.store.ChainAudit(ctx, auditBatch, s.auditEvents, s.provenances)
}
