package resources

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"kiln/auth"
	"kiln/fhir"
	"kiln/storage"
)

// This file tells of each version of patients' records and of calendars who made it, for whom and why. Where the server knows
// more than who asked for it, or the client says more, the Provenance is written with the version (testify, attest). Of all other
// versions the audit worker makes one, of the entry that was written with them: docs/audit.md.

const (
	systemDataOperation = "http://terminology.hl7.org/CodeSystem/v3-DataOperation"
	// ActWritten is the entry of what the server did of itself, or beside a request: it becomes Provenances, and no AuditEvent.
	ActWritten = "written"
	// maxWritten is how many kinds of change one entry tells of.
	maxWritten = 10
)

// testimony is what a Provenance says beside who.
type testimony struct {
	// target is the resource, or the version of it, that was changed; activity a code of v3-DataOperation.
	target, activity string
	// source is a resource by which the change came about, why its reason in words, behalf for whom it was made; "" for none.
	source, why, behalf string
	// reason is its reason as a CodeableConcept, instead of why; nil for none.
	reason *fhir.Node
	// of are the patients whom it concerns.
	of []int64
}

// testify writes, in the same transaction, who brought a change of a resource about, and by what.
func (s *Service) testify(ctx context.Context, tx *storage.Tx, who *auth.Principal, t testimony) error {
	e := NewAct(s.now(), *who, ActWritten, "")
	e.Compartments = t.of
	if t.behalf == "" && who.Represents != "" {
		t.behalf = "Patient/" + who.Represents
	}
	n := s.provenance(&e, &storage.Written{Activity: t.activity, Targets: []string{t.target}})
	if t.why != "" {
		n.Set("reason", fhir.Arr(fhir.Obj(fhir.Str(t.why).As("text"))))
	}
	if t.reason != nil {
		n.Set("reason", fhir.Arr(t.reason.Clone().As("")))
	}
	if t.behalf != "" {
		n.Get("agent").Kids[0].Set("onBehalfOf", reference(t.behalf))
	}
	if t.source != "" {
		n.Set("entity", fhir.Arr(fhir.Obj(fhir.Str("source").As("role"), reference(t.source).As("what"))))
	}
	p, err := s.store.Prepare(n)
	if err != nil {
		return err
	}
	if err := tx.Inherit(everything(ctx), p); err != nil {
		return err
	}
	tx.Insert(p, storage.MethodCreate)
	return nil
}

// target is the version that a change is going to make.
func (c *change) target() string {
	number := 1
	if c.old != nil {
		number = c.old.Number + 1
	}
	return c.key.Type + "/" + c.key.ID + "/_history/" + strconv.Itoa(number)
}

func activityOf(resp *Response) string {
	if resp.Created {
		return storage.ActivityCreate
	}
	return storage.ActivityUpdate
}

// because keeps the code of a reason for the Provenance of a change.
func (c *change) because(reason *fhir.Node) {
	for code := range reason.Get("coding").Items() {
		if system := code.GetText("system"); system != "" && code.GetText("code") != "" {
			c.tx.Because(c.key.Type+"/"+c.key.ID, system+"|"+code.GetText("code"))
			return
		}
	}
}

// compartments are the row keys of the patients whose the resource was.
func (c *change) compartments() []int64 {
	if c.old == nil {
		return nil
	}
	return c.old.Compartments
}

// activity is what a change does, as a code of v3-DataOperation.
func (c *change) activity() string {
	switch {
	case c.after == nil:
		return storage.ActivityDelete
	case c.old == nil || c.old.Deleted:
		return storage.ActivityCreate
	}
	return storage.ActivityUpdate
}

// witness adds to the entries of a request what it has written: to the entry about the same version, else to one about the same
// patients, else to one more. blank is an entry about nothing yet.
func witness(list []storage.AuditEntry, written []storage.Written, blank storage.AuditEntry) []storage.AuditEntry {
	for _, w := range written {
		about := func(e storage.AuditEntry) bool {
			return e.Version > 0 && e.Target+"/_history/"+strconv.Itoa(e.Version) == w.Targets[0]
		}
		i := -1
		if len(w.Targets) == 1 {
			i = slices.IndexFunc(list, about)
		}
		if i >= 0 {
			w.Targets = nil
		} else {
			i = slices.IndexFunc(list, func(e storage.AuditEntry) bool {
				return e.Version > 0 && len(e.Written) < maxWritten && slices.Equal(e.Compartments, w.Compartments)
			})
		}
		if i < 0 {
			e := blank
			e.Act, e.Operation, e.Compartments = ActWritten, "", w.Compartments
			i, list = len(list), append(list, e)
		}
		list[i].Written = append(list[i].Written, w)
	}
	return list
}

// transact is store.Write for what is no request, or is not the whole of one. Who is answerable for what it writes is by.
func (s *Service) transact(ctx context.Context, by *auth.Principal, work func(*storage.Tx) error) error {
	return s.store.Write(ctx, func(tx *storage.Tx) error {
		if err := work(tx); err != nil {
			return err
		}
		return s.bearWitness(tx, by)
	})
}

