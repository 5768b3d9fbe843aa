package resources

import (
	"context"
	"slices"

	"kiln/auth"
	"kiln/fhir"
	"kiln/resources/scheduling"
	"kiln/storage"
)

// begun are the states of a visit that takes place, or has.
var begun = []string{"in-progress", "onleave", "finished"}

// followEncounter makes the appointments of a visit that has begun fulfilled: row 14 of scheduling.Table. A visit whose
// appointment cannot be fulfilled, because it was cancelled for instance, does not begin; records of what has been, brought
// from elsewhere, leave such an appointment as it is.
func (s *Service) followEncounter(ctx context.Context, c *change) error {
	if c.after == nil || !slices.Contains(begun, c.after.GetText("status")) {
		return nil
	}
	before, err := c.current()
	if err != nil || before != nil && slices.Contains(begun, before.GetText("status")) {
		return err
	}
	for ref := range c.after.Get("appointment").Items() {
		name := s.local(ref)
		if typeOf(name) != "Appointment" {
			continue
		}
		old, n, err := s.lockAnother(acting(ctx, auth.Read), c, name)
		if err != nil {
			return err
		}
		if old == nil || n.GetText("status") == "fulfilled" {
			continue
		}
		booking, err := c.tx.Booking(ctx, name)
		if err != nil {
			return err
		}
		from := scheduling.State(n.GetText("status"))
		if booking != nil {
			from = scheduling.State(booking.State)
		}
		who := roleOf(&c.request.Principal)
		if who&scheduling.Server != 0 {
			who |= scheduling.Admin
		}
		if _, _, _, ok := scheduling.Find(from, scheduling.Fulfilled, scheduling.ByEncounter, who); !ok && brings(&c.request.Principal) {
			continue
		}
		n.Set("status", fhir.Str("fulfilled"))
		if _, err := s.putMoved(ctx, c.tx, c.request, old, n, intent{trigger: scheduling.ByEncounter, to: scheduling.Fulfilled, who: who}); err != nil {
			return err
		}
	}
	return nil
}

// followAppointment says of a planned visit that the patient has arrived for it: row 12 of scheduling.Table.
func (s *Service) followAppointment(ctx context.Context, c *change) error {
	here := []string{"arrived", "checked-in"}
	if c.after == nil || !slices.Contains(here, c.after.GetText("status")) {
		return nil
	}
	before, err := c.current()
	if err != nil || before == nil || slices.Contains(here, before.GetText("status")) {
		return err
	}
	resp, err := s.searchIn(everything(ctx), c.tx, Request{Interaction: SearchType, Type: "Encounter", Principal: c.request.Principal,
		Query: "status=planned&appointment=Appointment/" + c.key.ID})
	if err != nil {
		return err
	}
	for _, e := range resp.Bundle.Entries {
		old, n, err := s.lockAnother(everything(ctx), c, "Encounter/"+e.Version.ID)
		if err != nil {
			return err
		}
		if old == nil || n.GetText("status") != "planned" {
			continue
		}
		n.Set("status", fhir.Str("arrived"))
		p, err := s.store.Prepare(n)
		if err != nil {
			return err
		}
		inner := *c.request
		inner.Principal, inner.Type, inner.ID, inner.IfMatch, inner.intent = auth.System(), "Encounter", n.ID(), "", nil
		if _, err := s.put(everything(ctx), c.tx, &inner, p, old, storage.MethodUpdate); err != nil {
			return err
		}
	}
	return nil
}

// diagnosisCategory marks a Condition as what a visit found.
const diagnosisCategory = "encounter-diagnosis"

// followCondition links a diagnosis from the visit that it was made in.
func (s *Service) followCondition(ctx context.Context, c *change) error {
	if c.after == nil || c.old != nil || brings(&c.request.Principal) {
		return nil
	}
	diagnosis := false
	for code := range references(c.after, []string{"category", "coding", "code"}) {
		diagnosis = diagnosis || code.Text == diagnosisCategory
	}
	visit := s.local(c.after.Get("encounter"))
	if !diagnosis || typeOf(visit) != "Encounter" {
		return nil
	}
	old, n, err := s.lockAnother(acting(ctx, auth.Read), c, visit)
	if err != nil || old == nil {
		return err
	}
	name := c.key.Type + "/" + c.key.ID
	for ref := range references(n, []string{"diagnosis", "condition"}) {
		if s.local(ref) == name {
			return nil
		}
	}
	list := fhir.Arr()
	if has := n.Get("diagnosis"); has != nil {
		list = has.Clone()
	}
	list.Kids = append(list.Kids, fhir.Obj(reference(name).As("condition")))
	n.Set("diagnosis", list)
	p, err := s.store.Prepare(n)
	if err != nil {
		return err
	}
	inner := *c.request
	inner.Type, inner.ID, inner.IfMatch = "Encounter", n.ID(), ""
	_, err = s.put(everything(ctx), c.tx, &inner, p, old, storage.MethodUpdate)
	return err
}
