package resources

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"kiln/fhir"
)

// DiffFHIRPath makes the FHIRPath Patch that ApplyFHIRPathPatch makes b of a with. meta.versionId and
// meta.lastUpdated, which the server writes, are not compared.
//
// Errors: TooCostly where that takes more operations than a patch may have; Unprocessable for elements that the schema
// does not know.
func DiffFHIRPath(a, b *fhir.Node, schema *fhir.Schema) (*fhir.Node, error) {
	d := differ{schema: schema}
	t := schema.Type(a.ResourceType())
	if t == nil || a.ResourceType() != b.ResourceType() {
		return nil, fhir.NewError(fhir.Unprocessable, fhir.CodeInvalid, "Only resources of one type can be compared")
	}
	x, y := stampless(a), stampless(b)
	if err := d.object(t.Name, t, &x, &y); err != nil {
		return nil, err
	}
	if len(d.operations) > MaxPatchOperations {
		return nil, fhir.NewError(fhir.TooCostly, fhir.CodeTooCostly, fmt.Sprintf("The two versions differ in more than %d places", MaxPatchOperations))
	}
	return parameters(d.operations...), nil
}

// stampless is a resource without what the server writes into meta. meta itself stays: a patch finds it there.
func stampless(n *fhir.Node) fhir.Node {
	c := *n
	c.Kids = slices.Clone(n.Kids)
	meta := fhir.Obj()
	for _, m := range members(n.Get("meta")) {
		if m.Name != "versionId" && m.Name != "lastUpdated" {
			meta.Kids = append(meta.Kids, m)
		}
	}
	c.Set("meta", meta)
	return c
}

// differ collects the operations. Each path holds at the moment when its operation is applied.
type differ struct {
	schema     *fhir.Schema
	operations []fhir.Node
}

// pair is a value of an element with its sibling "_name"; either may be nil.
type pair struct{ value, sibling *fhir.Node }

func (p pair) equal(q pair) bool { return sameNode(p.value, q.value) && sameNode(p.sibling, q.sibling) }

func sameNode(a, b *fhir.Node) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Equal(b)
}

// filled are the values of one element of an object: of its one JSON property, also where it is a choice.
type filled struct {
	property string
	to       fhir.Property
	values   []pair
}

// elements are those of an object, by element name, and the names in the order of the definition.
func (d *differ) elements(path string, t *fhir.Type, n *fhir.Node) (map[string]filled, error) {
	found := map[string]filled{}
	for i := range n.Kids {
		name := strings.TrimPrefix(n.Kids[i].Name, "_")
		to, known := t.Properties[name]
		if !known && name == "resourceType" { // ExampleScenario.instance has an element of that name
			continue
		}
		if !known {
			return nil, fhir.NewError(fhir.Unprocessable, fhir.CodeStructure, path+" has an element "+quote(name)+", which "+t.Name+" does not have")
		}
		if _, done := found[to.Element.Name]; done {
			continue
		}
		f := filled{property: name, to: to}
		for value, sibling := range n.Property(name) {
			f.values = append(f.values, pair{value, sibling})
		}
		found[to.Element.Name] = f
	}
	return found, nil
}

// object compares two objects of a type at a path. What is new comes first and what goes comes last, so that no object
// is empty in between: an element without content would be pruned.
func (d *differ) object(path string, t *fhir.Type, a, b *fhir.Node) error {
	old, err := d.elements(path, t, a)
	if err != nil {
		return err
	}
	new, err := d.elements(path, t, b)
	if err != nil {
		return err
	}
	for _, e := range t.Elements {
		f, after := new[e.Name]
		if _, before := old[e.Name]; before || !after {
			continue
		}
		for _, v := range f.values {
			if err := d.add(path, e.Name, f, v); err != nil {
				return err
			}
		}
	}
	for _, e := range t.Elements {
		f, before := old[e.Name]
		g, after := new[e.Name]
		if !before || !after {
			continue
		}
		at := path + "." + escapePath(e.Name)
		if e.Max == 1 {
			err = d.item(at, f, g, f.values[0], g.values[0])
		} else {
			err = d.list(at, f, g)
		}
		if err != nil {
			return err
		}
	}
	for _, e := range t.Elements {
		f, before := old[e.Name]
		if _, after := new[e.Name]; after || !before {
			continue
		}
		d.shrink(path+"."+escapePath(e.Name), e.Max != 1, len(f.values), 0)
	}
	return nil
}

