package resources

import (
	"context"
	"errors"
	"slices"
	"time"

	"kiln/fhir"
	"kiln/resources/scheduling"
	"kiln/storage"
)

// wish is what free time is looked for. What $find offers and what a refusal offers instead come from here, and are judged by the same
// rows and rules as a booking, so that what is offered can be booked.
type wish struct {
	// schedules are alternatives; together are further schedules that must be free at the same time.
	schedules, together []string
	// start and end bound when the visit lies.
	start, end time.Time
	// patient, if any, must be free too; ignore is an appointment whose own time counts as free.
	patient, ignore string
	// replaces is an appointment of the patient who may have another beside it, which takes its place.
	replaces string
	// actors must be free too, whether or not a Schedule offers their time.
	actors []string
	// service is a HealthcareService, or "".
	service string
	// services are those that will do where service is not said: the one of them which a Slot is for, or a Schedule names.
	services []string
	// begin, if any, says by which Slots a visit may begin.
	begin func(storage.SlotTime) bool
	// length is how long the visit is; zero for what the service says, or the Slot.
	length time.Duration
	// strict applies the rules for patients: notice, horizon, grid.
	strict bool
	limit  int
	// when says when in the week it begins; nil for any time.
	when *weekly
}

// offer is a free time.
type offer struct {
	proposal  scheduling.Proposal
	schedules []string
	slots     []storage.SlotTime
	visit     *visit
}

// offers lists free times in order; more says that there are others.
func (s *Service) offers(ctx context.Context, tx *storage.Tx, w wish) (list []offer, more bool, err error) {
	if !w.start.Before(w.end) {
		return nil, false, nil
	}
	for _, schedule := range w.schedules {
		joint := append([]string{schedule}, w.together...)
		slices.Sort(joint[1:])
		joint = slices.Compact(joint)
		found, err := s.offersOf(ctx, tx, w, joint)
		if err != nil {
			return nil, false, err
		}
		list = append(list, found...)
	}
	slices.SortStableFunc(list, func(a, b offer) int { return a.proposal.Start.Compare(b.proposal.Start) })
	if len(list) > w.limit {
		return list[:w.limit], true, nil
	}
	return list, false, nil
}

