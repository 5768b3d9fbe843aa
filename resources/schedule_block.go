package resources

import (
	"context"
	"fmt"
	"time"

	"kiln/auth"
	"kiln/fhir"
	"kiln/storage"
)

// blockTime is Schedule/[id]/$block: it closes time of those whom a Schedule names, and tells of the appointments in it. It
// cancels none. The Slot that it makes keeps the time closed; deleting that Slot opens it.
//
// Errors: Conflict where there are appointments and resolve is refuse.
func (s *Service) blockTime(ctx context.Context, c *call) (*Response, error) {
	if err := permitted(ctx, auth.Update, "Schedule"); err != nil {
		return nil, err
	}
	resolve := c.text("resolve")
	if resolve != "" && resolve != "refuse" && resolve != "list" && resolve != "notify" {
		return nil, fhir.NewError(fhir.Invalid, fhir.CodeCodeInvalid, "resolve is refuse, list or notify").At("Parameters")
	}
	start, ok1 := fhir.ParseDateTime(c.text("start"), time.UTC)
	end, ok2 := fhir.ParseDateTime(c.text("end"), time.UTC)
	low, high := start.Time.UTC(), end.Time.UTC()
	switch {
	case !ok1 || !ok2 || !low.Before(high):
		return nil, fhir.NewError(fhir.Invalid, fhir.CodeValue, "start and end are dates and times such as 2026-11-30T09:00:00Z, the second after the first").At("Parameters")
	case high.Sub(low) > maxHorizonDays*24*time.Hour:
		return nil, fhir.NewError(fhir.TooCostly, fhir.CodeTooCostly, fmt.Sprintf("Time is closed for %d days at most", maxHorizonDays)).Coded("window-too-wide")
	case !high.After(s.now()):
		return nil, fhir.NewError(fhir.BusinessRule, fhir.CodeBusinessRule, "This time has passed").Coded("in-the-past")
	}
	var result *fhir.Node
	err := s.store.Write(ctx, func(tx *storage.Tx) error {
		if _, err := s.ownSchedule(ctx, tx, c.ID); err != nil {
			return err
		}
		schedule := "Schedule/" + c.ID
		actors, err := tx.ActorsOf(ctx, schedule)
		if err != nil {
			return err
		}
		slot := s.options.NewID()
		n := fhir.Obj(fhir.Str("Slot").As("resourceType"), fhir.Str(slot).As("id"), reference(schedule).As("schedule"),
			fhir.Str("busy-unavailable").As("status"), fhir.Str(fhir.FormatInstant(low)).As("start"), fhir.Str(fhir.FormatInstant(high)).As("end"))
		tx.Fence(storage.Whose{Schedules: []string{schedule}})
		var names []string
		for _, a := range actors[schedule] {
			names = append(names, a.Actor)
			tx.Close("Slot/"+slot, storage.Span{Actor: a.Actor, Start: low, End: high}, a.Capacity)
		}
		// After the time is closed nobody comes in between.
		affected, err := tx.BookingsIn(ctx, names, low, high)
		if err != nil {
			return err
		}
		if len(affected) > 0 && resolve != "list" && resolve != "notify" {
			return fhir.NewError(fhir.Conflict, fhir.CodeConflict,
				fmt.Sprintf("%d appointments lie in this time; nothing was closed. With resolve=list it is, and they are listed", len(affected))).Coded("slot-taken")
		}
		p, err := s.store.Prepare(&n)
		if err != nil {
			return err
		}
		v := tx.Insert(p, storage.MethodCreate)
		// Everybody reads Slots; why somebody is away is for those who keep the calendar.
		if reason := c.text("reason"); reason != "" {
			if err := s.testify(ctx, tx, &c.Principal, testimony{target: versioned(v), activity: storage.ActivityCreate, why: reason}); err != nil {
				return err
			}
		}
		tx.SaveSlot(storage.SlotTime{Slot: "Slot/" + slot, Schedule: schedule, Start: low, End: high, Status: "busy-unavailable", Kept: "busy-unavailable"})
		out := []fhir.Node{named("slot", "valueReference", reference("Slot/"+slot))}
		for _, b := range affected {
			out = append(out, named("affected", "valueReference", reference(b.Appointment)))
			if resolve == "notify" {
				if err := s.openRebook(tx, b, "Slot/"+slot); err != nil {
					return err
				}
			}
		}
		result = parameters(out...)
		if err := s.settle(ctx, tx); err != nil {
			return err
		}
		s.auditIn(ctx, tx, &Response{Resource: result})
		return nil
	})
	if err != nil {
		return nil, err
	}
	auditDone(ctx)
	return &Response{Resource: result}, nil
}

// rebookCode is the code of a Task about a visit whose time was closed.
const rebookCode = "rebook"

// openRebook asks staff to find another time for a visit that lies in time that was closed: the queue of what a block has hit is a
// search for such Tasks.
func (s *Service) openRebook(tx *storage.Tx, b *storage.Booking, slot string) error {
	now := fhir.Str(fhir.FormatInstant(s.now()))
	n := fhir.Obj(fhir.Str("Task").As("resourceType"), fhir.Str(s.options.NewID()).As("id"), fhir.Str("requested").As("status"), fhir.Str("order").As("intent"),
		coded(taskSystem, rebookCode, "").As("code"), fhir.Str("The time of this visit was closed: find another one, or cancel it").As("description"),
		reference(b.Appointment).As("focus"), now.As("authoredOn"), now.As("lastModified"), reference(slot).As("reasonReference"),
		fhir.Obj(fhir.Obj(fhir.Str(fhir.FormatInstant(b.Start)).As("end")).As("period")).As("restriction"))
	if b.Patient != "" {
		n.Set("for", reference(b.Patient))
	}
	p, err := s.store.Prepare(&n)
	if err != nil {
		return err
	}
	tx.Insert(p, storage.MethodCreate)
	return nil
}
