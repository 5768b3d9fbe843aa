package storage

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// CoverageAnswer is what has become of a question to a payer: of one CoverageEligibilityRequest.
type CoverageAnswer struct {
	// Request and Response are relative references; Response is "" until there is one.
	Request, Response string
	// Coverage is what a booking asked about, in a version, and Question the rest of what it asked; "" where a client asked.
	Coverage string
	Version  int
	Question string
	Outcome  string
	Asked    time.Time
	Tries    int
	// Due is when the payer is asked again; zero for never.
	Due time.Time
	// Benefit, Recorded and Since say how visits that are booked add to what is used: those from the date Since on.
	Benefit  string
	Recorded int
	Since    string
}

const answerColumns = `request, coalesce(response, ''), coalesce(coverage, ''), coalesce(coverage_version, 0), coalesce(question, ''), outcome, asked, tries,
  coalesce(benefit, ''), recorded, coalesce(to_char(since, 'YYYY-MM-DD'), '')`

func scanAnswer(row pgx.CollectableRow) (*CoverageAnswer, error) {
	a := &CoverageAnswer{}
	err := row.Scan(&a.Request, &a.Response, &a.Coverage, &a.Version, &a.Question, &a.Outcome, &a.Asked, &a.Tries, &a.Benefit, &a.Recorded, &a.Since)
	a.Asked = a.Asked.UTC()
	return a, err
}

func (tx *Tx) answers(ctx context.Context, sql string, args ...any) (a *CoverageAnswer, err error) {
	err = tx.system(ctx, func(rows pgx.Rows) error {
		list, err := pgx.CollectRows(rows, scanAnswer)
		if len(list) > 0 {
			a = list[0]
		}
		return err
	}, sql, args...)
	return a, err
}

const sqlCoverageAnswer = `SELECT ` + answerColumns + ` FROM coverage_answer
WHERE coverage = $1 AND coverage_version = $2 AND question = $3 AND response IS NOT NULL AND asked > $4 ORDER BY asked DESC LIMIT 1`

// CoverageAnswer is the newest answer to a question about a version of a Coverage, if it was asked after a moment.
func (tx *Tx) CoverageAnswer(ctx context.Context, coverage string, version int, question string, after time.Time) (*CoverageAnswer, error) {
	return tx.answers(ctx, sqlCoverageAnswer, coverage, version, question, after)
}

const sqlAnswerTo = `SELECT ` + answerColumns + ` FROM coverage_answer WHERE request = $1 FOR UPDATE`

// AnswerTo is what has become of a request, locked; nil where it was put to nobody.
func (tx *Tx) AnswerTo(ctx context.Context, request string) (*CoverageAnswer, error) {
	return tx.answers(ctx, sqlAnswerTo, request)
}

const sqlSaveAnswer = `
INSERT INTO coverage_answer (request, response, coverage, coverage_version, question, outcome, asked, tries, due, benefit, recorded, since)
VALUES ($1, nullif($2, ''), nullif($3, ''), nullif($4, 0), nullif($5, ''), $6, $7, $8, $9, nullif($10, ''), $11, nullif($12, '')::date)
ON CONFLICT (request) DO UPDATE SET response = EXCLUDED.response, outcome = EXCLUDED.outcome, asked = EXCLUDED.asked, tries = EXCLUDED.tries,
  due = EXCLUDED.due, benefit = EXCLUDED.benefit, recorded = EXCLUDED.recorded, since = EXCLUDED.since`

// SaveAnswer queues what has become of a question.
func (tx *Tx) SaveAnswer(a *CoverageAnswer) {
	tx.exec(sqlSaveAnswer, a.Request, a.Response, a.Coverage, a.Version, a.Question, a.Outcome, a.Asked, a.Tries, optionalTime(a.Due), a.Benefit, a.Recorded, a.Since)
}

func optionalTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

const sqlPostponeAnswer = `UPDATE coverage_answer SET due = $2 WHERE request = $1 AND due IS NOT NULL`

