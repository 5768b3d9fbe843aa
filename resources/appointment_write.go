package resources

import (
	"context"
	"slices"
	"time"

	"kiln/fhir"
	"kiln/resources/scheduling"
	"kiln/storage"
)

// fillTime makes sure that what takes time has one: that of its Slots where the appointment does not say, and finds the
// Slots where it does not name them.
func (s *Service) fillTime(ctx context.Context, m *move) error {
	v := m.visit
	if !m.to.TakesTime() {
		return nil
	}
	if v.start.IsZero() && len(v.slots) > 0 {
		v.start, v.end = spanOf(v.slots)
		m.after.Set("start", fhir.Str(fhir.FormatInstant(v.start)))
		m.after.Set("end", fhir.Str(fhir.FormatInstant(v.end)))
		m.changed = true
	}
	switch {
	case v.start.IsZero() || v.end.IsZero():
		return fhir.NewError(fhir.BusinessRule, fhir.CodeBusinessRule, "An appointment that takes time has a start and an end, or a Slot that is known here").
			Coded("time-required").At("Appointment.start", "Appointment.end")
	case !v.start.Before(v.end):
		return fhir.NewError(fhir.Unprocessable, fhir.CodeInvariant, "An appointment ends after it starts").Coded("start-before-end").At("Appointment.end")
	case v.end.Sub(v.start) > maxVisit:
		return fhir.NewError(fhir.BusinessRule, fhir.CodeBusinessRule, "An appointment takes 31 days at most").Coded("too-long").At("Appointment.end")
	}
	if len(v.slots) == 0 && len(v.schedules) > 0 && m.after.Get("slot") == nil {
		if err := s.findSlots(ctx, m); err != nil {
			return err
		}
	}
	m.nameService()
	return nil
}

// nameService makes an appointment that is booked by a Slot of one service say so: moved, it is for the same.
func (m *move) nameService() {
	list, services := m.after.Get("participant"), m.visit.slotServices()
	if len(services) != 1 || len(m.visit.namedServices()) > 0 || list == nil || list.Kind != fhir.Array {
		return
	}
	fresh := list.Clone()
	fresh.Kids = append(fresh.Kids, forService(services[0]))
	m.visit.participants = append(m.visit.participants, participant{actor: services[0], person: services[0], status: "accepted", index: len(fresh.Kids) - 1})
	m.after.Set("participant", fresh)
	m.changed = true
}

// forService is the participant that says which service a visit is for.
func forService(name string) fhir.Node {
	return fhir.Obj(reference(name).As("actor"), fhir.Str("information-only").As("required"), fhir.Str("accepted").As("status"))
}

// spanOf is from when to when Slots are, of which there is one at least.
func spanOf(slots []storage.SlotTime) (start, end time.Time) {
	start, end = slots[0].Start, slots[0].End
	for _, t := range slots {
		if t.Start.Before(start) {
			start = t.Start
		}
		if t.End.After(end) {
			end = t.End
		}
	}
	return start, end
}

