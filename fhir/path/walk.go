package path

import (
	"strings"
	"sync/atomic"

	"kiln/fhir"
)

// node is a term of an expression; eval pushes its results.
type node interface {
	eval(c *ctx) error
}

// path is a chain of member names: on head, or on $this where head is nil. A chain walks the tree in one go.
type path struct {
	head node
	// root is a name that begins with a capital and stands first: a type that $this must have.
	root  string
	steps []*step
}

// step is one member name. It remembers what the name means in the type it met last.
type step struct {
	name string
	last atomic.Pointer[meaning]
}

// meaning is what a member name leads to in a type.
type meaning struct {
	in      *fhir.Type
	known   bool
	typ     *fhir.Type // nil: any resource
	choices []choice   // of a choice element
}

type choice struct {
	property string
	typ      *fhir.Type
}

func (s *step) in(t *fhir.Type, schema *fhir.Schema) *meaning {
	if m := s.last.Load(); m != nil && m.in == t {
		return m
	}
	m := meaningOf(t, s.name, schema)
	s.last.Store(m)
	return m
}

func meaningOf(t *fhir.Type, name string, schema *fhir.Schema) *meaning {
	m := &meaning{in: t}
	if t == nil {
		return m
	}
	if p, ok := t.Properties[name]; ok && p.Element != nil && !p.Element.Choice {
		m.known, m.typ = true, p.Type
		if name == "id" && t.Kind == fhir.Resource && schema != nil && schema.Type("id") != nil {
			m.typ = schema.Type("id") // R4's definition of Resource says string, its text and its suite say id
		}
		return m
	}
	for property, p := range t.Properties {
		if p.Element != nil && p.Element.Choice && p.Element.Name == name {
			m.known = true
			m.choices = append(m.choices, choice{property, p.Type})
		}
	}
	if !m.known && t.Kind == fhir.Primitive && schema != nil && (name == "id" || name == "extension") {
		if e := schema.Type("Element"); e != nil && e != t {
			*m = *meaningOf(e, name, schema)
			m.in = t
		}
	}
	return m
}

func (p *path) eval(c *ctx) error {
	if err := c.step(1); err != nil {
		return err
	}
	if p.head == nil {
		if !c.frame.has {
			return nil
		}
		if p.root != "" && !c.rooted(p.root) {
			return nil
		}
		if len(p.steps) == 0 {
			c.push(c.frame.this)
			return nil
		}
		return c.walk(c.frame.this, p.steps)
	}
	mark := len(c.stack)
	if err := p.head.eval(c); err != nil {
		return err
	}
	end := len(c.stack)
	for i := mark; i < end; i++ {
		if err := c.walk(c.stack[i], p.steps); err != nil {
			return err
		}
	}
	c.stack = append(c.stack[:mark], c.stack[end:]...)
	return nil
}

// rooted says whether $this is of the type that an expression begins with.
func (c *ctx) rooted(name string) bool {
	e := &c.frame.this
	if e.Type != nil {
		return e.Type.Is(name)
	}
	return e.sys == nil && e.Value != nil && e.Value.ResourceType() == name
}

// walk pushes what the steps lead to from e.
func (c *ctx) walk(e Element, steps []*step) error {
	if err := c.step(1); err != nil {
		return err
	}
	s := steps[0]
	if e.sys != nil {
		return c.walkSystem(e.sys, steps)
	}
	m := s.in(e.Type, c.schema)
	if !m.known && e.Type != nil {
		return nil
	}
	holder := e.Value
	if holder == nil || holder.Kind != fhir.Object {
		holder = e.Sibling // a primitive's id and extension
	}
	if holder == nil || holder.Kind != fhir.Object {
		return nil
	}
	var value, sibling *fhir.Node
	typ := m.typ
	if m.choices == nil {
		value, sibling = member(holder, s.name)
	} else {
		value, sibling, typ = chosen(holder, s.name, m.choices)
	}
	if value == nil && sibling == nil {
		return nil
	}
	return c.spread(e.src, value, sibling, typ, m.known, steps[1:])
}

// member finds a property and its "_" sibling.
func member(n *fhir.Node, name string) (value, sibling *fhir.Node) {
	for i := range n.Kids {
		k := &n.Kids[i]
		switch len(k.Name) {
		case len(name):
			if k.Name == name {
				value = k
			}
		case len(name) + 1:
			if k.Name[0] == '_' && k.Name[1:] == name {
				sibling = k
			}
		}
	}
	return value, sibling
}

