package resources

import (
	"context"
	"net/url"
	"slices"
	"time"

	"kiln/auth"
	"kiln/fhir"
	"kiln/resources/scheduling"
	"kiln/storage"
)

func escape(s string) string { return url.QueryEscape(s) }

// holdAppointment is Appointment/$hold: nobody else gets the time for ten minutes. Spec: IHE ITI-116.
func (s *Service) holdAppointment(ctx context.Context, c *call) (*Response, error) {
	return s.take(ctx, c, scheduling.ByHold)
}

// bookAppointment is Appointment/$book: a time that $find proposed, one that is held or offered, or a whole Appointment.
// A status of cancelled, or booked for one that is booked already, cancels or moves it, as IHE has it. Spec: IHE ITI-117.
func (s *Service) bookAppointment(ctx context.Context, c *call) (*Response, error) {
	return s.take(ctx, c, scheduling.ByBook)
}

// order is what $hold and $book are asked for.
type order struct {
	// node is a new appointment; stored the reference of one that is here.
	node    *fhir.Node
	stored  string
	patient string
	request Request
	do      intent
}

func (s *Service) take(ctx context.Context, c *call, by scheduling.Trigger) (*Response, error) {
	r := *c.Request
	r.Interaction, r.Type = Create, "Appointment"
	ctx, err := authorize(ctx, &r)
	if err != nil {
		return nil, err
	}
	o := &order{request: r, do: intent{trigger: by}}
	if by == scheduling.ByHold {
		o.do.to = scheduling.Hold
	}
	fingerprint := s.operationFingerprint(ctx, c)
	if err := s.readOrder(ctx, c, o); err != nil {
		return nil, err
	}
	if by == scheduling.ByBook && o.stored != "" && o.node != nil {
		if resp, err := s.reroute(ctx, c, o); resp != nil || err != nil {
			return resp, err
		}
	}
	if c.text("override-reason") != "" {
		if s.isPatient(&c.Principal) {
			return nil, forbidden("Patients cannot book beside other appointments").Coded("not-your-step")
		}
		o.do.override = true
	}
	if a := c.first("timing"); a != nil && o.node != nil {
		return s.series(ctx, c, o, a.value)
	}
	resp, err := s.write(ctx, &r, fingerprint, func(tx *storage.Tx) (*Response, error) {
		if o.stored != "" {
			return s.takeStored(ctx, tx, c, o)
		}
		return s.takeNew(ctx, tx, c, o, o.node.Clone())
	})
	if err != nil {
		return nil, err
	}
	return s.booked(resp)
}

// operationFingerprint is fingerprint for a call of an operation.
func (s *Service) operationFingerprint(ctx context.Context, c *call) []byte {
	f := *c.Request
	f.Query = "$" + c.Operation + "?" + f.Query
	return s.fingerprint(ctx, &f)
}

// readOrder finds out what is to be booked, and for whom.
func (s *Service) readOrder(ctx context.Context, c *call, o *order) error {
	given, reference := c.resource("appointment-resource"), c.first("appointment-reference")
	if (given == nil) == (reference == nil) {
		return fhir.NewError(fhir.Invalid, fhir.CodeRequired, "Give either appointment-reference, with the id of a time that $find proposed, or appointment-resource").At("Parameters")
	}
	if err := s.orderFor(ctx, c, o); err != nil {
		return err
	}
	id := given.ID()
	// IHE's cancelling and moving are of an appointment that is here; a new one that is to be something else is not booked instead.
	switch status := scheduling.State(given.GetText("status")); {
	case given == nil || slices.Contains([]scheduling.State{scheduling.Proposed, "pending", scheduling.Booked}, status), status == scheduling.Cancelled && id != "":
	default:
		_, allowed, _, _ := scheduling.Find(scheduling.None, status, scheduling.ByBook, scheduling.Patient)
		return illegal(&move{to: status, trigger: scheduling.ByBook}, allowed, false)
	}
	if reference != nil {
		name := s.local(reference.value)
		if typeOf(name) != "Appointment" {
			return fhir.NewError(fhir.Invalid, fhir.CodeValue, "appointment-reference refers to an Appointment, such as Appointment/id").At(reference.at)
		}
		id = keyOf(name).ID
	}
	if p, ok := scheduling.ParseProposal(id, s.store.Sign); ok {
		n, err := s.fromProposal(ctx, p)
		if err != nil {
			return err
		}
		if given != nil { // what else it says stays, where and when is as proposed
			given.Remove("slot")
			for _, name := range []string{"start", "end", "participant", "slot"} {
				if element := n.Get(name); element != nil {
					given.Set(name, *element)
				}
			}
			n = given
		}
		o.node = n
		return nil
	}
	if id != "" {
		o.stored = "Appointment/" + id
		o.node = given
		v, err := s.store.Read(acting(ctx, auth.Read), "Appointment", id)
		switch {
		case err != nil:
			return err
		case v != nil && !v.Deleted:
			return nil
		case given == nil:
			return notFound(storage.Key{Type: "Appointment", ID: id})
		}
		o.stored = ""
	}
	o.node = given
	if err := s.timeOfSlots(ctx, given); err != nil {
		return err
	}
	_, err := s.validate(ctx, nil, withID(given, s.options.NewID()))
	return err
}

