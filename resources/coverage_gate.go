package resources

import (
	"context"
	"slices"
	"time"

	"kiln/auth"
	"kiln/fhir"
	"kiln/resources/coverage"
	"kiln/resources/scheduling"
)

const (
	// answerFresh is how old a payer's answer may be.
	answerFresh = 3 * 24 * time.Hour
	// maxCoverages is how many coverages of a patient are tried, in their order.
	maxCoverages = 4
	// recheckAhead is how long before a visit its coverage is looked at once more.
	recheckAhead = 72 * time.Hour
)

// What the gate says of a visit.
const (
	covered     = "passed"
	selfPay     = "self-pay"
	coverOpen   = "open"
	coverFailed = "failed"
)

// covering is what the gate has found out about one visit.
type covering struct {
	state                       string
	coverage, response, benefit string
	// visit is the date of the visit by the clocks of the place.
	visit string
	found []coverage.Finding
	// again says that nobody could be asked now: the visit is looked at again at once.
	again bool
	// asking says that a payer has to be asked first: the try ends here, whatever else it does.
	asking bool
}

func (k *covering) passed() bool { return k.state == covered || k.state == selfPay }

// needsStaff says whether the visit waits for what somebody has to do: a payer that is slow is asked again without them.
func (k *covering) needsStaff() bool {
	return k.state == coverFailed || k.state == coverOpen && slices.ContainsFunc(k.found, func(f coverage.Finding) bool {
		return f.Code == coverage.Authorization || f.Code == coverage.Unverified
	})
}

// issues are the findings, as severity where they stand in the way and as warnings otherwise.
func (k *covering) issues(severity string) (list []fhir.Issue) {
	for _, f := range k.found {
		if f.Warns() {
			list = append(list, f.Issue(fhir.SeverityWarning))
		} else {
			list = append(list, f.Issue(severity))
		}
	}
	return list
}

type importingKey struct{}

// Importing is a context for loading what was elsewhere, as it was: whether a visit is covered has been settled there,
// and the import adds nothing to it.
func Importing(ctx context.Context) context.Context {
	return context.WithValue(ctx, importingKey{}, true)
}

// cover is the gate in front of a booking (the condition scheduling.Coverage). A payer is never asked inside of the
// transaction: what is not known yet is noted, the transaction is rolled back, and it runs again when there is an answer
// (see Service.write).
//
// Errors: BusinessRule with the code of a step of coverage.Steps, where the service is strict.
func (s *Service) cover(ctx context.Context, m *move) error {
	mode := m.visit.policy.Coverage
	if importing, _ := ctx.Value(importingKey{}).(bool); importing || m.visit.patient == "" || mode == scheduling.CoverageOff {
		return nil
	}
	unseen, err := s.unseenCoverage(ctx, m)
	if err != nil {
		return err
	}
	if unseen != "" {
		if m.fresh() {
			return unknownCoverage(unseen)
		}
		// The visit keeps what it has, and the server looks at it for the practice.
		m.tx.Recheck(m.reference, s.now())
		held, err := s.holdsBack(ctx, m.tx, m.reference, m.visit)
		if held && m.to == scheduling.Booked && m.from != scheduling.Booked && !m.intent.override {
			m.to, m.onlyCoverage = scheduling.Awaiting, true
		}
		return err
	}
	k, err := s.weigh(ctx, m)
	if err != nil || k.asking {
		return err
	}
	another, err := s.ofAnother(ctx, m)
	if err != nil {
		return err
	}
	if m.covering = k; !m.intent.override {
		if k.state == coverFailed && mode == scheduling.CoverageStrict {
			if another {
				return fhir.NewError(fhir.BusinessRule, fhir.CodeBusinessRule, "Whether this visit is paid for is still to be settled; the practice does that").Coded(string(coverage.Unverified))
			}
			return &fhir.Error{Kind: fhir.BusinessRule, Issues: k.issues(fhir.SeverityError)}
		}
		// A visit that is booked already stays so: staff are told instead.
		if !k.passed() && mode != scheduling.CoverageWarn && m.to == scheduling.Booked && m.from != scheduling.Booked {
			m.to, m.onlyCoverage = scheduling.Awaiting, true
		}
	}
	if !another {
		m.issues = append(m.issues, k.issues(fhir.SeverityWarning)...)
	}
	s.linkCoverage(m)
	return nil
}

