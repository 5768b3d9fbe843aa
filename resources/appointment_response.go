package resources

import (
	"context"
	"slices"

	"kiln/auth"
	"kiln/fhir"
	"kiln/resources/scheduling"
	"kiln/storage"
)

// allowResponse refuses answers that the caller cannot give. What an answer brings about is up to followResponse.
func (s *Service) allowResponse(ctx context.Context, c *change) error {
	if !answers(c) {
		return nil
	}
	_, err := s.answer(ctx, c)
	return err
}

// answers says whether a written AppointmentResponse is an answer: a new one, or one that says something else now.
func answers(c *change) bool {
	if c.after == nil {
		return false
	}
	switch c.after.GetText("participantStatus") {
	case "accepted", "declined", "tentative":
	default:
		return false // stored without effect
	}
	before, err := c.current()
	if err != nil || before == nil {
		return true
	}
	for _, name := range []string{"participantStatus", "actor", "start", "end", "appointment"} {
		a, b := before.Get(name), c.after.Get(name)
		if (a == nil) != (b == nil) || a != nil && !a.Equal(b) {
			return true
		}
	}
	return false
}

// answer is one answer to one appointment.
type answer struct {
	old  *storage.Version
	node *fhir.Node
	who  scheduling.Roles
	// said are the participants that the answer is for.
	said     []participant
	visit    *visit
	from     scheduling.State
	required bool
}

// answer reads an AppointmentResponse and locks its appointment; nil where it has no effect: an import may bring the
// answer before the appointment, or long after it.
func (s *Service) answer(ctx context.Context, c *change) (*answer, error) {
	name := s.local(c.after.Get("appointment"))
	operator := c.request.Principal.IsOperator()
	if typeOf(name) != "Appointment" {
		if operator {
			return nil, nil
		}
		return nil, fhir.NewError(fhir.BusinessRule, fhir.CodeNotFound, "An answer names an appointment of this server").
			Coded("unknown-appointment").At("AppointmentResponse.appointment")
	}
	key := keyOf(name)
	locked, err := c.tx.Lock(acting(ctx, auth.Read), key)
	if err != nil {
		return nil, err
	}
	a := &answer{old: locked[key]}
	if a.old == nil || a.old.Deleted {
		if operator {
			return nil, nil
		}
		return nil, notFound(key)
	}
	if a.node, err = fhir.ParseJSON(a.old.Content); err != nil {
		return nil, fhir.NewError(fhir.Internal, fhir.CodeException, "A stored resource cannot be read").Because(err)
	}
	if a.visit, err = s.readVisit(ctx, c.tx, a.node); err != nil {
		return nil, err
	}
	booking, err := c.tx.Booking(ctx, name)
	if err != nil {
		return nil, err
	}
	a.from = scheduling.StateOf(a.node.GetText("status"), false)
	if booking != nil {
		a.from = scheduling.State(booking.State)
	}
	if operator && !a.visit.end.After(s.now()) {
		return nil, nil
	}
	if a.who = s.roleIn(&c.request.Principal, a.visit); a.who == 0 {
		return nil, notYourAnswer()
	}
	actor := s.local(c.after.Get("actor"))
	for _, p := range a.visit.participants {
		if p.actor != actor && p.person != actor {
			continue
		}
		a.said, a.required = append(a.said, p), a.required || p.required
		if a.who&scheduling.Admin == 0 && p.actor != c.request.Principal.FHIRUser && p.person != c.request.Principal.FHIRUser &&
			!c.request.Principal.ActsFor(p.actor) {
			return nil, notYourAnswer()
		}
	}
	if len(a.said) == 0 {
		return nil, fhir.NewError(fhir.BusinessRule, fhir.CodeBusinessRule, "The actor of an answer is one of the participants of the appointment").
			Coded("not-a-participant").At("AppointmentResponse.actor")
	}
	if a.from.Terminal() {
		return nil, fhir.NewError(fhir.Conflict, fhir.CodeConflict, "The appointment is "+string(a.from)+"; nothing can be answered any more").Coded("illegal-transition")
	}
	return a, nil
}

func notYourAnswer() error {
	return fhir.NewError(fhir.Forbidden, fhir.CodeForbidden, "Everybody answers for themselves, and administrators for anybody").
		Coded(string(scheduling.OwnAnswer)).At("AppointmentResponse.actor")
}

