package profile

import (
	"strings"

	"kiln/fhir"
)

// step is one step of a discriminator's path (FHIR R4 profiling.html#discriminator).
type step struct {
	kind stepKind
	arg  string
}

type stepKind uint8

const (
	stepChild     stepKind = iota // name
	stepExtension                 // extension('url')
	stepResolve                   // resolve()
	stepType                      // ofType(X)
)

// parseSteps reads a discriminator's path; $this alone has no steps.
func parseSteps(text string) (steps []step, ok bool) {
	for text != "" {
		end, depth := len(text), 0
		for i := 0; i < len(text); i++ {
			switch text[i] {
			case '(':
				depth++
			case ')':
				depth--
			case '.':
				if depth == 0 {
					end = i
				}
			}
			if end == i {
				break
			}
		}
		part := text[:end]
		text = strings.TrimPrefix(text[end:], ".")
		name, arg, call := strings.Cut(part, "(")
		arg = strings.Trim(strings.TrimSuffix(arg, ")"), `'"`)
		switch {
		case part == "$this":
		case !call:
			if part == "" || strings.ContainsAny(part, " '\"|=[]") {
				return nil, false
			}
			steps = append(steps, step{stepChild, strings.TrimSuffix(part, "[x]")})
		case name == "extension":
			steps = append(steps, step{stepExtension, arg})
		case name == "resolve":
			steps = append(steps, step{stepResolve, ""})
		case name == "ofType" || name == "as":
			steps = append(steps, step{stepType, arg})
		default:
			return nil, false
		}
	}
	return steps, true
}

// item is one value of an element in the data.
type item struct {
	value, sibling *fhir.Node
	typ            *fhir.Type
	index          int    // -1 outside of lists
	json           string // the property's name
	// unseen marks the target of a reference that is not at hand: its type is known, its content is not.
	unseen bool
}

// host is the object whose members are the item's children; nil for a primitive without id and extensions.
func (it *item) host() *fhir.Node {
	if it.value != nil && it.value.Kind == fhir.Object {
		return it.value
	}
	return it.sibling
}

// members are the values of a value's element called name.
func (r *run) members(it *item, name string, list []item) []item {
	if it.typ != nil && it.typ.Kind == fhir.Primitive && name == primitiveValue {
		if it.value == nil || it.value.Kind == fhir.Null {
			return list
		}
		return append(list, item{value: it.value, index: -1, json: name})
	}
	return r.items(it.host(), it.typ, name, list)
}

// items are the values of the element called name. It is also a property's name, such as valueQuantity.
func (r *run) items(parent *fhir.Node, t *fhir.Type, name string, list []item) []item {
	if parent == nil || t == nil {
		return list
	}
	for i := range parent.Kids {
		kid := &parent.Kids[i]
		json, sibling := strings.CutPrefix(kid.Name, "_")
		p, ok := t.Properties[json]
		if !ok || p.Element.Name != name && json != name || sibling && parent.Get(json) != nil {
			continue
		}
		index := 0
		if kid.Kind != fhir.Array {
			index = -1
		}
		for value, sibling := range parent.Property(json) {
			it := item{value: value, sibling: sibling, typ: p.Type, index: index, json: json}
			if it.typ == nil {
				it.typ = r.schema.Type(value.ResourceType())
			}
			list = append(list, it)
			if index >= 0 {
				index++
			}
		}
	}
	return list
}

// navigate follows the steps of a discriminator in the data.
func (r *run) navigate(from []item, steps []step) []item {
	for _, s := range steps {
		var next []item
		for i := range from {
			it := &from[i]
			switch s.kind {
			case stepChild:
				next = r.members(it, s.arg, next)
			case stepExtension:
				for _, x := range r.members(it, "extension", nil) {
					if x.value.GetText("url") == s.arg {
						next = append(next, x)
					}
				}
			case stepResolve:
				if target, ok := r.resolve(it.value); ok {
					next = append(next, target)
				}
			case stepType:
				if it.typ != nil && it.typ.Name == s.arg {
					next = append(next, *it)
				}
			}
		}
		from = next
	}
	return from
}

// define follows the steps of a discriminator in the definition of a slice: the elements that say what is to be there.
func (r *run) define(from []*element, steps []step) []*element {
	for _, s := range steps {
		var next []*element
		for _, e := range from {
			switch s.kind {
			case stepChild:
				next = r.defineChild(next, e, s.arg)
			case stepExtension:
				for _, child := range r.defineChild(nil, e, "extension") {
					for _, x := range child.slices {
						if r.extensionURL(x.element) == s.arg {
							next = append(next, x.element)
						}
					}
				}
			case stepResolve:
				target := &element{max: -1}
				for _, t := range e.types {
					for _, url := range t.targets {
						target.types = append(target.types, typeRule{code: r.typeOf(url), profiles: []string{url}})
					}
				}
				if len(target.types) > 0 {
					next = append(next, target)
				}
			case stepType:
				next = append(next, e)
				for _, x := range e.slices {
					if len(x.types) == 1 && x.types[0].code == s.arg {
						next = append(next, x.element)
					}
				}
			}
		}
		from = next
	}
	return from
}

// defineChild finds a child in an element and in the profiles that its types name. What a slice of the child must hold
// that may not be absent, the child must hold as well.
func (r *run) defineChild(list []*element, e *element, name string) []*element {
	if c := e.child(name); c != nil {
		list = append(list, c)
		for _, s := range c.slices {
			if s.min > 0 && name != "extension" {
				list = append(list, s.element)
			}
		}
	}
	for _, t := range e.types {
		for _, url := range t.profiles {
			if p := r.profile(url); p != nil && p.root != nil {
				if c := p.root.child(name); c != nil {
					list = append(list, c)
				}
			}
		}
	}
	return list
}

// extensionURL is the url that extensions of a slice have.
func (r *run) extensionURL(e *element) string {
	if u := e.child("url"); u != nil && u.fixed != nil {
		return u.fixed.Text
	}
	for _, t := range e.types {
		for _, p := range t.profiles {
			url, _, _ := strings.Cut(p, "|")
			return url
		}
	}
	return ""
}

// typeOf is the type that a profile is about, "" where it is not known.
func (r *run) typeOf(canonical string) string {
	if name, ok := strings.CutPrefix(canonical, baseURL); ok && r.schema.Type(name) != nil {
		return name
	}
	if p := r.profile(canonical); p != nil {
		return p.typ
	}
	return ""
}

const baseURL = "http://hl7.org/fhir/StructureDefinition/"
