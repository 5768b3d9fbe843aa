package resources

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"time"

	"kiln/auth"
	"kiln/fhir"
	"kiln/resources/scheduling"
	"kiln/storage"
)

const (
	tidyEvery  = 20 * time.Second
	tidyAtOnce = 200
	// maxWaiting is how many of the waitlist are looked at in one round, those first that have waited longest.
	maxWaiting = 1000
)

// TidyBookings ends holds and unanswered requests whose time is over, and offers time that became free to those who wait
// for it, until ctx ends. A hold that has ended is free for others without it: this only writes down what is so already.
func (s *Service) TidyBookings(ctx context.Context, report func(error)) {
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	for {
		if err := s.Tidy(ctx); err != nil && ctx.Err() == nil {
			report(err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Tidy is one round of TidyBookings.
func (s *Service) Tidy(ctx context.Context) error {
	ctx = everything(ctx)
	due, err := s.store.DueBookings(ctx, tidyAtOnce)
	if err != nil {
		return err
	}
	for _, b := range due {
		if err := s.expire(ctx, b); err != nil {
			return err
		}
	}
	if err := s.settleOld(ctx); err != nil {
		return err
	}
	waiting, err := s.store.Waiting(ctx, maxWaiting)
	if err != nil {
		return err
	}
	return s.offerWaiting(ctx, waiting)
}

// settleOld brings Slots in step that an older server has left.
func (s *Service) settleOld(ctx context.Context) error {
	slots, err := s.store.UnsettledSlots(ctx, tidyAtOnce)
	if err != nil || len(slots) == 0 {
		return err
	}
	return s.store.Write(ctx, func(tx *storage.Tx) error {
		tx.TouchSlots(slots...)
		if err := s.settle(ctx, tx); err != nil {
			return err
		}
		return s.bearWitness(tx, itself())
	})
}

// step is one step of a stored appointment that the server takes by itself. prepare says ok where it still is to be taken.
func (s *Service) step(ctx context.Context, appointment string, prepare func(*storage.Tx, *storage.Booking, *fhir.Node) (do intent, ok bool, err error)) error {
	r := &Request{Interaction: Update, Type: "Appointment", Principal: auth.System()}
	_, err := s.write(ctx, r, nil, func(tx *storage.Tx) (*Response, error) {
		key := keyOf(appointment)
		locked, err := tx.LockAll(ctx, key)
		if err != nil {
			return nil, err
		}
		b, err := tx.Booking(ctx, appointment)
		if err != nil || b == nil || locked[key] == nil || locked[key].Deleted {
			return nil, err
		}
		n, err := fhir.ParseJSON(locked[key].Content)
		if err != nil {
			return nil, fhir.NewError(fhir.Internal, fhir.CodeException, "A stored resource cannot be read").Because(err)
		}
		do, ok, err := prepare(tx, b, n)
		if err != nil || !ok {
			return nil, err
		}
		if do.who == 0 {
			do.who = scheduling.Server
		}
		resp, err := s.putMoved(ctx, tx, r, locked[key], n, do)
		if err != nil {
			return nil, err
		}
		return resp, s.bearWitness(tx, itself())
	})
	if k := fhir.KindOf(err); err != nil && (k == fhir.Conflict || k == fhir.BusinessRule) {
		return nil // somebody else was faster
	}
	return err
}

func (s *Service) expire(ctx context.Context, b *storage.Booking) error {
	return s.step(ctx, b.Appointment, func(_ *storage.Tx, b *storage.Booking, _ *fhir.Node) (intent, bool, error) {
		over := !b.Due.IsZero() && !b.Due.After(s.now())
		if b.State == string(scheduling.Booked) { // nobody answered whether it can be moved: it stays where it is
			return intent{trigger: scheduling.ByReschedule, to: scheduling.Booked, who: scheduling.Admin}, over, nil
		}
		return intent{trigger: scheduling.ByExpiry, to: scheduling.Cancelled}, over, nil
	})
}

// waiter is an appointment on the waitlist, with what it waits for.
type waiter struct {
	appointment string
	priority    int
	wish        wish
}

// offerWaiting holds free time for those who wait for it: the most urgent first, then who has waited longest.
func (s *Service) offerWaiting(ctx context.Context, waiting []*storage.Booking) error {
	var list []waiter
	for _, b := range waiting {
		v, err := s.store.Read(ctx, "Appointment", keyOf(b.Appointment).ID)
		if err != nil {
			return err
		}
		if v == nil || v.Deleted {
			continue
		}
		n, err := fhir.ParseJSON(v.Content)
		if err != nil {
			return fhir.NewError(fhir.Internal, fhir.CodeException, "A stored resource cannot be read").Because(err)
		}
		w, err := s.waits(ctx, b, n)
		if err != nil {
			return err
		}
		switch {
		case !w.wish.end.IsZero() && !w.wish.end.After(s.now()): // what was wished for is over
			if err := s.giveUp(ctx, b.Appointment); err != nil {
				return err
			}
		case len(w.wish.schedules) > 0:
			list = append(list, w)
		}
	}
	slices.SortStableFunc(list, func(a, b waiter) int { return cmp.Compare(a.priority, b.priority) })
	for _, w := range list {
		if err := s.offerTo(ctx, w); err != nil {
			return err
		}
	}
	return nil
}

// giveUp takes somebody off the waitlist.
func (s *Service) giveUp(ctx context.Context, appointment string) error {
	return s.step(ctx, appointment, func(_ *storage.Tx, b *storage.Booking, _ *fhir.Node) (intent, bool, error) {
		return intent{trigger: scheduling.ByExpiry, to: scheduling.Cancelled}, b.State == string(scheduling.Waitlist), nil
	})
}

// waits reads what somebody waits for: whose time, and when.
func (s *Service) waits(ctx context.Context, b *storage.Booking, n *fhir.Node) (w waiter, err error) {
	w = waiter{appointment: b.Appointment, priority: 10}
	if p, err := strconv.Atoi(cmp.Or(literal(n.Get("priority")), "0")); err == nil && p > 0 {
		w.priority = p // 1 is the most urgent, as in iCalendar; 0 is not said
	}
	err = s.store.Write(ctx, func(tx *storage.Tx) error {
		v, err := s.readVisit(ctx, tx, n)
		if err != nil {
			return err
		}
		w.wish = wish{patient: v.patient, actors: v.actors, service: v.service(), replaces: b.Replaces, limit: 1, strict: true}
		for _, a := range v.actors {
			found, err := tx.SchedulesOf(ctx, a)
			switch {
			case err != nil:
				return err
			case len(found) == 0 || typeOf(a) == "Patient":
			case len(w.wish.schedules) == 0:
				w.wish.schedules = found
			case !slices.ContainsFunc(found, func(f string) bool { return slices.Contains(w.wish.schedules, f) }):
				w.wish.together = append(w.wish.together, found[0])
			}
		}
		return nil
	})
	if minutes, ok := strconv.Atoi(literal(n.Get("minutesDuration"))); ok == nil && minutes > 0 {
		w.wish.length = time.Duration(minutes) * time.Minute
	}
	for p := range n.Get("requestedPeriod").Items() {
		w.wish.start, w.wish.end = s.now(), s.now().Add(maxFindWindow)
		if d, ok := fhir.ParseDateTime(p.GetText("start"), time.UTC); ok && d.Time.After(w.wish.start) {
			w.wish.start = d.Time.UTC()
		}
		if d, ok := fhir.ParseDateTime(p.GetText("end"), time.UTC); ok {
			w.wish.end = d.End().UTC()
		}
		if w.wish.end.After(s.now()) { // the first period that is not over
			break
		}
	}
	return w, err
}

func literal(n *fhir.Node) string {
	if n == nil {
		return ""
	}
	return n.Text
}

// offerTo holds the first free time for somebody who waits.
func (s *Service) offerTo(ctx context.Context, w waiter) error {
	return s.step(ctx, w.appointment, func(tx *storage.Tx, b *storage.Booking, n *fhir.Node) (intent, bool, error) {
		found, _, err := s.offers(ctx, tx, w.wish)
		if err != nil || len(found) == 0 || b.State != string(scheduling.Waitlist) {
			return intent{}, false, err
		}
		o := found[0]
		n.Set("start", fhir.Str(fhir.FormatInstant(o.visit.start)))
		n.Set("end", fhir.Str(fhir.FormatInstant(o.visit.end)))
		if err := s.nameSlots(ctx, tx, n, o.visit, o.schedules, o.visit.start, o.visit.end); err != nil {
			return intent{}, false, err
		}
		return intent{trigger: scheduling.ByOffer, to: scheduling.Hold, due: s.now().Add(offerTime)}, true, nil
	})
}
