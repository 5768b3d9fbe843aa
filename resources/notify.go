package resources

import (
	"context"
	"log/slog"
	"time"

	"kiln/fhir"
	"kiln/resources/message"
	"kiln/resources/scheduling"
	"kiln/storage"
)

// Messages says how people are told of what happens to them.
type Messages struct {
	// Mailer sends e-mail; nil keeps messages on the server, where administrators see them.
	Mailer Mailer
	// Quiet are the hours in which messages wait, in the recipient's zone; Zone is that of who has none.
	Quiet message.Quiet
	Zone  *time.Location
	// Limit is how many e-mails one address gets at most; beyond it messages wait. Zero fields mean the defaults.
	Limit storage.MessageLimit
	// Portal is a page that messages point to; "" for none.
	Portal string
	// Hooks calls the endpoints of Subscriptions; nil where the operator allows none.
	Hooks Caller
	// Logger is told that a message was made, never what it says.
	Logger *slog.Logger

	texts *message.Texts
}

// Mailer sends one e-mail, and returns when the mail server has taken it.
//
// Errors: *Refused where trying again is of no use. What they say is kept with the job, so it tells nothing of the mail.
type Mailer interface {
	Send(context.Context, Mail) error
}

// Mail is one e-mail. A mail that is sent twice has the same ID.
type Mail struct{ ID, To, Language, Subject, Body string }

// Refused says that somebody else's server will not take something, however often it is tried.
type Refused struct{ Why string }

func (r *Refused) Error() string { return r.Why }

// The tasks of jobs.
const (
	taskTell = "tell" // find out whom to tell of an event, and plan reminders
	taskSend = "send" // one message for one person
)

// eventsOf are what people are told of a step of the table (scheduling.Table), by the number of its row; steps that are not
// here concern nobody else.
var eventsOf = map[int]message.Event{
	3: message.Requested, 4: message.Booked, 5: message.Approved, 6: message.Declined, 7: message.Countered, 9: message.Cancelled,
	10: message.Moved, 11: message.Cancelled, 13: message.Cancelled, 17: message.Offered, 18: message.Cancelled,
}

// event is what there is to tell of a step; "" for nothing.
func (m *move) event() message.Event {
	e := eventsOf[m.row.Row]
	switch {
	case m.onlyCoverage: // whoever books is told by the answer, and everybody when it is settled
		e = ""
	case m.trigger == scheduling.ByCoverage:
		e = message.Booked
	case m.row.Row == 9 && m.trigger == scheduling.ByExpiry:
		e = message.Expired
	case m.row.Row == 10 && m.intent.ask:
		e = message.MoveAsked
	case m.row.Row == 10 && m.was != nil && m.was.Start.Equal(m.visit.start):
		e = message.MoveRefused
	case m.row.Row == 17 && m.to != scheduling.Hold, m.row.Row == 18 && !expected(m):
		e = ""
	}
	return e
}

// expected says whether somebody still expects the visit to take place.
func expected(m *move) bool {
	return (m.from == scheduling.Booked || m.from == scheduling.Awaiting) && m.visit.start.After(m.tx.Now())
}

// announce orders that people are told of a step, in its transaction.
func (s *Service) announce(ctx context.Context, m *move) error {
	e := m.event()
	if e == "" {
		return nil
	}
	start, to := m.visit.start, m.to
	if m.intent.ask {
		start, to = m.was.Start, scheduling.State(m.was.State)
	}
	asked, _ := askedFor(m.after)
	return s.notify(ctx, m.tx, storage.Job{Subject: m.reference, Version: m.next(), Event: string(e), State: standing(to, start, asked),
		By: m.request.Principal.FHIRUser})
}

// next is the version that a change makes.
func (c *change) next() int {
	if c.old == nil {
		return 1
	}
	return c.old.Number + 1
}

// standing is where an appointment stands, as far as messages say it: where it stands elsewhere later, they are not sent.
func standing(state scheduling.State, start, asked time.Time) string {
	text := string(state)
	for _, t := range []time.Time{start, asked} {
		if !t.IsZero() {
			text += " " + fhir.FormatInstant(t)
		}
	}
	return text
}

// notify orders that people are told of an event of an appointment or a report, in the transaction of the change: of
// an event with the same subject, version and standing once. It does nothing where nobody is told, as in an import.
func (s *Service) notify(ctx context.Context, tx *storage.Tx, j storage.Job) error {
	if s.options.Messages == nil {
		return nil
	}
	j.Task = taskTell
	return tx.Enqueue(ctx, j)
}

// notifyOfCoverage orders that the patient is told that the insurance of a booked visit does not hold any more: once
// for each time that the visit is booked for.
func (s *Service) notifyOfCoverage(ctx context.Context, tx *storage.Tx, appointment string) error {
	if s.options.Messages == nil {
		return nil
	}
	b, err := tx.Booking(ctx, appointment)
	if err != nil || b == nil {
		return err
	}
	return s.notify(ctx, tx, storage.Job{Subject: appointment, Event: string(message.Coverage), State: standing(scheduling.State(b.State), b.Start, time.Time{})})
}

// freshResult is how long ago a report may have been issued for its patient to be told: what an import brings is no news.
const freshResult = 48 * time.Hour

// announceResult orders that a patient is told of a report that has become final.
func (s *Service) announceResult(ctx context.Context, c *change) error {
	if c.key.Type != "DiagnosticReport" || c.after == nil || c.after.GetText("status") != "final" ||
		instant(c.after.Get("issued")).Before(s.now().Add(-freshResult)) {
		return nil
	}
	if before, err := c.current(); err != nil || before.GetText("status") == "final" {
		return err
	}
	return s.notify(ctx, c.tx, storage.Job{Subject: c.key.Type + "/" + c.key.ID, Event: string(message.Result), By: c.request.Principal.FHIRUser})
}
