package path

import (
	"strconv"
	"strings"

	"kiln/fhir"
)

// Element is one item of a collection: an element of a resource, or a System value that an expression made. The zero
// Element is neither.
type Element struct {
	// Value is the JSON value, nil for a primitive that has only an id or extensions, and for System values.
	Value *fhir.Node
	// Sibling is the "_name" value of a primitive: its id and extensions. It is nil where there are none.
	Sibling *fhir.Node
	// Type is the FHIR type; for a choice element the one that the data chose. It is nil for System values and for
	// data that the schema does not know.
	Type *fhir.Type
	sys  *System
	src  *source
}

// source is the tree that an element lies in.
type source struct {
	root   *fhir.Node
	typ    *fhir.Type
	schema *fhir.Schema
}

// Root makes the element to begin with from a whole resource, whose type it takes from resourceType.
func Root(n *fhir.Node, schema *fhir.Schema) Element {
	if n == nil {
		return Element{}
	}
	var t *fhir.Type
	if schema != nil {
		t = schema.Type(n.ResourceType())
	}
	return RootOf(n, t, schema)
}

// RootOf makes the element to begin with from a value of a known type, for data that is no resource.
func RootOf(n *fhir.Node, t *fhir.Type, schema *fhir.Schema) Element {
	return Element{Value: n, Type: t, src: &source{root: n, typ: t, schema: schema}}
}

// At makes an element of the same resource from a node inside it, for callers that walk the tree themselves.
func (e Element) At(value, sibling *fhir.Node, t *fhir.Type) Element {
	return Element{Value: value, Sibling: sibling, Type: t, src: e.src}
}

// IsZero says whether e is no item at all.
func (e Element) IsZero() bool {
	return e.Value == nil && e.Sibling == nil && e.sys == nil && e.Type == nil
}

// System returns the value of e if it is a System value or a FHIR primitive or Quantity that has one.
func (e Element) System() (System, bool) {
	v, ok := e.value()
	if !ok && e.isQuantity() {
		v, ok = e.quantity()
	}
	return v, ok
}

// IsSystem says whether e is a System value, not an element of a resource.
func (e Element) IsSystem() bool { return e.sys != nil }

// Text returns what a primitive or System value says, in the form toString() gives it, or "".
func (e Element) Text() string {
	if e.sys != nil {
		return e.sys.String()
	}
	if e.Value != nil && e.Value.Kind != fhir.Object && e.Value.Kind != fhir.Array {
		return e.Value.Text
	}
	return ""
}

// TypeName returns the FHIR or System type's name: "HumanName", "Patient.contact", "Integer"; "" when unknown.
func (e Element) TypeName() string {
	switch {
	case e.sys != nil:
		return e.sys.Kind.String()
	case e.Type != nil:
		return e.Type.Name
	}
	return ""
}

// Path returns where e stands in its resource, in FHIRPath: Patient.name[0].given[1], Observation.value.ofType(Quantity).
// It is "" for System values. It searches the whole resource: ask it for messages, not on the hot path.
func (e Element) Path() string {
	target := e.Value
	if target == nil {
		target = e.Sibling
	}
	if e.src == nil || target == nil || e.src.root == nil {
		return ""
	}
	name := ""
	if e.src.typ != nil {
		name = e.src.typ.Name
	} else {
		name = e.src.root.ResourceType()
	}
	if target == e.src.root {
		return name
	}
	var trail []string
	if !e.src.find(e.src.root, e.src.typ, target, &trail, 0) {
		return ""
	}
	var b strings.Builder
	b.WriteString(name)
	for i := len(trail) - 1; i >= 0; i-- {
		if trail[i][0] != '[' && b.Len() > 0 {
			b.WriteByte('.')
		}
		b.WriteString(trail[i])
	}
	return b.String()
}

// find appends the way from n to target, last part first.
func (s *source) find(n *fhir.Node, t *fhir.Type, target *fhir.Node, trail *[]string, depth int) bool {
	if depth > 2*fhir.MaxDepth {
		return false
	}
	if t == nil && s.schema != nil {
		t = s.schema.Type(n.ResourceType())
	}
	for i := range n.Kids {
		kid := &n.Kids[i]
		name := strings.TrimPrefix(kid.Name, "_")
		if n.Kind == fhir.Array {
			if kid == target || s.find(kid, t, target, trail, depth+1) {
				*trail = append(*trail, "["+strconv.Itoa(i)+"]")
				return true
			}
			continue
		}
		var p fhir.Property
		if t != nil {
			p = t.Properties[name]
		}
		if kid == target || s.find(kid, p.Type, target, trail, depth+1) {
			if p.Element != nil && p.Element.Choice && p.Type != nil {
				name = p.Element.Name + ".ofType(" + p.Type.Name + ")"
			}
			*trail = append(*trail, name)
			return true
		}
	}
	return false
}
