package resources

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"kiln/auth"
	"kiln/fhir"
	"kiln/resources/scheduling"
	"kiln/storage"
)

// visit is what an Appointment says, read together with what it refers to.
type visit struct {
	start, end time.Time
	// participants are the local actors that it names, in its order; patient is the first of them that is one.
	participants []participant
	patient      string
	// slots are those that it names and that are known here, schedules whose they are.
	slots     []storage.SlotTime
	schedules []string
	// named are all Slots that it names, known or not.
	named []string
	// actors are those whose time it takes, capacity how many visits each serves at a time.
	actors   []string
	capacity map[string]int
	policy   scheduling.Policy
	// length is how long the service takes; zero where nothing says so.
	length time.Duration
	zone   *time.Location
	// beside is time of another visit of the patient, which this one is going to replace; zero for none.
	beside scheduling.Interval
	// services are CodeableConcepts of what is done, as its HealthcareServices say.
	services []fhir.Node
}

type participant struct {
	// actor is a relative reference, person the Practitioner behind a PractitionerRole, else the actor.
	actor, person string
	required      bool
	status        string
	index         int
}

// everything is ctx with the rights of the server itself: what it reads for its rules is not shown to the caller.
func everything(ctx context.Context) context.Context {
	return storage.WithAccess(ctx, storage.Everything())
}

// local is the relative reference of a Reference to a resource of this server, or "".
func (s *Service) local(reference *fhir.Node) string {
	ref, ok := fhir.ParseReference(reference.GetText("reference"), s.isType)
	if !ok || ref.Type == "" || ref.ID == "" || ref.Base != "" && strings.TrimSuffix(ref.Base, "/") != s.options.Base {
		return ""
	}
	return ref.Type + "/" + ref.ID
}

func keyOf(reference string) storage.Key {
	typ, id, _ := strings.Cut(reference, "/")
	return storage.Key{Type: typ, ID: id}
}

func typeOf(reference string) string { return keyOf(reference).Type }

// instant reads a date and time with a zone, to the microsecond, which is as fine as time is taken.
func instant(n *fhir.Node) time.Time {
	if n == nil {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339Nano, n.Text)
	if err != nil {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Microsecond)
}

// readAll reads resources that rules look at; those that are not there are absent.
func (s *Service) readAll(ctx context.Context, tx *storage.Tx, references ...string) (map[string]*fhir.Node, error) {
	keys := make([]storage.Key, 0, len(references))
	for _, r := range references {
		if r != "" {
			keys = append(keys, keyOf(r))
		}
	}
	found := map[string]*fhir.Node{}
	if len(keys) == 0 {
		return found, nil
	}
	versions, err := tx.Read(everything(ctx), keys...)
	if err != nil {
		return nil, err
	}
	for k, v := range versions {
		if v.Deleted {
			continue
		}
		n, err := fhir.ParseJSON(v.Content)
		if err != nil {
			return nil, fhir.NewError(fhir.Internal, fhir.CodeException, "A stored resource cannot be read").Because(err)
		}
		found[k.Type+"/"+k.ID] = n
	}
	return found, nil
}

// readVisit reads an Appointment. It looks things up as the server, not as the caller.
func (s *Service) readVisit(ctx context.Context, tx *storage.Tx, n *fhir.Node) (*visit, error) {
	v := &visit{start: instant(n.Get("start")), end: instant(n.Get("end")), capacity: map[string]int{}}
	var look []string
	i := 0
	for p := range n.Get("participant").Items() {
		if actor := s.local(p.Get("actor")); actor != "" {
			v.participants = append(v.participants, participant{actor: actor, person: actor, status: p.GetText("status"), index: i,
				required: p.GetText("required") == "" || p.GetText("required") == "required"})
			switch typeOf(actor) {
			case "Patient":
				if v.patient == "" {
					v.patient = actor
				}
			case "PractitionerRole", "Location", "HealthcareService":
				look = append(look, actor)
			}
		}
		i++
	}
	var slots []string
	for ref := range n.Get("slot").Items() {
		if slot := s.local(ref); typeOf(slot) == "Slot" {
			slots = append(slots, slot)
		}
	}
	if v.named = slots; len(slots) > 0 {
		var err error
		if v.slots, err = tx.Slots(ctx, slots...); err != nil {
			return nil, err
		}
		slices.SortFunc(v.slots, func(a, b storage.SlotTime) int { return a.Start.Compare(b.Start) })
		for _, t := range v.slots {
			if !slices.Contains(v.schedules, t.Schedule) {
				v.schedules = append(v.schedules, t.Schedule)
			}
		}
	}
	return v, s.complete(ctx, tx, v, look)
}