// item compares one value.
func (d *differ) item(at string, f, g filled, a, b pair) error {
	if f.property == g.property && a.equal(b) {
		return nil
	}
	if f.property == g.property && f.to.Type != nil && a.value != nil && b.value != nil &&
		a.value.Kind == fhir.Object && b.value.Kind == fhir.Object && len(at) < maxPatchPath/2 {
		return d.object(at, f.to.Type, a.value, b.value)
	}
	value, err := d.value(at, g, b)
	if err != nil {
		return err
	}
	d.operate("replace", at, value)
	return nil
}

// list compares a list: what is the same at both ends stays, and what is between is compared item by item.
func (d *differ) list(at string, f, g filled) error {
	a, b := f.values, g.values
	head := 0
	for head < len(a) && head < len(b) && a[head].equal(b[head]) {
		head++
	}
	tail := 0
	for tail < len(a)-head && tail < len(b)-head && a[len(a)-1-tail].equal(b[len(b)-1-tail]) {
		tail++
	}
	before, after := len(a)-head-tail, len(b)-head-tail
	for i := range min(before, after) {
		if err := d.item(fmt.Sprintf("%s[%d]", at, head+i), f, g, a[head+i], b[head+i]); err != nil {
			return err
		}
	}
	for i := before; i < after; i++ {
		value, err := d.value(at, g, b[head+i])
		if err != nil {
			return err
		}
		d.operate("insert", at, value, named("index", "valueInteger", fhir.Num(strconv.Itoa(head+i))))
	}
	d.shrink(at, true, head+before, head+after)
	return nil
}

// shrink deletes the items between two indexes, the last one first.
func (d *differ) shrink(at string, many bool, from, to int) {
	for i := from - 1; i >= to; i-- {
		one := at
		if many {
			one = fmt.Sprintf("%s[%d]", at, i)
		}
		d.operate("delete", one, fhir.Node{})
	}
}

func (d *differ) add(path, name string, f filled, v pair) error {
	value, err := d.value(path, f, v)
	if err == nil {
		d.operate("add", path, value, named("name", "valueString", fhir.Str(name)))
	}
	return err
}

func (d *differ) operate(kind, path string, value fhir.Node, more ...fhir.Node) {
	parts := append([]fhir.Node{named("type", "valueCode", fhir.Str(kind)), named("path", "valueString", fhir.Str(path))}, more...)
	if value.Kind != fhir.Null {
		parts = append(parts, value)
	}
	d.operations = append(d.operations, fhir.Obj(fhir.Str("operation").As("name"), fhir.Arr(parts...).As("part")))
}

func (d *differ) value(at string, f filled, v pair) (fhir.Node, error) {
	return d.part(at, "value", f, v)
}

// part makes a value a part of Parameters: as value[x] where Parameters can hold its type, else as a resource or spelt
// out in parts.
func (d *differ) part(at, name string, f filled, v pair) (fhir.Node, error) {
	n := fhir.Obj(fhir.Str(name).As("name"))
	t := f.to.Type
	if t == nil {
		n.Set("resource", *v.value)
		return n, nil
	}
	suffix := strings.ToUpper(t.Name[:1]) + t.Name[1:]
	if f.to.Element.Choice {
		suffix = strings.TrimPrefix(f.property, f.to.Element.Name)
	}
	if _, open := d.schema.Type("Parameters.parameter").Properties["value"+suffix]; !open && t.Kind == fhir.Primitive {
		suffix = "String" // xhtml
	} else if !open {
		elements, err := d.elements(at, t, v.value)
		if err != nil {
			return n, err
		}
		parts := fhir.Arr()
		for _, e := range t.Elements {
			for _, item := range elements[e.Name].values {
				part, err := d.part(at, e.Name, elements[e.Name], item)
				if err != nil {
					return n, err
				}
				parts.Kids = append(parts.Kids, part)
			}
		}
		n.Set("part", parts)
		return n, nil
	}
	if v.value != nil && v.value.Kind != fhir.Null {
		n.Set("value"+suffix, *v.value)
	}
	if v.sibling != nil && v.sibling.Kind != fhir.Null {
		n.Set("_value"+suffix, *v.sibling)
	}
	return n, nil
}

// escapePath writes an element's name in a FHIRPath: those that are operators stand between backticks.
func escapePath(name string) string {
	switch name {
	case "div", "mod", "and", "or", "xor", "implies", "contains", "is", "as", "in":
		return "`" + name + "`"
	}
	return name
}

// members are those of an object, or none.
func members(n *fhir.Node) []fhir.Node {
	if n == nil || n.Kind != fhir.Object {
		return nil
	}
	return n.Kids
}
