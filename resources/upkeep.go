package resources

import (
	"cmp"
	"context"
	"errors"
	"time"

	"kiln/storage"
)

// The defaults of Options.Keep.
const (
	DefaultKeepCoverageAnswers = 30 * 24 * time.Hour
	DefaultKeepMessages        = 30 * 24 * time.Hour
)

// Upkeep clears what need not be kept any more: answers to requests with an Idempotency-Key after AnswersKept, the rest
// after the times of Options.Keep. And it keeps the texts of the index in order, should they never have come to rest. It is a job that one server does once an hour.
func (s *Service) Upkeep(ctx context.Context) error {
	k := s.options.Keep
	return errors.Join(s.store.Forget(ctx, s.now(), storage.Retention{Answers: AnswersKept,
		CoverageAnswers: cmp.Or(k.CoverageAnswers, DefaultKeepCoverageAnswers), Messages: cmp.Or(k.Messages, DefaultKeepMessages)}),
		s.store.OrderTexts(ctx, nil))
}
