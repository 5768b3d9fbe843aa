package resources

import (
	"context"
	"fmt"
	"strconv"

	"kiln/auth"
	"kiln/fhir"
	"kiln/storage"
)

// maxMerged is how many resources one $merge moves; docs/limits.md publishes it.
const maxMerged = 50_000

// mergePatients is Patient/$merge: the record of one Patient becomes part of another's. Everything moves in one
// transaction, as new versions; what a client creates for the source in the same moment, on a server that has not heard
// yet, a second $merge of the two moves.
//
// Errors: Forbidden for who is no administrator; NotFound; Conflict where one of them was merged into a third Patient;
// TooCostly beyond 50,000 resources.
func (s *Service) mergePatients(ctx context.Context, c *call) (*Response, error) {
	ctx, err := s.administers(ctx, &c.Principal)
	if err != nil {
		return nil, err
	}
	if err := permitted(ctx, auth.Update, "Patient"); err != nil {
		return nil, err
	}
	var ids [2]string
	for i, name := range []string{"source-patient", "target-patient"} {
		a := c.first(name)
		key := keyOf(s.local(a.value))
		if key.Type != "Patient" {
			return nil, fhir.NewError(fhir.Invalid, fhir.CodeValue, name+" refers to a Patient of this server").At(a.at)
		}
		if err := s.seesPatient(ctx, "Patient/"+key.ID); err != nil {
			return nil, err
		}
		ids[i] = key.ID
	}
	if ids[0] == ids[1] {
		return nil, fhir.NewError(fhir.Invalid, fhir.CodeValue, "source-patient and target-patient are the same").At("Parameters")
	}
	var m *merger
	work := func(tx *storage.Tx) error {
		m = &merger{Service: s, tx: tx, request: c.Request, source: ids[0], target: ids[1]}
		return m.run(everything(ctx), c.text("reason"), c.is("preview"))
	}
	if err := s.transact(everything(ctx), &c.Principal, work); err != nil {
		return nil, err
	}
	if !c.is("preview") {
		_ = s.store.RefreshParameters(ctx) // who merged finds it so; where that fails, all servers hear of it within seconds
	}
	issue := fhir.Issue{Severity: fhir.SeverityInformation, Code: fhir.CodeInformational,
		Text: fmt.Sprintf("Patient/%s and Patient/%s are one person now", ids[0], ids[1])}
	if c.is("preview") {
		issue.Text = fmt.Sprintf("The record of Patient/%s would become part of Patient/%s; nothing was changed", ids[0], ids[1])
	}
	list := []fhir.Node{fhir.Obj(fhir.Str("result").As("name"), m.result.As("resource")),
		fhir.Obj(fhir.Str("outcome").As("name"), fhir.OperationOutcome(issue).As("resource"))}
	if c.Principal.IsOperator() { // from others, some of it may be hidden, and a number would tell that it is there
		list = append(list, fhir.Obj(fhir.Str("moved").As("name"), fhir.Num(strconv.Itoa(m.moved)).As("valueInteger")))
	}
	return &Response{Resource: parameters(list...)}, nil
}

// merger is one try of one merge.
type merger struct {
	*Service
	tx             *storage.Tx
	request        *Request
	source, target string
	moved          int
	result         fhir.Node
}

