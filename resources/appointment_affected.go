package resources

import (
	"context"
	"fmt"
	"slices"
	"time"

	"kiln/auth"
	"kiln/fhir"
	"kiln/resources/scheduling"
	"kiln/storage"
)

// Bounds of $affected; docs/limits.md publishes them.
const (
	maxAffected   = 1000
	affectedBatch = 2000
)

// Why a booked visit is not any more what was agreed on.
const (
	clockChanged = "clock-changed" // clocks at the place show another time at its instant than when it was booked
	outsideRules = "outside"       // the rules of its Schedule, less leave, do not allow it any more
)

// affectedVisit is a visit that somebody has to look at.
type affectedVisit struct {
	*storage.Booking
	why string
	// keep is the instant when clocks show the time that was agreed on; zero where it is the same, or there is none.
	keep time.Time
}

// affectedAppointments is Appointment/$affected: the visits to come that a change of the rules of availability, leave, or the rules
// of a zone has hit. A visit was agreed on by the clocks of the place, so that time is kept beside its instant. Nothing is changed:
// an administrator moves them, or asks those concerned.
func (s *Service) affectedAppointments(ctx context.Context, c *call) (*Response, error) {
	if _, err := s.administers(ctx, &c.Principal); err != nil {
		return nil, err
	}
	if err := permitted(ctx, auth.Search, "Appointment"); err != nil {
		return nil, err
	}
	var result *fhir.Node
	err := s.store.Write(ctx, func(tx *storage.Tx) error {
		a := &affection{Service: s, tx: tx, calendars: map[string]*generation{}}
		after := ""
		for {
			part, err := tx.Upcoming(ctx, after, affectedBatch)
			if err != nil {
				return err
			}
			if err := a.look(ctx, part); err != nil {
				return err
			}
			if len(part) < affectedBatch || len(a.list) > maxAffected {
				break
			}
			after = part[len(part)-1].Appointment
		}
		var err error
		result, err = a.tell(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &Response{Resource: result}, nil
}

// affection is one call of $affected.
type affection struct {
	*Service
	tx *storage.Tx
	// calendars are those of Schedules, nil where they have no rules.
	calendars map[string]*generation
	list      []affectedVisit
}

// look adds those of some visits that are affected.
func (a *affection) look(ctx context.Context, visits []*storage.Booking) error {
	var slots []string
	for _, b := range visits {
		slots = append(slots, b.Slots...)
	}
	of, err := a.tx.SchedulesOfSlots(ctx, slots...)
	if err != nil {
		return err
	}
	for _, b := range visits {
		if zone, err := time.LoadLocation(b.Zone); b.Zone != "" && err == nil && b.Start.In(zone).Format(scheduling.WallTime) != b.LocalStart {
			x := affectedVisit{Booking: b, why: clockChanged}
			x.keep, _ = scheduling.AtWall(b.LocalStart, zone)
			a.list = append(a.list, x)
		}
		var schedules []string
		for _, slot := range b.Slots {
			if name := of[slot]; name != "" && !slices.Contains(schedules, name) {
				schedules = append(schedules, name)
			}
		}
		for _, name := range schedules {
			if within, err := a.within(everything(ctx), name, b); err != nil {
				return err
			} else if !within {
				a.list = append(a.list, affectedVisit{Booking: b, why: outsideRules})
				break
			}
		}
	}
	return nil
}

// within says whether a Schedule would offer the time of a visit now. One without rules has nothing to say.
func (a *affection) within(ctx context.Context, name string, b *storage.Booking) (bool, error) {
	g, known := a.calendars[name]
	if !known {
		found, err := a.readAll(ctx, a.tx, name)
		if err != nil {
			return false, err
		}
		if n := found[name]; n != nil {
			g = &generation{Service: a.Service, tx: a.tx, schedule: name, node: n}
			switch _, err := g.read(ctx); {
			case fhir.KindOf(err) == fhir.BusinessRule && err != nil:
				g = nil
			case err != nil:
				return false, err
			}
		}
		a.calendars[name] = g
	}
	if g == nil {
		return true, nil
	}
	from, to := scheduling.DateOf(b.Start, g.calendar.Zone), scheduling.DateOf(b.End, g.calendar.Zone)
	return holds(g.openOf(from.Next(-1), to), b), nil
}

// tell lists what was found, by time, as far as the caller sees it.
func (a *affection) tell(ctx context.Context) (*fhir.Node, error) {
	slices.SortStableFunc(a.list, func(x, y affectedVisit) int { return x.Start.Compare(y.Start) })
	keys := make([]storage.Key, len(a.list))
	for i, x := range a.list {
		keys[i] = keyOf(x.Appointment)
	}
	seen := map[storage.Key]*storage.Version{}
	for part := range slices.Chunk(keys, bulkSize) {
		found, err := a.tx.Read(acting(ctx, auth.Search), part...)
		if err != nil {
			return nil, err
		}
		for k, v := range found {
			seen[k] = v
		}
	}
	var out []fhir.Node
	for _, x := range a.list {
		if v := seen[keyOf(x.Appointment)]; v == nil || v.Deleted {
			continue
		}
		if len(out) == maxAffected {
			return parameters(append(out, named("more", "valueString", fhir.Str(fmt.Sprintf("There are more than %d; look again when these are settled", maxAffected))))...), nil
		}
		parts := []fhir.Node{
			named("appointment", "valueReference", reference(x.Appointment)),
			named("why", "valueCode", fhir.Str(x.why)),
			named("start", "valueInstant", fhir.Str(fhir.FormatInstant(x.Start))),
		}
		if x.why == clockChanged {
			zone, _ := time.LoadLocation(x.Zone)
			parts = append(parts, named("time-zone", "valueString", fhir.Str(x.Zone)), named("agreed", "valueString", fhir.Str(x.LocalStart)),
				named("shown", "valueString", fhir.Str(x.Start.In(zone).Format(scheduling.WallTime))))
			if !x.keep.IsZero() {
				parts = append(parts, named("keep", "valueInstant", fhir.Str(fhir.FormatInstant(x.keep))))
			}
		}
		out = append(out, fhir.Obj(fhir.Str("affected").As("name"), fhir.Arr(parts...).As("part")))
	}
	return parameters(out...), nil
}
