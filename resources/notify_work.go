package resources

import (
	"context"
	"slices"
	"sync"
	"time"

	"kiln/fhir"
	"kiln/resources/message"
	"kiln/resources/scheduling"
	"kiln/storage"
)

// WorkMessages sends what is to be sent until ctx ends.
func (s *Service) WorkMessages(ctx context.Context) {
	var beside sync.WaitGroup
	beside.Go(func() { s.watchSubscriptions(ctx) })
	beside.Go(func() { s.planReminders(ctx) })
	s.store.WorkJobs(ctx, storage.JobOptions{Do: s.DoJob, Upkeep: s.Upkeep, Logger: s.options.Messages.Logger})
	beside.Wait()
}

// DoJob does one job of the outbox.
func (s *Service) DoJob(ctx context.Context, j storage.Job) error {
	ctx = everything(ctx)
	switch j.Task {
	case taskTell:
		return s.tell(ctx, j)
	case taskSend:
		return s.sendOne(ctx, j)
	}
	if j.Task == taskHook {
		return s.callHook(ctx, j)
	}
	return &storage.Dropped{Why: "this version of Kiln does not know the task " + j.Task}
}

// audience says which sides of a visit are told of an event.
func audience(e message.Event) (patient, practitioner bool) {
	switch e {
	case message.Requested, message.MoveAsked:
		return false, true
	case message.Declined, message.Countered, message.MoveRefused, message.Offered, message.Reminder, message.Coverage, message.Result:
		return true, false
	}
	return true, true
}

// subject is what a message is about, as it is now.
type subject struct {
	node  *fhir.Node
	visit *visit // nil for a report
	// state is the standing of an appointment, settled the same without a time that is only asked for.
	state, settled string
	// patient is whose it is; people are those who may be told, with their side.
	patient       string
	patients      []string
	practitioners []string
	due           time.Time
}

// readSubject reads it; nil where there is none any more.
func (s *Service) readSubject(ctx context.Context, tx *storage.Tx, reference string) (*subject, error) {
	found, err := s.readAll(ctx, tx, reference)
	if err != nil || found[reference] == nil {
		return nil, err
	}
	x := &subject{node: found[reference]}
	if typeOf(reference) != "Appointment" {
		if x.patient = s.local(x.node.Get("subject")); typeOf(x.patient) == "Patient" {
			x.patients = []string{x.patient}
		}
		return x, nil
	}
	b, err := tx.Booking(ctx, reference)
	if err != nil || b == nil {
		return nil, err
	}
	if x.visit, err = s.readVisit(ctx, tx, x.node); err != nil {
		return nil, err
	}
	asked, _ := askedFor(x.node)
	x.state, x.settled = standing(scheduling.State(b.State), b.Start, asked), standing(scheduling.State(b.State), b.Start, time.Time{})
	x.visit.start, x.patient, x.due = b.Start, x.visit.patient, b.Due
	if x.visit.zone == nil && b.Zone != "" {
		x.visit.zone, _ = time.LoadLocation(b.Zone)
	}
	for _, p := range x.visit.participants {
		switch typeOf(p.person) {
		case "Patient", "RelatedPerson":
			x.patients = append(x.patients, p.person)
		case "Practitioner":
			x.practitioners = append(x.practitioners, p.person)
		}
	}
	return x, nil
}

var errGone = &storage.Dropped{Why: "what it was about is gone or has changed since"}

// tell orders a message for everybody who is told of an event, and the reminders of a visit that has been settled. An
// event is told of to whoever brought it about too, where that is the patient: as a receipt, and since it may have been
// somebody else in their name.
func (s *Service) tell(ctx context.Context, j storage.Job) error {
	e := message.Event(j.Event)
	return s.store.Write(ctx, func(tx *storage.Tx) error {
		x, err := s.readSubject(ctx, tx, j.Subject)
		if err != nil {
			return err
		}
		if x == nil || j.State != x.state && !(e == message.Coverage && j.State == x.settled) {
			return errGone
		}
		var jobs []storage.Job
		one := storage.Job{Task: taskSend, Subject: j.Subject, Version: j.Version, Event: j.Event, State: j.State}
		patients, practitioners := audience(e)
		if patients {
			for _, who := range x.patients {
				one.Recipient = who
				jobs = append(jobs, one)
			}
		}
		if practitioners {
			for _, who := range x.practitioners {
				if one.Recipient = who; who != j.By {
					jobs = append(jobs, one)
				}
			}
		}
		if slices.Contains([]message.Event{message.Booked, message.Approved, message.Moved}, e) {
			jobs = append(jobs, s.reminders(j.Subject, x)...)
		}
		return tx.Enqueue(ctx, jobs...)
	})
}

// leastAhead is how far off a reminder has to be to be planned: who books a visit for the next hours has just been told.
const leastAhead = time.Hour

// reminders are those of a visit. They belong to its time, not to a version: a comment changes nothing, and where the visit
// is moved the old ones find it elsewhere.
func (s *Service) reminders(appointment string, x *subject) (jobs []storage.Job) {
	for _, before := range message.Reminders() {
		at := x.visit.start.Add(-before)
		if at.Before(s.now().Add(leastAhead)) {
			continue
		}
		for _, who := range x.patients {
			jobs = append(jobs, storage.Job{Task: taskSend, Subject: appointment, Event: string(message.Reminder), Before: before,
				Recipient: who, State: x.settled, At: at})
		}
	}
	return jobs
}
