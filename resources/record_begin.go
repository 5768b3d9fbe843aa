package resources

import (
	"context"

	"kiln/auth"
	"kiln/fhir"
	"kiln/storage"
)

// attribute fills in what a new record leaves open: who wrote it and when, of a visit what its appointment says, and of an
// appointment when its Slots are. It
// comes before the record is validated and before anybody asks whether the caller may write it. Records that are brought
// from elsewhere keep what they say, and what they do not.
func (s *Service) attribute(ctx context.Context, r *Request) error {
	if r.Type == "Appointment" {
		return s.timeOfSlots(ctx, r.Body)
	}
	life := s.lives[r.Type]
	if life == nil {
		return nil
	}
	n := r.Body
	if r.Type == "Encounter" && n.Get("appointment") != nil {
		if err := s.fromAppointment(ctx, r); err != nil {
			return err
		}
	}
	p := &r.Principal
	if brings(p) {
		return nil
	}
	typ, _ := p.Self()
	if n.Get(life.Author.Element) == nil && (typ == "Practitioner" || typ == "Patient" && s.namesPatients(r.Type, life.Author.Element)) {
		author := reference(p.FHIRUser)
		if life.Author.Part != "" {
			author = fhir.Obj(author.As(life.Author.Part))
		}
		if life.Author.List {
			author = fhir.Arr(author)
		}
		n.Set(life.Author.Element, author)
	}
	if life.Recorded != "" && n.Get(life.Recorded) == nil {
		n.Set(life.Recorded, fhir.Str(fhir.FormatInstant(s.now())))
	}
	if r.Type == "AllergyIntolerance" && typ == "Patient" && n.Get("verificationStatus") == nil {
		n.Set("verificationStatus", concept("http://terminology.hl7.org/CodeSystem/allergyintolerance-verification", "unconfirmed"))
	}
	return nil
}

// namesPatients says whether an element may name a patient as the author.
func (s *Service) namesPatients(typ, element string) bool {
	return typ == "Observation" && element == "performer" || typ == "AllergyIntolerance" && element == "recorder"
}

func concept(system, code string) fhir.Node {
	return fhir.Obj(fhir.Arr(fhir.Obj(fhir.Str(system).As("system"), fhir.Str(code).As("code"))).As("coding"))
}

// fromAppointment makes an Encounter say what its Appointment does, where it says nothing itself: patient, participants and
// kind of service. The Appointment is read as the caller sees it.
func (s *Service) fromAppointment(ctx context.Context, r *Request) error {
	n := r.Body
	from := s.local(n.At("appointment"))
	for ref := range n.Get("appointment").Items() {
		from = s.local(ref)
		break
	}
	if typeOf(from) != "Appointment" {
		return nil
	}
	v, err := s.current(acting(ctx, auth.Read), nil, keyOf(from))
	if err != nil || v == nil || v.Deleted {
		return err // whether it has to be there, the transaction finds out
	}
	a, err := fhir.ParseJSON(v.Content)
	if err != nil {
		return unreadable(err)
	}
	var people []fhir.Node
	for p := range a.Get("participant").Items() {
		actor := p.Get("actor")
		switch typeOf(s.local(actor)) {
		case "Patient":
			if n.Get("subject") == nil {
				n.Set("subject", actor.Clone())
			}
		case "Practitioner", "PractitionerRole", "RelatedPerson":
			one := fhir.Obj(actor.Clone().As("individual"))
			if kind := p.Get("type"); kind != nil {
				one.SetFirst("type", kind.Clone())
			}
			people = append(people, one)
		}
	}
	if n.Get("participant") == nil && len(people) > 0 {
		n.Set("participant", fhir.Arr(people...))
	}
	for kind := range a.Get("serviceType").Items() {
		if n.Get("serviceType") == nil {
			n.Set("serviceType", kind.Clone())
		}
	}
	return nil
}

// followRecord does what follows from a record for others, in the same transaction.
func (s *Service) followRecord(ctx context.Context, c *change) error {
	switch c.key.Type {
	case "Encounter":
		return s.followEncounter(ctx, c)
	case "Condition":
		return s.followCondition(ctx, c)
	}
	return nil
}

// lockAnother locks a resource that changes along with the one written, as the access in ctx shows it; nil where there is
// none, or the same transaction writes it by itself.
func (s *Service) lockAnother(ctx context.Context, c *change, reference string) (*storage.Version, *fhir.Node, error) {
	key := keyOf(reference)
	if c.request.part.writes(key) {
		return nil, nil, nil
	}
	locked, err := c.tx.Lock(ctx, key)
	if err != nil || locked[key] == nil || locked[key].Deleted {
		return nil, nil, err
	}
	n, err := fhir.ParseJSON(locked[key].Content)
	if err != nil {
		return nil, nil, unreadable(err)
	}
	return locked[key], n, nil
}