// ofAnother says whether the patient whose insurance pays for a visit is another one than the caller may look at: one of a visit
// of several is not told about the insurance of the first.
func (s *Service) ofAnother(ctx context.Context, m *move) (bool, error) {
	p, patients := &m.request.Principal, 0
	for _, x := range m.visit.participants {
		if typeOf(x.actor) == "Patient" {
			patients++
		}
	}
	if patients < 2 || p.IsOperator() || p.ActsFor(m.visit.patient) || p.Patient != "" && m.visit.patient == "Patient/"+p.Patient {
		return false, nil
	}
	if !s.isPatient(p) && permitted(ctx, auth.Read, "Patient") != nil { // staff who book, and read no Patients
		return false, nil
	}
	seen, err := m.tx.Read(acting(ctx, auth.Read), keyOf(m.visit.patient))
	v := seen[keyOf(m.visit.patient)]
	return v == nil || v.Deleted, err
}

// weigh finds the coverage that pays for a visit, or why none does.
func (s *Service) weigh(ctx context.Context, m *move) (*covering, error) {
	var err error
	if m.check == nil && m.was != nil {
		if m.check, err = m.tx.CoverageCheck(ctx, m.reference); err != nil {
			return nil, err
		}
	}
	zone := m.visit.zone
	if zone == nil {
		zone = time.UTC
	}
	date := scheduling.DateOf(m.visit.start, zone).String()
	names, err := s.coverages(ctx, m)
	if err != nil {
		return nil, err
	}
	best := &covering{state: coverFailed, visit: date, found: []coverage.Finding{{Code: coverage.Missing,
		Text: "No coverage of the patient is known: record one, or choose to pay for the visit yourself"}}}
	for i, name := range names {
		k, err := s.weighOne(ctx, m, name, date)
		if err != nil || k.asking || k.state != coverFailed {
			return k, err
		}
		if i == 0 || best.response == "" && k.response != "" {
			best = k
		}
	}
	if m.check != nil && m.check.Cleared && m.check.Visit == date { // staff know better
		best.state = covered
	}
	return best, nil
}

// weighOne takes the steps of the gate for one coverage. It locks it, so that two visits do not both take the last of a
// benefit, and none is booked beside a change of the coverage.
func (s *Service) weighOne(ctx context.Context, m *move, name, date string) (*covering, error) {
	k := &covering{state: coverFailed, coverage: name, visit: date}
	locked, err := m.tx.Lock(everything(ctx), keyOf(name))
	if err != nil {
		return nil, err
	}
	v := locked[keyOf(name)]
	if v == nil || v.Deleted {
		k.found = []coverage.Finding{{Code: coverage.Inactive, Text: "The coverage has been deleted: choose another one, or pay for the visit yourself"}}
		return k, nil
	}
	n, err := fhir.ParseJSON(v.Content)
	if err != nil {
		return nil, fhir.NewError(fhir.Internal, fhir.CodeException, "A stored resource cannot be read").Because(err)
	}
	payorName := s.payorOf(n)
	payors, err := s.readAll(ctx, m.tx, payorName)
	if err != nil {
		return nil, err
	}
	k.found = coverage.JudgeCoverage(n, payors[payorName], s.local(n.Get("beneficiary")), m.visit.patient, date)
	if coverage.IsSelfPay(n) {
		k.found = slices.DeleteFunc(k.found, func(f coverage.Finding) bool { return f.Code == coverage.Identifier })
	}
	if len(k.found) > 0 {
		return k, nil
	}
	if coverage.IsSelfPay(n) {
		k.state = selfPay
		return k, nil
	}
	return k, s.weighAnswer(ctx, m, k, n, v.Number)
}

