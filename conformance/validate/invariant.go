package validate

import (
	"kiln/fhir"
	"kiln/fhir/path"
)

// invariant is a constraint that is ready to be asked.
type invariant struct {
	*fhir.Constraint
	native func(n *fhir.Node) bool // instead of expression where there is one
	expr   *path.Expression
}

// invariants makes those of a type's or element's constraints that have to be asked. One that does not compile is told
// to OnInvariantError and left out.
func (v *Validator) invariants(at string, constraints []*fhir.Constraint) []*invariant {
	var list []*invariant
	for _, c := range constraints {
		if structural[c.Key] || c.Expression == "" || bestPractice[c.Key] && !v.options.BestPractice {
			continue
		}
		x := &invariant{Constraint: c, native: v.natives[c.Expression]}
		if x.native == nil {
			if !v.options.Invariants {
				continue
			}
			source := c.Expression
			if f, ok := faults[c.Key]; ok && f.published == source {
				source = f.meant
			}
			if source == "" {
				continue
			}
			var err error
			if x.expr, err = path.Compile(source, v.schema); err != nil {
				v.invariantError(c.Key, at, err)
				continue
			}
		}
		list = append(list, x)
	}
	return list
}

// evaluate asks invariants about one value; value is nil for a primitive that has only a sibling.
func (r *run) evaluate(start int, list []*invariant, value, sibling *fhir.Node, t *fhir.Type) {
	for i := len(list) - 1; i >= 0; i-- { // each is put before the last
		x := list[i]
		if x.native != nil {
			if value != nil && !x.native(value) {
				r.broken(start, x)
			}
			continue
		}
		env := r.frame.environment(r.v.schema)
		ok, err := x.expr.EvalBool(env, env.Resource.At(value, sibling, t))
		if err != nil {
			r.v.invariantError(x.Key, r.frame.resource.ResourceType(), err)
		} else if !ok {
			r.broken(start, x)
		}
	}
}

func (r *run) broken(start int, x *invariant) {
	severity := fhir.SeverityError
	if x.Severity != fhir.SeverityError {
		severity = fhir.SeverityWarning
	}
	r.add(start, severity, fhir.CodeInvariant, x.Key, "%s (%s)", x.Human, x.Key)
}

func (f *frame) environment(schema *fhir.Schema) *path.Env {
	if f.env == nil {
		f.env = &path.Env{Resource: path.Root(f.resource, schema)}
		if f.env.Root = f.env.Resource; f.resource != f.container.root {
			f.env.Root = path.Root(f.container.root, schema)
		}
	}
	return f.env
}

func (v *Validator) invariantError(key, at string, err error) {
	v.failed.Add(1)
	if v.options.OnInvariantError != nil {
		v.options.OnInvariantError(key, at, err)
	}
}
