package resources

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"kiln/fhir"
	"kiln/resources/scheduling"
	"kiln/storage"
)

// intent is what an operation, a response or the server itself is about to do with an appointment: more than a client
// could say by writing it.
type intent struct {
	trigger scheduling.Trigger
	to      scheduling.State
	// who acts, where that is not found out from the appointment.
	who scheduling.Roles
	// due is when a hold ends; zero for the usual time.
	due time.Time
	// override takes time beyond the capacity and outside of the rules for booking.
	override bool
	// ask takes another time and keeps the old one until somebody answers.
	ask bool
	// answer is what a participant said where the state stays.
	answer bool
	// recheck looks at the coverage once more.
	recheck bool
}

// How long things wait.
const (
	holdTime    = 10 * time.Minute // a hold of a patient who is still typing
	offerTime   = 30 * time.Minute // time that became free, for one who waits
	answerTime  = 24 * time.Hour   // an answer of the practitioner, and
	answerAhead = 2 * time.Hour    // so long before the visit, but
	answerLeast = 15 * time.Minute // never sooner than this
)

// move is one step of one appointment: what the rules look at.
type move struct {
	*change
	before *fhir.Node
	// was is where the appointment stood, nil for a new one.
	was      *storage.Booking
	visit    *visit
	from, to scheduling.State
	trigger  scheduling.Trigger
	who      scheduling.Roles
	row      scheduling.Transition
	intent   intent
	// reference is "Appointment/id".
	reference string
	// check is what the gate made of the visit before, covering what it makes of it now; onlyCoverage says that the visit
	// would be booked if it were not for that.
	check        *storage.CoverageCheck
	covering     *covering
	onlyCoverage bool
	// overbooked says that it takes time beyond the capacity of one of its actors.
	overbooked bool
	// replaces is the appointment that is cancelled when this one, of the waitlist, is booked.
	replaces string
	// told are answers of payers that are stored nowhere: those of a visit that is only asked about.
	told told
}

// allowAppointment is the rule of every write of an Appointment, whichever way it comes: the state moves along the table
// (scheduling.Table) only, and time is taken and given back with it.
func (s *Service) allowAppointment(ctx context.Context, c *change) error {
	m := &move{change: c, reference: c.key.Type + "/" + c.key.ID}
	var err error
	if m.before, err = c.current(); err != nil {
		return err
	}
	if m.was, err = c.tx.Booking(ctx, m.reference); err != nil {
		return err
	}
	if c.after == nil {
		m.fence()
		c.tx.Release(m.reference)
		c.tx.DropBooking(m.reference)
		if m.was != nil {
			c.tx.TouchSlots(m.was.Slots...)
		}
		return nil
	}
	if m.visit, err = s.readVisit(ctx, c.tx, c.after); err != nil {
		return err
	}
	if c.request.intent != nil {
		m.intent = *c.request.intent
	}
	if m.who = m.intent.who; m.who == 0 {
		m.who = s.roleIn(&c.request.Principal, m.visit)
	}
	if m.before != nil && m.was != nil {
		m.from = scheduling.State(m.was.State)
	} else if m.before != nil {
		m.from = scheduling.StateOf(m.before.GetText("status"), false)
	}
	if s.isRecord(m) {
		return s.record(ctx, m)
	}
	if m.was != nil {
		m.overbooked = m.was.Overbooked
		for _, r := range replacing(m.after) {
			if s.local(r) == m.was.Replaces {
				m.replaces = m.was.Replaces
			}
		}
	}
	if err := s.decide(ctx, m); err != nil {
		return err
	}
	m.flag(overbooked, m.overbooked)
	return nil
}