// payorOf is the Organization that pays by a Coverage, or "".
func (s *Service) payorOf(n *fhir.Node) string {
	for p := range n.Get("payor").Items() {
		if name := s.local(p); typeOf(name) == "Organization" {
			return name
		}
	}
	return ""
}

// weighAnswer judges by the payer's answer, or notes that there is none.
func (s *Service) weighAnswer(ctx context.Context, m *move, k *covering, n *fhir.Node, version int) error {
	draft := s.draft(m, k, n)
	a, err := m.tx.CoverageAnswer(ctx, k.coverage, version, draft.Key(), s.now().Add(-answerFresh))
	if err != nil {
		return err
	}
	var answer *coverage.Answer
	if a != nil {
		found, err := s.readAll(ctx, m.tx, a.Response)
		if err != nil {
			return err
		}
		if read, ok := coverage.ReadAnswer(found[a.Response]); ok {
			read.Since = a.Since
			answer = read
		}
	}
	since, recorded := "", 0
	if answer != nil {
		k.response, k.benefit, since, recorded = a.Response, a.Benefit, a.Since, a.Recorded
	} else if answer = m.told[m.told.key(k.coverage, draft.Key())]; answer != nil {
		k.benefit, since, recorded = answer.Benefit, answer.Since, answer.Recorded
	}
	if answer == nil {
		if !hasAsked(m.tx) {
			k.asking = true
			m.tx.Note(&unanswered{draft: draft, version: version})
			return nil
		}
		// The coverage came with this transaction, say: nobody else sees it yet.
		k.again = true
		answer = &coverage.Answer{Outcome: coverage.Queued}
	}
	visit := coverage.Visit{Coverage: k.coverage, Date: k.visit, Cleared: m.check != nil && m.check.Cleared && m.check.Visit == k.visit}
	if k.benefit != "" {
		known, until := answer.Visits(k.coverage)
		now, err := m.tx.CoverageUses(ctx, k.coverage, k.benefit, since, until, m.reference)
		if err != nil {
			return err
		}
		visit.Booked = now - (known - recorded)
	}
	k.found = append(k.found, answer.Judge(visit)...)
	k.state = covered
	for _, f := range k.found {
		switch {
		case f.Warns():
		case !f.Waits():
			k.state = coverFailed
		case k.state == covered:
			k.state = coverOpen
		}
	}
	return nil
}

// draft is what a payer is asked about a visit.
func (s *Service) draft(m *move, k *covering, n *fhir.Node) *coverage.Draft {
	d := &coverage.Draft{Patient: m.visit.patient, Coverage: k.coverage, Date: k.visit, Start: m.visit.start, End: m.visit.end}
	for p := range n.Get("payor").Items() {
		if d.Insurer == nil || typeOf(s.local(p)) == "Organization" {
			d.Insurer = new(p.Clone())
		}
	}
	if name := s.payorOf(n); name != "" {
		d.Insurer = new(reference(name))
	}
	for _, p := range m.visit.participants {
		switch typ := typeOf(p.person); {
		case typ == "Practitioner" && d.Provider == "":
			d.Provider = p.person
		case typ == "Location" && d.Facility == "":
			d.Facility = p.actor
		}
	}
	for _, a := range m.visit.actors {
		if typeOf(a) == "Practitioner" && d.Provider == "" {
			d.Provider = a
		}
	}
	codings := fhir.Arr()
	add := func(concepts *fhir.Node) {
		for c := range concepts.Items() {
			for x := range c.Get("coding").Items() {
				if !slices.ContainsFunc(codings.Kids, func(y fhir.Node) bool { return y.Equal(x) }) {
					coding := x.Clone()
					coding.Name = ""
					codings.Kids = append(codings.Kids, coding)
				}
			}
		}
	}
	add(m.after.Get("serviceType"))
	for i := range m.visit.services {
		add(&m.visit.services[i])
	}
	if d.Service = fhir.Obj(); len(codings.Kids) > 0 {
		d.Service.Set("coding", codings)
	}
	return d
}
