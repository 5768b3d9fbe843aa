package xml

import (
	"fmt"
	"strings"

	"kiln/fhir"
)

// Encode appends a resource as an XML document. It refuses what XML cannot carry, or what would come back as something
// else: elements that the schema does not know, values of another JSON type than the schema says, characters outside
// XML, empty arrays, a narrative that is not well-formed.
//
// Errors: Invalid, with the element; dst is then as it was.
func Encode(dst []byte, n *fhir.Node, schema *fhir.Schema) ([]byte, error) {
	return encode(dst, n, schema, false)
}

// EncodeIndented is Encode for people: an element a line, two spaces a level, and a final newline.
func EncodeIndented(dst []byte, n *fhir.Node, schema *fhir.Schema) ([]byte, error) {
	return encode(dst, n, schema, true)
}

func encode(dst []byte, n *fhir.Node, schema *fhir.Schema, indent bool) ([]byte, error) {
	e := encoder{out: append(dst, `<?xml version="1.0" encoding="UTF-8"?>`...), schema: schema, indent: indent}
	e.newline()
	e.trail = append(e.trail, step{short(n.ResourceType()), -1})
	e.resource(n, true)
	if e.err != nil {
		return dst, e.err
	}
	e.newline()
	return e.out, nil
}

type encoder struct {
	out    []byte
	schema *fhir.Schema
	trail  trail
	items  []item // members of the objects still open, in the order of XML
	open   int
	indent bool
	err    *fhir.Error
}

// item is an element to be written: a member, its "_name" sibling, or both.
type item struct {
	name           string
	property       fhir.Property
	value, sibling *fhir.Node
}

// fail records the first fault.
func (e *encoder) fail(format string, args ...any) {
	if e.err == nil {
		e.err = fhir.NewError(fhir.Invalid, fhir.CodeStructure, "This cannot be written as XML: "+fmt.Sprintf(format, args...))
		if at := e.trail.String(); at != "" {
			e.err.At(at)
		}
	}
}

func (e *encoder) newline() {
	if e.indent {
		e.out = append(e.out, '\n')
		for range e.open {
			e.out = append(e.out, "  "...)
		}
	}
}

func (e *encoder) start(name string) {
	if e.open > 0 {
		e.newline()
	}
	e.out = append(append(e.out, '<'), name...)
}

func (e *encoder) end(name string) {
	e.open--
	e.newline()
	e.out = append(append(append(e.out, "</"...), name...), '>')
}

// attribute writes a value so that every reader gets it back unchanged (XML 1.0 section 3.3.3).
func (e *encoder) attribute(name, value string) {
	if badCharacter(value) >= 0 {
		e.fail("%q holds a character that XML does not know", name)
		return
	}
	e.out = append(append(append(e.out, ' '), name...), `="`...)
	from := 0
	for i := 0; i < len(value); i++ {
		var escape string
		switch value[i] {
		case '<':
			escape = "&lt;"
		case '>':
			escape = "&gt;"
		case '&':
			escape = "&amp;"
		case '"':
			escape = "&quot;"
		case '\n':
			escape = "&#xA;"
		case '\r':
			escape = "&#xD;"
		case '\t':
			escape = "&#x9;"
		default:
			continue
		}
		e.out = append(append(e.out, value[from:i]...), escape...)
		from = i + 1
	}
	e.out = append(append(e.out, value[from:]...), '"')
}

func (e *encoder) resource(n *fhir.Node, root bool) {
	name := n.ResourceType()
	t := e.schema.Type(name)
	if n.Kind != fhir.Object || t == nil || t.Kind != fhir.Resource || t.Abstract {
		e.fail("it is not a resource of a type that FHIR R4 knows")
		return
	}
	e.start(name)
	if root {
		e.attribute("xmlns", fhirNamespace)
	}
	e.object(name, t, n)
}

// object writes the attributes and elements of an object whose start tag is open, and closes it. n may be nil.
func (e *encoder) object(name string, t *fhir.Type, n *fhir.Node) {
	base := len(e.items)
	defer func() { e.items = e.items[:base] }()
	if n != nil {
		for i := range n.Kids {
			if m := &n.Kids[i]; t.Kind == fhir.Resource && m.Name == "resourceType" {
				continue
			} else if e.member(base, t, m); e.err != nil {
				return
			}
		}
	}
	items := e.items[base:]
	first := 0
	for i := range items {
		// Attributes first. The others keep the order that they were sorted to.
		if it := items[i]; it.property.Element.XMLAttribute {
			if it.sibling != nil || it.value.Kind != fhir.String {
				e.fail("%q must be a string without extensions", it.name)
				return
			}
			e.attribute(it.name, it.value.Text)
			copy(items[first+1:i+1], items[first:i])
			items[first] = it
			first++
		}
	}
	if items = items[first:]; len(items) == 0 {
		e.out = append(e.out, "/>"...)
		return
	}
	e.out = append(e.out, '>')
	e.open++
	for i := range items {
		if i > 0 && items[i].property.Element == items[i-1].property.Element {
			e.fail("%q and %q are one element, of which only one type may be given", items[i-1].name, items[i].name)
		}
		if e.element(&items[i]); e.err != nil {
			return
		}
	}
	e.end(name)
}