func withID(n *fhir.Node, id string) *fhir.Node {
	n.Set("id", fhir.Str(id))
	return n
}

// orderFor finds the patient: the one given, or the caller.
func (s *Service) orderFor(ctx context.Context, c *call, o *order) error {
	own := s.ownPatient(&c.Principal)
	switch a := c.first("patient"); {
	case a != nil:
		if o.patient = s.local(a.value); typeOf(o.patient) != "Patient" {
			return fhir.NewError(fhir.Invalid, fhir.CodeValue, "patient refers to a Patient of this server").At(a.at)
		}
	case c.resource("patient-resource") != nil:
		n := c.resource("patient-resource")
		if n.ID() == "" {
			return fhir.NewError(fhir.BusinessRule, fhir.CodeBusinessRule, "The patient has to be registered first: POST the Patient, then book with its id").
				Coded("not-registered").At("Patient.id")
		}
		o.patient = "Patient/" + n.ID()
	case s.isPatient(&c.Principal):
		o.patient = own
		return nil
	}
	if o.patient == "" || o.patient == own {
		return nil
	}
	return s.seesPatient(ctx, o.patient)
}

// fromProposal makes the appointment that an id of $find stands for.
func (s *Service) fromProposal(ctx context.Context, p scheduling.Proposal) (*fhir.Node, error) {
	numbers := slices.Clone(p.Schedules)
	if p.Service != 0 {
		numbers = append(numbers, p.Service)
	}
	found, err := s.store.Named(ctx, numbers...)
	if err != nil {
		return nil, err
	}
	v := &visit{start: p.Start, end: p.Start.Add(p.Length)}
	if p.Service != 0 {
		if key, ok := found[p.Service]; ok {
			v.participants = append(v.participants, participant{actor: key.Type + "/" + key.ID})
		}
	}
	slots := fhir.Obj()
	err = s.store.Write(everything(ctx), func(tx *storage.Tx) error {
		v.actors = nil
		var names []string
		for _, number := range p.Schedules {
			name := found[number].Type + "/" + found[number].ID
			names = append(names, name)
			actors, err := tx.ActorsOf(ctx, name)
			if err != nil {
				return err
			}
			for _, a := range actors[name] {
				if !slices.Contains(v.actors, a.Actor) {
					v.actors = append(v.actors, a.Actor)
				}
			}
		}
		return s.nameSlots(ctx, tx, &slots, v, names, v.start, v.end)
	})
	if err != nil {
		return nil, err
	}
	if len(v.actors) == 0 {
		return nil, fhir.NewError(fhir.Conflict, fhir.CodeConflict, "This time is not offered any more; ask $find again").Coded("slot-taken")
	}
	n := fhir.Obj(fhir.Str("Appointment").As("resourceType"), fhir.Str("proposed").As("status"),
		fhir.Str(fhir.FormatInstant(v.start)).As("start"), fhir.Str(fhir.FormatInstant(v.end)).As("end"), fhir.Arr(v.asParticipants()...).As("participant"))
	if list := slots.Get("slot"); list != nil {
		n.Set("slot", *list)
	}
	return &n, nil
}

// takeNew books an appointment that is not stored yet.
func (s *Service) takeNew(ctx context.Context, tx *storage.Tx, c *call, o *order, node fhir.Node) (*Response, error) {
	n := withID(&node, s.options.NewID())
	n.Set("status", fhir.Str("pending"))
	s.addPatient(n, o.patient)
	addComment(c, n)
	if err := s.payBy(ctx, tx, c, n); err != nil {
		return nil, err
	}
	p, err := s.store.Prepare(n)
	if err != nil {
		return nil, err
	}
	if ok, err := tx.Permits(ctx, p, nil); err != nil {
		return nil, err
	} else if !ok { // a patient of others is in it
		return nil, notYours("Appointment")
	}
	if ok, err := tx.SeesWhose(acting(ctx, auth.Read), p); err != nil {
		return nil, err
	} else if !ok {
		return nil, notYours("Appointment")
	}
	resp, err := s.putMoved(ctx, tx, &o.request, nil, n, o.do)
	return s.overridden(ctx, tx, c, o, resp, err)
}

// overridden tells why somebody is booked beside others.
func (s *Service) overridden(ctx context.Context, tx *storage.Tx, c *call, o *order, resp *Response, err error) (*Response, error) {
	if err != nil || !o.do.override {
		return resp, err
	}
	return resp, s.testify(ctx, tx, &c.Principal, testimony{target: versioned(resp.Version), activity: activityOf(resp),
		why: c.text("override-reason"), behalf: o.patient})
}

