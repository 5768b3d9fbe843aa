package resources

import (
	"strings"

	"kiln/fhir"
	"kiln/fhir/path"
)

// spot is where an element stands: in an object, under a property, at an index.
type spot struct {
	owner    *fhir.Node
	typ      *fhir.Type // of owner
	property fhir.Property
	name     string // without the underscore
	index    int
}

// spot looks for the element in the tree. Errors: Unprocessable for the resource itself.
func (p *patcher) spot(e path.Element) (spot, error) {
	target := e.Value
	if target == nil {
		target = e.Sibling
	}
	if s, ok := p.search(p.root, p.schema.Type(p.root.ResourceType()), target); ok {
		return s, nil
	}
	return spot{}, unfit("the path must lead to an element inside the resource")
}

func (p *patcher) search(owner *fhir.Node, typ *fhir.Type, target *fhir.Node) (spot, bool) {
	for i := range owner.Kids {
		member := &owner.Kids[i]
		s := spot{owner: owner, typ: typ, name: strings.TrimPrefix(member.Name, "_")}
		below := s.property.Type
		if typ != nil {
			s.property = typ.Properties[s.name]
			if below = s.property.Type; strings.HasPrefix(member.Name, "_") {
				below = p.schema.Type("Element")
			}
		}
		if member == target {
			return s, true
		}
		for item := range member.Items() {
			if item == target {
				return s, true
			}
			if item.Kind == fhir.Object {
				inner := below
				if inner == nil || inner.Kind == fhir.Resource {
					inner = p.schema.Type(item.ResourceType())
				}
				if found, ok := p.search(item, inner, target); ok {
					return found, true
				}
			}
			s.index++
		}
	}
	return spot{}, false
}

// items are the values of a property with the siblings of primitives beside them, both of one length, Null where there
// is none (FHIR R4 json.html#primitive).
type items struct {
	values, siblings []fhir.Node
	many             bool // written as an array
}

func (s *spot) read() (list items) {
	values, siblings := s.owner.Get(s.name), s.owner.Get("_"+s.name)
	take := func(from *fhir.Node) (nodes []fhir.Node) {
		if from != nil && from.Kind == fhir.Array {
			list.many = true
		}
		for item := range from.Items() {
			nodes = append(nodes, item.As(""))
		}
		return nodes
	}
	list.values, list.siblings = take(values), take(siblings)
	for len(list.values) < len(list.siblings) {
		list.values = append(list.values, fhir.Node{})
	}
	for len(list.siblings) < len(list.values) {
		list.siblings = append(list.siblings, fhir.Node{})
	}
	return list
}

func (s *spot) write(list items) {
	put := func(name string, nodes []fhir.Node) {
		some := false
		for i := range nodes {
			some = some || nodes[i].Kind != fhir.Null
		}
		switch {
		case !some:
			s.owner.Remove(name)
		case list.many:
			for i := range nodes {
				nodes[i].Name = ""
			}
			s.owner.Set(name, fhir.Arr(nodes...))
		default:
			s.owner.Set(name, nodes[0])
		}
	}
	put(s.name, list.values)
	put("_"+s.name, list.siblings)
}

func (l *items) insert(at int, value, sibling fhir.Node) {
	place := func(nodes []fhir.Node, n fhir.Node) []fhir.Node {
		grown := make([]fhir.Node, 0, len(nodes)+1)
		grown = append(append(grown, nodes[:at]...), n)
		return append(grown, nodes[at:]...)
	}
	l.values, l.siblings = place(l.values, value), place(l.siblings, sibling)
}

func (l *items) remove(at int) (value, sibling fhir.Node) {
	value, sibling = l.values[at], l.siblings[at]
	cut := func(nodes []fhir.Node) []fhir.Node {
		return append(append([]fhir.Node(nil), nodes[:at]...), nodes[at+1:]...)
	}
	l.values, l.siblings = cut(l.values), cut(l.siblings)
	return value, sibling
}

// prune takes out objects and arrays that have become empty: FHIR JSON has none.
func prune(n *fhir.Node) {
	kept := make([]fhir.Node, 0, len(n.Kids))
	for i := range n.Kids {
		kid := &n.Kids[i]
		if kid.Kind == fhir.Object || kid.Kind == fhir.Array {
			prune(kid)
			if len(kid.Kids) == 0 {
				if n.Kind == fhir.Array && strings.HasPrefix(n.Name, "_") {
					kept = append(kept, fhir.Node{}) // keeps the others in step with their values
				}
				continue
			}
		}
		kept = append(kept, *kid)
	}
	if n.Kind == fhir.Array {
		some := false
		for i := range kept {
			some = some || kept[i].Kind != fhir.Null
		}
		if !some {
			kept = nil
		}
	}
	n.Kids = kept
}
