package validate

import (
	"fmt"
	"sync"

	"kiln/fhir"
)

// mask is a set of a type's elements, by their place in Type.Elements.
type mask [2]uint64

const maskSize = 128

func (m *mask) add(i int)      { m[i>>6] |= 1 << (i & 63) }
func (m *mask) has(i int) bool { return m[i>>6]&(1<<(i&63)) != 0 }

// lazyPlan makes the plan of a type when it is first needed: most servers see a few dozen of the 146 types.
type lazyPlan struct {
	v    *Validator
	typ  *fhir.Type
	once sync.Once
	made *plan
}

func (l *lazyPlan) get() *plan {
	l.once.Do(func() { l.made = l.v.plan(l.typ) })
	return l.made
}

// plan is what the walk needs to know of a type.
type plan struct {
	typ        *fhir.Type
	props      map[string]*prop // by JSON name, without the "_name" siblings
	required   mask
	check      func(*run, *fhir.Node, *prop, int) // the rules of this very type, or nil
	invariants []*invariant
	isElement  bool // ele-1 holds: there must be more than an id
	isResource bool
}

// prop is one JSON property of a type.
type prop struct {
	element    *fhir.Element
	place      int    // in Type.Elements
	json       string // the property's name
	list       bool
	any        bool // holds a resource
	contained  bool
	primitive  primitive // notPrimitive for objects
	typ        *fhir.Type
	plan       *lazyPlan // of the object, or of a primitive's "_name" object
	ref        *fhir.TypeRef
	binding    *binding
	invariants []*invariant
}

// register makes lazy plans for t and every type that can stand below it.
func (v *Validator) register(t *fhir.Type) error {
	if t == nil || v.plans[t] != nil {
		return nil
	}
	if len(t.Elements) > maskSize {
		return fmt.Errorf("%s has more than %d elements", t.Name, maskSize)
	}
	v.plans[t] = &lazyPlan{v: v, typ: t}
	for _, p := range t.Properties {
		if err := v.register(p.Type); err != nil {
			return err
		}
	}
	return nil
}

func (v *Validator) plan(t *fhir.Type) *plan {
	p := &plan{
		typ:        t,
		props:      make(map[string]*prop, len(t.Properties)),
		check:      typeChecks[t.Name],
		isElement:  t.Kind != fhir.Resource,
		isResource: t.Kind == fhir.Resource,
	}
	for base := t; base != nil; base = base.Base {
		p.invariants = append(v.invariants(base.Name, base.Constraints), p.invariants...)
	}
	places := make(map[*fhir.Element]int, len(t.Elements))
	for i, e := range t.Elements {
		places[e] = i
		if e.Min > 0 {
			p.required.add(i)
		}
	}
	shared := map[*fhir.Element][]*invariant{}
	for name, property := range t.Properties {
		e := property.Element
		if _, ok := shared[e]; !ok {
			shared[e] = v.invariants(e.Path, e.Constraints)
		}
		x := &prop{
			element: e, place: places[e], json: name, list: e.Max != 1, typ: property.Type, ref: property.Ref,
			invariants: shared[e],
		}
		switch {
		case property.Type == nil:
			x.any, x.contained = true, name == "contained" && p.isResource
		case property.Type.Kind == fhir.Primitive:
			x.primitive = primitiveOf(t, name, property.Type)
		}
		if property.Type != nil {
			x.plan = v.plans[property.Type]
		}
		if e.Binding != nil && e.Binding.Strength == "required" {
			x.binding = v.binding(e.Binding.ValueSet)
		}
		p.props[name] = x
	}
	return p
}

// primitiveOf gives the format of a primitive property. R4 publishes the id of a resource as a string; it is an id
// (FHIR R4 resource.html#id).
func primitiveOf(t *fhir.Type, name string, typ *fhir.Type) primitive {
	if t.Kind == fhir.Resource && name == "id" {
		return primitiveID
	}
	if t.Name == "Extension" && name == "url" {
		return primitiveURI
	}
	if t.Name == "Bundle.entry" && name == "fullUrl" {
		return primitiveFullURL
	}
	if name == "id" {
		return primitiveElementID
	}
	if p, ok := primitives[typ.Name]; ok {
		return p
	}
	return primitiveString
}
