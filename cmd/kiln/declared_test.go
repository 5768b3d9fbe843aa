package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"kiln/conformance"
	"kiln/conformance/validate"
	"kiln/fhir"
	"kiln/internal/kilntest"
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
	origin, stop := serve(t, "--auth=off", "--database-url="+kilntest.TerminologyDB(t), "--seed", "--multiple-delete")
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

// canonicals: each is found by a search on its URL, and read by its id.
func (d *declared) canonicals() {
	wanted := map[string]bool{}
	d.statement.Walk(func(n *fhir.Node) bool {
		switch n.Name {
		case "profile", "definition":
			wanted[n.Text] = true
		case "compartment":
			for _, url := range texts(n) {
				wanted[url] = true
			}
		}
		return true
	})
	var urls, paths []string
	for canonical := range maps.Keys(wanted) {
		parts := strings.Split(canonical, "/")
		if len(parts) < 2 {
			d.Errorf("the canonical %q names no type", canonical)
			continue
		}
		urls, paths = append(urls, canonical), append(paths, parts[len(parts)-2]+"?url="+url.QueryEscape(canonical))
	}
	if len(urls) < 1000 {
		d.Errorf("only %d canonicals", len(urls))
	}
	var reads []string
	for i, found := range d.batch(paths) {
		n := 0
		for entry := range found.Get("entry").Items() {
			if r := entry.Get("resource"); r.GetText("url") == urls[i] {
				reads = append(reads, r.ResourceType()+"/"+r.ID())
				n++
			}
		}
		if n != 1 {
			d.Errorf("%s is found %d times", urls[i], n)
		}
	}
	d.batch(reads)
}

// builtIn: the definitions are for reading. They are in no history and no count of what people have stored.
func (d *declared) builtIn() {
	const at = "StructureDefinition/Patient"
	official := d.call("GET", at, "", 200)
	same := string(official.body.JSON())
	d.call("PUT", at, same, 200) // what changes nothing is no change
	other := official.body.Clone()
	other.Set("title", fhir.Str("Mine"))
	d.call("PUT", at, string(other.JSON()), 422)
	d.with("PATCH", at, `[{"op":"add","path":"/title","value":"Mine"}]`, map[string]string{"Content-Type": "application/json-patch+json"}, 422)
	d.call("DELETE", at, "", 422)
	d.call("DELETE", "OperationDefinition?code=expand", "", 422)
	d.call("POST", at+"/$meta-add", operationArguments["meta-add"], 422)
	if again := d.call("GET", at, "", 200); string(again.body.JSON()) != same {
		d.Errorf("%s is another one now", at)
	}
	if n := d.call("GET", at+"/_history", "", 200).body.Get("total").Text; n != "1" {
		d.Errorf("%s has %s versions", at, n)
	}
	for _, path := range []string{"StructureDefinition/_history", "SearchParameter/_history"} {
		if n := d.call("GET", path, "", 200).body.Get("total").Text; n != "0" {
			d.Errorf("%s tells of %s versions", path, n)
		}
	}
	// One with the same URL is another resource, of the client's.
	other.Remove("id")
	mine := d.call("POST", "StructureDefinition", string(other.JSON()), 201)
	if n := d.call("GET", "StructureDefinition?url=http://hl7.org/fhir/StructureDefinition/Patient", "", 200).body.Get("total").Text; n != "2" {
		d.Errorf("%s StructureDefinitions of Patient", n)
	}
	d.call("DELETE", "StructureDefinition/"+mine.body.ID(), "", 200, 204)
	for query, want := range map[string]string{
		"StructureDefinition?name=HumanName&kind=complex-type": "1", "StructureDefinition?type=Patient&derivation=specialization": "1",
		"StructureDefinition?url:below=https://kiln.example/fhir": "5", "SearchParameter?base=Slot&code=start": "1",
		"OperationDefinition?code=everything&type=true": "2", "CompartmentDefinition?code=Encounter": "1", "CodeSystem?url=http://hl7.org/fhir/account-status": "1",
		"ValueSet?reference=http://hl7.org/fhir/account-status": "1", "ConceptMap?url=http://hl7.org/fhir/ConceptMap/cm-address-use-v2": "1",
	} {
		if n := d.call("GET", query, "", 200).body.Get("total").Text; n != want {
			d.Errorf("%s: %s found, want %s", query, n, want)
		}
	}
}

