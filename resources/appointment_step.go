package resources

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"kiln/fhir"
	"kiln/resources/scheduling"
	"kiln/storage/terminology"
)

// What patients are held to; practitioners and administrators decide for themselves.
const (
	maxHolds    = 2                // live holds of one patient
	moveNotice  = 24 * time.Hour   // before the visit, to move it
	maxMoves    = 3                // moves of one visit
	dayBefore   = 12 * time.Hour   // before the start, somebody can arrive
	noShowAfter = 15 * time.Minute // after the start, somebody has not come
)

// meets says whether a condition of the table holds.
//
// Errors: BusinessRule, coded with the condition's name.
func (s *Service) meets(ctx context.Context, m *move, c scheduling.Condition) error {
	now, v := s.now(), m.visit
	no := func(text string, at ...string) error {
		return fhir.NewError(fhir.BusinessRule, fhir.CodeBusinessRule, text).Coded(string(c)).At(at...)
	}
	switch c {
	case scheduling.Coverage:
		return s.cover(ctx, m)
	case scheduling.WindowOpen:
		return s.windowOpen(m, no)
	case scheduling.HoldLimit:
		if v.patient == "" {
			return nil
		}
		if err := m.tx.LockNames(ctx, "holds of "+v.patient); err != nil {
			return err
		}
		if n, err := m.tx.LiveHolds(ctx, v.patient, m.reference); err != nil {
			return err
		} else if n >= maxHolds {
			return no(fmt.Sprintf("The patient holds %d times already; book or release one of them first", n))
		}
	case scheduling.NotPast:
		if !v.start.After(now) {
			return no("The time of this appointment has passed", "Appointment.start")
		}
	case scheduling.ReasonGiven:
		if onlyPatient(m.who) && m.from == scheduling.Booked && v.start.After(now) && v.start.Sub(now) < moveNotice {
			flagLate(m)
		}
		own := m.after.Get("cancelationReason") == nil // the server says which side's, then
		if err := reasonGiven(m); err != nil || own {
			return err
		}
		return s.reasonKnown(ctx, m)
	case scheduling.NoticeGiven:
		if onlyPatient(m.who) && m.was != nil && m.was.Start.Sub(now) < moveNotice {
			return no("Patients can move an appointment until 24 hours before it; call the practice, or cancel it", "Appointment.start")
		}
	case scheduling.MoveLimit:
		if onlyPatient(m.who) && m.was != nil && m.was.Moves >= maxMoves {
			return no(fmt.Sprintf("This appointment has been moved %d times; call the practice to move it again", m.was.Moves), "Appointment.start")
		}
	case scheduling.DayOfVisit:
		if v.start.Sub(now) > dayBefore {
			return no("This is possible from 12 hours before the appointment on", "Appointment.status")
		}
		if m.to != scheduling.Fulfilled && now.After(v.end) {
			return no("The appointment is over", "Appointment.status")
		}
	case scheduling.SameDay:
		zone := v.zone
		if zone == nil {
			zone = time.UTC
		}
		if (onlyPatient(m.who) || m.from == scheduling.NoShow) && scheduling.DateOf(now, zone) != scheduling.DateOf(v.start, zone) {
			return no("This is possible on the day of the appointment only", "Appointment.status")
		}
	case scheduling.NoEncounter, scheduling.EncounterBegun, scheduling.VisitRetracted:
		begun, live, err := s.encounters(ctx, m)
		switch {
		case err != nil:
			return err
		case c == scheduling.NoEncounter && begun:
			return no("The visit has begun: its Encounter is under way or over", "Appointment.status")
		case c == scheduling.EncounterBegun && !begun:
			return no("An appointment is fulfilled by its visit: begin an Encounter of this appointment first", "Appointment.status")
		case c == scheduling.VisitRetracted && live:
			return no("Its Encounter has to be entered in error first", "Appointment.status")
		}
	case scheduling.AfterStart:
		if now.Before(v.start.Add(noShowAfter)) {
			return no("Nobody has failed to come before 15 minutes after the start", "Appointment.status")
		}
	case scheduling.PeriodWanted:
		if m.after.Get("requestedPeriod") == nil || !v.start.IsZero() {
			return no("Who waits for an appointment says in requestedPeriod when it should be, and gives no start and end", "Appointment.requestedPeriod")
		}
	case scheduling.CorrectionCause:
		if m.after.GetText("comment") == "" || m.before != nil && m.before.GetText("comment") == m.after.GetText("comment") {
			return no("Say in comment why this is corrected", "Appointment.comment")
		}
		return s.testify(ctx, m.tx, &m.request.Principal, testimony{target: m.target(), activity: m.activity(), why: m.after.GetText("comment"), of: m.compartments()})
	}
	// TimeFree is up to the database; OwnAnswer to the response.
	return nil
}

