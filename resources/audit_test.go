package resources

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"kiln/auth"
	"kiln/conformance"
	"kiln/conformance/validate"
	"kiln/fhir"
	"kiln/storage"
)

// logged is a ward whose requests are audited.
type logged struct {
	*ward
	// url is that of the database.
	url string
}

// newLog begins with what the ward holds, of which the log tells nothing.
func newLog(t testing.TB) *logged {
	w := &logged{}
	w.ward = newWard(t, func(_ *Options, so *storage.Options) { w.url = so.URL })
	w.options.Audit, w.options.ForeignAudit = true, false
	return w
}

// sql does in the database what no request can.
func (w *logged) sql(statement string) {
	w.t.Helper()
	if err := w.try(statement); err != nil {
		w.t.Fatalf("%s: %v", statement, err)
	}
}

func (w *logged) try(statement string) error {
	conn, err := pgx.Connect(w.t.Context(), w.url)
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close(w.t.Context())
	_, err = conn.Exec(w.t.Context(), statement)
	return err
}

// again is a second server on the same database.
func (w *logged) again() *Service {
	w.t.Helper()
	return newService(w.t, func(o *Options, so *storage.Options) { so.URL, so.Unrestricted, o.Audit = w.url, false, true })
}

// catchUp makes the AuditEvents of all entries.
func (w *logged) catchUp() {
	w.t.Helper()
	for {
		n, err := w.ChainAudit(w.t.Context())
		if err != nil {
			w.t.Fatal(err)
		}
		if n < auditBatch {
			return
		}
	}
}

// log are the AuditEvents that a search finds, in the order in which things happened. The search itself comes last in the
// log, and is no part of the answer.
func (w *logged) log(query string) []*fhir.Node {
	w.t.Helper()
	w.catchUp()
	resp := do(w.t, w.Service, Request{Interaction: SearchType, Type: "AuditEvent", Query: query + "&_count=1000", Principal: auth.Operator("test")})
	var list []*fhir.Node
	for _, e := range resp.Bundle.Entries {
		list = append(list, parse(w.t, string(e.Version.Content)))
	}
	slices.SortStableFunc(list, func(a, b *fhir.Node) int { return strings.Compare(a.GetText("recorded"), b.GetText("recorded")) })
	return list
}

// summaryOf says in a line what an AuditEvent tells.
func summaryOf(n *fhir.Node) string {
	var parts []string
	for c := range n.Get("subtype").Items() {
		parts = append(parts, c.GetText("code"))
	}
	parts = append(parts, n.GetText("action")+n.GetText("outcome"))
	for e := range n.Get("entity").Items() {
		if q := e.GetText("query"); q != "" {
			text, err := base64.StdEncoding.DecodeString(q)
			if err != nil {
				return err.Error()
			}
			parts = append(parts, strings.ReplaceAll(string(text), testBase+"/", ""))
			continue
		}
		if r := e.Get("what").GetText("reference"); r != "" {
			parts = append(parts, e.Get("role").GetText("code")+":"+r)
		}
	}
	return strings.Join(parts, " ")
}

