package scheduling

import (
	"slices"
	"strings"
)

// State is where an appointment is: an Appointment.status of R4, with pending told apart as a hold (the patient is
// still typing; it expires) or as awaiting (the patient agreed; somebody else has to).
type State string

// The states. None is an appointment that is not stored yet; Proposed is never stored.
const (
	None           State = ""
	Proposed       State = "proposed"
	Hold           State = "hold"
	Awaiting       State = "awaiting"
	Booked         State = "booked"
	Arrived        State = "arrived"
	CheckedIn      State = "checked-in"
	Fulfilled      State = "fulfilled"
	Cancelled      State = "cancelled"
	NoShow         State = "noshow"
	Waitlist       State = "waitlist"
	EnteredInError State = "entered-in-error"
)

// States lists every state that an appointment can be stored in.
func States() []State {
	return []State{Hold, Awaiting, Booked, Arrived, CheckedIn, Fulfilled, Cancelled, NoShow, Waitlist, EnteredInError}
}

// Status is the Appointment.status that a state is written as.
func (s State) Status() string {
	if s == Hold || s == Awaiting {
		return "pending"
	}
	return string(s)
}

// StateOf reads a stored status; hold says whether the time of a pending appointment is only held.
func StateOf(status string, hold bool) State {
	switch {
	case status != "pending":
		return State(status)
	case hold:
		return Hold
	}
	return Awaiting
}

// TakesTime says whether an appointment in this state keeps its actors busy.
func (s State) TakesTime() bool {
	switch s {
	case Hold, Awaiting, Booked, Arrived, CheckedIn, Fulfilled, NoShow:
		return true
	}
	return false
}

// Terminal says whether nothing but a correction leads out of the state.
func (s State) Terminal() bool {
	return s == Fulfilled || s == Cancelled || s == EnteredInError
}

// Roles is a set of the parties that can act on an appointment.
type Roles uint8

// The parties: the patient or a proxy, a practitioner taking part, an admin, and the server itself.
const (
	Patient Roles = 1 << iota
	Practitioner
	Admin
	Server
)

