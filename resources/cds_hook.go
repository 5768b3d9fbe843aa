package resources

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"kiln/auth"
	"kiln/fhir"
	"kiln/resources/coverage"
	"kiln/resources/scheduling"
	"kiln/storage"
)

// This file is the CDS service of the hook appointment-book: what the gate in front of a booking says of visits that somebody
// is about to book, as cards. It books nothing and stores nothing. Spec: CDS Hooks 2.0; hook appointment-book 1.0; Da Vinci CRD.

// HookBook is the hook that the service is for, and the id of the service.
const HookBook = coverage.HookBook

// maxProposed is how many visits one call can ask about; docs/limits.md publishes it.
const maxProposed = maxAsked

// hookContext is what a call is about.
type hookContext struct {
	patient string
	visits  []*fhir.Node
}

// AdviseBooking answers a call of the hook appointment-book: an object with cards. It shows what $book would say to the same
// caller, and needs the same right.
//
// Errors: Forbidden; Invalid with all that is wrong with the call; NotFound for a patient whom the caller may not see.
func (s *Service) AdviseBooking(ctx context.Context, p auth.Principal, body *fhir.Node) (*fhir.Node, error) {
	answer, patient, err := s.adviseBooking(ctx, &p, body)
	if !s.options.Audit {
		return answer, err
	}
	e, _ := s.ActEntry(ctx, p, ActHook, false, HookBook, patient)
	if err != nil {
		r := &Request{Interaction: Operate, Type: "Appointment", Principal: p}
		e = s.refusal(ctx, r, err)
		e.Act, e.Patients = ActHook, nil
		if list := s.bounded([]storage.AuditEntry{e}, ActHook, r.Principal.Known()); len(list) == 0 {
			return nil, err
		}
	}
	if fault := s.store.Audit(ctx, e); fault != nil && err == nil {
		return nil, fault
	}
	return answer, err
}

func (s *Service) adviseBooking(ctx context.Context, p *auth.Principal, body *fhir.Node) (answer *fhir.Node, patient string, err error) {
	if ctx, err = s.identified(ctx, p); err != nil {
		return nil, "", err
	}
	if err := permitted(ctx, auth.Create, "Appointment"); err != nil {
		return nil, "", err
	}
	h, err := s.readHook(ctx, body)
	if err != nil {
		return nil, "", err
	}
	if s.ownPatient(p) != h.patient {
		if err := s.seesPatient(ctx, h.patient); err != nil {
			return nil, "", err
		}
	}
	cards := fhir.Arr()
	for i, n := range h.visits {
		c, err := s.adviseVisit(acting(ctx, auth.Create), p, n)
		if err != nil {
			return nil, "", atVisit(err, i)
		}
		if c != nil {
			cards.Kids = append(cards.Kids, s.card(c, n))
		}
	}
	return new(fhir.Obj(cards.As("cards"))), keyOf(h.patient).ID, nil
}

// atVisit says of which visit an error speaks.
func atVisit(err error, i int) error {
	var e *fhir.Error
	if !errors.As(err, &e) {
		return err
	}
	told := *e
	told.Issues = make([]fhir.Issue, len(e.Issues))
	for j, issue := range e.Issues {
		place := "context.appointments.entry[" + strconv.Itoa(i) + "].resource"
		for k, at := range issue.Expression {
			_, rest, _ := strings.Cut(at, ".")
			issue.Expression = append(issue.Expression[:k:k], strings.TrimSuffix(place+"."+rest, "."))
		}
		if len(issue.Expression) == 0 {
			issue.Expression = []string{place}
		}
		told.Issues[j] = issue
	}
	return &told
}

