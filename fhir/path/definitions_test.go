package path_test

import (
	"testing"

	"kiln/conformance"
	"kiln/fhir"
	fhirpath "kiln/fhir/path"
)

// TestSearchParametersCompile compiles and checks every expression of R4's search parameters.
func TestSearchParametersCompile(t *testing.T) {
	r, err := conformance.R4()
	if err != nil {
		t.Fatal(err)
	}
	schema, n := r.Schema(), 0
	for _, name := range schema.Resources {
		for _, p := range r.SearchParameters(name) {
			if p.Expression == "" {
				continue
			}
			n++
			x, err := fhirpath.Compile(p.Expression, schema)
			if err != nil {
				t.Errorf("%s.%s: %s: %v", name, p.Code, p.Expression, err)
				continue
			}
			if err := x.Check(schema.Type(name)); err != nil {
				t.Errorf("%s.%s: %s: %v", name, p.Code, p.Expression, err)
			}
			for _, c := range p.Components {
				if _, err := fhirpath.Compile(c.Expression, schema); err != nil {
					t.Errorf("%s.%s: %s: %v", name, p.Code, c.Expression, err)
				}
			}
		}
	}
	t.Logf("%d expressions", n)
}

// TestInvariantsCompile compiles every invariant of R4's definitions and checks it against the type it stands at.
func TestInvariantsCompile(t *testing.T) {
	schema, n := registrySchema(t), 0
	check := func(at string, c *fhir.Constraint, on ...*fhir.Type) {
		if c.Expression == "" {
			return
		}
		n++
		x, err := fhirpath.Compile(c.Expression, schema)
		if err != nil {
			t.Errorf("%s %s: %s: %v", at, c.Key, c.Expression, err)
			return
		}
		var problem error
		for _, typ := range on { // an invariant on a choice may speak of one of the types
			if problem = x.Check(typ); problem == nil {
				return
			}
		}
		if (problem != nil) != (mistaken[c.Key] != "") {
			t.Errorf("%s %s: %s: %v; %s", at, c.Key, c.Expression, problem, mistaken[c.Key])
		}
	}
	for _, typ := range allTypes(schema) {
		for _, c := range typ.Constraints {
			check(typ.Name, c, typ)
		}
		for _, e := range typ.Elements {
			var types []*fhir.Type
			for _, ref := range e.Types {
				types = append(types, ref.Type)
			}
			for _, c := range e.Constraints {
				check(e.Path, c, types...)
			}
		}
	}
	t.Logf("%d invariants", n)
}

// mistaken are invariants of R4 that Check is right about, and what is wrong with them.
var mistaken = map[string]string{
	"cid-0": "ChargeItemDefinition has no name",
}

// allTypes walks the schema from its resources.
func allTypes(schema *fhir.Schema) []*fhir.Type {
	seen := map[*fhir.Type]bool{}
	var list []*fhir.Type
	var visit func(t *fhir.Type)
	visit = func(t *fhir.Type) {
		if t == nil || seen[t] {
			return
		}
		seen[t] = true
		list = append(list, t)
		visit(t.Base)
		for _, e := range t.Elements {
			for _, ref := range e.Types {
				visit(ref.Type)
			}
		}
	}
	for _, name := range schema.Resources {
		visit(schema.Type(name))
	}
	return list
}