// takeStored books what is held, offered or requested.
func (s *Service) takeStored(ctx context.Context, tx *storage.Tx, c *call, o *order) (*Response, error) {
	key := keyOf(o.stored)
	locked, err := tx.Lock(acting(ctx, auth.Read), key)
	if err != nil {
		return nil, err
	}
	old := locked[key]
	if old == nil || old.Deleted {
		return nil, notFound(key)
	}
	n, err := fhir.ParseJSON(old.Content)
	if err != nil {
		return nil, fhir.NewError(fhir.Internal, fhir.CodeException, "A stored resource cannot be read").Because(err)
	}
	s.addPatient(n, o.patient)
	addComment(c, n)
	if err := s.payBy(ctx, tx, c, n); err != nil {
		return nil, err
	}
	n.Set("status", fhir.Str("pending"))
	setInstantExtension(n, fhir.HeldUntilExtension, time.Time{})
	resp, err := s.putMoved(ctx, tx, &o.request, old, n, o.do)
	return s.overridden(ctx, tx, c, o, resp, err)
}

func (s *Service) names(n *fhir.Node, actor string) bool {
	for p := range n.Get("participant").Items() {
		if s.local(p.Get("actor")) == actor {
			return true
		}
	}
	return false
}

// addPatient makes the patient a participant.
func (s *Service) addPatient(n *fhir.Node, patient string) {
	if patient == "" || s.names(n, patient) {
		return
	}
	list := fhir.Arr()
	if has := n.Get("participant"); has != nil {
		list = has.Clone()
	}
	list.Kids = append(list.Kids, fhir.Obj(reference(patient).As("actor"), fhir.Str("required").As("required"), fhir.Str("accepted").As("status")))
	n.Set("participant", list)
}

// addComment keeps what the caller says: the comment, and why a rule was overridden.
func addComment(c *call, n *fhir.Node) {
	text := c.text("comment")
	if why := c.text("override-reason"); why != "" {
		if text != "" {
			text += "\n"
		}
		text += "Booked beside other appointments: " + why
	}
	if text != "" {
		n.Set("comment", fhir.Str(text))
	}
}

// booked is the answer of $hold and $book.
func (s *Service) booked(resp *Response) (*Response, error) {
	v := resp.Version
	n, err := fhir.ParseJSON(v.Content)
	if err != nil {
		return nil, fhir.NewError(fhir.Internal, fhir.CodeException, "A stored resource cannot be read").Because(err)
	}
	answer := &Response{Bundle: &Bundle{Type: "searchset", Entries: []Entry{{Version: v, Mode: "match"}}}}
	one := int64(1)
	answer.Bundle.Total = &one
	text := "The appointment is booked"
	if n.GetText("status") == "pending" {
		if text = "The practitioner has to accept the appointment"; allAccepted(n) {
			text = "The time is kept, and booked as soon as the coverage is settled"
		} else {
			for e := range n.Get("extension").Items() {
				if e.GetText("url") == fhir.HeldUntilExtension {
					answer.Expires = instant(e.Get("valueInstant"))
					text = "The time is held until " + e.GetText("valueInstant") + "; book it before"
				}
			}
		}
	}
	answer.Bundle.Issues = append([]fhir.Issue{{Severity: fhir.SeverityInformation, Code: fhir.CodeInformational, Text: text}}, resp.Issues...)
	return answer, nil
}

// reroute does what IHE expresses by the status of an appointment that is here: cancelled cancels it, booked for one that
// is booked moves it.
func (s *Service) reroute(ctx context.Context, c *call, o *order) (*Response, error) {
	status := o.node.GetText("status")
	inner := &call{Request: new(Request), definition: c.definition}
	*inner.Request = *c.Request
	inner.ID = keyOf(o.stored).ID
	switch status {
	case "cancelled":
		readIHEReason(o.node)
		if reason := o.node.Get("cancelationReason"); reason != nil {
			inner.arguments = append(inner.arguments, argument{name: "reason", value: reason, at: "Appointment.cancelationReason"})
		}
		return s.cancelAppointment(ctx, inner)
	case "booked":
		v, err := s.store.Read(acting(ctx, auth.Read), "Appointment", inner.ID)
		if err != nil || v == nil {
			return nil, err
		}
		n, err := fhir.ParseJSON(v.Content)
		if err != nil || n.GetText("status") != "booked" || o.node.Get("start") == nil {
			return nil, err
		}
		inner.arguments = append(inner.arguments, argument{name: "start", value: o.node.Get("start"), at: "Appointment.start"})
		return s.rescheduleAppointment(ctx, inner)
	}
	return nil, nil
}