// readHook checks a call, all of it, and reads what it is about.
func (s *Service) readHook(ctx context.Context, n *fhir.Node) (*hookContext, error) {
	var issues []fhir.Issue
	wrong := func(code, at, format string, args ...any) {
		issues = append(issues, fhir.Issue{Severity: fhir.SeverityError, Code: code, Text: fmt.Sprintf(format, args...), Expression: []string{at}})
	}
	text := func(in *fhir.Node, at, name string) string {
		switch v := in.Get(name); {
		case v == nil:
			wrong(fhir.CodeRequired, at+name, "%s is missing", at+name)
		case v.Kind != fhir.String || v.Text == "":
			wrong(fhir.CodeValue, at+name, "%s is a text that is not empty", at+name)
		default:
			return v.Text
		}
		return ""
	}
	if hook := text(n, "", "hook"); hook != "" && hook != HookBook {
		wrong(fhir.CodeValue, "hook", "This service is for the hook %s", HookBook)
	}
	if id := text(n, "", "hookInstance"); id != "" && (len(id) != len(uuid.Nil.String()) || uuid.Validate(id) != nil) { // Validate takes other forms too
		wrong(fhir.CodeValue, "hookInstance", "hookInstance is a UUID")
	}
	for _, name := range []string{"prefetch", "fhirAuthorization", "extension"} {
		if v := n.Get(name); v != nil && v.Kind != fhir.Object {
			wrong(fhir.CodeStructure, name, "%s is an object", name)
		}
	}
	if n.Get("fhirAuthorization") != nil && n.Get("fhirServer") == nil {
		wrong(fhir.CodeRequired, "fhirServer", "fhirServer goes with fhirAuthorization")
	}
	about := n.Get("context")
	if about == nil || about.Kind != fhir.Object {
		wrong(fhir.CodeRequired, "context", "context is missing, or no object")
		return nil, &fhir.Error{Kind: fhir.Invalid, Issues: issues}
	}
	h := &hookContext{}
	if user := text(about, "context.", "userId"); user != "" {
		typ, id, _ := strings.Cut(user, "/")
		switch typ {
		case "Practitioner", "PractitionerRole", "Patient", "RelatedPerson":
			if fhir.ValidID(id) {
				break
			}
			fallthrough
		default:
			wrong(fhir.CodeValue, "context.userId", "context.userId is a Practitioner, PractitionerRole, Patient or RelatedPerson, such as Practitioner/123")
		}
	}
	if id := text(about, "context.", "patientId"); id != "" {
		if h.patient = "Patient/" + id; !fhir.ValidID(id) {
			wrong(fhir.CodeValue, "context.patientId", "context.patientId is the id of a Patient, such as 123")
		}
	}
	if id := about.Get("encounterId"); id != nil && (id.Kind != fhir.String || !fhir.ValidID(id.Text)) {
		wrong(fhir.CodeValue, "context.encounterId", "context.encounterId is the id of an Encounter")
	}
	s.readProposed(ctx, about.Get("appointments"), h, wrong)
	if len(issues) > 0 {
		return nil, &fhir.Error{Kind: fhir.Invalid, Issues: issues}
	}
	return h, nil
}

// readProposed reads the Bundle of proposed visits.
func (s *Service) readProposed(ctx context.Context, bundle *fhir.Node, h *hookContext, wrong func(code, at, format string, args ...any)) {
	const at = "context.appointments"
	switch {
	case bundle == nil:
		wrong(fhir.CodeRequired, at, "context.appointments is missing")
		return
	case bundle.Kind != fhir.Object || bundle.ResourceType() != "Bundle":
		wrong(fhir.CodeStructure, at, "context.appointments is a Bundle of Appointments")
		return
	}
	i := 0
	for e := range bundle.Get("entry").Items() {
		place := fmt.Sprintf("%s.entry[%d].resource", at, i)
		i++
		n := e.Get("resource")
		switch {
		case i > maxProposed:
			wrong(fhir.CodeTooCostly, at+".entry", "One call asks about %d visits at most", maxProposed)
			return
		case n == nil || n.Kind != fhir.Object || n.ResourceType() != "Appointment":
			wrong(fhir.CodeStructure, place, "What is proposed is an Appointment")
			continue
		case n.GetText("status") != "proposed":
			wrong(fhir.CodeValue, place+".status", "Appointments are asked about as proposed")
		case s.firstPatient(n) != h.patient: // whose coverage it is that is told
			wrong(fhir.CodeValue, place+".participant", "The patient of the context takes part in the visit, before all other patients")
		case instant(n.Get("start")).IsZero():
			wrong(fhir.CodeRequired, place+".start", "A visit has a start, to find out what is covered then")
		}
		own := n.Clone()
		if !fhir.ValidID(own.ID()) {
			own.Set("id", fhir.Str(s.options.NewID()))
		}
		if _, err := s.validate(ctx, nil, &own); err != nil {
			var e *fhir.Error
			if !errors.As(atVisit(err, i-1), &e) {
				wrong(fhir.CodeInvalid, place, "This Appointment cannot be read")
				continue
			}
			for _, issue := range e.Issues {
				wrong(issue.Code, issue.Expression[0], "%s", issue.Text)
			}
			continue
		}
		h.visits = append(h.visits, &own)
	}
	if i == 0 {
		wrong(fhir.CodeRequired, at+".entry", "Nothing is proposed")
	}
}

// firstPatient is the patient whose coverage counts for a visit; "" for none.
func (s *Service) firstPatient(n *fhir.Node) string {
	for p := range n.Get("participant").Items() {
		if actor := s.local(p.Get("actor")); typeOf(actor) == "Patient" {
			return actor
		}
	}
	return ""
}

// errRehearsed ends a transaction that must leave nothing behind.
var errRehearsed = errors.New("resources: nothing is to be written")

// told are answers of payers that are stored nowhere, by coverage and question.
type told map[string]*coverage.Answer

