package resources

import (
	"context"
	"time"

	"kiln/fhir"
	"kiln/resources/scheduling"
	"kiln/storage"
)

// A patient who moves a visit that the practitioner has to approve asks for it: the new time is taken beside the old
// one, and the extension requested-time tells of it, until the practitioner answers or the time for that is over.

// askTo notes the time that is asked for.
func askTo(n *fhir.Node, start, end time.Time) {
	var kept []fhir.Node
	for e := range n.Get("extension").Items() {
		if e.GetText("url") != scheduling.ExtensionRequestedTime {
			kept = append(kept, *e)
		}
	}
	if !start.IsZero() {
		kept = append(kept, fhir.Obj(fhir.Str(scheduling.ExtensionRequestedTime).As("url"),
			fhir.Obj(fhir.Str(fhir.FormatInstant(start)).As("start"), fhir.Str(fhir.FormatInstant(end)).As("end")).As("valuePeriod")))
	}
	if len(kept) == 0 {
		n.Remove("extension")
	} else {
		n.Set("extension", fhir.Arr(kept...))
	}
}

// askedFor is the time that is asked for, or zero.
func askedFor(n *fhir.Node) (start, end time.Time) {
	for e := range n.Get("extension").Items() {
		if e.GetText("url") == scheduling.ExtensionRequestedTime {
			return instant(e.At("valuePeriod", "start")), instant(e.At("valuePeriod", "end"))
		}
	}
	return start, end
}

// ask takes the new time and keeps the old one.
func (s *Service) ask(ctx context.Context, m *move) error {
	if start, _ := askedFor(m.before); !start.IsZero() {
		return fhir.NewError(fhir.BusinessRule, fhir.CodeBusinessRule, "Another time has been asked for already; wait for the answer, or cancel").
			Coded("needs-approval").At("Appointment.extension")
	}
	wanted, content, c := *m.visit, m.after.Clone(), *m.change
	wanted.start, wanted.end = askedFor(m.after)
	wanted.slots, wanted.named = nil, nil
	content.Remove("slot")
	c.after = &content
	asked := *m
	asked.visit, asked.change = &wanted, &c
	if err := s.fillTime(ctx, &asked); err != nil {
		return err
	}
	for _, condition := range m.row.Conditions {
		if err := s.meets(ctx, &asked, condition); err != nil {
			return err
		}
	}
	lost, _, err := m.tx.Take(ctx, m.reference, time.Time{}, wanted.claims(storage.AllocationBusy, false)...)
	if err != nil {
		return err
	}
	if len(lost) > 0 {
		return taken(&asked, lost)
	}
	b := *m.was
	b.Due, b.Moves = s.answerDue(wanted.start), b.Moves+1
	if early := s.answerDue(m.visit.start); early.Before(b.Due) {
		b.Due = early
	}
	m.tx.SaveBooking(&b)
	return nil
}

// answerDue is until when the practitioner may answer for a visit that starts then.
func (s *Service) answerDue(start time.Time) time.Time {
	now := s.now()
	due := now.Add(answerTime)
	if early := start.Add(-answerAhead); early.Before(due) {
		due = early
	}
	if least := now.Add(answerLeast); due.Before(least) {
		due = least
	}
	return due
}
