package records

import (
	"slices"

	"kiln/fhir"
	"kiln/resources/scheduling"
)

// State is where a record is: its status in R4, or what Lifecycle.State makes of several elements.
type State string

// None is a record that is not stored yet; EnteredInError one that never should have been. Unstated is a live record
// that does not say.
const (
	None           State = ""
	EnteredInError State = "entered-in-error"
	Unstated       State = "unstated"
)

// Condition is what a move asks for beside state and role. The names are those of the error details where it is not met.
type Condition string

// The conditions.
const (
	StatusReason Condition = "reason-required"   // the record's own element for the reason of its status
	ChangeReason Condition = "change-reason"     // why a signed record changes: an extension, or a Provenance beside it
	Prescriber   Condition = "not-a-prescriber"  // the caller is a practitioner who prescribes
	Safety       Condition = "safety-finding"    // no allergy and no duplicate is known, or there is a reason to go on
	Unconfirmed  Condition = "unconfirmed-first" // what patients report, a practitioner confirms
)

// Move is a step from any of some states to any of some others.
type Move struct {
	From, To   []State
	Who        scheduling.Roles
	Conditions []Condition
	// Effect says what else happens, in the same transaction.
	Effect string
}

// Author is an element that names who wrote a record.
type Author struct {
	// Element holds a Reference, or several; Part is the Reference within it, where it has parts.
	Element, Part string
	List          bool
	// Own says that a practitioner names itself there, unless somebody let it write for them. Without Own the element is
	// filled where it is missing, and no more.
	Own bool
}

// Link is an element that refers to a resource about the same patient.
type Link struct {
	// Path leads to the reference, Type is what it refers to.
	Path []string
	Type string
}

// Lifecycle is how records of one type live.
type Lifecycle struct {
	Type string
	// Patient is the element that says whose the record is; it never changes.
	Patient string
	// Status is the element of the state, for messages.
	Status string
	States []State
	Moves  []Move
	// Signed are states of records that somebody answers for: nobody deletes them.
	Signed []State
	// Fixed are those in which the content changes by a move alone that gives a reason.
	Fixed []State
	// Keeps are elements that stay as they are once the record is signed: those by which it was judged.
	Keeps []string
	// Reason is the element that StatusReason asks for.
	Reason string
	Author Author
	// Recorded is the element for when it was written down; "" for none. Issued says that it moves on with new versions.
	Recorded string
	Issued   bool
	// Chain are the elements that lead to others about the same patient.
	Chain []Link
}

// State reads the state of a record.
func (l *Lifecycle) State(n *fhir.Node) State {
	if n == nil {
		return None
	}
	switch l.Type {
	case "Condition", "AllergyIntolerance":
		if CodeOf(n.Get("verificationStatus")) == string(EnteredInError) {
			return EnteredInError
		}
		return stated(CodeOf(n.Get("clinicalStatus")))
	case "DocumentReference":
		status, doc := n.GetText("status"), n.GetText("docStatus")
		switch {
		case status == "superseded":
			return State(status)
		case status == string(EnteredInError), doc == string(EnteredInError):
			return EnteredInError
		case doc != "":
			return State(doc)
		}
		return stated(status)
	}
	return stated(n.GetText("status"))
}

func stated(code string) State {
	if code == "" {
		return Unstated
	}
	return State(code)
}

// CodeOf is the first code of a CodeableConcept.
func CodeOf(concept *fhir.Node) string {
	for c := range concept.Get("coding").Items() {
		if code := c.GetText("code"); code != "" {
			return code
		}
	}
	return ""
}

// IsSigned says whether nobody deletes a record in this state.
func (l *Lifecycle) IsSigned(s State) bool { return slices.Contains(l.Signed, s) }

// IsFixed says whether the content stays as it is in this state, unless a move gives a reason.
func (l *Lifecycle) IsFixed(s State) bool { return slices.Contains(l.Fixed, s) || s == EnteredInError }

// Find returns the move from one state to another, or what the caller is told: allowed are the states that lead on from
// here for this role; known says that the move exists, but not for this role. A record that keeps its state makes no
// move, unless the table has one that leads back to where it began.
func (l *Lifecycle) Find(from, to State, who scheduling.Roles) (move Move, allowed []State, known, ok bool) {
	for _, m := range l.Moves {
		if !slices.Contains(m.From, from) {
			continue
		}
		if slices.Contains(m.To, to) {
			known = true
			if m.Who&who != 0 {
				return m, nil, true, true
			}
		}
		if m.Who&who == 0 {
			continue
		}
		for _, t := range m.To {
			if t != from && !slices.Contains(allowed, t) {
				allowed = append(allowed, t)
			}
		}
	}
	return Move{}, allowed, known, false
}
