package message

import "time"

// Event is something that somebody is told.
type Event string

// The events.
const (
	Requested   Event = "requested"    // an appointment waits for the practitioner's answer
	Booked      Event = "booked"       // an appointment was made
	Approved    Event = "approved"     // the practitioner, or the patient after a counter-proposal, agreed
	Declined    Event = "declined"     //
	Countered   Event = "countered"    // the practitioner proposes another time
	Moved       Event = "moved"        //
	MoveAsked   Event = "move-asked"   // the patient asks for another time, which the practitioner has to approve
	MoveRefused Event = "move-refused" // it stays where it was
	Cancelled   Event = "cancelled"    //
	Expired     Event = "expired"      // nobody answered in time
	Offered     Event = "offered"      // time became free for somebody on the waitlist
	Reminder    Event = "reminder"     //
	Coverage    Event = "coverage"     // the insurance of a booked visit does not hold any more
	Result      Event = "result"       // a report is final
)

// Events are all of them.
func Events() []Event {
	return []Event{Requested, Booked, Approved, Declined, Countered, Moved, MoveAsked, MoveRefused, Cancelled, Expired, Offered, Reminder, Coverage, Result}
}

// Reminders are how long before a visit its reminders come.
func Reminders() []time.Duration {
	return []time.Duration{72 * time.Hour, 24 * time.Hour, 2 * time.Hour}
}
