package path_test

import (
	"archive/zip"
	"errors"
	"io/fs"
	"path"
	"strings"
	"testing"

	"kiln/fhir"
	fhirpath "kiln/fhir/path"
)

const (
	examples    = "../../../shared/data/examples/r4-examples.zip"
	definitions = "../../../shared/data/examples/r4-definitions.zip"
)

// eachFile calls visit for the resources of an archive whose names match the pattern.
func eachFile(t *testing.T, archive, pattern string, visit func(name string, n *fhir.Node)) {
	t.Helper()
	z, err := zip.OpenReader(archive)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("the FHIR examples are not here: " + archive)
	} else if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	for _, f := range z.File {
		if ok, _ := path.Match(pattern, f.Name); !ok {
			continue
		}
		n, err := fhir.ParseJSON(readZip(t, z, f.Name))
		if err != nil {
			t.Fatal(f.Name, err)
		}
		visit(f.Name, n)
	}
}

// TestPublishedExpressionsCompile compiles the expressions of all SearchParameters as published, and those of all
// profiles' constraints.
func TestPublishedExpressionsCompile(t *testing.T) {
	schema, n := registrySchema(t), 0
	compile := func(at, src string) {
		if src == "" {
			return
		}
		n++
		if _, err := fhirpath.Compile(src, schema); err != nil {
			t.Errorf("%s: %s: %v", at, src, err)
		}
	}
	eachFile(t, definitions, "SearchParameter-*.json", func(name string, r *fhir.Node) {
		compile(name, r.GetText("expression"))
	})
	eachFile(t, definitions, "StructureDefinition-*.json", func(name string, r *fhir.Node) {
		for e := range r.At("differential", "element").Items() {
			for c := range e.Get("constraint").Items() {
				compile(name+" "+c.GetText("key"), c.GetText("expression"))
			}
		}
	})
	t.Logf("%d expressions", n)
}

// broken are the invariants that HL7's own examples break, with the example's name and why.
var broken = map[string]string{
	"que-7 Questionnaire-bb.json":               "R4's que-7 asks \"answer is Boolean\" of a FHIR boolean, which is no System Boolean",
	"sdf-4 StructureDefinition-Definition.json": "has no baseDefinition",
	"sdf-4 StructureDefinition-Event.json":      "has no baseDefinition",
	"sdf-4 StructureDefinition-FiveWs.json":     "has no baseDefinition",
	"sdf-4 StructureDefinition-Request.json":    "has no baseDefinition",
}

// TestExamplesKeepInvariants evaluates every invariant of severity error on every element of HL7's examples, and
// checks that the location of each element leads back to it.
func TestExamplesKeepInvariants(t *testing.T) {
	if testing.Short() {
		t.Skip("walks 5 MB of examples")
	}
	schema := registrySchema(t)
	compiled := map[string]*fhirpath.Expression{}
	count := 0
	eachFile(t, examples, "*.json", func(name string, n *fhir.Node) {
		root := fhirpath.Root(n, schema)
		var walk func(e, resource fhirpath.Element, on *fhir.Element)
		walk = func(e, resource fhirpath.Element, on *fhir.Element) {
			if e.Type == nil {
				return
			}
			if e.Type.Kind == fhir.Resource {
				resource = e
			}
			env := &fhirpath.Env{Resource: resource, Root: root}
			var constraints []*fhir.Constraint
			for typ := e.Type; typ != nil; typ = typ.Base {
				constraints = append(constraints, typ.Constraints...)
			}
			if on != nil {
				constraints = append(constraints, on.Constraints...)
			}
			for _, c := range constraints {
				if c.Expression == "" || c.Severity != "error" {
					continue
				}
				x := compiled[c.Expression]
				if x == nil {
					x, _ = fhirpath.Compile(c.Expression, schema)
					compiled[c.Expression] = x
				}
				count++
				ok, err := x.EvalBool(env, e)
				if (err != nil || !ok) && broken[c.Key+" "+name] == "" {
					t.Errorf("%s %s: %s: %v %v: %s", name, e.Path(), c.Key, ok, err, c.Expression)
				}
			}
			if e.Value == nil || e.Value.Kind != fhir.Object {
				return
			}
			for i := range e.Value.Kids {
				property := strings.TrimPrefix(e.Value.Kids[i].Name, "_")
				if property != e.Value.Kids[i].Name && e.Value.Get(property) != nil {
					continue
				}
				p, ok := e.Type.Properties[property]
				if !ok {
					continue
				}
				for value, sibling := range e.Value.Property(property) {
					typ := p.Type
					if typ == nil {
						typ = schema.Type(value.ResourceType())
					}
					walk(e.At(value, sibling, typ), resource, p.Element)
				}
			}
		}
		walk(root, root, nil)
	})
	t.Logf("%d evaluations", count)
}

// TestLocationsLeadBack evaluates the location of every descendant of an example and expects to arrive there.
func TestLocationsLeadBack(t *testing.T) {
	schema := registrySchema(t)
	all, err := fhirpath.Compile("descendants()", schema)
	if err != nil {
		t.Fatal(err)
	}
	eachFile(t, examples, "[OPQ]*.json", func(name string, n *fhir.Node) {
		if len(n.Kids) > 40 {
			return
		}
		root := fhirpath.Root(n, schema)
		items, err := all.Eval(nil, root)
		if err != nil {
			t.Fatal(err)
		}
		for i, e := range items {
			if i%7 != 0 { // a sample; each location costs a walk
				continue
			}
			x, err := fhirpath.Compile(e.Path(), schema)
			if err != nil {
				t.Errorf("%s: %q: %v", name, e.Path(), err)
				continue
			}
			back, err := x.Eval(nil, root)
			if err != nil || len(back) != 1 || back[0].Value != e.Value || back[0].Sibling != e.Sibling {
				t.Errorf("%s: %q leads to %s, %v", name, e.Path(), show(back), err)
			}
		}
	})
}