func (s *Service) offersOf(ctx context.Context, tx *storage.Tx, w wish, joint []string) (list []offer, err error) {
	slots, err := tx.SlotsOf(ctx, joint, w.start, w.end)
	if err != nil || len(slots) == 0 {
		return nil, err
	}
	v := &visit{schedules: joint, capacity: map[string]int{}}
	if w.service == "" && w.begin == nil {
		return s.offersByService(ctx, tx, w, joint, slots)
	}
	if w.service != "" {
		v.participants = append(v.participants, participant{actor: w.service, person: w.service})
	}
	if w.patient != "" {
		v.participants = append(v.participants, participant{actor: w.patient, person: w.patient, required: true})
		v.patient = w.patient
	}
	var look []string
	for _, a := range w.actors {
		if typeOf(a) == "Patient" {
			continue
		}
		v.participants = append(v.participants, participant{actor: a, person: a, required: true})
		look = append(look, a)
	}
	if w.service != "" {
		look = append(look, w.service)
	}
	if err := s.complete(ctx, tx, v, look); err != nil {
		return nil, err
	}
	named := v.namedServices()
	slots = slices.DeleteFunc(slots, func(t storage.SlotTime) bool { return !v.serves(t, named) })
	busy, err := tx.Busy(ctx, v.actors, w.start.Add(-v.policy.BufferBefore), w.end.Add(v.policy.BufferAfter))
	if err != nil {
		return nil, err
	}
	busy = slices.DeleteFunc(busy, func(a storage.Allocation) bool {
		return a.Owner == w.ignore || a.Owner == w.replaces && a.Actor == w.patient
	})
	free := map[string][]scheduling.Interval{}
	for _, t := range slots {
		if t.Due == "free" || t.Kept == "" && w.ignore != "" {
			free[t.Schedule] = append(free[t.Schedule], scheduling.Interval{Start: t.Start, End: t.End})
		}
	}
	for _, name := range joint {
		free[name] = scheduling.Join(free[name])
	}
	now := s.now()
	var last time.Time
	for _, t := range slots {
		if t.Schedule != joint[0] || t.Start.Equal(last) || w.begin != nil && !w.begin(t) {
			continue
		}
		o := *v
		if o.start, o.end = t.Start, t.End; w.length > 0 {
			o.end = o.start.Add(w.length)
		} else if v.length > 0 {
			o.end = o.start.Add(v.length)
		}
		span := scheduling.Interval{Start: o.start, End: o.end}
		switch {
		case !t.Start.After(now), o.start.Before(w.start), o.end.After(w.end):
			continue
		case !w.when.fits(o.start, v.zone):
			continue
		case w.strict && (o.start.Sub(now) < v.policy.MinNotice || o.start.Sub(now) > v.policy.MaxHorizon):
			continue
		case w.strict && v.zone != nil && !scheduling.Aligned(o.start, v.policy.Alignment, v.zone):
			continue
		case slices.ContainsFunc(joint, func(name string) bool {
			return !slices.ContainsFunc(free[name], func(i scheduling.Interval) bool { return i.Holds(span) })
		}):
			continue
		case !o.isFree(busy):
			continue
		}
		last = t.Start
		p := scheduling.Proposal{Start: o.start, Length: o.end.Sub(o.start)}
		for _, name := range joint {
			p.Schedules = append(p.Schedules, s.store.Number(keyOf(name)))
		}
		if w.service != "" {
			p.Service = s.store.Number(keyOf(w.service))
		}
		if !p.Fits() {
			continue
		}
		own := offer{proposal: p, schedules: joint, visit: &o}
		for _, u := range slots {
			if span.Holds(scheduling.Interval{Start: u.Start, End: u.End}) {
				own.slots = append(own.slots, u)
			}
		}
		if list = append(list, own); len(list) > w.limit {
			break
		}
	}
	return list, nil
}

// offersByService offers each Slot that is for one service for that, where nobody has said for which; the others for any, or for
// one of the mode that was asked for.
func (s *Service) offersByService(ctx context.Context, tx *storage.Tx, w wish, joint []string, slots []storage.SlotTime) (list []offer, err error) {
	services := []string{""}
	of := func(t storage.SlotTime) string {
		if typeOf(t.Service) == "HealthcareService" {
			return t.Service
		}
		return ""
	}
	for _, t := range slots {
		if service := of(t); t.Schedule == joint[0] && !slices.Contains(services, service) {
			services = append(services, service)
		}
	}
	for _, service := range services {
		w.service, w.begin = service, func(t storage.SlotTime) bool { return of(t) == service }
		if len(w.services) > 0 && service == "" {
			if w.service, err = s.serviceOf(ctx, tx, joint[0], w.services); err != nil {
				return nil, err
			}
		}
		if len(w.services) > 0 && !slices.Contains(w.services, w.service) {
			continue
		}
		found, err := s.offersOf(ctx, tx, w, joint)
		if err != nil {
			return nil, err
		}
		list = append(list, found...)
	}
	return list, nil
}

// serviceOf is that of some services which a Schedule names, or "".
func (s *Service) serviceOf(ctx context.Context, tx *storage.Tx, schedule string, services []string) (string, error) {
	found, err := s.readAll(ctx, tx, schedule)
	if err != nil {
		return "", err
	}
	for a := range found[schedule].Get("actor").Items() {
		if service := s.local(a); slices.Contains(services, service) {
			return service, nil
		}
	}
	return "", nil
}