// windowOpen checks what patients may choose of: the notice, the horizon, the grid, and that somebody offers the time.
func (s *Service) windowOpen(m *move, no func(string, ...string) error) error {
	now, v := s.now(), m.visit
	if !onlyPatient(m.who) {
		if m.who&scheduling.Admin == 0 && !v.end.After(now) {
			return fhir.NewError(fhir.BusinessRule, fhir.CodeBusinessRule, "This time has passed").Coded("in-the-past").At("Appointment.start")
		}
		return nil
	}
	switch notice := v.policy.MinNotice; {
	case !v.start.After(now):
		return fhir.NewError(fhir.BusinessRule, fhir.CodeBusinessRule, "This time has passed").Coded("in-the-past").At("Appointment.start")
	case v.start.Sub(now) < notice:
		return no("This service is booked at least "+notice.String()+" ahead", "Appointment.start")
	case v.start.Sub(now) > v.policy.MaxHorizon:
		return fhir.NewError(fhir.BusinessRule, fhir.CodeBusinessRule, "This service is not booked so far ahead yet").Coded("too-far").At("Appointment.start")
	case v.zone != nil && !scheduling.Aligned(v.start, v.policy.Alignment, v.zone):
		return fhir.NewError(fhir.BusinessRule, fhir.CodeBusinessRule, "Visits of this service do not begin at this time of the hour").Coded("off-grid").At("Appointment.start")
	case !v.offered():
		return fhir.NewError(fhir.BusinessRule, fhir.CodeBusinessRule, "Nobody offers this time: choose among the free Slots, or ask $find").Coded("not-offered").At("Appointment.start")
	}
	return nil
}

// offered says whether the Slots of one schedule cover the visit.
func (v *visit) offered() bool {
	named := v.namedServices()
	if len(named) == 0 {
		named = v.slotServices()
	}
	for _, schedule := range v.schedules {
		var list []scheduling.Interval
		for _, t := range v.slots {
			if t.Schedule == schedule && v.serves(t, named) {
				list = append(list, scheduling.Interval{Start: t.Start, End: t.End})
			}
		}
		for _, i := range scheduling.Join(list) {
			if i.Holds(scheduling.Interval{Start: v.start, End: v.end}) {
				return true
			}
		}
	}
	return false
}

// flagSystem is the code system of tags on appointments: one that its patient has cancelled less than a day before is a late
// cancellation, one beyond the capacity of its actors is overbooked.
const (
	flagSystem       = fhir.CanonicalBase + "CodeSystem/appointment-flag"
	lateCancellation = "late-cancellation"
	overbooked       = "overbooked"
)

// flag sets or removes a tag of the appointment.
func (m *move) flag(code string, on bool) {
	is := func(tag fhir.Node) bool { return tag.GetText("system") == flagSystem && tag.GetText("code") == code }
	has := m.after.At("meta", "tag")
	if has == nil && !on || has != nil && slices.ContainsFunc(has.Kids, is) == on {
		return
	}
	meta, tags := fhir.Obj(), fhir.Arr()
	if old := m.after.Get("meta"); old != nil {
		meta = old.Clone()
	}
	if has != nil {
		tags = has.Clone()
	}
	if tags.Kids = slices.DeleteFunc(tags.Kids, is); on {
		tags.Kids = append(tags.Kids, coding(flagSystem, code, ""))
	}
	if meta.Set("tag", tags); len(tags.Kids) == 0 {
		meta.Remove("tag")
	}
	if m.after.Set("meta", meta); len(meta.Kids) == 0 {
		m.after.Remove("meta")
	}
	m.changed = true
}