func TestAuditEvents_tell_what_was_done(t *testing.T) {
	t.Parallel()
	w := newLog(t)
	doctor := doctor("treats", "user/*.cruds")
	for _, c := range []struct {
		name string
		r    Request
		want []string
	}{
		{"read", Request{Interaction: Read, Type: "Observation", ID: "a1"}, []string{"read R0 1:Patient/anna 4:Observation/a1/_history/1"}},
		{"read_of_a_patient", Request{Interaction: Read, Type: "Patient", ID: "anna"}, []string{"read R0 1:Patient/anna 4:Patient/anna/_history/1"}},
		{"read_of_nobody's", Request{Interaction: Read, Type: "Organization", ID: "clinic"}, []string{"read R0 4:Organization/clinic/_history/1"}},
		{"read_of_what_is_hidden", Request{Interaction: Read, Type: "Observation", ID: "b1"}, []string{"read R4 4:Observation/b1"}},
		{"read_of_what_is_not", Request{Interaction: Read, Type: "Observation", ID: "never"}, []string{"read R4 4:Observation/never"}},
		{"vread", Request{Interaction: VRead, Type: "Observation", ID: "a1", Version: "1"}, []string{"vread R0 1:Patient/anna 4:Observation/a1/_history/1"}},
		{"history", Request{Interaction: HistoryInstance, Type: "Observation", ID: "a1"}, []string{"history-instance R0 1:Patient/anna 4:Observation/a1"}},
		{"history_of_a_type", Request{Interaction: HistoryType, Type: "Encounter"}, []string{"history-type E0 1:Patient/anna GET Encounter/_history"}},
		{"search", Request{Interaction: SearchType, Type: "Observation", Query: "code=code-a1"}, []string{"search-type E0 1:Patient/anna GET Observation?code=code-a1"}},
		{"search_in_a_compartment", Request{Interaction: SearchType, Type: "Observation", Compartment: "Patient", CompartmentID: "anna"}, []string{"search-type E0 1:Patient/anna GET Patient/anna/Observation"}},
		{"search_by_name", Request{Interaction: SearchType, Type: "Patient", Query: "name=app"}, []string{"search-type E0 1:Patient/anna GET Patient?name=withheld", "search-type E0 GET Patient?name=app"}},
		{"search_that_finds_nothing", Request{Interaction: SearchType, Type: "Observation", Query: "patient=Patient/ben"}, []string{"search-type E0 1:Patient/ben GET Observation?patient=Patient/ben"}},
		{"search_that_is_refused", Request{Interaction: SearchType, Type: "Patient", Query: "colour=red"}, []string{"search-type E4 GET Patient?colour=red"}},
		{"search_of_what_is_not_granted", Request{Interaction: SearchType, Type: "AuditEvent", Query: ""}, []string{"search-type E4 GET AuditEvent"}},
		{"create", Request{Interaction: Create, Type: "Condition", Body: parse(t, `{"resourceType":"Condition","clinicalStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/condition-clinical","code":"active"}]},"subject":{"reference":"Patient/anna"}}`)}, []string{"create C0 1:Patient/anna 4:Condition/new/_history/1"}},
		{"create_that_is_refused", Request{Interaction: Create, Type: "Organization", Body: parse(t, `{"resourceType":"Organization","name":"x"}`)}, []string{"create C4"}},
		{"update", Request{Interaction: Update, Type: "Patient", ID: "anna", Body: parse(t, `{"resourceType":"Patient","id":"anna","name":[{"family":"Appleby"}],"generalPractitioner":[{"reference":"Practitioner/treats"}]}`)},
			[]string{"update U0 1:Patient/anna 4:Patient/anna/_history/2"}},
		{"update_of_an_old_version", Request{Interaction: Update, Type: "Patient", ID: "anna", IfMatch: "1", Body: parse(t, `{"resourceType":"Patient","id":"anna"}`)}, []string{"update U4 1:Patient/anna 4:Patient/anna"}},
		{"patch", Request{Interaction: Patch, Type: "Patient", ID: "anna", JSONPatch: []byte(`[{"op":"add","path":"/active","value":true}]`)}, []string{"patch U0 1:Patient/anna 4:Patient/anna/_history/3"}},
		{"delete_that_is_refused", Request{Interaction: Delete, Type: "Observation", ID: "a1"}, []string{"delete D4 4:Observation/a1"}},
		{"graphql_that_fails_after_a_look", Request{Interaction: Operate, Operation: "graphql", Body: parse(t, `{"query":"{ Patient(id: \"anna\") { id } Observation(id: \"b1\") { id } }"}`)}, []string{"operation graphql E4 1:Patient/anna"}},
		{"everything", Request{Interaction: Operate, Operation: "everything", Type: "Patient", ID: "anna", Query: "_count=3", Safe: true}, []string{"operation everything E0 1:Patient/anna 4:Patient/anna GET Patient/anna/$everything?_count=3"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			since := time.Now().UTC()
			c.r.Principal = doctor
			resp, _ := w.Do(t.Context(), c.r)
			var got []string
			for _, n := range w.log("date=ge" + since.Format("2006-01-02T15:04:05.000Z")) {
				text := summaryOf(n)
				if resp != nil && resp.Created {
					text = strings.Replace(text, resp.Version.ID, "new", 1)
				}
				if n.GetText("recorded") >= since.Format("2006-01-02T15:04:05.000Z") && !strings.Contains(text, "AuditEvent?date") {
					got = append(got, text)
				}
			}
			slices.Sort(got)
			slices.Sort(c.want)
			if !slices.Equal(got, c.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
	valid(t, w)
}

// valid checks all AuditEvents by the definitions.
func valid(t *testing.T, w *logged) {
	t.Helper()
	registry, err := conformance.R4()
	if err != nil {
		t.Fatal(err)
	}
	v, err := validate.New(registry, validate.Options{Invariants: true})
	if err != nil {
		t.Fatal(err)
	}
	all := w.log("")
	for _, n := range all {
		for _, issue := range v.Resource(n) {
			if issue.Severity != fhir.SeverityInformation {
				t.Errorf("%s %v: %s", issue.Severity, issue.Expression, issue.Text)
			}
		}
	}
	if len(all) == 0 {
		t.Error("no AuditEvents")
	}
}