// decide finds out which step a write of an appointment is, and takes it where the table has it and its conditions hold.
func (s *Service) decide(ctx context.Context, m *move) (err error) {
	if m.intent.answer {
		m.to = m.from
		return nil
	}
	if m.intent.recheck {
		return s.recheck(ctx, m)
	}
	if done, err := s.aim(ctx, m); done || err != nil {
		return err
	}
	var allowed []scheduling.State
	var known, ok bool
	if m.row, allowed, known, ok = scheduling.Find(m.from, m.to, m.trigger, m.who); !ok {
		return illegal(m, allowed, known)
	}
	if m.intent.ask {
		if err := s.ask(ctx, m); err != nil {
			return err
		}
		return s.announce(ctx, m)
	}
	if err := s.fillTime(ctx, m); err != nil {
		return err
	}
	for _, condition := range m.row.Conditions {
		if err := s.meets(ctx, m, condition); err != nil {
			return err
		}
	}
	if m.to == scheduling.Waitlist {
		if err := s.readReplaced(ctx, m); err != nil {
			return err
		}
	}
	if err := s.apply(ctx, m); err != nil {
		return err
	}
	if err := s.noteCover(ctx, m); err != nil {
		return err
	}
	return s.announce(ctx, m)
}

// isRecord says whether a write records what has been, or what others have decided: then nothing has to be free, and
// any state will do. That is for administrators and imports.
func (s *Service) isRecord(m *move) bool {
	if m.from != scheduling.None || m.intent.trigger != "" || m.who&scheduling.Admin == 0 {
		return false
	}
	switch scheduling.State(m.after.GetText("status")) {
	case scheduling.Cancelled, scheduling.EnteredInError:
		return true
	case scheduling.Proposed, scheduling.Waitlist:
		return false
	}
	return !m.visit.end.IsZero() && !m.visit.end.After(s.now())
}

// record takes the time of a past visit beside whatever else there was: history is not corrected.
func (s *Service) record(ctx context.Context, m *move) error {
	m.to = scheduling.StateOf(m.after.GetText("status"), false)
	if !m.to.TakesTime() || m.visit.start.IsZero() || !m.visit.start.Before(m.visit.end) {
		if m.to.TakesTime() {
			m.to = scheduling.Proposed // a plan without a time, whatever it calls itself
		}
		m.save(nil, time.Time{})
		return nil
	}
	if err := s.takeTime(ctx, m, storage.AllocationBusy, time.Time{}, true); err != nil {
		return err
	}
	m.overbooked = false // nobody has to know any more
	m.save(m.visit.actors, time.Time{})
	return nil
}

// aim finds out where a write leads. done says that the state stays and nothing is left to do.
func (s *Service) aim(ctx context.Context, m *move) (done bool, err error) {
	status := m.after.GetText("status")
	if m.intent.trigger != "" {
		if m.trigger, m.to = m.intent.trigger, m.intent.to; m.to == scheduling.None {
			m.to = s.wanted(m, "booked")
		}
		return false, nil
	}
	if m.from == scheduling.None {
		m.trigger = scheduling.ByPost
		m.to = s.wanted(m, status)
		return false, nil
	}
	moved := m.moves()
	if status != m.from.Status() {
		m.trigger, m.to = scheduling.ByStatus, scheduling.StateOf(status, false)
		switch {
		case m.from == scheduling.Proposed && status != "cancelled" && status != "entered-in-error":
			m.trigger, m.to = scheduling.ByPost, s.wanted(m, status)
			return false, nil
		case len(moved) > 0:
			return false, useOperation(moved)
		}
		return false, needsMatch(m)
	}
	if len(moved) > 0 {
		if !m.request.Principal.IsOperator() {
			if m.from == scheduling.Proposed || m.from == scheduling.Waitlist {
				return s.keep(ctx, m)
			}
			return false, useOperation(moved)
		}
		if !m.from.TakesTime() {
			return s.keep(ctx, m)
		}
		// An import that comes again moves what it brought.
		m.trigger, m.to = scheduling.ByReschedule, m.from
		if m.from != scheduling.Booked {
			m.trigger, m.from, m.to = scheduling.ByPost, scheduling.None, scheduling.Booked
		}
		return false, nil
	}
	if err := needsMatch(m); err != nil {
		return false, err
	}
	return s.keep(ctx, m)
}

