package validate

import (
	"math/bits"

	"kiln/fhir"
)

// resource checks a resource that stands for itself: the one given, a Bundle entry's, a Parameters part's.
func (r *run) resource(n *fhir.Node) {
	p := r.resourcePlan(n)
	if p == nil {
		return
	}
	f := r.frameOf(n)
	r.frame = f
	start := len(r.issues)
	r.object(n, p, nil)
	r.unusedContained(start, f.container)
	r.frame = f.outer
}

// resourcePlan finds the plan of a resource's type, or tells what is wrong with the type and returns nil.
func (r *run) resourcePlan(n *fhir.Node) *plan {
	if n.Kind != fhir.Object {
		r.fail(fhir.CodeStructure, "json-type", "A resource must be a JSON object, not %s", article(n.Kind))
		return nil
	}
	t := n.Get("resourceType")
	switch {
	case t == nil:
		r.fail(fhir.CodeRequired, "resource-type", "The resource has no resourceType")
	case t.Kind != fhir.String:
		r.fail(fhir.CodeStructure, "resource-type", "resourceType must be a string, not %s", article(t.Kind))
	case r.v.resources[t.Text] == nil:
		r.fail(fhir.CodeStructure, "resource-type", "%s is not a resource type of FHIR R4%s",
			quote(t.Text), r.suggestType(t.Text))
	default:
		return r.v.resources[t.Text].get()
	}
	return nil
}

// object checks the members of an object by the plan of its type. in is the property it is the value of, nil for a
// resource.
func (r *run) object(n *fhir.Node, p *plan, in *prop) {
	start := len(r.issues)
	var seen mask
	substance := false // a member besides id
	for i := range n.Kids {
		kid := &n.Kids[i]
		x := p.props[kid.Name]
		sibling := false
		if x == nil && len(kid.Name) > 1 && kid.Name[0] == '_' {
			x, sibling = p.props[kid.Name[1:]], true
		}
		if x == nil {
			if !(p.isResource && kid.Name == "resourceType") {
				r.unknown(kid, p)
				substance = true // that it is unknown has been said
			}
			continue
		}
		substance = substance || x.json != "id"
		if seen.has(x.place) && x.element.Choice {
			r.twoChoices(n, kid, x, p)
		}
		seen.add(x.place)
		r.push(x.element.Name)
		if sibling {
			r.sibling(n, kid, x)
		} else {
			r.property(n, kid, x)
		}
		r.pop()
	}
	at := start
	for i := range seen {
		for missing := p.required[i] &^ seen[i]; missing != 0; missing &= missing - 1 {
			e := p.typ.Elements[i*64+bits.TrailingZeros64(missing)]
			r.add(at, fhir.SeverityError, fhir.CodeRequired, "required", "%s is required", choiceName(e))
			at++
		}
	}
	if !substance && p.isElement {
		r.add(start, fhir.SeverityError, fhir.CodeInvariant, "ele-1",
			"An object must hold more than an id: leave it out where there is nothing to say")
	}
	if p.check != nil {
		p.check(r, n, in, start)
	}
	if len(p.invariants) > 0 {
		r.evaluate(start, p.invariants, n, nil, p.typ)
	}
}

func choiceName(e *fhir.Element) string {
	if e.Choice {
		return e.Name + "[x]"
	}
	return e.Name
}

// property checks the value of one JSON property; the path already ends in its name.
func (r *run) property(parent, n *fhir.Node, x *prop) {
	if n.Kind != fhir.Array {
		if x.list {
			r.fail(fhir.CodeStructure, "list-expected",
				"%s may repeat, so it must be a JSON array even with one value", x.json)
		}
		r.value(n, x)
		return
	}
	if !x.list {
		r.fail(fhir.CodeStructure, "single-expected", "%s may stand once only, so it must not be a JSON array", x.json)
		return
	}
	if len(n.Kids) == 0 {
		r.fail(fhir.CodeStructure, "empty-array", "An array must not be empty: leave %s out", x.json)
		return
	}
	r.count(n, x)
	var partner *fhir.Node
	for i := range n.Kids {
		kid := &n.Kids[i]
		r.item(i)
		if kid.Kind == fhir.Null && x.primitive != notPrimitive {
			if partner == nil {
				partner = partnerOf(parent, x.json)
			}
			if partner.Kind != fhir.Array || i >= len(partner.Kids) || partner.Kids[i].Kind == fhir.Null {
				r.fail(fhir.CodeStructure, "null", "null may stand in %s only where _%s has an object at the same place",
					x.json, x.json)
			}
			continue
		}
		if x.contained && r.frame.current < 0 {
			r.containedResource(kid, i)
			continue
		}
		r.value(kid, x)
	}
}

// count checks the bounds of a list that are neither 0 or 1 nor *.
func (r *run) count(n *fhir.Node, x *prop) {
	if e := x.element; len(n.Kids) < e.Min {
		r.fail(fhir.CodeStructure, "too-few", "%s must have at least %d values, not %d", x.json, e.Min, len(n.Kids))
	} else if e.Max > 0 && len(n.Kids) > e.Max {
		r.fail(fhir.CodeStructure, "too-many", "%s may have %d values at most, not %d", x.json, e.Max, len(n.Kids))
	}
}