// wide are the kinds of places that serve many visits at a time: a whole building is no room. Spec: location-physical-type.
var wide = []string{"si", "bu", "wi", "wa", "lvl", "co", "ho", "rd", "area", "jdn"}

// complete looks up whose time a visit takes and what its service asks for.
func (s *Service) complete(ctx context.Context, tx *storage.Tx, v *visit, look []string) error {
	found, err := s.readAll(ctx, tx, look...)
	if err != nil {
		return err
	}
	for i := range v.participants {
		p := &v.participants[i]
		if typeOf(p.actor) == "PractitionerRole" {
			if person := s.local(found[p.actor].Get("practitioner")); typeOf(person) == "Practitioner" {
				p.person = person
			}
		}
	}
	take := func(actor string) {
		if !slices.Contains(v.actors, actor) {
			v.actors = append(v.actors, actor)
		}
	}
	for _, p := range v.participants {
		if !p.required {
			continue
		}
		switch typeOf(p.actor) {
		case "Practitioner", "PractitionerRole", "Patient", "Device":
			take(p.person)
		case "Location":
			if !isWide(found[p.actor]) {
				take(p.actor)
			}
		}
	}
	if len(v.schedules) == 0 && len(v.actors) > 0 {
		var people []string
		for _, a := range v.actors {
			if typeOf(a) != "Patient" {
				people = append(people, a)
			}
		}
		if len(people) > 0 {
			if v.schedules, err = tx.SchedulesOf(ctx, people...); err != nil {
				return err
			}
		}
	} else if len(v.schedules) > 0 {
		byRow, err := tx.ActorsOf(ctx, v.schedules...)
		if err != nil {
			return err
		}
		for _, schedule := range v.schedules {
			for _, a := range byRow[schedule] {
				take(a.Actor)
			}
		}
	}
	slices.Sort(v.actors)
	return s.readPolicy(ctx, tx, v, found)
}

func isWide(location *fhir.Node) bool {
	for c := range location.At("physicalType", "coding").Items() {
		if slices.Contains(wide, c.GetText("code")) {
			return true
		}
	}
	return location.GetText("mode") == "kind"
}

// readPolicy lays the policies of the services over the default, and those of the schedules over them: of several, the
// stricter.
func (s *Service) readPolicy(ctx context.Context, tx *storage.Tx, v *visit, found map[string]*fhir.Node) error {
	schedules, err := s.readAll(ctx, tx, v.schedules...)
	if err != nil {
		return err
	}
	services := map[string]bool{}
	for _, a := range v.namedServices() {
		services[a] = true
	}
	if len(services) == 0 { // the Slots say what they are for
		for _, a := range v.slotServices() {
			services[a] = true
		}
	}
	var actors []string
	for _, name := range v.schedules {
		for a := range schedules[name].Get("actor").Items() {
			if actor := s.local(a); actor != "" {
				actors = append(actors, actor)
			}
		}
	}
	if len(services) == 0 {
		for _, a := range actors {
			if typeOf(a) == "HealthcareService" {
				services[a] = true
			}
		}
	}
	for a := range services {
		actors = append(actors, a)
	}
	more, err := s.readAll(ctx, tx, actors...)
	if err != nil {
		return err
	}
	for name, n := range found {
		more[name] = n
	}
	base := scheduling.DefaultPolicy()
	for _, a := range slices.Sorted(maps.Keys(services)) {
		for _, element := range []string{"type", "category", "specialty"} {
			for c := range more[a].Get(element).Items() {
				v.services = append(v.services, *c)
			}
		}
		base, _ = base.Read(more[a])
		if d, ok := scheduling.StatedDuration(more[a]); ok {
			v.length = max(v.length, d)
		}
	}
	v.policy = base
	var zones []*fhir.Node
	capacities, err := tx.ActorsOf(ctx, v.schedules...)
	if err != nil {
		return err
	}
	for i, name := range v.schedules {
		n := schedules[name]
		own, _ := base.Read(n)
		if i == 0 {
			v.policy = own
		} else {
			v.policy = scheduling.Stricter(v.policy, own)
		}
		if d, ok := scheduling.StatedDuration(n); ok {
			v.length = max(v.length, d)
		}
		for _, a := range capacities[name] {
			if has, ok := v.capacity[a.Actor]; !ok || a.Capacity < has {
				v.capacity[a.Actor] = a.Capacity
			}
		}
		zones = append(zones, n)
	}
	for _, typ := range []string{"Location", "HealthcareService", "PractitionerRole", "Practitioner"} {
		for _, a := range actors {
			if typeOf(a) == typ {
				zones = append(zones, more[a])
			}
		}
		for _, p := range v.participants {
			if typeOf(p.actor) == typ {
				zones = append(zones, more[p.actor])
			}
		}
	}
	v.zone, _ = scheduling.ZoneOf(zones...)
	return nil
}

