package resources

import (
	"cmp"
	"context"
	"slices"
	"time"

	"kiln/fhir"
	"kiln/resources/scheduling"
	"kiln/storage"
)

// allowSlot is the rule of Slots: the status, and whether it is overbooked, follow from what is taken. Who writes busy, busy-tentative or
// busy-unavailable over free time closes it for everybody; who writes free opens it again; anything that disagrees with
// the visits there are is refused.
func (s *Service) allowSlot(ctx context.Context, c *change) error {
	name := c.key.Type + "/" + c.key.ID
	found, err := c.tx.Slots(ctx, name)
	if err != nil {
		return err
	}
	var old storage.SlotTime
	if len(found) > 0 {
		old = found[0]
	}
	used := old.Kept == "" && (old.Due == "busy" || old.Due == "busy-tentative")
	if c.after == nil || c.after.GetText("status") == "entered-in-error" {
		if used {
			return slotInUse()
		}
		c.tx.Open(name)
		c.tx.DropSlot(name)
		return nil
	}
	t := storage.SlotTime{Slot: name, Schedule: s.local(c.after.Get("schedule")), Start: instant(c.after.Get("start")), End: instant(c.after.Get("end")),
		Status: c.after.GetText("status"), Service: s.slotService(c.after)}
	if !t.Start.Before(t.End) {
		return fhir.NewError(fhir.Unprocessable, fhir.CodeInvariant, "A Slot ends after it starts").Coded("start-before-end").At("Slot.end")
	}
	if t.End.Sub(t.Start) > maxHorizonDays*24*time.Hour && t.End.After(s.now()) {
		return fhir.NewError(fhir.BusinessRule, fhir.CodeBusinessRule, "A Slot takes 400 days at most").Coded("too-long").At("Slot.end")
	}
	if used && (!t.Start.Equal(old.Start) || !t.End.Equal(old.End) || t.Schedule != old.Schedule || t.Service != old.Service) {
		return slotInUse()
	}
	c.tx.Fence(storage.Whose{Schedules: []string{t.Schedule}})
	if !t.End.After(s.now()) { // what has been, nobody books
		if t.Status != "free" {
			t.Kept = t.Status
		}
		t.Overbooked = literal(c.after.Get("overbooked")) == "true"
		c.tx.SaveSlot(t)
		return nil
	}
	if old.Kept != "" {
		c.tx.Open(name)
	}
	return s.stateSlot(ctx, c, t, old)
}

// slotService is the service that a Slot says it is for: "HealthcareService/x" or a code; "" for any.
func (s *Service) slotService(n *fhir.Node) string {
	for e := range n.Get("extension").Items() {
		if e.GetText("url") == scheduling.ExtensionSlotService {
			return cmp.Or(s.local(e.Get("valueReference")), e.GetText("valueCode"))
		}
	}
	return ""
}

// serves says whether the time of a Slot is for a visit of some services. A code says less than a service: who names none may
// have such a Slot too.
func (v *visit) serves(t storage.SlotTime, services []string) bool {
	if t.Service == "" || len(services) == 0 && typeOf(t.Service) != "HealthcareService" || slices.Contains(services, t.Service) {
		return true
	}
	for i := range v.services {
		for c := range v.services[i].Get("coding").Items() {
			if c.GetText("code") == t.Service {
				return true
			}
		}
	}
	return false
}

// stateSlot compares what a client says of a Slot with what is.
func (s *Service) stateSlot(ctx context.Context, c *change, t, old storage.SlotTime) error {
	c.tx.SaveSlot(t)
	now, err := c.tx.Slots(ctx, t.Slot)
	if err != nil || len(now) == 0 {
		return err
	}
	if t.Overbooked = now[0].DueOverbooked; t.Overbooked {
		c.tx.SaveSlot(t)
	}
	if err := sayOverbooked(c, t.Overbooked); err != nil {
		return err
	}
	due := now[0].Due
	switch {
	case due == t.Status:
		return nil
	case t.Status == "free" || due != "free":
		if c.request.Principal.IsOperator() && (t.Status == "free" || old.Kept == "") { // an import brings the Slot, what is taken has the last word
			c.after.Set("status", fhir.Str(due))
			c.changed = true
			t.Status = due
			c.tx.SaveSlot(t)
			return nil
		}
		return fhir.NewError(fhir.Conflict, fhir.CodeConflict,
			"The status of a Slot follows from what is booked; this one is "+due+" now").Coded("slot-taken").At("Slot.status")
	}
	t.Kept = t.Status
	c.tx.SaveSlot(t)
	actors, err := c.tx.ActorsOf(ctx, t.Schedule)
	if err != nil {
		return err
	}
	for _, a := range actors[t.Schedule] {
		c.tx.Close(t.Slot, storage.Span{Actor: a.Actor, Start: t.Start, End: t.End}, a.Capacity)
	}
	return nil
}

// sayOverbooked makes a Slot say that it is overbooked, where it is; a client cannot say otherwise.
func sayOverbooked(c *change, is bool) error {
	said := c.after.Get("overbooked")
	switch {
	case said == nil && !is, said != nil && (said.Text == "true") == is:
		return nil
	case said == nil, c.request.Principal.IsOperator():
		c.after.Set("overbooked", fhir.Boolean(is))
		c.changed = true
		return nil
	}
	return fhir.NewError(fhir.Conflict, fhir.CodeConflict, "Whether a Slot is overbooked follows from what is booked").Coded("slot-taken").At("Slot.overbooked")
}

func slotInUse() error {
	return fhir.NewError(fhir.Conflict, fhir.CodeConflict, "An appointment is booked by this Slot; cancel or move it first").Coded("slot-taken")
}