func (m *merger) run(ctx context.Context, reason string, preview bool) error {
	keys := []storage.Key{{Type: "Patient", ID: m.source}, {Type: "Patient", ID: m.target}}
	locked, err := m.tx.Lock(ctx, keys...)
	if err != nil {
		return err
	}
	var people [2]*fhir.Node
	for i, key := range keys {
		v := locked[key]
		if v == nil || v.Deleted {
			return notFound(key)
		}
		if people[i], err = fhir.ParseJSON(v.Content); err != nil {
			return fhir.NewError(fhir.Internal, fhir.CodeException, "A stored resource cannot be read").Because(err)
		}
	}
	source, target := people[0], people[1]
	again := replacedBy(source) == "Patient/"+m.target
	if by := replacedBy(source); by != "" && !again {
		return merged("Patient/"+m.source, by)
	}
	if by := replacedBy(target); by != "" {
		return merged("Patient/"+m.target, by)
	}
	list, err := m.tx.Referrers(ctx, m.source, maxMerged+1)
	if err != nil {
		return err
	}
	if len(list) > maxMerged {
		return fhir.NewError(fhir.TooCostly, fhir.CodeTooCostly, fmt.Sprintf("More than %d resources refer to Patient/%s", maxMerged, m.source))
	}
	for _, v := range list {
		if v.Type == "Patient" && v.ID == m.target {
			continue // below
		}
		if err := m.move(ctx, v, preview); err != nil {
			return err
		}
	}
	m.result = *target
	if preview || again && m.moved == 0 {
		return nil
	}
	var kept *storage.Version
	for _, i := range []int{0, 1} {
		if i == 0 {
			retire(source, m.target)
		} else {
			absorb(target, source, m.source)
		}
		p, err := m.store.Prepare(people[i])
		if err != nil {
			return err
		}
		kept = m.tx.Replace(p, locked[keys[i]], storage.MethodUpdate)
		if i == 1 {
			n, err := fhir.ParseJSON(kept.Content)
			if err != nil {
				return err
			}
			m.result = *n
		}
	}
	m.tx.MergePatient(m.source, m.target)
	if reason == "" {
		reason = "Found to be one person"
	}
	return m.testify(ctx, m.tx, &m.request.Principal,
		testimony{target: versioned(kept), activity: storage.ActivityUpdate, source: "Patient/" + m.source, why: reason})
}

// move makes a resource refer to the target instead of the source.
func (m *merger) move(ctx context.Context, v *storage.Version, preview bool) error {
	n, err := fhir.ParseJSON(v.Content)
	if err != nil {
		return fhir.NewError(fhir.Internal, fhir.CodeException, "A stored resource cannot be read").Because(err)
	}
	found := false
	n.Walk(func(x *fhir.Node) bool {
		if x.Name == "reference" && x.Kind == fhir.String {
			switch x.Text {
			case "Patient/" + m.source, m.options.Base + "/Patient/" + m.source:
				x.Text, found = x.Text[:len(x.Text)-len(m.source)]+m.target, true
			}
		}
		return true
	})
	if !found {
		return nil
	}
	if m.moved++; preview {
		return nil
	}
	p, err := m.store.Prepare(n)
	if err != nil {
		return err
	}
	if err := m.tx.Inherit(ctx, p); err != nil {
		return err
	}
	m.tx.Replace(p, v, storage.MethodUpdate)
	if m.tx.Pending() > 500 {
		return m.tx.Flush(ctx)
	}
	return nil
}

// merged refuses what is written for a Patient whose record is another's now.
func merged(source, target string) *fhir.Error {
	return fhir.NewError(fhir.Conflict, fhir.CodeConflict, source+" was merged into "+target+"; use that instead").Coded("patient-merged")
}

// replacedBy is the Patient that a Patient was merged into, "Patient/1", or "".
func replacedBy(n *fhir.Node) string {
	for link := range n.Get("link").Items() {
		if link.GetText("type") == "replaced-by" {
			return link.Get("other").GetText("reference")
		}
	}
	return ""
}

// retire takes a Patient out of use.
func retire(n *fhir.Node, target string) {
	n.Set("active", fhir.Boolean(false))
	addLink(n, target, "replaced-by")
}

// absorb gives a Patient the identifiers of the one that it replaces.
func absorb(n, source *fhir.Node, id string) {
	addLink(n, id, "replaces")
	for i := range source.Get("identifier").Items() {
		known := false
		for have := range n.Get("identifier").Items() {
			known = known || have.GetText("system") == i.GetText("system") && have.GetText("value") == i.GetText("value")
		}
		if !known {
			old := i.Clone()
			old.Set("use", fhir.Str("old"))
			appendTo(n, "identifier", old)
		}
	}
}

func addLink(n *fhir.Node, other, kind string) {
	for link := range n.Get("link").Items() {
		if link.GetText("type") == kind && link.Get("other").GetText("reference") == "Patient/"+other {
			return
		}
	}
	appendTo(n, "link", fhir.Obj(reference("Patient/"+other).As("other"), fhir.Str(kind).As("type")))
}

// appendTo adds an item to a list of an object.
func appendTo(n *fhir.Node, name string, item fhir.Node) {
	var items []fhir.Node
	if list := n.Get(name); list != nil {
		items = append(items, list.Kids...)
	}
	n.Set(name, fhir.Arr(append(items, item)...))
}