// flagLate marks a late cancellation, which is allowed, and says so.
func flagLate(m *move) {
	m.flag(lateCancellation, true)
	m.issues = append(m.issues, fhir.Issue{Severity: fhir.SeverityInformation, Code: fhir.CodeInformational, Detail: lateCancellation,
		Text: "The visit was cancelled less than 24 hours before it; that is noted"})
}

// reasonSystem is the code system of cancelationReason.
const reasonSystem = "http://terminology.hl7.org/CodeSystem/appointment-cancellation-reason"

// reasonGiven makes sure that a cancelled appointment says why: where nobody said, by whose side it was. Patients give
// patients' reasons.
func reasonGiven(m *move) error {
	if readIHEReason(m.after) {
		m.changed = true
	}
	reason := m.after.Get("cancelationReason")
	if reason == nil {
		code := "prov"
		if m.who&(scheduling.Practitioner|scheduling.Admin|scheduling.Server) == 0 {
			code = "pat"
		}
		m.after.Set("cancelationReason", reasonOf(code))
		m.changed = true
		return nil
	}
	m.because(reason)
	if !onlyPatient(m.who) {
		return nil
	}
	for c := range reason.Get("coding").Items() {
		if code := c.GetText("code"); c.GetText("system") == reasonSystem && code != "pat" && !strings.HasPrefix(code, "pat-") {
			return fhir.NewError(fhir.BusinessRule, fhir.CodeBusinessRule,
				"Patients give one of the patients' reasons: their codes begin with pat").Coded("wrong-reason-side").At("Appointment.cancelationReason")
		}
	}
	return nil
}

// reasonKnown warns of codes that the system of reasons does not have. They stand: the binding is of the strength example. Before the
// official code systems are in the database, nobody knows.
func (s *Service) reasonKnown(ctx context.Context, m *move) error {
	for c := range m.after.Get("cancelationReason").Get("coding").Items() {
		code := c.GetText("code")
		if c.GetText("system") != reasonSystem || code == "" {
			continue
		}
		r, err := s.store.Terminology(everything(ctx), m.tx, terminology.Options{})
		if err != nil {
			return err
		}
		system, err := r.System(ctx, reasonSystem, "")
		if err != nil || system == nil {
			return err
		}
		known, err := r.Lookup(ctx, system, code, "")
		if err != nil {
			return err
		}
		if known == nil {
			m.issues = append(m.issues, fhir.Issue{Severity: fhir.SeverityWarning, Code: fhir.CodeCodeInvalid, Detail: "unknown-reason",
				Text: "A code of the reason is not one that " + reasonSystem + " has", Expression: []string{"Appointment.cancelationReason"}})
		}
	}
	return nil
}

func reasonOf(code string) fhir.Node {
	return fhir.Obj(fhir.Arr(fhir.Obj(fhir.Str(reasonSystem).As("system"), fhir.Str(code).As("code"))).As("coding"))
}

// encounters says of the Encounters of an appointment whether one has begun, and whether one is not in error.
func (s *Service) encounters(ctx context.Context, m *move) (begun, live bool, err error) {
	resp, err := s.searchIn(everything(ctx), m.tx, Request{Interaction: SearchType, Type: "Encounter", Query: "appointment=" + m.reference, Principal: m.request.Principal})
	if err != nil {
		return false, false, err
	}
	for _, e := range resp.Bundle.Entries {
		if e.Version == nil {
			continue
		}
		n, err := fhir.ParseJSON(e.Version.Content)
		if err != nil {
			return false, false, err
		}
		status := n.GetText("status")
		begun = begun || slices.Contains([]string{"in-progress", "onleave", "finished"}, status)
		live = live || status != "entered-in-error"
	}
	return begun, live, nil
}