func (t told) key(coverage, question string) string { return coverage + " " + question }

// advice is what the gate says of a visit.
type advice struct {
	*covering
	mode scheduling.CoverageMode
}

// adviseVisit is what the gate would say of a visit: nil where it has nothing to say. Payers are asked as for a booking, but
// neither the question nor the answer is kept.
func (s *Service) adviseVisit(ctx context.Context, p *auth.Principal, n *fhir.Node) (*advice, error) {
	answers := told{}
	for range maxCoverages + 1 {
		var a *advice
		var open []*unanswered
		err := s.store.Write(ctx, func(tx *storage.Tx) error {
			a, open = nil, nil
			visit, err := s.readVisit(everything(ctx), tx, n)
			if err != nil {
				return err
			}
			if visit.policy.Coverage == scheduling.CoverageOff {
				return errRehearsed
			}
			r := &Request{Interaction: Create, Type: "Appointment", Principal: *p}
			m := &move{change: &change{tx: tx, request: r, key: storage.Key{Type: "Appointment", ID: n.ID()}, after: n},
				visit: visit, to: scheduling.Booked, reference: "Appointment/" + n.ID(), told: answers}
			k, err := s.weigh(ctx, m)
			if err != nil {
				return err
			}
			open = questions(tx)
			a = &advice{k, visit.policy.Coverage}
			return errRehearsed
		})
		switch {
		case !errors.Is(err, errRehearsed):
			return nil, err
		case len(open) == 0:
			return a, nil
		}
		for _, u := range open {
			answer, err := s.askWithoutTrace(ctx, u)
			if err != nil {
				return nil, err
			}
			answers[answers.key(u.draft.Coverage, u.draft.Key())] = answer
		}
	}
	return nil, fhir.NewError(fhir.Transient, fhir.CodeTransient, "The coverages of this patient are changing; try again")
}

// askWithoutTrace puts a question to its payer and stores neither.
func (s *Service) askWithoutTrace(ctx context.Context, u *unanswered) (*coverage.Answer, error) {
	ctx = unattended(ctx)
	draft := *u.draft
	draft.ID, draft.Created = s.options.NewID(), s.now()
	n := draft.Node()
	q := &coverage.Question{Request: &n, Items: coverage.ItemsOf(&n), Asked: s.now()}
	q.From, q.To = coverage.Dates(&n)
	if err := s.store.Write(ctx, func(tx *storage.Tx) error { return s.readParties(ctx, tx, q) }); err != nil {
		return nil, err
	}
	a, _ := s.putTo(ctx, q)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	node := a.Node(draft.ID, q)
	read, ok := coverage.ReadAnswer(&node)
	if _, err := s.validate(ctx, nil, &node); err != nil || !ok {
		return cannot("The answer of the payer cannot be understood"), nil
	}
	read.Since, read.Benefit, read.Recorded = a.Since, a.Benefit, a.Recorded
	return read, nil
}

// maxCardSummary is how long the summary of a card is: fewer than 140 characters.
const maxCardSummary = 139

// card tells what the gate says of a visit.
func (s *Service) card(a *advice, n *fhir.Node) fhir.Node {
	when := n.GetText("start")
	summary, indicator := "Covered", "info"
	switch {
	case a.state == selfPay:
		summary = "The patient pays for this visit"
	case a.state == coverOpen:
		summary, indicator = "Not settled yet whether this visit is covered", "warning"
	case a.state == coverFailed:
		summary, indicator = "Not covered", "warning"
		if a.mode == scheduling.CoverageStrict {
			summary, indicator = "Not covered, and not booked without", "critical"
		}
	case len(a.found) > 0:
		indicator = "warning"
	}
	if len(a.found) > 0 {
		summary += ": " + a.found[0].Text
	}
	if utf8.RuneCountInString(summary) > maxCardSummary {
		summary = string([]rune(summary)[:maxCardSummary-1]) + "…"
	}
	var detail strings.Builder
	fmt.Fprintf(&detail, "Visit of %s\n", when)
	for _, f := range a.found {
		fmt.Fprintf(&detail, "\n- %s (`%s`)", f.Text, f.Code)
	}
	source := fhir.Obj(fhir.Str("Kiln, coverage before booking").As("label"))
	if len(a.found) > 0 {
		source.Set("topic", fhir.Obj(fhir.Str(fhir.IssueCodeSystem).As("system"), fhir.Str(string(a.found[0].Code)).As("code"), fhir.Str(a.found[0].Text).As("display")))
	}
	return fhir.Obj(fhir.Str(uuid.NewString()).As("uuid"), fhir.Str(summary).As("summary"), fhir.Str(detail.String()).As("detail"),
		fhir.Str(indicator).As("indicator"), source.As("source"))
}
