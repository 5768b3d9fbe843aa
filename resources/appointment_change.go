package resources

import (
	"context"
	"slices"
	"time"

	"kiln/auth"
	"kiln/fhir"
	"kiln/resources/scheduling"
	"kiln/storage"
)

// changeAppointment runs a change of one stored appointment: prepare makes of the content what it is to be, and says by what step.
func (s *Service) changeAppointment(ctx context.Context, c *call, prepare func(*storage.Tx, *fhir.Node) (intent, error)) (*Response, error) {
	r := *c.Request
	r.Interaction, r.Type, r.Body = Update, "Appointment", nil
	ctx, err := authorize(ctx, &r)
	if err != nil {
		return nil, err
	}
	resp, err := s.write(ctx, &r, s.operationFingerprint(ctx, c), func(tx *storage.Tx) (*Response, error) {
		key := storage.Key{Type: "Appointment", ID: c.ID}
		locked, err := tx.Lock(acting(ctx, auth.Read), key)
		if err != nil {
			return nil, err
		}
		old := locked[key]
		switch {
		case old == nil:
			return nil, notFound(key)
		case old.Deleted:
			return nil, gone(key)
		}
		if err := checkConditions(&r, old); err != nil {
			return nil, err
		}
		n, err := fhir.ParseJSON(old.Content)
		if err != nil {
			return nil, fhir.NewError(fhir.Internal, fhir.CodeException, "A stored resource cannot be read").Because(err)
		}
		do, err := prepare(tx, n)
		if err != nil {
			return nil, err
		}
		resp, err := s.putMoved(ctx, tx, &r, old, n, do)
		if reason := c.first("reason"); err == nil && reason != nil && do.trigger == scheduling.ByReschedule {
			err = s.testify(ctx, tx, &c.Principal, testimony{target: versioned(resp.Version), activity: storage.ActivityUpdate, reason: reason.value, of: resp.Version.Compartments})
		}
		return resp, err
	})
	if err != nil {
		return nil, err
	}
	return &Response{Version: resp.Version, Issues: resp.Issues}, nil
}

// cancelAppointment is Appointment/[id]/$cancel. It releases holds too. A practitioner who cancels what awaits an answer
// declines it.
func (s *Service) cancelAppointment(ctx context.Context, c *call) (*Response, error) {
	return s.changeAppointment(ctx, c, func(tx *storage.Tx, n *fhir.Node) (intent, error) {
		do := intent{trigger: scheduling.ByCancel, to: scheduling.Cancelled}
		booking, err := tx.Booking(ctx, "Appointment/"+c.ID)
		if err != nil {
			return do, err
		}
		from := scheduling.State(n.GetText("status"))
		if booking != nil {
			from = scheduling.State(booking.State)
		}
		switch reason := c.first("reason"); {
		case reason != nil:
			n.Set("cancelationReason", reason.value.Clone())
		case from.TakesTime() && from != scheduling.Hold:
			return do, fhir.NewError(fhir.Invalid, fhir.CodeRequired, "$cancel needs a reason").Coded(string(scheduling.ReasonGiven)).At("Parameters.parameter")
		}
		if text := c.text("comment"); text != "" {
			n.Set("comment", fhir.Str(text))
		}
		v, err := s.readVisit(ctx, tx, n)
		if err != nil {
			return do, err
		}
		if from == scheduling.Awaiting && s.roleIn(&c.Principal, v) == scheduling.Practitioner {
			do.trigger = scheduling.ByDecline
		}
		return do, nil
	})
}

// rescheduleAppointment is Appointment/[id]/$reschedule: the same appointment at another time, and with other people
// where schedule says so. The old time is given back as the new one is taken, or nothing changes at all.
func (s *Service) rescheduleAppointment(ctx context.Context, c *call) (*Response, error) {
	start, ok := fhir.ParseDateTime(c.text("start"), time.UTC)
	if !ok || len(c.text("start")) <= len("2006-01-02") {
		return nil, fhir.NewError(fhir.Invalid, fhir.CodeValue, "start is a date and time with a zone, such as 2026-11-30T09:00:00Z").At("Parameters")
	}
	return s.changeAppointment(ctx, c, func(tx *storage.Tx, n *fhir.Node) (intent, error) {
		do := intent{trigger: scheduling.ByReschedule, to: scheduling.Booked}
		length := instant(n.Get("end")).Sub(instant(n.Get("start")))
		begin := start.Time.UTC()
		v, err := s.readVisit(ctx, tx, n)
		if err != nil {
			return do, err
		}
		if v.policy.Approval && s.roleIn(&c.Principal, v) == scheduling.Patient {
			if c.first("schedule") != nil {
				return do, fhir.NewError(fhir.BusinessRule, fhir.CodeBusinessRule,
					"The practitioner approves each visit of this service: to change to another, cancel this one and book again").Coded("needs-approval")
			}
			askTo(n, begin, begin.Add(length))
			do.ask = true
			return do, nil
		}
		n.Set("start", fhir.Str(fhir.FormatInstant(begin)))
		n.Set("end", fhir.Str(fhir.FormatInstant(begin.Add(length))))
		n.Remove("slot")
		if list := c.all("schedule"); len(list) > 0 {
			var names []string
			for _, a := range list {
				names = append(names, s.local(a.value))
			}
			return do, s.replaceSchedules(ctx, tx, n, v, names, begin, begin.Add(length))
		}
		if len(v.slots) > 0 {
			return do, s.nameSlots(ctx, tx, n, v, v.schedules, begin, begin.Add(length))
		}
		return do, nil
	})
}

// replaceSchedules takes the people of other Schedules instead of those whom the visit had.
func (s *Service) replaceSchedules(ctx context.Context, tx *storage.Tx, n *fhir.Node, v *visit, names []string, start, end time.Time) error {
	actors, err := tx.ActorsOf(ctx, names...)
	if err != nil {
		return err
	}
	list := n.Get("participant").Clone()
	list.Kids = slices.DeleteFunc(list.Kids, func(p fhir.Node) bool {
		actor := s.local(p.Get("actor"))
		return slices.ContainsFunc(v.participants, func(x participant) bool {
			typ := typeOf(x.person)
			return x.actor == actor && (typ == "Practitioner" || typ == "Location" || typ == "Device" || typ == "PractitionerRole")
		})
	})
	for _, name := range names {
		if len(actors[name]) == 0 {
			return fhir.NewError(fhir.BusinessRule, fhir.CodeBusinessRule, quote(name)+" is no Schedule with somebody's time").Coded("not-offered")
		}
		for _, a := range actors[name] {
			list.Kids = append(list.Kids, fhir.Obj(reference(a.Actor).As("actor"), fhir.Str("required").As("required"), fhir.Str("accepted").As("status")))
		}
	}
	n.Set("participant", list)
	return s.nameSlots(ctx, tx, n, v, names, start, end)
}

// nameSlots names the Slots of some Schedules that a visit of these is booked by, so that it is of their calendars alone.
func (s *Service) nameSlots(ctx context.Context, tx *storage.Tx, n *fhir.Node, v *visit, schedules []string, start, end time.Time) error {
	slots, err := tx.SlotsOf(ctx, schedules, start, end)
	if err != nil {
		return err
	}
	var refs []fhir.Node
	for _, t := range v.chooseSlots(slots, schedules, scheduling.Interval{Start: start, End: end}) {
		refs = append(refs, reference(t.Slot))
	}
	if n.Remove("slot"); len(refs) > 0 {
		n.Set("slot", fhir.Arr(refs...))
	}
	return nil
}
