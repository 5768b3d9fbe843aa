package resources

import (
	"context"
	"slices"
	"time"

	"kiln/auth"
	"kiln/fhir"
	"kiln/resources/coverage"
	"kiln/resources/scheduling"
	"kiln/storage"
)

// linkCoverage makes the appointment refer to the coverage that pays for it and to the payer's answer, instead of those that
// the gate chose before.
func (s *Service) linkCoverage(m *move) {
	k := m.covering
	kept := fhir.Arr()
	for ref := range m.after.Get("supportingInformation").Items() {
		name := s.local(ref)
		if name != "" && (name == k.coverage || name == k.response || m.check != nil && (name == m.check.Coverage || name == m.check.Response)) {
			continue
		}
		kept.Kids = append(kept.Kids, ref.Clone())
	}
	for _, name := range []string{k.coverage, k.response} {
		if name != "" {
			kept.Kids = append(kept.Kids, reference(name))
		}
	}
	kept.Name = "supportingInformation"
	if has := m.after.Get("supportingInformation"); has == nil && len(kept.Kids) == 0 || has != nil && has.Equal(&kept) {
		return
	}
	if m.changed = true; len(kept.Kids) == 0 {
		m.after.Remove("supportingInformation")
	} else {
		m.after.Set("supportingInformation", kept)
	}
}

// noteCover queues what the gate has found out, once the booking is queued. New trouble with what was in order is for
// staff, as is what waits for them.
func (s *Service) noteCover(ctx context.Context, m *move) error {
	k := m.covering
	if k == nil {
		if m.trigger == scheduling.ByCounter || m.to == scheduling.Arrived || m.to == scheduling.CheckedIn {
			m.tx.Recheck(m.reference, s.now()) // another day, and at the desk
		}
		return nil
	}
	c := &storage.CoverageCheck{Appointment: m.reference, Coverage: k.coverage, Response: k.response, Benefit: k.benefit, Visit: k.visit, State: k.state}
	was := m.check
	if was != nil {
		c.Task = was.Task
		c.Cleared = was.Cleared && was.Visit == k.visit && was.Coverage == k.coverage
	}
	for _, f := range k.found {
		c.Codes = append(c.Codes, string(f.Code))
	}
	switch early := m.visit.start.Add(-recheckAhead); {
	case k.again:
		c.Next = s.now()
	case early.After(s.now()):
		c.Next = early
	}
	worse := was != nil && (was.State == covered || was.State == selfPay) && !k.passed()
	authorize := k.state == coverOpen && k.needsStaff() && (m.visit.policy.Coverage != scheduling.CoverageWarn || slices.Contains(c.Codes, string(coverage.Authorization)))
	var err error
	switch {
	case k.passed():
		c.Task, err = "", s.closeTask(ctx, m)
	case c.Task == "" && (authorize || k.state == coverFailed && (worse || m.visit.policy.Coverage == scheduling.CoveragePend)):
		c.Task, err = s.openTask(ctx, m, k)
	}
	if err != nil {
		return err
	}
	m.tx.SaveCheck(c)
	if worse && k.state == coverFailed {
		return s.notifyOfCoverage(ctx, m.tx, m.reference)
	}
	return nil
}

// recheck looks at the coverage of a visit once more. What was waiting for it is booked, or goes on waiting for the
// practitioner; trouble makes a Task and never cancels anything.
func (s *Service) recheck(ctx context.Context, m *move) error {
	m.to = m.from
	if m.visit.patient == "" || m.visit.policy.Coverage == scheduling.CoverageOff || m.visit.start.IsZero() {
		m.tx.Recheck(m.reference, time.Time{})
		m.keep = true
		return nil
	}
	k, err := s.weigh(ctx, m)
	if err != nil || k.asking {
		return err
	}
	m.covering = k
	s.linkCoverage(m)
	if m.from == scheduling.Awaiting && k.passed() {
		if allAccepted(m.after) && m.visit.start.After(s.now()) {
			m.trigger, m.to = scheduling.ByCoverage, scheduling.Booked
			m.row, _, _, _ = scheduling.Find(m.from, m.to, m.trigger, m.who)
			if err := s.apply(ctx, m); err != nil {
				return err
			}
		} else if m.check != nil && m.check.State != covered {
			m.tx.SetDue(m.reference, s.answerDue(m.visit.start))
		}
	}
	m.keep = !m.changed
	if err := s.noteCover(ctx, m); err != nil || m.trigger != scheduling.ByCoverage {
		return err
	}
	return s.announce(ctx, m)
}

// recheckVisit is recheck of a stored appointment, as the server.
func (s *Service) recheckVisit(ctx context.Context, appointment string) error {
	return s.step(ctx, appointment, func(tx *storage.Tx, b *storage.Booking, _ *fhir.Node) (intent, bool, error) {
		switch scheduling.State(b.State) {
		case scheduling.Awaiting, scheduling.Booked, scheduling.Arrived, scheduling.CheckedIn:
			return intent{recheck: true}, true, nil
		}
		tx.Recheck(appointment, time.Time{})
		return intent{}, false, nil
	})
}

