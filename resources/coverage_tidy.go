package resources

import (
	"context"
	"errors"
	"time"
)

// afterwards does what a committed transaction has left to do: put questions of clients to their payers, and look again at
// visits that staff have settled. What fails is due again in the background.
func (s *Service) afterwards(ctx context.Context, notes []any) {
	var requests []string
	for _, n := range notes {
		switch n := n.(type) {
		case submitted:
			if len(requests) < maxAsked {
				requests = append(requests, string(n))
			}
		case settled:
			_ = s.recheckVisit(ctx, string(n))
		}
	}
	if len(requests) > 0 {
		_ = s.answerAll(ctx, requests)
	}
}

// submitted is the note of a CoverageEligibilityRequest that a client has stored, settled that of an appointment.
type (
	submitted string
	settled   string
)

// TidyCoverage asks payers again that have not answered, and looks again at the coverage of visits, until ctx ends.
func (s *Service) TidyCoverage(ctx context.Context, report func(error)) {
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	for {
		if err := s.RecheckCoverage(ctx); err != nil && ctx.Err() == nil {
			report(err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// maxBatches is how many batches of maxAsked one round takes: what is left then has waited for others long enough to be
// looked at after the visits.
const maxBatches = 50

// RecheckCoverage is one round of TidyCoverage.
func (s *Service) RecheckCoverage(ctx context.Context) error {
	ctx = unattended(ctx)
	return errors.Join(
		s.takeDue(ctx, s.store.DueAnswers, s.answerRequest),
		s.takeDue(ctx, s.store.DueChecks, s.recheckVisit))
}

// takeDue does what is due, batch by batch: of many questions to a payer that hangs the few that are asked take their time, and
// all others none, so that what is due behind them has its turn.
func (s *Service) takeDue(ctx context.Context, due func(context.Context, time.Time, int) ([]string, error), do func(context.Context, string) error) (fault error) {
	for range maxBatches {
		names, err := due(ctx, s.now().Add(askLease), maxAsked)
		if err != nil {
			return errors.Join(fault, err)
		}
		fault = errors.Join(fault, severalAtOnce(names, func(name string) error { return do(ctx, name) }))
		if len(names) < maxAsked || ctx.Err() != nil {
			break
		}
	}
	return fault
}
