package resources

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"kiln/auth"
	"kiln/fhir"
	"kiln/resources/records"
	"kiln/resources/scheduling"
	"kiln/storage"
)

// record is one write of a medical record: what its rules look at.
type record struct {
	*change
	life   *records.Lifecycle
	before *fhir.Node
	from   records.State
	to     records.State
	who    scheduling.Roles
	move   records.Move
	// why is the reason that was given for a change of what was signed.
	why string
}

// recordRules are the rules of all types that have a lifecycle. What begins is left alone where it is brought from
// elsewhere: imports go by COPY (rule.brought).
func (s *Service) recordRules() {
	s.lives = map[string]*records.Lifecycle{}
	for _, l := range records.Table() {
		life := l
		s.lives[l.Type] = &life
		s.rules[l.Type] = rule{allow: s.allowRecord, follow: s.followRecord, brought: s.broughtRecord}
	}
}

// roleOf is what a caller is to medical records.
func roleOf(p *auth.Principal) (who scheduling.Roles) {
	switch {
	case p.IsOperator():
		return scheduling.Patient | scheduling.Practitioner | scheduling.Admin | scheduling.Server
	case p.User == "":
		return scheduling.Server
	}
	typ, _ := p.Self()
	for role, is := range map[auth.Role]scheduling.Roles{auth.RolePatient: scheduling.Patient, auth.RoleAdmin: scheduling.Admin} {
		if p.Has(role) {
			who |= is
		}
	}
	if p.Has(auth.RolePractitioner) && typ == "Practitioner" {
		who |= scheduling.Practitioner
	}
	return who
}

// brings says whether a caller brings records that others have made: whoever runs the server, and backend services. Then
// they name their authors and times themselves, and what they leave out stays out.
func brings(p *auth.Principal) bool { return p.IsOperator() || p.User == "" }

// broughtRecord says whether a new record asks for nothing but that it belongs together with what it refers to.
func (s *Service) broughtRecord(ctx context.Context, tx *storage.Tx, r *Request, n *fhir.Node) (bool, error) {
	if !brings(&r.Principal) || n.ResourceType() == "Encounter" && n.Get("appointment") != nil {
		return false, nil
	}
	return true, s.kin(acting(ctx, auth.Read), tx, r, n, nil)
}

// allowRecord is the rule of every write of a medical record, whichever way it comes: see records.Table.
func (s *Service) allowRecord(ctx context.Context, c *change) error {
	r := &record{change: c, life: s.lives[c.key.Type], who: roleOf(&c.request.Principal)}
	var err error
	if r.before, err = c.current(); err != nil {
		return err
	}
	r.from, r.to = r.life.State(r.before), r.life.State(c.after)
	if c.after == nil {
		return r.mayDelete()
	}
	if r.before != nil {
		if err := s.keepsIdentity(r); err != nil {
			return err
		}
	}
	if err := r.step(); err != nil {
		return err
	}
	for _, condition := range r.move.Conditions {
		if err := s.recordMeets(ctx, r, condition); err != nil {
			return err
		}
	}
	if !brings(&c.request.Principal) {
		if err := s.authored(ctx, r); err != nil {
			return err
		}
		if err := s.recordedInTime(r); err != nil {
			return err
		}
	}
	if err := s.checkLabels(r); err != nil {
		return err
	}
	if r.why != "" {
		if err := s.testify(ctx, c.tx, &c.request.Principal, testimony{target: c.target(), activity: c.activity(), why: r.why}); err != nil {
			return err
		}
	}
	return s.kin(acting(ctx, auth.Read), c.tx, c.request, c.after, r.before)
}

// mayDelete keeps what somebody has signed, and what was retracted: the rule "retention" of docs/records.md.
func (r *record) mayDelete() error {
	if !r.life.IsSigned(r.from) && r.from != records.EnteredInError {
		return nil
	}
	e := fhir.NewError(fhir.MethodNotAllowed, fhir.CodeBusinessRule,
		"This "+r.life.Type+" is "+string(r.from)+" and kept: nobody deletes it. What is wrong is marked entered-in-error").Coded("retention")
	e.Allow = []string{"GET", "HEAD", "PUT", "PATCH"}
	return e
}

// keepsIdentity keeps whose a record is, and when it was written down.
func (s *Service) keepsIdentity(r *record) error {
	was, is := r.before.Get(r.life.Patient), r.after.Get(r.life.Patient)
	if text := was.GetText("reference"); text != "" && s.subjectOf(was) != s.subjectOf(is) {
		return fhir.NewError(fhir.BusinessRule, fhir.CodeBusinessRule,
			"The patient of a record never changes: mark this one entered-in-error and write a new one").
			Coded("subject-fixed").At(r.life.Type + "." + r.life.Patient)
	}
	if r.life.IsSigned(r.from) {
		for _, element := range r.life.Keeps {
			if was, is := r.before.Get(element), r.after.Get(element); (was == nil) != (is == nil) || was != nil && !was.Equal(is) {
				return fhir.NewError(fhir.BusinessRule, fhir.CodeBusinessRule,
					"What was prescribed stays as it is: stop this one and write another").Coded("signed-element").At(r.life.Type + "." + element)
			}
		}
	}
	if r.life.Recorded == "" || r.life.Issued {
		return nil
	}
	if old := r.before.GetText(r.life.Recorded); old != "" && old != r.after.GetText(r.life.Recorded) {
		return fhir.NewError(fhir.BusinessRule, fhir.CodeBusinessRule,
			"When a record was written down stays as it is; when it happened stands in another element").
			Coded("recorded-fixed").At(r.life.Type + "." + r.life.Recorded)
	}
	return nil
}

