package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"kiln/conformance"
	"kiln/conformance/validate"
	"kiln/fhir"
)

// declared calls what a CapabilityStatement declares, over HTTP, and checks each answer: its status, and that it is a valid
// FHIR resource.
type declared struct {
	testing.TB
	base      string
	registry  *conformance.Registry
	validator *validate.Validator
	statement *fhir.Node
}

// reply is an answer, read.
type reply struct {
	status int
	header http.Header
	body   *fhir.Node
}

func newDeclared(t testing.TB, origin string) *declared {
	t.Helper()
	registry, err := conformance.R4()
	if err != nil {
		t.Fatal(err)
	}
	validator, err := validate.New(registry, validate.Options{Invariants: true, MaxIssues: 10_000})
	if err != nil {
		t.Fatal(err)
	}
	d := &declared{TB: t, base: origin + "/fhir/", registry: registry, validator: validator}
	d.statement = d.call("GET", "metadata", "", 200).body
	return d
}

// call wants one of the statuses.
func (d *declared) call(method, path, body string, want ...int) reply {
	return d.with(method, path, body, nil, want...)
}

func (d *declared) with(method, path, body string, header map[string]string, want ...int) reply {
	d.Helper()
	req, err := http.NewRequestWithContext(d.Context(), method, d.base+path, strings.NewReader(body))
	if err != nil {
		d.Fatal(err)
	}
	req.Header.Set("Accept", "application/fhir+json")
	if body != "" {
		req.Header.Set("Content-Type", "application/fhir+json")
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		d.Fatal(err)
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		d.Fatal(err)
	}
	r := reply{status: resp.StatusCode, header: resp.Header}
	if !slices.Contains(want, resp.StatusCode) {
		d.Errorf("%s %s: %d, want %v: %.400s", method, path, resp.StatusCode, want, content)
	}
	if len(content) == 0 {
		return r
	}
	if r.body, err = fhir.ParseJSON(content); err != nil {
		d.Errorf("%s %s: %v: %.200s", method, path, err, content)
		return r
	}
	if strings.Contains(path, "$graphql") { // its answers are no resources
		return r
	}
	for _, issue := range d.validator.Resource(r.body) {
		if issue.Severity == fhir.SeverityError && !knownFault(issue) {
			d.Errorf("%s %s: the answer is not valid: %v %s", method, path, issue.Expression, issue.Text)
		}
	}
	return r
}

// knownFault says whether an issue is one that the official definitions have, as HL7 published them.
func knownFault(i fhir.Issue) bool {
	return i.Detail == "opd-1" // ValueSet-… has a part without a type
}

// batch sends GETs in batches, and wants 200 from each.
func (d *declared) batch(paths []string) []*fhir.Node {
	d.Helper()
	var answers []*fhir.Node
	for part := range slices.Chunk(paths, 200) {
		var b bytes.Buffer
		b.WriteString(`{"resourceType":"Bundle","type":"batch","entry":[`)
		for i, p := range part {
			if i > 0 {
				b.WriteByte(',')
			}
			quoted, _ := json.Marshal(p)
			fmt.Fprintf(&b, `{"request":{"method":"GET","url":%s}}`, quoted)
		}
		b.WriteString("]}")
		i := 0
		for entry := range d.call("POST", "", b.String(), 200).body.Get("entry").Items() {
			if status := entry.Get("response").GetText("status"); !strings.HasPrefix(status, "200") {
				d.Errorf("GET %s: %s %.400s", part[i], status, entry.JSON())
			}
			answers = append(answers, entry.Get("resource"))
			i++
		}
		if i != len(part) {
			d.Fatalf("%d answers to %d requests", i, len(part))
		}
	}
	return answers
}

func (d *declared) resources() map[string]*fhir.Node {
	list := map[string]*fhir.Node{}
	for rest := range d.statement.Get("rest").Items() {
		for r := range rest.Get("resource").Items() {
			list[r.GetText("type")] = r
		}
	}
	return list
}

func texts(n *fhir.Node) []string {
	var list []string
	for item := range n.Items() {
		list = append(list, item.Text)
	}
	return list
}

// TestDeclared calls everything that the CapabilityStatement declares. Its parts share a server and its data.
func TestDeclared(t *testing.T) {
	t.Parallel()
	origin, stop := serve(t, "--auth=off", "--database-url="+startedDB(t), "--seed", "--multiple-delete")
	defer stop()
	d := newDeclared(t, origin)
	part := func(name string, do func(*declared)) {
		t.Run(name, func(t *testing.T) { inner := *d; inner.TB = t; do(&inner) })
	}
	part("built_in_definitions", (*declared).builtIn)
	part("canonicals", (*declared).canonicals)
	part("interactions", (*declared).interactions)
	part("system", (*declared).system)
	part("search_parameters", (*declared).parameters)
	part("includes", (*declared).includes)
	part("operations", (*declared).operations)
}

func (d *declared) system() {
	entry := `{"resourceType":"Bundle","type":%q,"entry":[{"resource":{"resourceType":"Basic","code":{"text":"x"}},"request":{"method":"POST","url":"Basic"}}]}`
	for rest := range d.statement.Get("rest").Items() {
		for i := range rest.Get("interaction").Items() {
			switch code := i.GetText("code"); code {
			case "transaction", "batch":
				d.call("POST", "", fmt.Sprintf(entry, code), 200)
			case "search-system":
				d.call("GET", "?_type=Basic", "", 200)
			case "history-system":
				d.call("GET", "_history", "", 200)
			default:
				d.Errorf("%s is declared: this test has to learn it", code)
			}
		}
		for _, format := range texts(d.statement.Get("format")) {
			d.rawFormat(format)
		}
	}
}

func (d *declared) rawFormat(format string) {
	resp, err := http.Get(d.base + "Basic?_format=" + url.QueryEscape(format))
	if err != nil {
		d.Fatal(err)
	}
	resp.Body.Close()
	if got := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || !strings.Contains(got, strings.TrimPrefix(format, "application/fhir+")) {
		d.Errorf("%s: %d %s", format, resp.StatusCode, got)
	}
}
