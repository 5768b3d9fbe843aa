package resources

import (
	"context"
	"slices"
	"strings"
	"time"

	"kiln/auth"
	"kiln/fhir"
	"kiln/resources/scheduling"
	"kiln/storage"
)

// allowSchedule is the rule of Schedules: what they say about availability and booking can be understood, and whose time
// they offer is known.
func (s *Service) allowSchedule(ctx context.Context, c *change) error {
	name := c.key.Type + "/" + c.key.ID
	if c.after == nil {
		if list, err := c.tx.SlotsOf(ctx, []string{name}, s.now(), s.now().Add(maxAhead)); err != nil {
			return err
		} else if len(list) > 0 {
			return fhir.NewError(fhir.Conflict, fhir.CodeConflict, "This Schedule has Slots that are still to come; delete those first").Coded("schedule-in-use")
		}
		c.tx.SaveSchedule(name, nil)
		return nil
	}
	_, problem := scheduling.DefaultPolicy().Read(c.after)
	if problem == "" {
		_, problem = scheduling.ReadRules(c.after)
	}
	if problem != "" {
		return badExtension(problem, "Schedule.extension")
	}
	return s.saveSchedule(ctx, c.tx, name, c.after, true)
}

func badExtension(problem, at string) error {
	return fhir.NewError(fhir.Unprocessable, fhir.CodeExtension, problem).Coded("bad-extension").At(at)
}

// saveSchedule notes whose time a Schedule offers. A service is no one who has time, unless the Schedule names nobody
// else; nor is a whole building. own says that the Schedule itself changes, and not what it names.
func (s *Service) saveSchedule(ctx context.Context, tx *storage.Tx, name string, n *fhir.Node, own bool) error {
	var named []string
	for a := range n.Get("actor").Items() {
		if actor := s.local(a); actor != "" {
			named = append(named, actor)
		}
	}
	found, err := s.readAll(ctx, tx, named...)
	if err != nil {
		return err
	}
	policy := scheduling.DefaultPolicy()
	var people, services []string
	for _, a := range named {
		switch typeOf(a) {
		case "HealthcareService":
			policy, _ = policy.Read(found[a])
			services = append(services, a)
		case "PractitionerRole":
			if person := s.local(found[a].Get("practitioner")); person != "" {
				a = person
			}
			people = append(people, a)
		case "Location":
			if !isWide(found[a]) {
				people = append(people, a)
			}
		default:
			people = append(people, a)
		}
	}
	policy, _ = policy.Read(n)
	if len(people) == 0 {
		people = services
	}
	slices.Sort(people)
	var actors []storage.ScheduleActor
	for _, a := range slices.Compact(people) {
		actors = append(actors, storage.ScheduleActor{Actor: a, Capacity: policy.Capacity})
	}
	fence := storage.Whose{Schedules: []string{name}}
	for _, a := range actors {
		fence.Actors = append(fence.Actors, a.Actor)
	}
	tx.Fence(fence)
	before, err := tx.ActorsOf(ctx, name)
	if err != nil || slices.Equal(before[name], actors) {
		return err
	}
	if own {
		if err := keepsVisits(ctx, tx, name, before[name], actors); err != nil {
			return err
		}
	}
	tx.SaveSchedule(name, actors)
	list, err := tx.SlotsOf(ctx, []string{name}, s.now(), s.now().Add(maxAhead))
	for _, t := range list {
		tx.TouchSlots(t.Slot)
	}
	return err
}

// keepsVisits refuses that a calendar passes on from actors who have visits to come that were booked by it: its Slots would be
// free for who takes over, although they are taken.
func keepsVisits(ctx context.Context, tx *storage.Tx, name string, before, after []storage.ScheduleActor) error {
	var leave, actors []string
	for _, a := range after {
		actors = append(actors, a.Actor)
	}
	for _, a := range before {
		if !slices.Contains(actors, a.Actor) {
			leave = append(leave, a.Actor)
		}
	}
	if len(leave) == 0 {
		return nil
	}
	tx.ChangesActors(name)
	leaves, err := tx.LeavesVisits(ctx, name, leave, actors)
	if err == nil && leaves {
		err = fhir.NewError(fhir.Conflict, fhir.CodeConflict, name+" has visits to come with "+strings.Join(leave, " and ")+
			"; move or cancel those first, or make another Schedule for who takes over").Coded("schedule-in-use").At("Schedule.actor")
	}
	return err
}

// maxAhead is how far ahead Slots are looked at when a Schedule changes: no $generate reaches further.
const maxAhead = 401 * 24 * time.Hour

// allowService is the rule of HealthcareServices: their booking-policy can be understood.
func (s *Service) allowService(_ context.Context, c *change) error {
	if c.after == nil {
		return nil
	}
	if _, problem := scheduling.DefaultPolicy().Read(c.after); problem != "" {
		return badExtension(problem, "HealthcareService.extension")
	}
	return nil
}

// maxFollowing is how many Schedules follow a change of what they name.
const maxFollowing = 1000

// followService takes a changed capacity to the Schedules of the service.
func (s *Service) followService(ctx context.Context, c *change) error {
	before, err := c.current()
	if err != nil || c.after == nil || before == nil {
		return err
	}
	old, _ := scheduling.DefaultPolicy().Read(before)
	if policy, _ := scheduling.DefaultPolicy().Read(c.after); policy.Capacity == old.Capacity {
		return nil
	}
	return s.resaveSchedules(ctx, c)
}

// followActor takes to the Schedules that name a PractitionerRole or a Location whose time that is now: another practitioner's, or
// nobody's where a room has become a building.
func (s *Service) followActor(ctx context.Context, c *change) error {
	before, err := c.current()
	if err != nil || c.after == nil {
		return err
	}
	if s.local(before.Get("practitioner")) == s.local(c.after.Get("practitioner")) && isWide(before) == isWide(c.after) {
		return nil
	}
	return s.resaveSchedules(ctx, c)
}

// resaveSchedules notes anew whose time the Schedules offer that name a changed resource.
func (s *Service) resaveSchedules(ctx context.Context, c *change) error {
	keys, err := s.match(everything(ctx), c.tx, "Schedule", "actor="+c.key.Type+"/"+c.key.ID, maxFollowing)
	if err != nil {
		return err
	}
	for _, k := range keys {
		name := k.Type + "/" + k.ID
		found, err := s.readAll(ctx, c.tx, name)
		if err != nil {
			return err
		}
		if n := found[name]; n != nil {
			if err := s.saveSchedule(ctx, c.tx, name, n, false); err != nil {
				return err
			}
		}
	}
	return nil
}

// ownSchedule reads and locks a Schedule that the caller may change: practitioners their own.
//
// Errors: NotFound, Gone; Forbidden.
func (s *Service) ownSchedule(ctx context.Context, tx *storage.Tx, id string) (*fhir.Node, error) {
	ctx = acting(ctx, auth.Update)
	key := storage.Key{Type: "Schedule", ID: id}
	locked, err := tx.Lock(ctx, key)
	if err != nil {
		return nil, err
	}
	v := locked[key]
	switch {
	case v == nil:
		return nil, notFound(key)
	case v.Deleted:
		return nil, gone(key)
	}
	if ok, err := tx.Permits(ctx, nil, v); err != nil {
		return nil, err
	} else if !ok {
		return nil, forbidden("Practitioners change their own Schedules only").Coded("not-your-schedule")
	}
	n, err := fhir.ParseJSON(v.Content)
	if err != nil {
		return nil, fhir.NewError(fhir.Internal, fhir.CodeException, "A stored resource cannot be read").Because(err)
	}
	return n, nil
}