// subjectOf tells references apart by what they refer to here, else by their text.
func (s *Service) subjectOf(reference *fhir.Node) string {
	if local := s.local(reference); local != "" {
		return local
	}
	return reference.GetText("reference")
}

// step finds the move in the table.
//
// Errors: Conflict, coded illegal-transition; Forbidden, coded not-your-step.
func (r *record) step() error {
	same := r.from == r.to
	if same && (!r.life.IsFixed(r.from) || sameContent(r.life, r.before, r.after)) {
		return nil // the state stays, and so does what was signed
	}
	var allowed []records.State
	var known, ok bool
	if r.move, allowed, known, ok = r.life.Find(r.from, r.to, r.who); !ok {
		return r.illegal(allowed, known)
	}
	if !same && r.life.IsFixed(r.from) && !slices.Contains(r.move.Conditions, records.ChangeReason) && !sameContent(r.life, r.before, r.after) {
		return fhir.NewError(fhir.Conflict, fhir.CodeConflict, fmt.Sprintf(
			"This %s is %s, which is signed: as it becomes %s nothing else changes", r.life.Type, r.from, r.to)).
			Coded("illegal-transition").At(r.life.Type)
	}
	return nil
}

func (r *record) illegal(allowed []records.State, known bool) error {
	name, at := "A record of the type "+r.life.Type, r.life.Type+"."+r.life.Status
	if known {
		return fhir.NewError(fhir.Forbidden, fhir.CodeForbidden,
			name+" becomes "+string(r.to)+" from here, but not by this caller").Coded("not-your-step").At(at)
	}
	names := make([]string, len(allowed))
	for i, a := range allowed {
		names[i] = string(a)
	}
	list := strings.Join(names, ", ")
	var text string
	switch {
	case r.from == records.None:
		text = name + " cannot be " + quote(string(r.to)) + " when this caller creates it"
	case r.from == r.to:
		text = name + " that is " + string(r.from) + " is signed: its content stays as it is"
	default:
		text = name + " that is " + string(r.from) + " cannot become " + string(r.to)
	}
	if list != "" {
		text += "; it can become " + list
	} else if r.from != records.None {
		text += "; nothing leads on from here"
	}
	return fhir.NewError(fhir.Conflict, fhir.CodeConflict, text).Coded("illegal-transition").At(at)
}

// notSigned are elements beside the status that are no part of what somebody signed.
var notSigned = []string{"meta", "status", "docStatus"}

// sameContent compares what is signed: all but the status, meta, and the reason of a change.
func sameContent(l *records.Lifecycle, before, after *fhir.Node) bool {
	strip := func(n *fhir.Node) fhir.Node {
		c := *n
		c.Kids = nil
		for _, kid := range n.Kids {
			if slices.Contains(notSigned, kid.Name) {
				continue
			}
			if kid.Name == "extension" {
				if kid = withoutExtension(kid, fhir.ChangeReasonExtension); len(kid.Kids) == 0 {
					continue
				}
			}
			c.Kids = append(c.Kids, kid)
		}
		return c
	}
	a, b := strip(before), strip(after)
	return a.Equal(&b)
}

func withoutExtension(list fhir.Node, url string) fhir.Node {
	list.Kids = slices.DeleteFunc(slices.Clone(list.Kids), func(e fhir.Node) bool { return e.GetText("url") == url })
	return list
}

// kin notes what a record refers to that has to be about the same patient. What it referred to before was looked at then.
func (s *Service) kin(ctx context.Context, tx *storage.Tx, r *Request, n, before *fhir.Node) error {
	l := s.lives[n.ResourceType()]
	patient := s.local(n.Get(l.Patient))
	if typeOf(patient) != "Patient" {
		return nil
	}
	var list []storage.Kin
	for _, link := range l.Chain {
		known := map[string]bool{}
		for old := range references(before, link.Path) {
			known[s.local(old)] = true
		}
		for ref := range references(n, link.Path) {
			if to := s.local(ref); typeOf(to) == link.Type && !known[to] {
				list = append(list, storage.Kin{Patient: keyOf(patient), Parent: keyOf(to), At: r.part.place(l.Type + "." + strings.Join(link.Path, "."))})
			}
		}
	}
	return tx.Kin(ctx, list...)
}

// references are the References at a path, lists gone through.
func references(n *fhir.Node, path []string) func(func(*fhir.Node) bool) {
	return func(yield func(*fhir.Node) bool) { eachAt(n, path, yield) }
}

func eachAt(n *fhir.Node, path []string, yield func(*fhir.Node) bool) bool {
	if len(path) == 0 {
		return yield(n)
	}
	for kid := range n.Get(path[0]).Items() {
		if !eachAt(kid, path[1:], yield) {
			return false
		}
	}
	return true
}