// String names the roles, for messages and documents.
func (r Roles) String() string {
	var names []string
	for i, name := range []string{"patient", "practitioner", "admin", "server"} {
		if r&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// Trigger is what brings a transition about: an operation, an answer, a status written by a client, or the server.
type Trigger string

// The triggers.
const (
	ByFind       Trigger = "$find"
	ByHold       Trigger = "$hold"
	ByBook       Trigger = "$book"
	ByAccept     Trigger = "accepted"    // AppointmentResponse
	ByDecline    Trigger = "declined"    // AppointmentResponse
	ByCounter    Trigger = "tentative"   // AppointmentResponse with another time
	ByReschedule Trigger = "$reschedule" //
	ByCancel     Trigger = "$cancel"
	ByStatus     Trigger = "status"    // PUT or PATCH of Appointment.status
	ByEncounter  Trigger = "encounter" // an Encounter of the appointment begins
	ByExpiry     Trigger = "expiry"    // a hold's or an answer's time is over
	ByOffer      Trigger = "offer"     // time became free for somebody on the waitlist
	ByPost       Trigger = "create"    // POST Appointment
	ByCoverage   Trigger = "coverage"  // what was open about the coverage is settled
)

// Condition is what a transition asks for beside state and role. The names are those of the error details where it is
// not met; docs/scheduling.md explains them.
type Condition string

// The conditions.
const (
	TimeFree        Condition = "slot-taken"         // the time is free for every actor
	HoldLimit       Condition = "limit-reached"      // no more than two live holds a patient
	Coverage        Condition = "coverage"           // the eight steps of the coverage gate
	WindowOpen      Condition = "too-soon"           // minimum notice and horizon of the service
	NotPast         Condition = "in-the-past"        // the time has not begun
	ReasonGiven     Condition = "reason-required"    // a reason, from the caller's side of the list
	NoticeGiven     Condition = "too-late"           // a patient moves a visit 24 hours ahead at least
	MoveLimit       Condition = "move-limit"         // a patient moves a visit three times at most
	DayOfVisit      Condition = "not-the-day"        // from 12 hours before the start until the end
	SameDay         Condition = "not-the-same-day"   // the calendar day of the start, in the visit's zone
	NoEncounter     Condition = "encounter-started"  // its Encounter has not begun
	EncounterBegun  Condition = "encounter-missing"  // an Encounter of the appointment has begun, or ended
	AfterStart      Condition = "too-early"          // 15 minutes after the start
	OwnAnswer       Condition = "not-your-answer"    // an actor answers for itself; an admin for anyone
	PeriodWanted    Condition = "period-required"    // requestedPeriod, and neither start nor end
	CorrectionCause Condition = "correction-reason"  // a reason for a correction
	VisitRetracted  Condition = "encounter-in-error" // its Encounter was entered in error
)

// Transition is one row of the table: from any of these states to this one.
type Transition struct {
	// Row is its number in the design, which docs and tests refer to.
	Row        int
	From       []State
	To         State
	Triggers   []Trigger
	Who        Roles
	Conditions []Condition
	// Effect says what else happens, in the same transaction.
	Effect string
}

// Table lists every legal transition. Code, documentation and tests read it; nothing else knows an order of states.
func Table() []Transition {
	const (
		P, D, A, S = Patient, Practitioner, Admin, Server
	)
	live := []State{Proposed, Hold, Awaiting, Booked, Arrived, CheckedIn, NoShow, Waitlist}
	return []Transition{
		{1, []State{None}, Proposed, []Trigger{ByFind}, P | D | A, []Condition{WindowOpen}, "nothing is stored"},
		{2, []State{None, Proposed}, Hold, []Trigger{ByHold}, P | D | A, []Condition{WindowOpen, TimeFree, HoldLimit},
			"the slot becomes busy-tentative for ten minutes"},
		{3, []State{None, Proposed}, Awaiting, []Trigger{ByBook, ByPost}, P, []Condition{WindowOpen, TimeFree, Coverage},
			"the patient has accepted, the practitioner needs to; an answer is due"},
		{3, []State{Hold}, Awaiting, []Trigger{ByBook}, P, []Condition{WindowOpen, TimeFree, Coverage}, "the same"},
		{4, []State{None, Proposed}, Booked, []Trigger{ByBook, ByPost}, P | D | A, []Condition{WindowOpen, TimeFree, Coverage},
			"the slot becomes busy, all have accepted, reminders are planned; while the coverage is open it is awaiting (coverage.md)"},
		{4, []State{Hold}, Booked, []Trigger{ByBook}, P | D | A, []Condition{WindowOpen, TimeFree, Coverage}, "the same"},
		{5, []State{Awaiting}, Booked, []Trigger{ByAccept}, P | D | A, []Condition{OwnAnswer, NotPast}, "the slot becomes busy; patient and practitioner are told"},
		{5, []State{Awaiting}, Booked, []Trigger{ByCoverage}, S, []Condition{NotPast}, "what was open about the coverage is settled, and all have accepted"},
		{6, []State{Awaiting}, Cancelled, []Trigger{ByDecline}, P | D | A, []Condition{OwnAnswer, ReasonGiven}, "the slot becomes free; the patient is told"},
		{7, []State{Awaiting}, Awaiting, []Trigger{ByCounter}, D | A, []Condition{OwnAnswer, TimeFree}, "the new time is taken and the old one released; the patient has to answer"},
		{8, []State{Hold}, Cancelled, []Trigger{ByCancel, ByExpiry, ByStatus}, P | D | A | S, nil, "the slot becomes free; nobody is told"},
		{9, []State{Awaiting}, Cancelled, []Trigger{ByCancel, ByExpiry, ByStatus}, P | D | A | S, []Condition{ReasonGiven}, "the slot becomes free; both are told"},
		{10, []State{Booked}, Booked, []Trigger{ByReschedule}, P | D | A, []Condition{WindowOpen, NoticeGiven, MoveLimit, TimeFree, Coverage},
			"in place: the old time is released and the new one taken together"},
		{11, []State{Booked}, Cancelled, []Trigger{ByCancel, ByStatus}, P | D | A, []Condition{ReasonGiven, NoEncounter}, "the slot becomes free; the others are told"},
		{12, []State{Booked}, Arrived, []Trigger{ByStatus}, P | D | A, []Condition{DayOfVisit, SameDay}, "a planned Encounter has arrived"},
		{12, []State{Booked, Arrived}, CheckedIn, []Trigger{ByStatus}, D | A, []Condition{DayOfVisit}, "a planned Encounter has arrived"},
		{13, []State{Arrived, CheckedIn}, Cancelled, []Trigger{ByCancel, ByStatus}, D | A, []Condition{ReasonGiven, NoEncounter}, "left without being seen is the reason, not a state"},
		{14, []State{Booked, Arrived, CheckedIn}, Fulfilled, []Trigger{ByEncounter, ByStatus}, D | A, []Condition{DayOfVisit, EncounterBegun}, "the Encounter goes on by itself"},
		{15, []State{Booked}, NoShow, []Trigger{ByStatus}, D | A, []Condition{AfterStart, NoEncounter}, "the slot stays busy: the time was used"},
		{16, []State{NoShow}, Arrived, []Trigger{ByStatus}, A, []Condition{SameDay, CorrectionCause}, ""},
		{17, []State{None}, Waitlist, []Trigger{ByPost}, P | A, []Condition{PeriodWanted}, ""},
		{17, []State{Waitlist}, Hold, []Trigger{ByOffer}, S, []Condition{TimeFree}, "the freed time is held for half an hour; the patient is told"},
		{17, []State{Waitlist}, Cancelled, []Trigger{ByCancel, ByStatus, ByExpiry}, P | A | S, nil, "by itself when the requested period is over"},
		{19, []State{None}, Proposed, []Trigger{ByPost}, P | D | A, nil, "a request: nothing is taken until it is booked"},
		{19, []State{Proposed}, Cancelled, []Trigger{ByCancel, ByStatus}, P | D | A, nil, ""},
		{18, live, EnteredInError, []Trigger{ByStatus}, D | A, []Condition{CorrectionCause}, "the time is released; the history keeps it"},
		{18, []State{Fulfilled}, EnteredInError, []Trigger{ByStatus}, D | A, []Condition{CorrectionCause, VisitRetracted}, "the time is released; the history keeps it"},
	}
}

// Find returns the row for a move, or what the caller is told: allowed are the states that the same trigger and role
// lead to from here; known says that the move exists, but not for this role.
func Find(from, to State, by Trigger, who Roles) (row Transition, allowed []State, known, ok bool) {
	for _, t := range Table() {
		if !slices.Contains(t.From, from) || !slices.Contains(t.Triggers, by) {
			continue
		}
		if t.To == to {
			known = true
			if t.Who&who != 0 {
				return t, nil, true, true
			}
		}
		if t.Who&who != 0 && !slices.Contains(allowed, t.To) {
			allowed = append(allowed, t.To)
		}
	}
	return Transition{}, allowed, known, false
}