// timeOfSlots gives a new appointment that names nothing but its Slots their time, before it is validated: plain clients send it
// so, and app-3 asks for start and end.
//
// Errors: BusinessRule where it names none that is known here.
func (s *Service) timeOfSlots(ctx context.Context, n *fhir.Node) error {
	if n.Get("start") != nil || n.Get("end") != nil || !scheduling.StateOf(n.GetText("status"), false).TakesTime() {
		return nil
	}
	var names []string
	for ref := range n.Get("slot").Items() {
		if name := s.local(ref); typeOf(name) == "Slot" {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return s.store.Write(everything(ctx), func(tx *storage.Tx) error {
		slots, err := tx.Slots(everything(ctx), names...)
		if err != nil {
			return err
		}
		if len(slots) == 0 {
			return fhir.NewError(fhir.BusinessRule, fhir.CodeNotFound, "There is no such Slot, and the appointment has no start and end: choose among the free Slots, or ask $find").
				Coded("time-required").At("Appointment.slot")
		}
		start, end := spanOf(slots)
		n.Set("start", fhir.Str(fhir.FormatInstant(start)))
		n.Set("end", fhir.Str(fhir.FormatInstant(end)))
		return nil
	})
}

// maxVisit is how long an appointment can take.
const maxVisit = 31 * 24 * time.Hour

// chooseSlots are those of some Slots of schedules that a visit is booked by: of each schedule those within it, or where there are
// none, one that holds it.
func (v *visit) chooseSlots(list []storage.SlotTime, schedules []string, span scheduling.Interval) (chosen []storage.SlotTime) {
	named := v.namedServices()
	for _, schedule := range schedules {
		var within, around []storage.SlotTime
		for _, t := range list {
			i := scheduling.Interval{Start: t.Start, End: t.End}
			switch {
			case t.Schedule != schedule || t.Kept != "" || !v.serves(t, named):
			case span.Holds(i):
				within = append(within, t)
			case i.Holds(span):
				around = append(around, t)
			}
		}
		if len(within) == 0 && len(around) > 0 {
			within = around[:1]
		}
		chosen = append(chosen, within...)
	}
	return chosen
}

// findSlots chooses the Slots of a visit that names none.
func (s *Service) findSlots(ctx context.Context, m *move) error {
	v := m.visit
	list, err := m.tx.SlotsOf(ctx, v.schedules, v.start, v.end)
	if err != nil {
		return err
	}
	v.slots = append(v.slots, v.chooseSlots(list, v.schedules, scheduling.Interval{Start: v.start, End: v.end})...)
	if len(v.slots) > 0 {
		refs := make([]fhir.Node, len(v.slots))
		for i, t := range v.slots {
			refs[i] = reference(t.Slot)
		}
		m.after.Set("slot", fhir.Arr(refs...))
		m.changed = true
	}
	return nil
}

func reference(to string) fhir.Node { return fhir.Obj(fhir.Str(to).As("reference")) }

// rewrite makes the appointment say what it has become.
func (m *move) rewrite(due time.Time) {
	if status := m.to.Status(); m.after.GetText("status") != status {
		m.after.Set("status", fhir.Str(status))
		m.changed = true
	}
	until := time.Time{}
	if m.to == scheduling.Hold {
		until = due
	}
	if setInstantExtension(m.after, fhir.HeldUntilExtension, until) {
		m.changed = true
	}
	if m.to.TakesTime() {
		m.participants()
	}
}

// participants names everybody whose time is taken, and what they have said to it.
func (m *move) participants() {
	list := m.after.Get("participant")
	if list == nil || list.Kind != fhir.Array {
		return
	}
	if m.row.Row == 5 || m.row.Row == 7 || m.from.TakesTime() && m.from != scheduling.Hold && m.trigger != scheduling.ByReschedule {
		return // the answers have been given
	}
	fresh := list.Clone()
	for _, actor := range m.visit.actors {
		if !slices.ContainsFunc(m.visit.participants, func(p participant) bool { return p.person == actor || p.actor == actor }) {
			fresh.Kids = append(fresh.Kids, fhir.Obj(reference(actor).As("actor"), fhir.Str("required").As("required"), fhir.Str("needs-action").As("status")))
			m.visit.participants = append(m.visit.participants, participant{actor: actor, person: actor, required: true, index: len(fresh.Kids) - 1})
		}
	}
	for _, p := range m.visit.participants {
		if !p.required {
			continue
		}
		status := "accepted"
		switch m.to {
		case scheduling.Hold:
			status = "needs-action"
		case scheduling.Awaiting:
			if typ := typeOf(p.person); !m.onlyCoverage && (typ == "Practitioner" || typ == "PractitionerRole") {
				status = "needs-action"
			}
		}
		fresh.Kids[p.index].Set("status", fhir.Str(status))
	}
	if fresh.Name = list.Name; !fresh.Equal(list) {
		m.after.Set("participant", fresh)
		m.changed = true
	}
}

// setInstantExtension sets or, for the zero time, removes an extension; it says whether something changed.
func setInstantExtension(n *fhir.Node, url string, at time.Time) bool {
	var kept []fhir.Node
	had := ""
	for e := range n.Get("extension").Items() {
		if e.GetText("url") == url {
			had = e.GetText("valueInstant")
			continue
		}
		kept = append(kept, *e)
	}
	text := ""
	if !at.IsZero() {
		text = fhir.FormatInstant(at)
		kept = append(kept, fhir.Obj(fhir.Str(url).As("url"), fhir.Str(text).As("valueInstant")))
	}
	if had == text {
		return false
	}
	if len(kept) == 0 {
		n.Remove("extension")
	} else {
		n.Set("extension", fhir.Arr(kept...))
	}
	return true
}

// save queues where the appointment stands now.
func (m *move) save(actors []string, due time.Time) {
	v := m.visit
	b := &storage.Booking{Appointment: m.reference, State: string(m.to), Due: due, Patient: v.patient, Actors: actors, Overbooked: m.overbooked}
	if !v.start.IsZero() && v.start.Before(v.end) {
		b.Start, b.End = v.start, v.end
		if v.zone != nil {
			b.Zone, b.LocalStart = v.zone.String(), v.start.In(v.zone).Format(scheduling.WallTime)
		}
	}
	if b.Slots = v.named; len(b.Slots) == 0 {
		for _, t := range v.slots {
			b.Slots = append(b.Slots, t.Slot)
		}
	}
	switch m.to {
	case scheduling.Waitlist, scheduling.Hold, scheduling.Awaiting:
		b.Replaces = m.replaces
	}
	if m.was != nil {
		b.Moves = m.was.Moves
		if m.trigger == scheduling.ByReschedule && onlyPatient(m.who) {
			b.Moves++
		}
	}
	m.tx.TouchSlots(b.Slots...)
	if m.was != nil {
		m.tx.TouchSlots(m.was.Slots...)
	}
	m.tx.SaveBooking(b)
}