// keep leaves the state as it is.
func (s *Service) keep(ctx context.Context, m *move) (bool, error) {
	if !slices.Equal(s.supports(m.before, "Coverage"), s.supports(m.after, "Coverage")) {
		m.tx.Recheck(m.reference, s.now())
	}
	if m.from == scheduling.Waitlist {
		if err := s.readReplaced(ctx, m); err != nil {
			return false, err
		}
	}
	if m.was == nil || m.from == scheduling.Waitlist {
		m.to = m.from
		m.save(nil, time.Time{})
	}
	return true, nil
}

// wanted is the state that a client asks for by the status of a new appointment.
func (s *Service) wanted(m *move, status string) scheduling.State {
	switch scheduling.State(status) {
	case scheduling.Proposed, scheduling.Waitlist:
		return scheduling.State(status)
	case scheduling.Booked, "pending":
		if status == "pending" || m.visit.policy.Approval && onlyPatient(m.who) {
			return scheduling.Awaiting
		}
		return scheduling.Booked
	}
	return scheduling.State(status)
}

// timeElements are those that change through operations and responses alone.
var timeElements = []string{"start", "end", "slot", "participant"}

// moves lists which of timeElements differ.
func (m *move) moves() (list []string) {
	for _, name := range timeElements {
		a, b := m.before.Get(name), m.after.Get(name)
		if (a == nil) != (b == nil) || a != nil && !a.Equal(b) {
			list = append(list, "Appointment."+name)
		}
	}
	return list
}

// statusElements are what a write along the table may change without If-Match.
var statusElements = []string{"status", "cancelationReason", "comment", "meta", "text", "extension"}

// needsMatch asks for If-Match where more than the status changes, so that nobody overwrites what they have not seen.
func needsMatch(m *move) error {
	if m.request.IfMatch != "" || m.request.Principal.IsOperator() {
		return nil
	}
	a, b := *m.before, *m.after
	for _, n := range []*fhir.Node{&a, &b} {
		n.Kids = slices.DeleteFunc(slices.Clone(n.Kids), func(k fhir.Node) bool { return slices.Contains(statusElements, k.Name) })
	}
	if a.Equal(&b) {
		return nil
	}
	return fhir.NewError(fhir.Invalid, fhir.CodeRequired,
		"Send If-Match with the version that you have read: another change may have come between").Coded("stale-version")
}

func useOperation(elements []string) error {
	return fhir.NewError(fhir.BusinessRule, fhir.CodeBusinessRule,
		"The time and the participants of an appointment change through $reschedule, $cancel or an AppointmentResponse").
		Coded("use-operation").At(elements...)
}

// illegal says that the table has no such step, and which it has.
func illegal(m *move, allowed []scheduling.State, known bool) error {
	from, to := string(m.from), string(m.to)
	if m.from == scheduling.None {
		from = "new"
	}
	if known {
		text := fmt.Sprintf("An appointment goes from %s to %s, but not by this caller", from, to)
		if m.who == 0 {
			text = "Only those who take part in an appointment, and administrators, may change it"
		}
		return fhir.NewError(fhir.Forbidden, fhir.CodeForbidden, text).Coded("not-your-step")
	}
	names := make([]string, len(allowed))
	for i, a := range allowed {
		names[i] = string(a)
	}
	text := fmt.Sprintf("An appointment that is %s cannot become %s by %s", from, to, m.trigger)
	if len(names) > 0 {
		text += "; it can become " + strings.Join(names, ", ")
	} else {
		text += "; for this caller nothing leads on from here this way"
	}
	return fhir.NewError(fhir.Conflict, fhir.CodeConflict, text).Coded("illegal-transition").At("Appointment.status")
}

// deadEnd refuses a patch that gives an appointment a status to which nothing leads from where it stands, before the content that
// this would make is found wrong: a reason of cancellation that is left over, for example.
func deadEnd(r *Request, body *fhir.Node, old *storage.Version) error {
	if old.Type != "Appointment" {
		return nil
	}
	before, err := fhir.ParseJSON(old.Content)
	if err != nil {
		return fhir.NewError(fhir.Internal, fhir.CodeException, "A stored resource cannot be read").Because(err)
	}
	from, to := scheduling.State(before.GetText("status")), scheduling.State(body.GetText("status"))
	if from == to || !from.Terminal() || r.Principal.IsOperator() {
		return nil
	}
	_, allowed, known, _ := scheduling.Find(from, to, scheduling.ByStatus, scheduling.Patient|scheduling.Practitioner|scheduling.Admin)
	if known {
		return nil
	}
	return illegal(&move{from: from, to: to, trigger: scheduling.ByStatus}, allowed, false)
}