// isFree says whether every actor of a visit has a lane left.
func (v *visit) isFree(busy []storage.Allocation) bool {
	for _, c := range v.claims(storage.AllocationBusy, false) {
		lanes, most := map[int]bool{}, max(c.Capacity, 1)
		for _, b := range busy {
			if b.Actor == c.Actor && b.Start.Before(c.End) && c.Start.Before(b.End) {
				if b.Kind == storage.AllocationBlock {
					return false
				}
				lanes[b.Lane], most = true, min(most, b.Capacity)
			}
		}
		if len(lanes) >= most {
			return false
		}
	}
	return true
}

// proposed writes an offer as an Appointment that is not stored: its id is what $hold and $book take.
func (s *Service) proposed(o offer) fhir.Node {
	n := fhir.Obj(fhir.Str("Appointment").As("resourceType"), fhir.Str(o.proposal.ID(s.store.Sign)).As("id"), fhir.Str("proposed").As("status"),
		fhir.Str(fhir.FormatInstant(o.visit.start)).As("start"), fhir.Str(fhir.FormatInstant(o.visit.end)).As("end"))
	if len(o.slots) > 0 {
		refs := make([]fhir.Node, len(o.slots))
		for i, t := range o.slots {
			refs[i] = reference(t.Slot)
		}
		n.Set("slot", fhir.Arr(refs...))
	}
	n.Set("participant", fhir.Arr(o.visit.asParticipants()...))
	return n
}

// asParticipants lists whose time a visit takes, and its service.
func (v *visit) asParticipants() []fhir.Node {
	var list []fhir.Node
	for _, a := range v.actors {
		list = append(list, fhir.Obj(reference(a).As("actor"), fhir.Str("required").As("required"), fhir.Str("needs-action").As("status")))
	}
	for _, p := range v.participants {
		if typeOf(p.actor) == "HealthcareService" {
			list = append(list, forService(p.actor))
		}
	}
	return list
}

// maxAlternatives is how many other times a refusal offers, within alternativesWithin of the one that was wanted.
const (
	maxAlternatives    = 3
	alternativesWithin = 14 * 24 * time.Hour
)

// withAlternatives adds to the refusal of a time up to three others with the same people. It is a courtesy: where it
// fails, the refusal stands as it is.
func (s *Service) withAlternatives(ctx context.Context, err error) error {
	var taken *timeTaken
	var e *fhir.Error
	if !errors.As(err, &taken) || !errors.As(err, &e) || len(taken.visit.schedules) == 0 {
		return err
	}
	v := taken.visit
	w := wish{schedules: v.schedules[:1], together: v.schedules[1:], start: v.start.Add(-alternativesWithin / 7), end: v.start.Add(alternativesWithin),
		patient: v.patient, actors: v.actors, service: v.service(), length: v.end.Sub(v.start), strict: true, limit: maxAlternatives}
	if len(v.schedules) > scheduling.MaxProposalSchedules {
		return err
	}
	if now := s.now(); w.start.Before(now) {
		w.start = now
	}
	var list []offer
	_ = s.store.Write(everything(ctx), func(tx *storage.Tx) (err error) {
		list, _, err = s.offers(ctx, tx, w)
		return err
	})
	if len(list) == 0 {
		return err
	}
	more := fhir.Issue{Severity: fhir.SeverityInformation, Code: fhir.CodeInformational, Detail: "alternatives",
		Text: "These times are free; book one of them by its id"}
	for _, o := range list {
		n := s.proposed(o)
		// The patient is not told to whoever only sees the refusal.
		more.Alternatives = append(more.Alternatives, withoutPatient(n))
	}
	told := *e
	told.Issues = append(slices.Clone(e.Issues), more)
	return &told
}

func withoutPatient(n fhir.Node) fhir.Node {
	list := n.Get("participant")
	kept := list.Kids[:0:0]
	for _, p := range list.Kids {
		if typeOf(p.Get("actor").GetText("reference")) != "Patient" {
			kept = append(kept, p)
		}
	}
	if len(kept) == 0 { // an Appointment has a participant
		kept = list.Kids[:1]
	}
	n.Set("participant", fhir.Arr(kept...))
	return n
}