// value checks one value, not a list, of a property.
func (r *run) value(n *fhir.Node, x *prop) {
	start := len(r.issues)
	switch {
	case n.Kind == fhir.Null:
		r.fail(fhir.CodeStructure, "null", "null is no value: leave %s out", x.json)
		return
	case x.any:
		r.resource(n)
		return
	case x.primitive != notPrimitive:
		if r.primitiveValue(n, x) && x.binding != nil {
			r.checkCode(n, x.binding)
		}
	case n.Kind != fhir.Object:
		r.fail(fhir.CodeStructure, "json-type", "%s must be a JSON object, not %s", x.json, article(n.Kind))
		return
	case len(n.Kids) == 0:
		r.fail(fhir.CodeStructure, "empty-object", "An object must not be empty: leave %s out", x.json)
		return
	default:
		r.object(n, x.plan.get(), x)
		if x.binding != nil {
			r.checkCoded(start, n, x.binding)
		}
	}
	if len(x.invariants) > 0 {
		r.evaluate(start, x.invariants, n, nil, x.typ)
	}
}

// sibling checks "_name": the ids and extensions of a primitive. The path already ends in the element's name.
func (r *run) sibling(parent, n *fhir.Node, x *prop) {
	if x.primitive == notPrimitive {
		r.fail(fhir.CodeStructure, "sibling", "_%s: only primitive values have a member with an underscore", x.json)
		return
	}
	value := parent.Get(x.json)
	if n.Kind != fhir.Array {
		if x.list {
			r.fail(fhir.CodeStructure, "list-expected", "%s may repeat, so _%s must be a JSON array", x.json, x.json)
		}
		r.siblingObject(n, x, value != nil)
		return
	}
	switch {
	case !x.list:
		r.fail(fhir.CodeStructure, "single-expected", "%s may stand once only, so _%s must not be a JSON array",
			x.json, x.json)
		return
	case len(n.Kids) == 0:
		r.fail(fhir.CodeStructure, "empty-array", "An array must not be empty: leave _%s out", x.json)
		return
	case value != nil && value.Kind == fhir.Array && len(value.Kids) != len(n.Kids):
		r.fail(fhir.CodeStructure, "sibling-length", "%s has %d values and _%s has %d: both must have the same number",
			x.json, len(value.Kids), x.json, len(n.Kids))
	}
	for i := range n.Kids {
		kid := &n.Kids[i]
		r.item(i)
		has := value != nil && value.Kind == fhir.Array && i < len(value.Kids) && value.Kids[i].Kind != fhir.Null
		if kid.Kind != fhir.Null {
			r.siblingObject(kid, x, has)
		} else if !has && (value == nil || value.Kind != fhir.Array || i >= len(value.Kids)) {
			// Where both are null, the null in the values has been told already.
			r.fail(fhir.CodeStructure, "null", "null may stand in _%s only where %s has a value at the same place",
				x.json, x.json)
		}
	}
}

func (r *run) siblingObject(n *fhir.Node, x *prop, hasValue bool) {
	switch {
	case n.Kind != fhir.Object:
		r.fail(fhir.CodeStructure, "json-type", "_%s must be a JSON object, not %s", x.json, article(n.Kind))
	case len(n.Kids) == 0:
		r.fail(fhir.CodeStructure, "empty-object", "An object must not be empty: leave _%s out", x.json)
	default:
		start := len(r.issues)
		p := x.plan.get()
		if hasValue && len(n.Kids) == 1 && n.Kids[0].Name == "id" {
			r.push("id")
			r.value(&n.Kids[0], p.props["id"]) // an id alone is enough beside a value
			r.pop()
			return
		}
		r.object(n, p, x)
		if !hasValue && len(x.invariants) > 0 {
			r.evaluate(start, x.invariants, nil, n, x.typ)
		}
	}
}

// partnerOf finds "_name" beside name; it gives a JSON null where there is none.
func partnerOf(parent *fhir.Node, name string) *fhir.Node {
	for k := range parent.Kids {
		s := &parent.Kids[k]
		if len(s.Name) == len(name)+1 && s.Name[0] == '_' && s.Name[1:] == name {
			return s
		}
	}
	return &fhir.Node{}
}

// twoChoices tells that value[x] has two values, unless kid is the "_name" of the one that came before.
func (r *run) twoChoices(parent, kid *fhir.Node, x *prop, p *plan) {
	for i := range parent.Kids {
		other := &parent.Kids[i]
		if other == kid {
			return
		}
		y := p.props[other.Name]
		if y == nil && len(other.Name) > 1 && other.Name[0] == '_' {
			y = p.props[other.Name[1:]]
		}
		if y != nil && y != x && y.place == x.place {
			r.push(x.element.Name)
			r.fail(fhir.CodeStructure, "two-choices", "%s[x] may have one type only: here are %s and %s",
				x.element.Name, y.json, x.json)
			r.pop()
			return
		}
	}
}

func article(k fhir.NodeKind) string {
	switch k {
	case fhir.Null:
		return "null"
	case fhir.Array, fhir.Object:
		return "an " + k.String()
	}
	return "a " + k.String()
}