// chosen finds the property of a choice element that the data holds.
func chosen(n *fhir.Node, name string, choices []choice) (value, sibling *fhir.Node, typ *fhir.Type) {
	property := ""
	for i := range n.Kids {
		k := &n.Kids[i]
		full, under := strings.CutPrefix(k.Name, "_")
		if len(full) <= len(name) || full[:len(name)] != name || property != "" && property != full {
			continue
		}
		if property == "" {
			for _, ch := range choices {
				if ch.property == full {
					property, typ = full, ch.typ
					break
				}
			}
			if property == "" {
				continue
			}
		}
		if under {
			sibling = k
		} else {
			value = k
		}
	}
	return value, sibling, typ
}

// spread goes on from each item of a property.
func (c *ctx) spread(src *source, value, sibling *fhir.Node, typ *fhir.Type, known bool, rest []*step) error {
	if (value == nil || value.Kind != fhir.Array) && (sibling == nil || sibling.Kind != fhir.Array) {
		return c.follow(src, value, sibling, typ, known, rest)
	}
	length := max(count(value), count(sibling))
	for i := range length {
		if err := c.follow(src, item(value, i), item(sibling, i), typ, known, rest); err != nil {
			return err
		}
	}
	return nil
}

func count(n *fhir.Node) int {
	switch {
	case n == nil:
		return 0
	case n.Kind == fhir.Array:
		return len(n.Kids)
	}
	return 1
}

func item(n *fhir.Node, i int) *fhir.Node {
	switch {
	case n == nil:
		return nil
	case n.Kind == fhir.Array && i < len(n.Kids):
		return &n.Kids[i]
	case n.Kind != fhir.Array && i == 0:
		return n
	}
	return nil
}

// follow goes on from one item: pushes it when no steps are left.
func (c *ctx) follow(src *source, value, sibling *fhir.Node, typ *fhir.Type, known bool, rest []*step) error {
	if value != nil && value.Kind == fhir.Null {
		value = nil
	}
	if sibling != nil && sibling.Kind != fhir.Object {
		sibling = nil
	}
	if value == nil && sibling == nil {
		return nil
	}
	if typ == nil && value != nil && known && c.schema != nil {
		typ = c.schema.Type(value.ResourceType())
	}
	e := Element{Value: value, Sibling: sibling, Type: typ, src: src}
	if len(rest) > 0 {
		return c.walk(e, rest)
	}
	if err := c.step(1); err != nil {
		return err
	}
	c.push(e)
	return nil
}

// walkSystem gives the members of a TypeInfo; other System values have none.
func (c *ctx) walkSystem(s *System, steps []*step) error {
	if s.Kind == TypeInfo && len(steps) == 1 {
		switch steps[0].name {
		case "name":
			c.push(Text(s.Str))
		case "namespace":
			c.push(Text(s.Namespace))
		}
	}
	return nil
}

// children pushes all child elements of e, those of a primitive (id, extension) included.
func (c *ctx) children(e *Element) error {
	if e.sys != nil {
		return nil
	}
	for _, holder := range [2]*fhir.Node{e.Value, e.Sibling} {
		if holder == nil || holder.Kind != fhir.Object {
			continue
		}
		for i := range holder.Kids {
			k := &holder.Kids[i]
			name, under := strings.CutPrefix(k.Name, "_")
			if name == "resourceType" {
				continue
			}
			var p fhir.Property
			if e.Type != nil {
				var ok bool
				if p, ok = e.Type.Properties[name]; !ok && c.schema != nil && e.Type.Kind == fhir.Primitive {
					if base := c.schema.Type("Element"); base != nil {
						p, ok = base.Properties[name]
					}
				}
				if !ok {
					continue
				}
			}
			// Only properties that the type has are looked up, so that an object of many members costs no square.
			value, sibling := k, (*fhir.Node)(nil)
			if under {
				if e.Type == nil || holder.Get(name) != nil {
					continue // comes with its value
				}
				value, sibling = nil, k
			} else if e.Type != nil && isScalar(k) {
				_, sibling = member(holder, name)
			}
			if err := c.spread(e.src, value, sibling, p.Type, e.Type != nil, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

func isScalar(n *fhir.Node) bool {
	if n.Kind == fhir.Array {
		return len(n.Kids) > 0 && isScalar(&n.Kids[0])
	}
	return n.Kind != fhir.Object
}