// followResponse does what an answer says.
func (s *Service) followResponse(ctx context.Context, c *change) error {
	if !answers(c) {
		return nil
	}
	a, err := s.answer(ctx, c)
	if err != nil || a == nil {
		return err
	}
	do := intent{who: a.who, answer: true}
	status := c.after.GetText("participantStatus")
	asked, until := askedFor(a.node)
	practice := slices.ContainsFunc(a.said, func(p participant) bool { return typeOf(p.actor) != "Patient" })
	switch {
	case !asked.IsZero() && practice && a.from == scheduling.Booked && (status == "accepted" || status == "declined"):
		if status == "accepted" {
			a.node.Set("start", fhir.Str(fhir.FormatInstant(asked)))
			a.node.Set("end", fhir.Str(fhir.FormatInstant(until)))
			a.node.Remove("slot")
		}
		do = intent{who: a.who, trigger: scheduling.ByReschedule, to: scheduling.Booked}
	case status == "accepted":
		a.say(a.said, "accepted")
		held := false
		if a.from == scheduling.Awaiting && allAccepted(a.node) {
			if held, err = s.holdsBack(ctx, c.tx, a.old.Type+"/"+a.old.ID, a.visit); err != nil {
				return err
			}
		}
		if held { // all that is left is the coverage
			c.tx.SetDue(a.old.Type+"/"+a.old.ID, s.coverageDue(a.visit.start))
		} else if a.from == scheduling.Awaiting && allAccepted(a.node) {
			do = intent{who: a.who, trigger: scheduling.ByAccept, to: scheduling.Booked}
		} else if a.from == scheduling.Hold {
			do = intent{who: a.who, trigger: scheduling.ByAccept, to: scheduling.Booked} // the table says no
		}
	case status == "declined" && a.required:
		if do, err = a.decline(c.after); err != nil {
			return err
		}
	case status == "tentative" && c.after.Get("start") != nil && c.after.Get("end") != nil:
		a.node.Set("start", c.after.Get("start").Clone())
		a.node.Set("end", c.after.Get("end").Clone())
		a.node.Remove("slot")
		for _, p := range a.visit.participants {
			if typ := typeOf(p.person); p.required && (typ == "Patient" || typ == "Practitioner") {
				a.say([]participant{p}, "needs-action")
			}
		}
		a.say(a.said, "accepted")
		do = intent{who: a.who, trigger: scheduling.ByCounter, to: scheduling.Awaiting}
	case status == "tentative" && a.required && a.from.TakesTime() && a.from != scheduling.Awaiting:
		do = intent{who: a.who, trigger: scheduling.ByCounter, to: scheduling.Awaiting} // the table says no: who is booked has accepted
	default:
		a.say(a.said, status)
	}
	resp, err := s.putMoved(ctx, c.tx, c.request, a.old, a.node, do)
	if err != nil || resp.Unchanged {
		return err
	}
	said := testimony{target: versioned(resp.Version), activity: storage.ActivityUpdate, source: c.key.Type + "/" + c.key.ID, of: resp.Version.Compartments}
	if actor := s.local(c.after.Get("actor")); a.who&scheduling.Admin != 0 && actor != c.request.Principal.FHIRUser {
		said.behalf = actor
	}
	return s.testify(ctx, c.tx, &c.request.Principal, said)
}

// say writes what participants say to the appointment.
func (a *answer) say(who []participant, status string) {
	list := a.node.Get("participant")
	for _, p := range who {
		list.Kids[p.index].Set("status", fhir.Str(status))
	}
}

// decline cancels: what awaits an answer by the refusal, what is booked like $cancel.
func (a *answer) decline(response *fhir.Node) (intent, error) {
	a.say(a.said, "declined")
	comment := response.GetText("comment")
	patient := slices.ContainsFunc(a.said, func(p participant) bool { return typeOf(p.actor) == "Patient" })
	code := "prov"
	if patient {
		code = "pat"
	} else if comment == "" {
		return intent{}, fhir.NewError(fhir.BusinessRule, fhir.CodeBusinessRule, "Say in comment why the appointment is declined").
			Coded(string(scheduling.ReasonGiven)).At("AppointmentResponse.comment")
	}
	reason := reasonOf(code)
	if comment != "" {
		reason.Set("text", fhir.Str(comment))
	}
	a.node.Set("cancelationReason", reason)
	by := scheduling.ByCancel
	if a.from == scheduling.Awaiting {
		by = scheduling.ByDecline
	}
	return intent{who: a.who, trigger: by, to: scheduling.Cancelled}, nil
}

// putMoved writes an appointment for an operation or an answer, with the rights of the server: who may do what, the table
// says. A nil old makes a new one.
func (s *Service) putMoved(ctx context.Context, tx *storage.Tx, r *Request, old *storage.Version, node *fhir.Node, do intent) (*Response, error) {
	method := storage.MethodUpdate
	if old == nil {
		method = storage.MethodCreate
	}
	p, err := s.store.Prepare(node)
	if err != nil {
		return nil, err
	}
	inner := *r
	inner.Type, inner.ID, inner.intent = "Appointment", node.ID(), &do
	return s.put(everything(ctx), tx, &inner, p, old, method)
}