// member finds out which element a member is, and puts it in its place among the items.
func (e *encoder) member(base int, t *fhir.Type, m *fhir.Node) {
	name, isSibling := strings.CutPrefix(m.Name, "_")
	p, known := t.Properties[name]
	if !known || p.Element.Max == 0 || isSibling && (p.Type == nil || p.Type.Kind != fhir.Primitive || isXHTML(p.Type)) {
		e.fail("%q is not known in %s", short(m.Name), t.Name)
		return
	}
	for i := base; i < len(e.items); i++ {
		if it := &e.items[i]; it.name == name {
			if isSibling && it.sibling == nil {
				it.sibling = m
			} else if !isSibling && it.value == nil {
				it.value = m
			} else {
				e.fail("%q stands twice", m.Name)
			}
			return
		}
	}
	it := item{name: name, property: p, value: m}
	if isSibling {
		it.value, it.sibling = nil, m
	}
	e.items = append(e.items, it)
	for i := len(e.items) - 1; i > base && e.items[i].property.Element.Order < e.items[i-1].property.Element.Order; i-- {
		e.items[i], e.items[i-1] = e.items[i-1], e.items[i]
	}
}

// element writes every repetition of one element.
func (e *encoder) element(it *item) {
	e.trail = append(e.trail, step{it.property.Element.Name, -1})
	if !repeats(it.property.Element) {
		e.one(it.name, it.property.Type, it.value, it.sibling)
	} else {
		length := -1
		for _, list := range [...]*fhir.Node{it.value, it.sibling} {
			switch {
			case list == nil:
			case list.Kind != fhir.Array || len(list.Kids) == 0:
				e.fail("%q must be an array with items", list.Name)
			case length >= 0 && length != len(list.Kids):
				e.fail("%q and its sibling are not of one length", it.name)
			default:
				length = len(list.Kids)
			}
		}
		for i := 0; i < length && e.err == nil; i++ {
			e.trail[len(e.trail)-1].index = i
			e.one(it.name, it.property.Type, at(it.value, i), at(it.sibling, i))
		}
	}
	if e.err == nil {
		e.trail = e.trail[:len(e.trail)-1]
	}
}

// at gives the item of a list, or nil where there is none or a null.
func at(list *fhir.Node, i int) *fhir.Node {
	if list == nil || list.Kids[i].Kind == fhir.Null {
		return nil
	}
	return &list.Kids[i]
}

func (e *encoder) one(name string, t *fhir.Type, value, sibling *fhir.Node) {
	switch {
	case value == nil && sibling == nil:
		e.fail("a null stands alone")
	case t == nil:
		e.start(name)
		e.out = append(e.out, '>')
		e.open++
		e.resource(value, false)
		e.end(name)
	case isXHTML(t):
		if value.Kind != fhir.String {
			e.fail("a narrative must be a string")
			return
		}
		text, reason := embedDiv(value.Text)
		if reason != "" {
			e.fail("the narrative is not well-formed XHTML: %s", reason)
			return
		}
		e.newline()
		e.out = append(e.out, text...)
	case t.Kind == fhir.Primitive:
		e.primitive(name, t, value, sibling)
	case value.Kind != fhir.Object:
		e.fail("%q must be an object", name)
	default:
		e.start(name)
		e.object(name, t, value)
	}
}

func (e *encoder) primitive(name string, t *fhir.Type, value, sibling *fhir.Node) {
	e.start(name)
	if value != nil {
		if kind := jsonKind(t); value.Kind != kind {
			e.fail("%q must be a %s", name, kind)
			return
		}
		e.attribute("value", value.Text)
	}
	if sibling != nil && (sibling.Kind != fhir.Object || value != nil && len(sibling.Kids) == 0) {
		e.fail("%q must be an object with members", "_"+name)
		return
	}
	e.object(name, t, sibling)
}
