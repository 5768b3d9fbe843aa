package main

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"kiln/fhir"
)

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
	"Observation/lastn": "?patient=declared-patient&max=2",
	"graphql":           "?query={id}", "/graphql": "?query={PatientList(_count:1){id}}",
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
	var at []string
	switch {
	case typ == "" && is("system"):
		at = append(at, "")
	case typ != "":
		if is("type") {
			at = append(at, typ+"/")
		}
		if is("instance") {
			at = append(at, typ+"/"+d.instance(typ)+"/")
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

// instance is the id of a resource: what interactions left, else any.
func (d *declared) instance(typ string) string {
	id := declaredID(typ)
	if d.call("GET", typ+"/"+id, "", 200, 404).status == http.StatusNotFound {
		for entry := range d.call("GET", typ+"?_count=1", "", 200).body.Get("entry").Items() {
			id = entry.Get("resource").ID()
		}
	}
	return id
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
