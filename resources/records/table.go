package records

import "kiln/resources/scheduling"

// Who makes moves: patients, practitioners, administrators, and backend services. Whoever runs the server is all of them.
// What each role may write at all is up to the policy (docs/access.md); this is about the step.
const (
	patient = scheduling.Patient
	doctor  = scheduling.Practitioner
	staff   = scheduling.Practitioner | scheduling.Admin | scheduling.Server
	service = scheduling.Server
)

// Table lists the lifecycles. Code, documentation and tests read it; nothing else knows an order of states. A record can
// begin in any state, since much of what is written has been before; what binds is the change.
func Table() []Lifecycle {
	return []Lifecycle{encounter(), condition(), allergy(), observation(), report(), prescription(), procedure(),
		request("ServiceRequest"), request("CarePlan"), immunization(), document()}
}

var inVisit = Link{[]string{"encounter"}, "Encounter"}

// begin lets staff create records in any state.
func begin(states []State) Move { return Move{[]State{None}, states, staff, nil, ""} }

// retract leads out of every other state, for good.
func retract(states []State, conditions ...Condition) Move {
	live := make([]State, 0, len(states))
	for _, s := range states {
		if s != EnteredInError {
			live = append(live, s)
		}
	}
	return Move{live, []State{EnteredInError}, staff, conditions, "left out of summaries and of the chronological record; the history keeps it"}
}

// found is for what others left open: unknown can become anything.
func found(states []State) Move {
	var known []State
	for _, s := range states {
		if s != "unknown" && s != EnteredInError {
			known = append(known, s)
		}
	}
	return Move{[]State{"unknown"}, known, staff, nil, ""}
}

func encounter() Lifecycle {
	states := []State{"planned", "arrived", "triaged", "in-progress", "onleave", "finished", "cancelled", EnteredInError, "unknown"}
	const begins = "its Appointment becomes fulfilled"
	return Lifecycle{Type: "Encounter", Patient: "subject", Status: "status", States: states,
		Moves: []Move{
			{[]State{None}, states, staff, nil, "copies patient, participants and service of its Appointment; begun, it makes that fulfilled"},
			{[]State{"planned"}, []State{"arrived", "triaged"}, staff, nil, ""},
			{[]State{"arrived"}, []State{"triaged"}, staff, nil, ""},
			{[]State{"planned", "arrived", "triaged"}, []State{"in-progress"}, staff, nil, begins},
			{[]State{"in-progress"}, []State{"onleave"}, staff, nil, ""},
			{[]State{"onleave"}, []State{"in-progress"}, staff, nil, ""},
			{[]State{"in-progress", "onleave"}, []State{"finished"}, staff, nil, ""},
			{[]State{"planned", "arrived", "triaged"}, []State{"cancelled"}, staff, nil, ""},
			found(states),
			retract(states),
		},
		Signed: []State{"finished"},
		Author: Author{Element: "participant", Part: "individual", List: true},
		Chain:  []Link{{[]string{"appointment"}, "Appointment"}, {[]string{"partOf"}, "Encounter"}, {[]string{"diagnosis", "condition"}, "Condition"}}}
}

func condition() Lifecycle {
	live := []State{"active", "recurrence", "relapse", "inactive", "remission", "resolved"}
	states := append([]State{Unstated, EnteredInError}, live...)
	return Lifecycle{Type: "Condition", Patient: "subject", Status: "clinicalStatus", States: states,
		Moves: []Move{
			{[]State{None}, append([]State{EnteredInError}, live...), staff, nil, "a diagnosis of a visit is linked from Encounter.diagnosis"},
			{[]State{None}, []State{Unstated}, service, nil, "con-3: who writes it here says how it is"},
			{append([]State{Unstated}, live...), live, staff, nil, ""},
			retract(states),
		},
		Author: Author{Element: "recorder", Own: true}, Recorded: "recordedDate", Chain: []Link{inVisit}}
}