// apply takes the step: time first, since that can fail, then what the appointment says, then where it stands.
func (s *Service) apply(ctx context.Context, m *move) error {
	now := s.now()
	due := time.Time{}
	switch m.to {
	case scheduling.Hold:
		if due = m.intent.due; due.IsZero() {
			due = now.Add(holdTime)
		}
	case scheduling.Awaiting:
		if due = s.answerDue(m.visit.start); m.onlyCoverage {
			due = s.coverageDue(m.visit.start)
		}
	}
	asked, _ := askedFor(m.after)
	if !asked.IsZero() { // whatever happens now, the question is over
		askTo(m.after, time.Time{}, time.Time{})
		m.changed = true
	}
	if err := s.replace(ctx, m); err != nil {
		return err
	}
	actors := m.visit.actors
	switch {
	case !m.to.TakesTime():
		m.fence()
		m.tx.Release(m.reference)
		actors, m.overbooked = nil, false
	case slices.Contains(m.row.Conditions, scheduling.TimeFree):
		kind := storage.AllocationBusy
		if m.to == scheduling.Hold {
			kind = storage.AllocationHold
		}
		if err := s.takeTime(ctx, m, kind, due, m.intent.override); err != nil {
			return err
		}
	case !asked.IsZero() || m.was != nil && !m.was.Due.IsZero() && m.from == scheduling.Booked:
		if err := s.takeTime(ctx, m, storage.AllocationBusy, time.Time{}, true); err != nil {
			return err
		}
	case m.was != nil:
		actors = m.was.Actors
		for _, a := range actors { // a Slot tells busy-tentative from busy
			m.tx.Touch(storage.Span{Actor: a, Start: m.visit.start, End: m.visit.end})
		}
	}
	m.rewrite(due)
	m.save(actors, due)
	return nil
}

// fence keeps others from the time that the appointment has taken, and of some actors, until the transaction ends.
func (m *move) fence(actors ...string) {
	if m.was != nil {
		actors = slices.Concat(actors, m.was.Actors)
	}
	m.tx.Fence(storage.Whose{Actors: actors})
}

// takeTime takes the time of the visit, in exchange for what the appointment has taken before.
func (s *Service) takeTime(ctx context.Context, m *move, kind storage.AllocationKind, due time.Time, over bool) error {
	m.fence(m.visit.actors...)
	m.tx.Release(m.reference)
	lost, _, err := m.tx.Take(ctx, m.reference, due, m.visit.claims(kind, over)...)
	if err != nil {
		return err
	}
	if len(lost) > 0 {
		return taken(m, lost)
	}
	if m.overbooked = false; !over {
		return nil
	}
	mine, err := m.tx.Taken(ctx, m.reference)
	// That a patient is in two places at once is no matter of capacity.
	m.overbooked = slices.ContainsFunc(mine, func(a storage.Allocation) bool { return a.Beyond() && typeOf(a.Actor) != "Patient" })
	return err
}

// timeTaken is why an appointment could not have its time; the caller is offered others.
type timeTaken struct{ visit *visit }

func (*timeTaken) Error() string { return "the time is taken" }

func taken(m *move, lost []string) error {
	detail, text := "slot-taken", "This time has just been taken, or was never free; choose another"
	switch {
	case slices.Contains(lost, m.visit.patient):
		detail, text = "patient-busy", "The patient has another appointment at this time"
	case m.from == scheduling.Hold && m.was != nil && !m.was.Due.After(m.tx.Now()):
		detail, text = "hold-expired", "The hold on this time has ended and somebody else has taken it; choose another"
	}
	return fhir.NewError(fhir.Conflict, fhir.CodeConflict, text).Coded(detail).Because(&timeTaken{m.visit})
}