// bearWitness writes entries about what a transaction has written.
func (s *Service) bearWitness(tx *storage.Tx, by *auth.Principal) error {
	if !s.options.Audit {
		return nil
	}
	if written := tx.Written(); len(written) > 0 {
		tx.Audit(witness(nil, written, NewAct(s.now(), *by, ActWritten, ""))...)
		return nil
	}
	return nil
}

// askedBy is who sent the request that ctx belongs to; the server itself where there is none.
func askedBy(ctx context.Context) *auth.Principal {
	if t := trailOf(ctx); t != nil && t.request != nil {
		return &t.request.Principal
	}
	return itself()
}

func itself() *auth.Principal {
	p := auth.System()
	p.Name = "" // answerable names the server
	return &p
}

// provenances makes the Provenances of an entry.
func (s *Service) provenances(e *storage.AuditEntry) []*fhir.Node {
	list := make([]*fhir.Node, len(e.Written))
	for i := range e.Written {
		list[i] = s.provenance(e, &e.Written[i])
	}
	return list
}

// provenance makes one Provenance. Spec: FHIR R4 provenance.html.
func (s *Service) provenance(e *storage.AuditEntry, w *storage.Written) *fhir.Node {
	targets := make([]fhir.Node, len(w.Targets))
	for i, t := range w.Targets {
		targets[i] = reference(t)
	}
	if len(targets) == 0 {
		targets = append(targets, reference(e.Target+"/_history/"+strconv.Itoa(e.Version)))
	}
	n := fhir.Obj(fhir.Str("Provenance").As("resourceType"), fhir.Str(s.options.NewID()).As("id"),
		fhir.Arr(targets...).As("target"), fhir.Str(fhir.FormatInstant(e.Recorded)).As("recorded"))
	var reasons []fhir.Node
	if system, code, ok := strings.Cut(w.Reason, "|"); ok {
		reasons = append(reasons, codeable(coding(system, code, "")))
	}
	if e.Purpose != "" {
		reasons = append(reasons, codeable(coding(systemReason, e.Purpose, "")))
	}
	if len(reasons) > 0 {
		n.Set("reason", fhir.Arr(reasons...))
	}
	activity := fhir.Arr(coding(systemDataOperation, w.Activity, ""))
	if e.Operation != "" {
		activity.Kids = append(activity.Kids, coding(systemOperation, e.Operation, "$"+e.Operation))
	}
	n.Set("activity", fhir.Obj(activity.As("coding")))
	n.Set("agent", fhir.Arr(s.answerable(e)...))
	return &n
}

// answerable are the agents of a Provenance: who did it, first, and the application by which it was done.
func (s *Service) answerable(e *storage.AuditEntry) (list []fhir.Node) {
	agent := func(typ string, who fhir.Node) fhir.Node {
		return fhir.Obj(codeable(coding(systemCustodian, typ, "")).As("type"), who.As("who"))
	}
	application := fhir.Obj(fhir.Obj(fhir.Str(e.Client).As("value")).As("identifier"))
	if e.User == "" && e.FHIRUser == "" {
		who := application
		switch {
		case e.Client == "" && e.Name == "":
			who = s.observer
		case e.Client == "":
			who = fhir.Obj(fhir.Str(e.Name).As("display"))
		case e.Name != "":
			who.Set("display", fhir.Str(e.Name))
		}
		return append(list, agent("author", who))
	}
	who := fhir.Obj()
	if e.FHIRUser != "" {
		who = reference(e.FHIRUser)
	} else {
		who.Set("identifier", fhir.Obj(fhir.Str(e.User).As("value")))
	}
	if e.Name != "" {
		who.Set("display", fhir.Str(e.Name))
	}
	typ, _, _ := strings.Cut(e.FHIRUser, "/")
	if len(e.Compartments) > 1 && (typ == "Patient" || typ == "RelatedPerson") { // of a visit of two, who is the other
		who = fhir.Obj(fhir.Arr(fhir.Obj(fhir.Str(fhir.DataAbsentReason).As("url"), fhir.Str("masked").As("valueCode"))).As("extension"))
	}
	user := agent("author", who)
	var roles []fhir.Node
	for _, role := range e.Roles {
		roles = append(roles, fhir.Obj(fhir.Str(role).As("text")))
	}
	if len(roles) > 0 {
		user.Set("role", fhir.Arr(roles...))
	}
	if patient := forWhom(e, typ); patient != "" {
		user.Set("onBehalfOf", reference(patient))
	}
	list = append(list, user)
	if e.Client != "" {
		list = append(list, agent("assembler", application))
	}
	return list
}

// forWhom is the patient for whom a user acts who is another: of a proxy the patient whose record it is, and the patient for
// whom staff make a visit.
func forWhom(e *storage.AuditEntry, user string) string {
	if len(e.Compartments) != 1 || len(e.Patients) != 1 {
		return ""
	}
	booking := bookings[e.Operation].does == Create || e.Act == string(Create) && strings.HasPrefix(e.Target, "Appointment/")
	if user == "RelatedPerson" || booking && user != "Patient" {
		return "Patient/" + e.Patients[0]
	}
	return ""
}
