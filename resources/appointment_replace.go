package resources

import (
	"context"
	"slices"

	"kiln/auth"
	"kiln/fhir"
	"kiln/resources/scheduling"
	"kiln/storage"
)

// Who waits for an appointment may have a less convenient one meanwhile, and names it by R5's Appointment.replaces. It stays until
// the better one is booked, and is cancelled in the same transaction; time of the patient that only it takes can be offered.

// replacing are the appointments that one says it replaces.
func replacing(n *fhir.Node) (list []*fhir.Node) {
	for e := range n.Get("extension").Items() {
		if e.GetText("url") == scheduling.ExtensionReplaces {
			list = append(list, e.Get("valueReference"))
		}
	}
	return list
}

// readReplaced checks what an appointment on the waitlist is to replace: one visit of the same patient that is still to come
// and that the caller sees and may cancel.
//
// Errors: BusinessRule, the same for what is not there and what the caller may not see.
func (s *Service) readReplaced(ctx context.Context, m *move) error {
	list := replacing(m.after)
	no := func(text string) error {
		return fhir.NewError(fhir.BusinessRule, fhir.CodeBusinessRule, text).Coded("not-replaceable").At("Appointment.extension")
	}
	switch {
	case len(list) == 0:
		return nil
	case len(list) > 1:
		return no("An appointment on the waitlist replaces one other at most")
	}
	name := s.local(list[0])
	if m.replaces = name; m.was != nil && m.was.Replaces == name && m.was.Patient == m.visit.patient {
		return nil
	}
	if typeOf(name) != "Appointment" || name == m.reference {
		return no("What it replaces is another Appointment of this server")
	}
	key := keyOf(name)
	locked, err := m.tx.Lock(acting(ctx, auth.Read), key)
	if err != nil {
		return err
	}
	old := locked[key]
	if old == nil && m.request.Principal.IsOperator() {
		return nil // an import may bring it later
	}
	if old == nil || old.Deleted {
		return no("What it replaces is another Appointment of this server")
	}
	n, err := fhir.ParseJSON(old.Content)
	if err != nil {
		return fhir.NewError(fhir.Internal, fhir.CodeException, "A stored resource cannot be read").Because(err)
	}
	v, err := s.readVisit(ctx, m.tx, n)
	if err != nil {
		return err
	}
	b, err := m.tx.Booking(ctx, name)
	if err != nil {
		return err
	}
	if v.patient == "" || v.patient != m.visit.patient {
		return no("An appointment replaces one of the same patient")
	}
	if b == nil || !replaceable(b) || !v.start.After(s.now()) {
		return no("Only a visit that is booked or awaits an answer, and is still to come, can be replaced")
	}
	if _, _, _, ok := scheduling.Find(scheduling.State(b.State), scheduling.Cancelled, scheduling.ByCancel, s.roleIn(&m.request.Principal, v)); !ok {
		return no("Only who may cancel a visit can have it replaced")
	}
	return nil
}

// replaceable says whether an appointment is one that another can replace.
func replaceable(b *storage.Booking) bool {
	return slices.Contains([]scheduling.State{scheduling.Awaiting, scheduling.Booked}, scheduling.State(b.State))
}

// replace cancels what an appointment replaces as it is booked; until then both have the time of the patient. What was cancelled, has
// begun or is over meanwhile stays as it is: that must not cost the patient the new one.
func (s *Service) replace(ctx context.Context, m *move) error {
	if m.replaces == "" || !m.to.TakesTime() {
		return nil
	}
	old, n, err := s.lockAnother(everything(ctx), m.change, m.replaces)
	if err != nil || old == nil {
		return err
	}
	b, err := m.tx.Booking(ctx, m.replaces)
	if err != nil || b == nil || b.Patient != m.visit.patient || !scheduling.State(b.State).TakesTime() {
		return err
	}
	m.visit.beside = scheduling.Interval{Start: b.Start, End: b.End}
	if m.to != scheduling.Booked || !replaceable(b) {
		return nil
	}
	begun, _, err := s.encounters(ctx, &move{change: m.change, reference: m.replaces})
	if err != nil || begun {
		return err
	}
	m.visit.beside = scheduling.Interval{}
	n.Set("cancelationReason", reasonOf("pat-swl"))
	// As if the patient had called $cancel: late is late.
	resp, err := s.putMoved(ctx, m.tx, m.request, old, n, intent{trigger: scheduling.ByCancel, to: scheduling.Cancelled, who: scheduling.Patient})
	if err != nil {
		return err
	}
	m.issues = append(append(m.issues, resp.Issues...), fhir.Issue{Severity: fhir.SeverityInformation, Code: fhir.CodeInformational, Detail: "replaced",
		Text: "It takes the place of " + m.replaces + ", which is cancelled"})
	return nil
}
