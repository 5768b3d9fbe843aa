package path

import (
	"slices"

	"kiln/fhir"
)

// Check looks for mistakes that need no data: members that no possible type has, a first name that is no type the
// focus can have, and order-dependent functions on children() and descendants(). focus is the type to begin from; nil
// leaves it to the type name that the expression begins with, which suits search parameters.
//
// Errors: Invalid.
func (x *Expression) Check(focus *fhir.Type) error {
	if x.schema == nil {
		return nil
	}
	this := shape{any: true}
	if focus != nil {
		this = shape{types: []*fhir.Type{focus}}
	}
	k := checker{schema: x.schema, focus: this}
	_, err := k.infer(x.root, this)
	return err
}

// Result says what the expression gives, as far as that is known without data: elements of some types, computed values, or both. known is
// false where it may give anything else. focus are the types to begin from.
func (x *Expression) Result(focus ...*fhir.Type) (types []*fhir.Type, computed, known bool) {
	if x.schema == nil {
		return nil, false, false
	}
	this := shape{types: focus}
	k := checker{schema: x.schema, focus: this}
	out, err := k.infer(x.root, this)
	return out.types, out.system != 0, err == nil && !out.any
}

// shape is what is known of a collection without data.
type shape struct {
	types  []*fhir.Type
	system SystemKind // some System type; only whether it is zero matters
	any    bool       // nothing is known
	loose  bool       // the order means nothing
}

// someSystem is a System type that is not known.
const someSystem SystemKind = 255

func (s shape) with(o shape) shape {
	s.any, s.loose = s.any || o.any, s.loose || o.loose
	s.system = max(s.system, o.system)
	types := slices.Clone(s.types)
	for _, t := range o.types {
		if !slices.Contains(types, t) {
			types = append(types, t)
		}
	}
	s.types = types
	return s
}

type checker struct {
	schema *fhir.Schema
	focus  shape
}

func (k *checker) infer(n node, this shape) (shape, error) {
	switch n := n.(type) {
	case *path:
		return k.path(n, this)
	case *literal:
		return shape{system: n.item.sys.Kind}, nil
	case *variable:
		if n.name == "context" {
			return k.focus, nil
		}
	case *indexer:
		in, err := k.infer(n.input, this)
		if err != nil {
			return in, err
		}
		if in.loose {
			return in, unordered("[]")
		}
		_, err = k.infer(n.at, this)
		return in, err
	case *polarity:
		return k.infer(n.operand, this)
	case *typeOp:
		in, err := k.infer(n.input, this)
		if err != nil || !n.as {
			return shape{system: Boolean}, err
		}
		return k.narrow(n.spec, in), nil
	case *logic:
		if _, err := k.infer(n.left, this); err != nil {
			return shape{}, err
		}
		_, err := k.infer(n.right, this)
		return shape{system: Boolean}, err
	case *binary:
		l, err := k.infer(n.left, this)
		if err != nil {
			return l, err
		}
		r, err := k.infer(n.right, this)
		switch n.op {
		case "|":
			return l.with(r), err
		case "+", "-", "*", "/":
			return shape{system: someSystem}, err
		}
		return shape{system: Boolean}, err
	case *call:
		return k.call(n, this)
	}
	return shape{any: true}, nil
}

func unordered(name string) error {
	return failf("%s depends on an order that children() and descendants() do not have", name)
}

func (k *checker) narrow(spec *typeSpec, in shape) shape {
	out := shape{system: spec.system, loose: in.loose}
	if t := k.schema.Type(spec.name); t != nil && spec.fhir {
		out.types = []*fhir.Type{t}
	}
	return out
}

func (k *checker) path(p *path, this shape) (shape, error) {
	at := this
	if p.head != nil {
		in, err := k.infer(p.head, this)
		if err != nil {
			return in, err
		}
		at = in
	} else if p.root != "" {
		t := k.schema.Type(p.root)
		if t == nil {
			return at, failf("there is no type %s", p.root)
		}
		if !this.any && !slices.ContainsFunc(this.types, func(f *fhir.Type) bool { return f.Is(p.root) || t.Is(f.Name) }) {
			return at, failf("the focus is no %s", p.root)
		}
		if this.any || t.Is(this.types[0].Name) {
			at = shape{types: []*fhir.Type{t}}
		}
	}
	for _, s := range p.steps {
		next, err := k.member(at, s.name)
		if err != nil {
			return next, err
		}
		at = next
	}
	return at, nil
}

// member is what a name leads to from any of the types.
func (k *checker) member(at shape, name string) (shape, error) {
	out := shape{any: at.any || at.system == someSystem, loose: at.loose}
	found := out.any || at.system == TypeInfo
	for _, t := range at.types {
		m := meaningOf(t, name, k.schema)
		switch {
		case !m.known:
			if t.Abstract { // a type derived from it may have the member
				found, out.any = true, true
			}
			continue
		case m.choices != nil:
			for _, ch := range m.choices {
				out = out.with(shape{types: []*fhir.Type{ch.typ}})
			}
		case m.typ == nil:
			out.any = true
		default:
			out = out.with(shape{types: []*fhir.Type{m.typ}})
		}
		found = true
	}
	if !found {
		if len(at.types) > 0 {
			return out, failf("%s has no element %s", at.types[0].Name, name)
		}
		return out, failf("a %s has no element %s", at.system, name)
	}
	return out, nil
}

func (k *checker) call(n *call, this shape) (shape, error) {
	in := this
	if n.input != nil {
		var err error
		if in, err = k.infer(n.input, this); err != nil {
			return in, err
		}
	}
	inner := this // what $this is in the arguments
	switch n.name {
	case "where", "select", "exists", "all", "repeat", "aggregate", "iif", "sort", "trace":
		inner = in
		inner.loose = false
	}
	if n.name == "repeat" {
		inner = shape{any: true} // what comes out goes in again
	}
	var args []shape
	for _, arg := range n.args {
		a, err := k.infer(arg, inner)
		if err != nil {
			return a, err
		}
		args = append(args, a)
	}
	switch n.name {
	case "first", "last", "tail", "skip", "take":
		if in.loose {
			return in, unordered(n.name + "()")
		}
		return in, nil
	case "where", "trace", "distinct", "single", "intersect", "exclude":
		return in, nil
	case "sort":
		in.loose = false
		return in, nil
	case "select":
		args[0].loose = args[0].loose || in.loose
		return args[0], nil
	case "union", "combine":
		return in.with(args[0]), nil
	case "iif":
		if len(args) == 3 {
			return args[1].with(args[2]), nil
		}
		return args[1], nil
	case "as", "ofType":
		return k.narrow(n.spec, in), nil
	case "extension":
		return shape{types: []*fhir.Type{k.schema.Type("Extension")}}, nil
	case "children", "descendants":
		return shape{any: true, loose: true}, nil
	case "type":
		return shape{system: TypeInfo}, nil
	case "repeat", "aggregate", "resolve":
		return shape{any: true}, nil
	}
	return shape{system: someSystem}, nil // all others compute
}