func allergy() Lifecycle {
	live := []State{"active", "inactive", "resolved"}
	states := append([]State{Unstated, EnteredInError}, live...)
	return Lifecycle{Type: "AllergyIntolerance", Patient: "patient", Status: "clinicalStatus", States: states,
		Moves: []Move{
			begin(states),
			{[]State{None}, live, patient, []Condition{Unconfirmed}, "reported by the patient"},
			{append([]State{Unstated}, live...), live, staff, nil, ""},
			retract(states),
		},
		Author: Author{Element: "recorder", Own: true}, Recorded: "recordedDate", Chain: []Link{inVisit}}
}

func observation() Lifecycle {
	states := []State{"registered", "preliminary", "final", "amended", "corrected", "cancelled", EnteredInError, "unknown"}
	signed := []State{"final", "amended", "corrected"}
	return Lifecycle{Type: "Observation", Patient: "subject", Status: "status", States: states,
		Moves: []Move{
			begin(states),
			{[]State{None}, []State{"preliminary", "final"}, patient, nil, "reported by the patient"},
			{[]State{"registered"}, []State{"preliminary"}, staff, nil, ""},
			{[]State{"registered", "preliminary"}, []State{"final"}, staff, nil, "the patient sees it"},
			{[]State{"registered", "preliminary"}, []State{"cancelled"}, staff, nil, ""},
			{signed, []State{"amended", "corrected"}, staff, []Condition{ChangeReason}, "a Provenance tells the reason"},
			found(states),
			retract([]State{"registered", "preliminary", "cancelled", "unknown"}),
			retract(signed, ChangeReason),
		},
		Signed: signed, Fixed: signed,
		Author: Author{Element: "performer", List: true, Own: true}, Recorded: "issued", Issued: true,
		Chain: []Link{inVisit, {[]string{"hasMember"}, "Observation"}}}
}

func report() Lifecycle {
	states := []State{"registered", "partial", "preliminary", "final", "amended", "corrected", "appended", "cancelled", EnteredInError, "unknown"}
	signed := []State{"final", "amended", "corrected", "appended"}
	return Lifecycle{Type: "DiagnosticReport", Patient: "subject", Status: "status", States: states,
		Moves: []Move{
			begin(states),
			{[]State{"registered"}, []State{"partial", "preliminary"}, staff, nil, ""},
			{[]State{"partial"}, []State{"preliminary"}, staff, nil, ""},
			{[]State{"registered", "partial", "preliminary"}, []State{"final"}, staff, nil, "the patient sees it"},
			{[]State{"registered", "partial", "preliminary"}, []State{"cancelled"}, staff, nil, ""},
			{signed, []State{"amended", "corrected", "appended"}, staff, []Condition{ChangeReason}, "a Provenance tells the reason"},
			found(states),
			retract([]State{"registered", "partial", "preliminary", "cancelled", "unknown"}),
			retract(signed, ChangeReason),
		},
		Signed: signed, Fixed: signed,
		Author: Author{Element: "performer", List: true, Own: true}, Recorded: "issued", Issued: true,
		Chain: []Link{inVisit, {[]string{"result"}, "Observation"}}}
}

func prescription() Lifecycle {
	states := []State{"draft", "active", "on-hold", "completed", "stopped", "cancelled", EnteredInError, "unknown"}
	idle := []State{"draft", "on-hold", "completed", "stopped", "cancelled", EnteredInError, "unknown"}
	checked := []Condition{Prescriber, Safety}
	return Lifecycle{Type: "MedicationRequest", Patient: "subject", Status: "status", States: states,
		Moves: []Move{
			{[]State{None}, idle, staff, nil, ""},
			{[]State{None}, []State{"active"}, doctor, checked, "what is found, and overridden, is kept as DetectedIssues"},
			{[]State{None}, []State{"active"}, service, nil, "a prescription that others have made: nothing is checked"},
			{[]State{"draft"}, []State{"active"}, doctor, checked, "what is found, and overridden, is kept as DetectedIssues"},
			{[]State{"on-hold"}, []State{"active"}, doctor, checked, "what is found, and overridden, is kept as DetectedIssues"},
			{[]State{"active"}, []State{"on-hold"}, staff, nil, ""},
			{[]State{"draft"}, []State{"cancelled"}, staff, nil, ""},
			{[]State{"active", "on-hold"}, []State{"completed", "cancelled"}, staff, nil, ""},
			{[]State{"active", "on-hold"}, []State{"stopped"}, staff, []Condition{StatusReason}, ""},
			{[]State{"unknown"}, []State{"completed", "stopped", "cancelled"}, staff, nil, ""},
			retract(states),
		},
		Signed: []State{"active", "on-hold", "completed", "stopped"}, Reason: "statusReason",
		Keeps:  []string{"medicationCodeableConcept", "medicationReference", "intent", "doNotPerform"},
		Author: Author{Element: "requester", Own: true}, Recorded: "authoredOn", Chain: []Link{inVisit}}
}

