package resources

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"kiln/auth"
	"kiln/fhir"
	"kiln/resources/scheduling"
	"kiln/storage"
)

// Bounds of $generate; docs/limits.md publishes them.
const (
	maxGenerateDays = 90
	maxHorizonDays  = 400
	maxGenerated    = 20_000
)

// generatedTag marks Slots that $generate made: only those does it remove again.
const (
	originSystem = fhir.CanonicalBase + "CodeSystem/origin"
	originTag    = "generated"
)

// slotIdentity is what tells the Slots of one Schedule apart; the times are in UTC.
type slotIdentity struct {
	start, end time.Time
	service    string
}

// generateSlots is Schedule/[id]/$generate: the Slots that the weekly rules of a Schedule make. It may run again and
// again: what is there stays, what the rules want no more goes if it is free and was made here.
//
// Errors: BusinessRule where no zone or no rules are known; TooCostly for too many days.
func (s *Service) generateSlots(ctx context.Context, c *call) (*Response, error) {
	if err := permitted(ctx, auth.Update, "Schedule"); err != nil {
		return nil, err
	}
	from, to, err := s.generateRange(c)
	if err != nil {
		return nil, err
	}
	var result *fhir.Node
	err = s.store.Write(ctx, func(tx *storage.Tx) error {
		n, err := s.ownSchedule(ctx, tx, c.ID)
		if err != nil {
			return err
		}
		g := &generation{Service: s, tx: tx, schedule: "Schedule/" + c.ID, node: n, dry: c.is("dry-run")}
		if result, err = g.run(ctx, from, to); err != nil {
			return err
		}
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

func (s *Service) generateRange(c *call) (from, to scheduling.Date, err error) {
	days := func(name string) (scheduling.Date, bool) {
		t, err := time.Parse(time.DateOnly, c.text(name))
		return scheduling.Date{Year: t.Year(), Month: t.Month(), Day: t.Day()}, err == nil
	}
	from, ok1 := days("from")
	to, ok2 := days("to")
	if !ok1 || !ok2 || to.Before(from) {
		return from, to, fhir.NewError(fhir.Invalid, fhir.CodeValue, "from and to are days such as 2026-11-30, the second not before the first").At("Parameters")
	}
	// A day is not over everywhere when it is over here.
	today := scheduling.DateOf(s.now().Add(-14*time.Hour), time.UTC)
	last := today.Next(maxGenerateDays + 1)
	span := maxGenerateDays
	if c.is("horizon-override") {
		if s.isPatient(&c.Principal) || !c.Principal.IsOperator() && !c.Principal.Has(auth.RoleAdmin) {
			return from, to, forbidden("Only administrators make Slots further ahead than 90 days")
		}
		span, last = maxHorizonDays, today.Next(maxHorizonDays+1)
	}
	switch {
	case from.Before(today):
		return from, to, fhir.NewError(fhir.BusinessRule, fhir.CodeBusinessRule, "Slots are made from today on").Coded("in-the-past").At("Parameters")
	case from.Next(span).Before(to) || last.Before(to):
		return from, to, fhir.NewError(fhir.TooCostly, fhir.CodeTooCostly, fmt.Sprintf("Slots are made for %d days at most, and not further ahead", span)).Coded("window-too-wide").At("Parameters")
	}
	return from, to, nil
}

// generation is one run of $generate.
type generation struct {
	*Service
	tx       *storage.Tx
	schedule string
	node     *fhir.Node
	dry      bool
	calendar scheduling.Calendar
	open     []scheduling.Interval
}

func (g *generation) run(ctx context.Context, from, to scheduling.Date) (*fhir.Node, error) {
	planned, err := g.plan(ctx, from, to)
	if err != nil {
		return nil, err
	}
	if len(planned) > maxGenerated {
		return nil, fhir.NewError(fhir.TooCostly, fhir.CodeTooCostly, fmt.Sprintf("These rules make more than %d Slots; ask for fewer days", maxGenerated)).Coded("window-too-wide")
	}
	g.tx.Fence(storage.Whose{Schedules: []string{g.schedule}})
	low, _ := from.At(0, g.calendar.Zone)
	if low.IsZero() {
		low, _ = from.At(180, g.calendar.Zone)
	}
	high, ok := to.At(1440, g.calendar.Zone)
	if !ok {
		high = low.Add(time.Duration(maxHorizonDays+1) * 24 * time.Hour)
	}
	there, err := g.tx.SlotsOf(ctx, []string{g.schedule}, low, high.Add(24*time.Hour))
	if err != nil {
		return nil, err
	}
	known := map[slotIdentity]storage.SlotTime{}
	for _, t := range there {
		known[slotIdentity{t.Start, t.End, t.Service}] = t
	}
	wanted := map[slotIdentity]bool{}
	var fresh []slotIdentity
	kept, conflicting := 0, 0
	for _, p := range planned {
		at := p
		t, ok := known[at]
		if !ok { // one that says no service is another, unless it is booked: then it stays, and one is enough
			any := slotIdentity{p.start, p.end, ""}
			if t, ok = known[any]; ok && t.Due == "free" {
				ok = false
			} else if ok {
				at = any
			}
		}
		if wanted[at] = true; ok {
			if kept++; t.Due != "free" {
				conflicting++
			}
			continue
		}
		fresh = append(fresh, p)
	}
	taken, err := g.create(ctx, fresh)
	if err != nil {
		return nil, err
	}
	removed, err := g.remove(ctx, there, wanted, low, high)
	if err != nil {
		return nil, err
	}
	out := []fhir.Node{
		numbered("created", len(fresh)), numbered("kept", kept), numbered("removed", removed), numbered("conflicting", conflicting+taken),
	}
	outside, err := g.outside(ctx, low, high)
	if err != nil {
		return nil, err
	}
	return parameters(append(out, outside...)...), nil
}

func numbered(name string, n int) fhir.Node {
	return named(name, "valueInteger", fhir.Num(strconv.Itoa(n)))
}

// read finds out when the Schedule is open, and how its services are booked.
//
// Errors: BusinessRule where no zone or no rules are known.
func (g *generation) read(ctx context.Context) (scheduling.Policy, error) {
	policy := scheduling.DefaultPolicy()
	var actors []string
	for a := range g.node.Get("actor").Items() {
		if name := g.local(a); name != "" {
			actors = append(actors, name)
		}
	}
	found, err := g.readAll(ctx, g.tx, actors...)
	if err != nil {
		return policy, err
	}
	var people, places, services []*fhir.Node
	for _, a := range actors {
		switch n := found[a]; typeOf(a) {
		case "PractitionerRole":
			people = append([]*fhir.Node{n}, people...)
		case "Location":
			places = append(places, n)
		case "HealthcareService":
			services = append(services, n)
		default:
			people = append(people, n)
		}
	}
	zone, ok := scheduling.ZoneOf(slices.Concat([]*fhir.Node{g.node}, places, people, services)...)
	if !ok {
		return policy, fhir.NewError(fhir.BusinessRule, fhir.CodeBusinessRule,
			"Nobody says in which zone the rules hold: give the Schedule, its Location or its Practitioner the extension "+scheduling.ExtensionTimezone).Coded("zone-unknown").At("Schedule.extension")
	}
	rules, problem := scheduling.ReadRules(g.node, slices.Concat(people, services, places)...)
	if problem == "" && len(rules) == 0 {
		problem = "The Schedule and its actors have no rules of availability"
	}
	if problem != "" {
		return policy, fhir.NewError(fhir.BusinessRule, fhir.CodeBusinessRule, problem).Coded("no-rules").At("Schedule.extension")
	}
	for i := range rules {
		if name := g.local(new(reference(rules[i].Service))); name != "" {
			rules[i].Service = name
		}
	}
	g.calendar = scheduling.Calendar{Zone: zone, Rules: rules}
	for _, n := range slices.Concat(people, places, services) {
		g.calendar.Away = append(g.calendar.Away, scheduling.ReadAway(n, zone)...)
	}
	for _, n := range services {
		policy, _ = policy.Read(n)
	}
	policy, _ = policy.Read(g.node)
	return policy, nil
}

// plan lists what the rules want, in the future, from the first day to the last.
func (g *generation) plan(ctx context.Context, from, to scheduling.Date) ([]slotIdentity, error) {
	policy, err := g.read(ctx)
	if err != nil {
		return nil, err
	}
	g.open = g.openOf(from, to)
	var planned []slotIdentity
	now := g.now()
	for _, service := range g.services() {
		own := policy
		if typeOf(service) == "HealthcareService" {
			more, err := g.readAll(ctx, g.tx, service)
			if err != nil {
				return nil, err
			}
			own, _ = own.Read(more[service])
		}
		of := g.calendar
		of.Rules = slices.DeleteFunc(slices.Clone(of.Rules), func(r scheduling.Rule) bool { return r.Service != service })
		open := of.Open(service, from, to)
		alignment := own.Alignment
		if alignment == 0 {
			alignment = own.Duration
		}
		var last time.Time
		for _, start := range of.Starts(open, own.Duration, alignment) {
			if !start.After(now) || start.Before(last) {
				continue
			}
			// A fine grid offers many starts; Slots follow each other.
			last = start.Add(own.Duration)
			planned = append(planned, slotIdentity{start, last, service})
		}
	}
	slices.SortFunc(planned, func(a, b slotIdentity) int { return a.start.Compare(b.start) })
	return planned, nil
}

// services are those that the rules name, "" for any.
func (g *generation) services() (list []string) {
	for _, r := range g.calendar.Rules {
		if !slices.Contains(list, r.Service) {
			list = append(list, r.Service)
		}
	}
	return list
}

// openOf is when the Schedule is open for anything.
func (g *generation) openOf(from, to scheduling.Date) (open []scheduling.Interval) {
	for _, service := range g.services() {
		open = append(open, g.calendar.Open(service, from, to)...)
	}
	return scheduling.Join(open)
}

// create makes Slots, in the state that follows from what is taken; it says how many are not free.
func (g *generation) create(ctx context.Context, list []slotIdentity) (taken int, err error) {
	if g.dry || len(list) == 0 {
		return 0, nil
	}
	names := make([]string, len(list))
	for i, p := range list {
		names[i] = "Slot/" + g.options.NewID()
		g.tx.SaveSlot(storage.SlotTime{Slot: names[i], Schedule: g.schedule, Start: p.start, End: p.end, Status: "free", Service: p.service})
	}
	states, err := g.tx.Slots(ctx, names...)
	if err != nil {
		return 0, err
	}
	due := map[string]storage.SlotTime{}
	for _, t := range states {
		due[t.Slot] = t
	}
	types, err := g.serviceTypes(ctx, list)
	if err != nil {
		return 0, err
	}
	prepared := make([]*storage.Prepared, 0, len(list))
	for i, p := range list {
		n := fhir.Obj(fhir.Str("Slot").As("resourceType"), fhir.Str(keyOf(names[i]).ID).As("id"),
			fhir.Obj(fhir.Arr(fhir.Obj(fhir.Str(originSystem).As("system"), fhir.Str(originTag).As("code"))).As("tag")).As("meta"))
		if serviceType := types[p.service]; serviceType != nil {
			n.Set("serviceType", serviceType.Clone())
		}
		if p.service != "" {
			value := fhir.Str(p.service).As("valueCode")
			if typeOf(p.service) == "HealthcareService" {
				value = reference(p.service).As("valueReference")
			}
			n.Set("extension", fhir.Arr(fhir.Obj(fhir.Str(scheduling.ExtensionSlotService).As("url"), value)))
		}
		n.Set("schedule", reference(g.schedule))
		is := due[names[i]]
		n.Set("status", fhir.Str(is.Due))
		n.Set("start", fhir.Str(fhir.FormatInstant(p.start)))
		n.Set("end", fhir.Str(fhir.FormatInstant(p.end)))
		if is.DueOverbooked {
			n.Set("overbooked", fhir.Boolean(true))
		}
		if is.Due != "free" {
			taken++
		}
		if is.Due != "free" || is.DueOverbooked {
			g.tx.SaveSlot(storage.SlotTime{Slot: names[i], Schedule: g.schedule, Start: p.start, End: p.end, Status: is.Due, Overbooked: is.DueOverbooked, Service: p.service})
		}
		ready, err := g.store.Prepare(&n)
		if err != nil {
			return 0, err
		}
		prepared = append(prepared, ready)
	}
	for part := range slices.Chunk(prepared, bulkSize) {
		if _, err := g.tx.InsertAll(ctx, part, storage.MethodCreate); err != nil {
			return 0, err
		}
	}
	return taken, nil
}

// serviceTypes are what Slots of services have as serviceType: the types of the service where it says some, else those of the Schedule.
func (g *generation) serviceTypes(ctx context.Context, list []slotIdentity) (map[string]*fhir.Node, error) {
	types := map[string]*fhir.Node{}
	for _, p := range list {
		if _, known := types[p.service]; known {
			continue
		}
		types[p.service] = g.node.Get("serviceType")
		if typeOf(p.service) != "HealthcareService" {
			continue
		}
		found, err := g.readAll(ctx, g.tx, p.service)
		if err != nil {
			return nil, err
		}
		if t := found[p.service].Get("type"); t != nil {
			types[p.service] = t
		}
	}
	return types, nil
}

// remove deletes free Slots that $generate made and the rules want no more.
func (g *generation) remove(ctx context.Context, there []storage.SlotTime, wanted map[slotIdentity]bool, low, high time.Time) (removed int, err error) {
	var keys []storage.Key
	now := g.now()
	for _, t := range there {
		if t.Due == "free" && t.Start.After(now) && !t.Start.Before(low) && t.Start.Before(high) && !wanted[slotIdentity{t.Start, t.End, t.Service}] {
			keys = append(keys, keyOf(t.Slot))
		}
	}
	if len(keys) == 0 {
		return 0, nil
	}
	locked, err := g.tx.LockAll(ctx, keys...)
	if err != nil {
		return 0, err
	}
	for _, key := range keys {
		v := locked[key]
		if v == nil || v.Deleted {
			continue
		}
		n, err := fhir.ParseJSON(v.Content)
		if err != nil {
			return 0, fhir.NewError(fhir.Internal, fhir.CodeException, "A stored resource cannot be read").Because(err)
		}
		ours := false
		for tag := range n.At("meta", "tag").Items() {
			ours = ours || tag.GetText("system") == originSystem && tag.GetText("code") == originTag
		}
		if !ours {
			continue
		}
		if removed++; !g.dry {
			g.tx.Delete(v)
			g.tx.DropSlot(key.Type + "/" + key.ID)
		}
	}
	return removed, nil
}

// outside lists the appointments booked by Slots of this Schedule that lie outside of what the rules offer now. They stay; somebody
// has to look at them. What the same people do by another calendar is no matter of this one's rules.
func (g *generation) outside(ctx context.Context, low, high time.Time) (list []fhir.Node, err error) {
	actors, err := g.tx.ActorsOf(ctx, g.schedule)
	if err != nil {
		return nil, err
	}
	var names, slots []string
	for _, a := range actors[g.schedule] {
		names = append(names, a.Actor)
	}
	bookings, err := g.tx.BookingsIn(ctx, names, low, high)
	if err != nil {
		return nil, err
	}
	for _, b := range bookings {
		slots = append(slots, b.Slots...)
	}
	of, err := g.tx.SchedulesOfSlots(ctx, slots...)
	if err != nil {
		return nil, err
	}
	for _, b := range bookings {
		here := slices.ContainsFunc(b.Slots, func(slot string) bool { return of[slot] == g.schedule })
		if here && b.Start.After(g.now()) && !holds(g.open, b) {
			list = append(list, named("outside", "valueReference", reference(b.Appointment)))
		}
	}
	return list, nil
}

// holds says whether a visit lies within one of the intervals.
func holds(open []scheduling.Interval, b *storage.Booking) bool {
	return slices.ContainsFunc(open, func(i scheduling.Interval) bool { return i.Holds(scheduling.Interval{Start: b.Start, End: b.End}) })
}