// PostponeAnswer queues that the payer of a request without an answer is asked again at a time.
func (tx *Tx) PostponeAnswer(request string, due time.Time) { tx.exec(sqlPostponeAnswer, request, due) }

const sqlDropAnswer = `DELETE FROM coverage_answer WHERE response = $1 OR request = $1`

// DropAnswer queues that a response, or a request, counts no more: somebody else has written it over.
func (tx *Tx) DropAnswer(reference string) { tx.exec(sqlDropAnswer, reference) }

const sqlDueAnswers = `
UPDATE coverage_answer SET due = $2 WHERE request IN (
  SELECT request FROM coverage_answer WHERE due <= $1 ORDER BY due LIMIT $3 FOR UPDATE SKIP LOCKED) RETURNING request`

// DueAnswers takes requests whose payer is to be asked again. Who takes them has until lease; then they are due again.
func (s *Store) DueAnswers(ctx context.Context, lease time.Time, limit int) ([]string, error) {
	return s.claim(ctx, sqlDueAnswers, lease, limit)
}

func (s *Store) claim(ctx context.Context, sql string, lease time.Time, limit int) ([]string, error) {
	rows, err := s.pool.Query(ctx, sql, s.options.Now().UTC(), lease, limit)
	if err != nil {
		return nil, translate(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return list, translate(err)
}

// CoverageCheck is what the gate has made of a visit.
type CoverageCheck struct {
	Appointment        string
	Coverage, Response string
	Benefit            string
	// Visit is the date of the visit.
	Visit string
	// State is passed, self-pay, open or failed; Codes are what was found.
	State   string
	Codes   []string
	Cleared bool
	// Task is what asks staff to settle it, or "".
	Task string
	// Next is when to look again; zero for never.
	Next time.Time
}

const sqlCheck = `SELECT appointment, coalesce(coverage, ''), coalesce(response, ''), coalesce(benefit, ''), to_char(visit, 'YYYY-MM-DD'), state, codes, cleared,
  coalesce(task, ''), next FROM coverage_check WHERE appointment = $1`

// CoverageCheck is what the gate has made of an appointment, or nil. The appointment's lock protects it.
func (tx *Tx) CoverageCheck(ctx context.Context, appointment string) (c *CoverageCheck, err error) {
	err = tx.system(ctx, func(rows pgx.Rows) error {
		for rows.Next() {
			c = &CoverageCheck{}
			var next *time.Time
			if err := rows.Scan(&c.Appointment, &c.Coverage, &c.Response, &c.Benefit, &c.Visit, &c.State, &c.Codes, &c.Cleared, &c.Task, &next); err != nil {
				return err
			}
			if next != nil {
				c.Next = next.UTC()
			}
		}
		return rows.Err()
	}, sqlCheck, appointment)
	return c, err
}

const sqlSaveCheck = `
INSERT INTO coverage_check (appointment, coverage, response, benefit, visit, state, codes, cleared, task, next)
VALUES ($1, nullif($2, ''), nullif($3, ''), nullif($4, ''), $5::date, $6, $7, $8, nullif($9, ''), $10)
ON CONFLICT (appointment) DO UPDATE SET coverage = EXCLUDED.coverage, response = EXCLUDED.response, benefit = EXCLUDED.benefit, visit = EXCLUDED.visit,
  state = EXCLUDED.state, codes = EXCLUDED.codes, cleared = EXCLUDED.cleared, task = EXCLUDED.task, next = EXCLUDED.next`

// SaveCheck queues what the gate has made of an appointment whose Booking is there, or queued.
func (tx *Tx) SaveCheck(c *CoverageCheck) {
	codes := c.Codes
	if codes == nil {
		codes = []string{}
	}
	tx.exec(sqlSaveCheck, c.Appointment, c.Coverage, c.Response, c.Benefit, c.Visit, c.State, codes, c.Cleared, c.Task, optionalTime(c.Next))
}

const sqlDropCheck = `DELETE FROM coverage_check WHERE appointment = $1`

// DropCheck queues that nothing is known of the coverage of an appointment.
func (tx *Tx) DropCheck(appointment string) { tx.exec(sqlDropCheck, appointment) }

const (
	sqlRecheck         = `UPDATE coverage_check SET next = $2 WHERE appointment = $1`
	sqlRecheckCoverage = `UPDATE coverage_check SET next = $2, cleared = false WHERE coverage = $1 AND visit >= $3::date`
	sqlRecheckResponse = `UPDATE coverage_check SET next = $2 WHERE response = $1 AND visit >= $3::date`
	sqlRecheckPatient  = `UPDATE coverage_check c SET next = $2 FROM booking b WHERE b.patient = $1 AND b.appointment = c.appointment AND c.state IN ('open', 'failed') AND c.visit >= $3::date`
	sqlClearCoverage   = `UPDATE coverage_check SET next = $2, cleared = true WHERE task = $1`
)

// Recheck queues that an appointment is looked at again at a time; the zero time is never.
func (tx *Tx) Recheck(appointment string, at time.Time) {
	tx.exec(sqlRecheck, appointment, optionalTime(at))
}

// RecheckCoverage queues that all coming visits with a Coverage are looked at again, RecheckResponse those with a
// response. A day is left for zones. What staff have settled about another Coverage than it is now is open again.
func (tx *Tx) RecheckCoverage(coverage string) {
	tx.exec(sqlRecheckCoverage, coverage, tx.Now(), tx.yesterday())
}

// RecheckResponse is RecheckCoverage for those with a CoverageEligibilityResponse.
func (tx *Tx) RecheckResponse(response string) {
	tx.exec(sqlRecheckResponse, response, tx.Now(), tx.yesterday())
}

func (tx *Tx) yesterday() string { return tx.Now().AddDate(0, 0, -1).Format(time.DateOnly) }

// RecheckPatient queues that the coming visits of a patient are looked at again whose coverage is not in order.
func (tx *Tx) RecheckPatient(patient string) {
	tx.exec(sqlRecheckPatient, patient, tx.Now(), tx.yesterday())
}

// ClearCoverage queues that staff have settled the coverage of the visit that a Task is about.
func (tx *Tx) ClearCoverage(task string) { tx.exec(sqlClearCoverage, task, tx.Now()) }

const sqlDueChecks = `
UPDATE coverage_check SET next = $2 WHERE appointment IN (
  SELECT appointment FROM coverage_check WHERE next <= $1 ORDER BY next LIMIT $3 FOR UPDATE SKIP LOCKED) RETURNING appointment`

// DueChecks takes appointments whose coverage is to be looked at again, as DueAnswers does.
func (s *Store) DueChecks(ctx context.Context, lease time.Time, limit int) ([]string, error) {
	return s.claim(ctx, sqlDueChecks, lease, limit)
}

const sqlCoverageUses = `
SELECT count(*) FROM coverage_check c JOIN booking b USING (appointment)
WHERE c.coverage = $1 AND c.benefit = $2 AND c.appointment <> $5
AND c.visit >= coalesce(nullif($3, '')::date, '-infinity') AND c.visit <= coalesce(nullif($4, '')::date, 'infinity')
AND b.state IN ('awaiting', 'booked', 'arrived', 'checked-in', 'fulfilled')`

// CoverageUses counts the visits that are booked with a Coverage for a benefit within dates, one left out. "" is no bound.
func (tx *Tx) CoverageUses(ctx context.Context, coverage, benefit, from, to, except string) (n int, err error) {
	err = tx.system(ctx, func(rows pgx.Rows) (err error) {
		n, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[int])
		return err
	}, sqlCoverageUses, coverage, benefit, from, to, except)
	return n, err
}

const sqlSetDue = `UPDATE booking SET due = $2 WHERE appointment = $1`

// SetDue queues until when an appointment waits.
func (tx *Tx) SetDue(appointment string, due time.Time) {
	tx.exec(sqlSetDue, appointment, optionalTime(due))
}

// Note leaves something for the end of the work of this try; Noted gives it back.
func (tx *Tx) Note(n any) { tx.notes = append(tx.notes, n) }

// Noted are all notes of this try.
func (tx *Tx) Noted() []any { return tx.notes }