func procedure() Lifecycle {
	states := []State{"preparation", "in-progress", "on-hold", "not-done", "stopped", "completed", EnteredInError, "unknown"}
	return Lifecycle{Type: "Procedure", Patient: "subject", Status: "status", States: states,
		Moves: []Move{
			begin(states),
			{[]State{"preparation"}, []State{"in-progress"}, staff, nil, ""},
			{[]State{"in-progress"}, []State{"on-hold"}, staff, nil, ""},
			{[]State{"on-hold"}, []State{"in-progress"}, staff, nil, ""},
			{[]State{"preparation"}, []State{"not-done"}, staff, []Condition{StatusReason}, ""},
			{[]State{"in-progress", "on-hold"}, []State{"stopped"}, staff, []Condition{StatusReason}, ""},
			{[]State{"preparation", "in-progress", "on-hold"}, []State{"completed"}, staff, nil, ""},
			found(states),
			retract(states),
		},
		Signed: []State{"completed", "stopped", "not-done"}, Reason: "statusReason",
		Author: Author{Element: "recorder", Own: true}, Chain: []Link{inVisit}}
}

// request is the life of what somebody asks for, or plans.
func request(typ string) Lifecycle {
	states := []State{"draft", "active", "on-hold", "revoked", "completed", EnteredInError, "unknown"}
	l := Lifecycle{Type: typ, Patient: "subject", Status: "status", States: states,
		Moves: []Move{
			begin(states),
			{[]State{"draft"}, []State{"active", "revoked"}, staff, nil, ""},
			{[]State{"active"}, []State{"on-hold"}, staff, nil, ""},
			{[]State{"on-hold"}, []State{"active"}, staff, nil, ""},
			{[]State{"active", "on-hold"}, []State{"revoked", "completed"}, staff, nil, ""},
			found(states),
			retract(states),
		},
		Signed: []State{"active", "on-hold", "revoked", "completed"},
		Author: Author{Element: "requester", Own: true}, Recorded: "authoredOn", Chain: []Link{inVisit}}
	if typ == "CarePlan" {
		l.Author, l.Recorded = Author{Element: "author", Own: true}, "created"
	}
	return l
}

func immunization() Lifecycle {
	states := []State{"completed", "not-done", EnteredInError}
	return Lifecycle{Type: "Immunization", Patient: "patient", Status: "status", States: states,
		Moves:  []Move{begin(states), retract(states)},
		Signed: []State{"completed", "not-done"},
		Author: Author{Element: "performer", Part: "actor", List: true}, Recorded: "recorded", Chain: []Link{inVisit}}
}

// document is the life of a DocumentReference: docStatus says how far the document is, where there is one, and status
// whether the reference still stands.
func document() Lifecycle {
	states := []State{"current", "preliminary", "final", "amended", "superseded", EnteredInError}
	signed := []State{"final", "amended", "superseded"}
	return Lifecycle{Type: "DocumentReference", Patient: "subject", Status: "docStatus", States: states,
		Moves: []Move{
			begin(states),
			{[]State{"current"}, []State{"preliminary"}, staff, nil, ""},
			{[]State{"current", "preliminary"}, []State{"final", "superseded"}, staff, nil, ""},
			{[]State{"final", "amended"}, []State{"amended"}, staff, []Condition{ChangeReason}, "a Provenance tells the reason"},
			{[]State{"final", "amended"}, []State{"superseded"}, staff, nil, "only its status changes"},
			retract([]State{"current", "preliminary"}),
			retract(signed, ChangeReason),
		},
		Signed: signed, Fixed: signed,
		Author: Author{Element: "author", List: true, Own: true}, Recorded: "date", Chain: []Link{{[]string{"context", "encounter"}, "Encounter"}}}
}