// interactions: each type with an official example, or one below, through all that is declared for it.
func (d *declared) interactions() {
	for typ, r := range d.resources() {
		var codes []string
		for i := range r.Get("interaction").Items() {
			codes = append(codes, i.GetText("code"))
		}
		for _, code := range []string{"read", "vread", "update", "patch", "delete", "history-instance", "history-type", "create", "search-type"} {
			if !slices.Contains(codes, code) {
				d.Errorf("%s does not declare %s: this test has to learn what else is declared", typ, code)
			}
		}
		if len(codes) != 9 {
			d.Errorf("%s declares %v: this test has to learn more", typ, codes)
		}
		d.interactionsOf(typ)
	}
}

func (d *declared) interactionsOf(typ string) {
	tag := "urn:kiln:declared|" + typ
	src, ok := d.registry.Example(typ)
	if own := declaredBodies[typ]; own != "" {
		src, ok = []byte(own), true
	}
	if !ok {
		d.Errorf("there is no example of %s", typ)
		return
	}
	n, err := fhir.ParseJSON(src)
	if err != nil {
		d.Fatal(err)
	}
	n.Remove("id")
	n.Remove("text") // some are empty
	n.Set("meta", fhir.Obj(fhir.Arr(fhir.Obj(fhir.Str("urn:kiln:declared").As("system"), fhir.Str(typ).As("code"))).As("tag")))
	body := func(id string, more ...fhir.Node) string {
		c := n.Clone()
		if id != "" {
			c.Set("id", fhir.Str(id))
		}
		for _, m := range more {
			c.Set(m.Name, m)
		}
		return string(c.JSON())
	}
	byTag := "?_tag=" + url.QueryEscape(tag)
	made := d.with("POST", typ, body(""), map[string]string{"If-None-Exist": strings.TrimPrefix(byTag, "?")}, 201)
	if made.status != 201 {
		return
	}
	id := made.body.ID()
	at := typ + "/" + id
	d.with("POST", typ, body(""), map[string]string{"If-None-Exist": strings.TrimPrefix(byTag, "?")}, 200)
	etag := d.call("GET", at, "", 200).header.Get("ETag")
	d.with("GET", at, "", map[string]string{"If-None-Match": etag}, 304)
	d.with("GET", at, "", map[string]string{"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}, 304)
	d.call("GET", at+"/_history/1", "", 200)
	language := fhir.Str("de").As("language")
	d.with("PUT", at, body(id, language), map[string]string{"If-Match": etag}, 200)
	d.with("PUT", at, body(id), map[string]string{"If-Match": etag}, 412)
	d.call("PUT", typ+byTag, body(id, fhir.Str("fr").As("language")), 200)
	patch := map[string]string{"Content-Type": "application/json-patch+json"}
	d.with("PATCH", at, `[{"op":"add","path":"/language","value":"it"}]`, patch, 200)
	d.with("PATCH", typ+byTag, `[{"op":"add","path":"/language","value":"nl"}]`, patch, 200)
	if found := d.call("GET", typ+byTag, "", 200).body; found.Get("total").Text != "1" {
		d.Errorf("%s%s: %s found", typ, byTag, found.Get("total").Text)
	}
	d.call("GET", typ+"?_id="+id, "", 200)
	d.call("GET", at+"/_history", "", 200)
	d.call("GET", typ+"/_history", "", 200)
	d.call("DELETE", at, "", 200, 204)
	d.call("GET", at, "", 410)
	d.call("GET", at+"/_history", "", 200)
	d.call("PUT", typ+"/"+declaredID(typ), body(declaredID(typ)), 201)
	d.call("DELETE", typ+byTag, "", 200, 204)
	d.call("PUT", typ+"/"+declaredID(typ), body(declaredID(typ)), 201) // and there it stays
	d.call("PUT", typ+"/"+declaredID(typ), body(declaredID(typ), language), 200)
}

// declaredID is the instance of a type that interactions leaves behind.
func declaredID(typ string) string { return "declared-" + strings.ToLower(typ) }

// declaredBodies are for types whose official example breaks a rule of this server, or of which there is none.
var declaredBodies = map[string]string{
	"CodeSystem":                    `{"resourceType":"CodeSystem","url":"http://example.org/declared","status":"draft","content":"complete","concept":[{"code":"a"}]}`,
	"ValueSet":                      `{"resourceType":"ValueSet","url":"http://example.org/declared-set","status":"draft","compose":{"include":[{"system":"http://hl7.org/fhir/administrative-gender"}]}}`,
	"SearchParameter":               `{"resourceType":"SearchParameter","url":"http://example.org/p","name":"P","status":"draft","description":"x","code":"p","base":["Basic"],"type":"token","expression":"Basic.code"}`,
	"Composition":                   `{"resourceType":"Composition","status":"final","type":{"text":"x"},"date":"2020","author":[{"reference":"Organization/demo-clinic"}],"title":"x"}`,
	"DeviceMetric":                  `{"resourceType":"DeviceMetric","type":{"text":"x"},"category":"measurement"}`,
	"DeviceUseStatement":            `{"resourceType":"DeviceUseStatement","status":"active","subject":{"reference":"Patient/demo-tom"},"device":{"reference":"Device/x"}}`,
	"Parameters":                    `{"resourceType":"Parameters","parameter":[{"name":"a","valueString":"b"}]}`,
	"SubstanceNucleicAcid":          `{"resourceType":"SubstanceNucleicAcid"}`,
	"SubstancePolymer":              `{"resourceType":"SubstancePolymer"}`,
	"SubstanceProtein":              `{"resourceType":"SubstanceProtein"}`,
	"SubstanceReferenceInformation": `{"resourceType":"SubstanceReferenceInformation"}`,
	"SubstanceSourceMaterial":       `{"resourceType":"SubstanceSourceMaterial"}`,
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

// sensible is a value for a search parameter of each type.
var sensible = map[string]string{"string": "a", "token": "a|b", "date": "ge2020-01-01", "reference": "Patient/demo-tom", "uri": "http://example.org/x",
	"number": "5", "quantity": "5|http://unitsofmeasure.org|mg", "composite": ""}

// parameters: each is taken, and stands in the self link, so that it was not passed over.
func (d *declared) parameters() {
	var paths, names []string
	for typ, r := range d.resources() {
		for p := range r.Get("searchParam").Items() {
			name, kind := p.GetText("name"), p.GetText("type")
			value := sensible[kind]
			switch {
			case name == "_id":
				value = "x"
			case name == "near":
				value = "52.1|4.3|10|km"
			case name == "_text", name == "_content", name == "_filter":
				value = "word"
			case kind == "composite":
				value = d.composite(typ, name)
			case kind == "reference":
				if def := d.registry.SearchParameter(typ, name); def != nil && len(def.Targets) > 0 && !slices.Contains(def.Targets, "Patient") {
					value = def.Targets[0] + "/x"
				}
			}
			if value == "" {
				d.Errorf("%s.%s has the type %s: this test knows no value", typ, name, kind)
			}
			paths, names = append(paths, typ+"?"+name+"="+url.QueryEscape(value)+"&_count=1"), append(names, name)
		}
	}
	for i, found := range d.batch(paths) {
		self := ""
		for link := range found.Get("link").Items() {
			if link.GetText("relation") == "self" {
				self = link.GetText("url")
			}
		}
		if !strings.Contains(self, names[i]+"=") {
			d.Errorf("%s: answered as %s", paths[i], self)
		}
	}
}

func (d *declared) composite(typ, name string) string {
	var values []string
	for _, c := range d.registry.SearchParameter(typ, name).Components {
		values = append(values, sensible[string(c.Param.Type)])
	}
	return strings.Join(values, "$")
}

// includes: as many in a request as one may have.
func (d *declared) includes() {
	var paths []string
	for typ, r := range d.resources() {
		for _, kind := range []struct{ element, parameter string }{{"searchInclude", "_include"}, {"searchRevInclude", "_revinclude"}} {
			for some := range slices.Chunk(texts(r.Get(kind.element)), 30) {
				paths = append(paths, typ+"?_count=2&"+kind.parameter+"="+strings.Join(some, "&"+kind.parameter+"="))
			}
		}
	}
	d.batch(paths)
}

// operations: each at each level that its definition names. Those listed below get what they need and must succeed; others
// must know their arguments better than this test does.
func (d *declared) operations() {
	for rest := range d.statement.Get("rest").Items() {
		for o := range rest.Get("operation").Items() {
			d.operation(o, "")
		}
	}
	for typ, r := range d.resources() {
		for o := range r.Get("operation").Items() {
			d.operation(o, typ)
		}
	}
}

// operationArguments are the arguments of operations that this test knows: a query for GET, or a body for POST.
var operationArguments = map[string]string{
	"meta": "?", "diff": "?", "document": "?", "everything": "?_count=5",
	"meta-add":                  `{"resourceType":"Parameters","parameter":[{"name":"meta","valueMeta":{"tag":[{"system":"urn:x","code":"y"}]}}]}`,
	"meta-delete":               `{"resourceType":"Parameters","parameter":[{"name":"meta","valueMeta":{"tag":[{"system":"urn:x","code":"y"}]}}]}`,
	"Composition/document":      "?id=declared-composition",
	"Composition/[id]/document": "?",
	"expand":                    "?url=http%3A%2F%2Fhl7.org%2Ffhir%2FValueSet%2Fadministrative-gender",
	"lookup":                    "?system=http%3A%2F%2Fhl7.org%2Ffhir%2Fadministrative-gender&code=male",
	"subsumes":                  "?system=http%3A%2F%2Fhl7.org%2Ffhir%2Fadministrative-gender&codeA=male&codeB=male",
	"translate":                 "?url=http%3A%2F%2Fhl7.org%2Ffhir%2FConceptMap%2Fcm-address-use-v2&system=http%3A%2F%2Fhl7.org%2Ffhir%2Faddress-use&code=home",
	"CodeSystem/validate-code":  "?url=http%3A%2F%2Fhl7.org%2Ffhir%2Fadministrative-gender&code=male",
	"ValueSet/validate-code":    "?url=http%3A%2F%2Fhl7.org%2Ffhir%2FValueSet%2Fadministrative-gender&system=http%3A%2F%2Fhl7.org%2Ffhir%2Fadministrative-gender&code=male",
	// On the instances that interactions leaves.
	"ValueSet/[id]/expand":          "?",
	"ValueSet/[id]/validate-code":   "?system=http%3A%2F%2Fhl7.org%2Ffhir%2Fadministrative-gender&code=male",
	"CodeSystem/[id]/validate-code": "?code=a",
	"CodeSystem/[id]/subsumes":      "?codeA=a&codeB=a",
	"ConceptMap/[id]/translate":     "?system=http%3A%2F%2Fhl7.org%2Ffhir%2Faddress-use&code=home",
}

// argumentsOf are those of an operation at a place.
func argumentsOf(typ, name string, instance bool) (string, bool) {
	names := []string{typ + "/" + name, name}
	if instance {
		names = slices.Insert(names, 0, typ+"/[id]/"+name)
	}
	for _, n := range names {
		if arguments, known := operationArguments[n]; known {
			return arguments, true
		}
	}
	return "", false
}

func (d *declared) operation(o *fhir.Node, typ string) {
	name := o.GetText("name")
	found := d.call("GET", "OperationDefinition?url="+url.QueryEscape(o.GetText("definition")), "", 200).body.At("entry")
	var definition *fhir.Node
	for entry := range found.Items() {
		definition = entry.Get("resource")
	}
	if definition == nil || definition.GetText("code") != name {
		d.Errorf("$%s: its definition %s is not there", name, o.GetText("definition"))
		return
	}
	is := func(level string) bool { n := definition.Get(level); return n != nil && n.Text == "true" }
	narrowed := o.GetText("documentation") != "" // offered on one resource only
	var at []string
	switch {
	case typ == "" && is("system"):
		at = append(at, "")
	case typ != "":
		if is("type") && !narrowed {
			at = append(at, typ+"/")
		}
		if is("instance") {
			at = append(at, typ+"/"+declaredID(typ)+"/")
		}
	}
	if len(at) == 0 {
		d.Errorf("$%s is declared for %q, where its definition does not have it", name, typ)
	}
	for _, place := range at {
		arguments, known := argumentsOf(typ, name, strings.Count(place, "/") == 2)
		switch {
		case known && strings.HasPrefix(arguments, "?"):
			d.call("GET", place+"$"+name+arguments, "", 200)
		case known:
			d.call("POST", place+"$"+name, arguments, 200)
		default:
			r := d.call("POST", place+"$"+name, `{"resourceType":"Parameters"}`, 200, 201, 202, 400, 404, 409, 422)
			d.offered(place+"$"+name, r)
		}
	}
}

// offered wants an answer other than that the operation is not there.
func (d *declared) offered(what string, r reply) {
	if r.status == http.StatusNotFound {
		for issue := range r.body.Get("issue").Items() {
			if issue.GetText("code") == fhir.CodeNotSupported {
				d.Errorf("%s is declared and not offered", what)
			}
		}
	}
}