// namedServices are the HealthcareServices that the visit names itself.
func (v *visit) namedServices() (list []string) {
	for _, p := range v.participants {
		if typeOf(p.actor) == "HealthcareService" {
			list = append(list, p.actor)
		}
	}
	return list
}

// slotServices are the HealthcareServices that the Slots of the visit are for.
func (v *visit) slotServices() (list []string) {
	for _, t := range v.slots {
		if typeOf(t.Service) == "HealthcareService" && !slices.Contains(list, t.Service) {
			list = append(list, t.Service)
		}
	}
	return list
}

// service is the one HealthcareService that the visit names; "" where it names none, or several.
func (v *visit) service() string {
	if list := v.namedServices(); len(list) == 1 {
		return list[0]
	}
	return ""
}

// claims are what the visit takes: its time for the patient, and with its buffers for everybody else.
func (v *visit) claims(kind storage.AllocationKind, over bool) []storage.Claim {
	list := make([]storage.Claim, 0, len(v.actors))
	for _, a := range v.actors {
		c := storage.Claim{Actor: a, Start: v.start, End: v.end, Kind: kind, Capacity: v.capacity[a], Over: over}
		if typeOf(a) != "Patient" {
			c.Start, c.End = c.Start.Add(-v.policy.BufferBefore), c.End.Add(v.policy.BufferAfter)
		}
		if a != v.patient {
			list = append(list, c)
			continue
		}
		// Beside what it replaces the patient's time is taken in another lane, and there alone.
		span, shared := scheduling.Interval{Start: c.Start, End: c.End}, []scheduling.Interval{v.beside}
		for _, i := range scheduling.Subtract([]scheduling.Interval{span}, shared) {
			c.Start, c.End = i.Start, i.End
			list = append(list, c)
		}
		for _, i := range scheduling.Intersect([]scheduling.Interval{span}, shared) {
			c.Start, c.End, c.Beside = i.Start, i.End, 1
			list = append(list, c)
		}
	}
	return list
}

// roleIn is what a caller is to a visit. Whoever runs the server may do what anybody may.
func (s *Service) roleIn(p *auth.Principal, v *visit) (who scheduling.Roles) {
	if p.IsOperator() {
		return scheduling.Patient | scheduling.Practitioner | scheduling.Admin | scheduling.Server
	}
	if p.Has(auth.RoleAdmin) || p.User == "" && p.Client != "" {
		who |= scheduling.Admin
	}
	for _, x := range v.participants {
		switch {
		case p.ActsFor(x.actor):
			who |= scheduling.Patient
		case p.Has(auth.RolePractitioner) && p.FHIRUser != "" && (x.person == p.FHIRUser || x.actor == p.FHIRUser):
			who |= scheduling.Practitioner
		}
	}
	if p.Has(auth.RolePractitioner) && slices.Contains(v.actors, p.FHIRUser) {
		who |= scheduling.Practitioner
	}
	return who
}

// onlyPatient says whether a caller acts as the patient alone: then the rules for patients hold.
func onlyPatient(who scheduling.Roles) bool { return who == scheduling.Patient }
