package storage

import (
	"context"
	"errors"
	"time"
)

// Retention says how long rows are kept that only the server itself needs. What patients' records are made of, and the
// audit log, are never cleared.
type Retention struct {
	// Answers are those recorded for an Idempotency-Key.
	Answers time.Duration
	// CoverageAnswers are what the server notes of what payers said. The responses themselves stay.
	CoverageAnswers time.Duration
	// Messages are those kept for want of a mail server.
	Messages time.Duration
}

const (
	// keepGrants is how long an ended break-glass grant stays among the relationships of treatment; what was claimed stays for good.
	keepGrants = 24 * time.Hour
	// keepEventsOff is how long the events of a Subscription that is off can be asked for.
	keepEventsOff = 90 * 24 * time.Hour
	// forgetAtOnce is how many rows one statement clears, so that none is locked for long.
	forgetAtOnce = 5000
)

// The statements of Forget. $1 is a time, what is older goes; $2 the number of rows.
const (
	sqlForgetAnswers = `DELETE FROM idempotency WHERE ctid = ANY(ARRAY(SELECT ctid FROM idempotency WHERE created < $1 LIMIT $2))`
	// A visit to come keeps the answer that it was booked on, and a question without an answer is still asked.
	sqlForgetCoverage = `
DELETE FROM coverage_answer WHERE ctid = ANY(ARRAY(SELECT a.ctid FROM coverage_answer a WHERE a.asked < $1 AND a.due IS NULL AND NOT EXISTS (
  SELECT FROM coverage_check c WHERE c.response = a.response AND c.visit >= $3::date) LIMIT $2))`
	sqlForgetKept   = `DELETE FROM kept_message WHERE ctid = ANY(ARRAY(SELECT ctid FROM kept_message WHERE made < $1 LIMIT $2))`
	sqlForgetSent   = `DELETE FROM message_sent WHERE ctid = ANY(ARRAY(SELECT ctid FROM message_sent WHERE at < $1 LIMIT $2))`
	sqlForgetGrants = `DELETE FROM treatment WHERE ctid = ANY(ARRAY(SELECT ctid FROM treatment WHERE source = 0 AND high < $1 LIMIT $2))`
	sqlForgetEvents = `
DELETE FROM subscription_event WHERE ctid = ANY(ARRAY(SELECT e.ctid FROM subscription_event e JOIN subscription s ON s.id = e.subscription
  WHERE s.status = 'off' AND e.at < $1 LIMIT $2))`
)

// Forget clears what is older at a time than it is kept. Whatever fails does not keep the rest from being cleared.
func (s *Store) Forget(ctx context.Context, now time.Time, r Retention) error {
	var fault error
	for _, x := range []struct {
		sql  string
		kept time.Duration
		more []any
	}{
		{sqlForgetAnswers, r.Answers, nil},
		{sqlForgetCoverage, r.CoverageAnswers, []any{now.AddDate(0, 0, -1).Format(time.DateOnly)}}, // a day is left for zones
		{sqlForgetKept, r.Messages, nil},
		{sqlForgetSent, messageDay, nil},
		{sqlForgetGrants, keepGrants, nil},
		{sqlForgetEvents, keepEventsOff, nil},
	} {
		for full := true; full; {
			tag, err := s.pool.Exec(ctx, x.sql, append([]any{now.Add(-x.kept), forgetAtOnce}, x.more...)...)
			fault = errors.Join(fault, translate(err))
			full = err == nil && tag.RowsAffected() == forgetAtOnce
		}
	}
	return fault
}
