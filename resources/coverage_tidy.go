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

// RecheckCoverage is one round of TidyCoverage.
func (s *Service) RecheckCoverage(ctx context.Context) error {
	ctx = unattended(ctx)
	requests, err := s.store.DueAnswers(ctx, s.now().Add(askLease), maxAsked)
	if err != nil {
		return err
	}
	fault := s.answerAll(ctx, requests)
	visits, err := s.store.DueChecks(ctx, s.now().Add(askLease), maxAsked)
	if err != nil {
		return errors.Join(fault, err)
	}
	for _, name := range visits {
		fault = errors.Join(fault, s.recheckVisit(ctx, name))
	}
	return fault
}