// holdsBack says whether a visit must not be booked yet, whoever has accepted it.
func (s *Service) holdsBack(ctx context.Context, tx *storage.Tx, appointment string, v *visit) (bool, error) {
	if v.policy.Coverage != scheduling.CoverageStrict && v.policy.Coverage != scheduling.CoveragePend {
		return false, nil
	}
	c, err := tx.CoverageCheck(ctx, appointment)
	if err != nil || c == nil {
		return false, err
	}
	return c.State == coverOpen || c.State == coverFailed, nil
}

// coverageDue is until when a visit waits for nothing but its coverage.
func (s *Service) coverageDue(start time.Time) time.Time {
	due := start.Add(-answerAhead)
	if least := s.now().Add(answerLeast); due.Before(least) {
		due = least
	}
	return due
}

// payBy makes a booking name the coverage that $book was given, or a promise to pay.
//
// Errors: Invalid for both; NotFound for a coverage that the caller may not see.
func (s *Service) payBy(ctx context.Context, tx *storage.Tx, c *call, n *fhir.Node) error {
	given, pays := c.first("coverage"), c.is("self-pay")
	if given == nil && !pays {
		return nil
	}
	if given != nil && pays {
		return fhir.NewError(fhir.Invalid, fhir.CodeInvalid, "Give a coverage, or self-pay, not both").At("Parameters")
	}
	var name string
	if given != nil {
		if name = s.local(given.value); typeOf(name) != "Coverage" {
			return fhir.NewError(fhir.Invalid, fhir.CodeValue, "coverage refers to a Coverage of this server").At(given.at)
		}
		if err := s.seesCoverage(ctx, tx, name); err != nil {
			return err
		}
	} else {
		patient := ""
		for p := range n.Get("participant").Items() {
			if actor := s.local(p.Get("actor")); typeOf(actor) == "Patient" && patient == "" {
				patient = actor
			}
		}
		if patient == "" {
			return fhir.NewError(fhir.Invalid, fhir.CodeRequired, "self-pay needs a patient, who pays").At("Parameters")
		}
		var err error
		if name, err = s.promise(ctx, tx, c, patient); err != nil {
			return err
		}
	}
	list := fhir.Arr()
	for ref := range n.Get("supportingInformation").Items() {
		if typeOf(s.local(ref)) != "Coverage" {
			list.Kids = append(list.Kids, ref.Clone())
		}
	}
	list.Kids = append(list.Kids, reference(name))
	n.Set("supportingInformation", list)
	return nil
}

// promise is the patient's Coverage of the type pay: the one that there is, or a new one.
func (s *Service) promise(ctx context.Context, tx *storage.Tx, c *call, patient string) (string, error) {
	if err := tx.LockNames(ctx, "self-pay of "+patient); err != nil {
		return "", err
	}
	keys, err := s.match(unattended(ctx), tx, "Coverage", "beneficiary="+patient+"&status=active&type="+escape(coverage.SelfPaySystem+"|pay"), 20)
	if err != nil {
		return "", err
	}
	for _, k := range keys {
		found, err := s.readAll(ctx, tx, k.Type+"/"+k.ID)
		if n := found[k.Type+"/"+k.ID]; err != nil || n != nil && n.Get("period") == nil && s.local(firstOf(n.Get("payor"))) == patient {
			return k.Type + "/" + k.ID, err
		}
	}
	n := fhir.Obj(fhir.Str("Coverage").As("resourceType"), fhir.Str(s.options.NewID()).As("id"), fhir.Str("active").As("status"),
		fhir.Obj(fhir.Arr(fhir.Obj(fhir.Str(coverage.SelfPaySystem).As("system"), fhir.Str("pay").As("code"))).As("coding")).As("type"),
		reference(patient).As("beneficiary"), fhir.Arr(reference(patient)).As("payor"))
	p, err := s.store.Prepare(&n)
	if err != nil {
		return "", err
	}
	v := tx.Insert(p, storage.MethodCreate)
	return "Coverage/" + n.ID(), s.testify(ctx, tx, &c.Principal,
		testimony{target: versioned(v), activity: storage.ActivityCreate, why: "Chosen for a booking with self-pay"})
}

// seesCoverage refuses a coverage that the caller may not read, as if there were none.
func (s *Service) seesCoverage(ctx context.Context, tx *storage.Tx, name string) error {
	key := keyOf(name)
	seen, err := tx.Read(acting(ctx, auth.Read), key)
	if err == nil && (seen[key] == nil || seen[key].Deleted) {
		err = notFound(key)
	}
	return err
}

// numberOf reads a positive whole number, or 0.
func numberOf(n *fhir.Node) (v int) {
	for _, r := range literal(n) {
		if r < '0' || r > '9' || v > 1<<28 {
			return 0
		}
		v = 10*v + int(r-'0')
	}
	return v
}

// allAccepted says whether everybody who has to has agreed to an appointment.
func allAccepted(n *fhir.Node) bool {
	items := slices.Collect(n.Get("participant").Items())
	return !slices.ContainsFunc(items, func(p *fhir.Node) bool {
		r := p.GetText("required")
		return (r == "" || r == "required") && p.GetText("status") != "accepted"
	})
}

// firstOf is the first item of a list, or nil.
func firstOf(list *fhir.Node) *fhir.Node {
	for n := range list.Items() {
		return n
	}
	return nil
}
