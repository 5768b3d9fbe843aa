package graphql

import (
	"strings"

	"github.com/vektah/gqlparser/v2/ast"

	"kiln/fhir"
)

// scope is what fields are selected from.
type scope struct {
	kind scopeKind
	// typ is the type of an element or resource, and of the resources of a connection.
	typ *fhir.Type
}

type scopeKind uint8

const (
	// unknown is a resource whose type only the data tell: fields are checked once it is there.
	unknown scopeKind = iota
	system
	element
	connection
	edge
)

// name is what __typename says of it.
func (s scope) name() string {
	switch s.kind {
	case system:
		return "Query"
	case connection:
		return s.typ.Name + "Connection"
	case edge:
		return s.typ.Name + "Edge"
	case unknown:
		return "Resource"
	}
	var b strings.Builder // Patient.contact is PatientContact
	for part := range strings.SplitSeq(s.typ.Name, ".") {
		if b.Len() > 0 {
			part = strings.ToUpper(part[:1]) + part[1:]
		}
		b.WriteString(part)
	}
	return b.String()
}

// is says whether a type condition of a fragment holds. decided is false where only the data tell.
func (s scope) is(condition string) (holds, decided bool) {
	switch {
	case condition == "" || condition == s.name():
		return true, true
	case s.kind == unknown:
		return false, false
	}
	return s.kind == element && s.typ.Is(condition), true
}

// property is what a field leads to.
type property struct {
	scope
	// leaf says that it has no fields, list that it repeats.
	leaf, list bool
	// search says that it is a list or connection of resources, read that it is one by its id, resolve that it is what a
	// reference refers to.
	search, read, resolve bool
	// member is the name in JSON, where it is an element.
	member string
}

// The endings of the fields that search.
const (
	listEnding       = "List"
	connectionEnding = "Connection"
)

// field is what a field leads to from a scope. Errors: Invalid for one that is not there; NotSupported for introspection.
func (d *document) field(s scope, f *ast.Field, at string) (p property, err error) {
	switch {
	case f.Name == "__typename":
		return property{leaf: true}, nil
	case f.Name == "__schema" || f.Name == "__type":
		return p, unsupported(at, "Introspection is not offered: the types are those of FHIR R4")
	}
	is := func(kind scopeKind, typ *fhir.Type) property { return property{scope: scope{kind, typ}} }
	searched := func() bool {
		for _, ending := range []string{listEnding, connectionEnding} {
			if name, found := strings.CutSuffix(f.Name, ending); found {
				if t := d.resource(name); t != nil {
					if p = is(element, t); ending == connectionEnding {
						p = is(connection, t)
					}
					p.search, p.list = true, ending == listEnding
					return true
				}
			}
		}
		return false
	}
	switch s.kind {
	case unknown:
		return is(unknown, nil), nil
	case system:
		if t := d.resource(f.Name); t != nil {
			p = is(element, t)
			p.read = true
			return p, nil
		}
		if searched() {
			return p, nil
		}
		return p, fault(at, "There is no field %q here: a query begins with a resource type, as in Patient(id: \"1\"), PatientList or PatientConnection", f.Name)
	case connection:
		switch f.Name {
		case "count", "offset", "pagesize", "first", "previous", "next", "last":
			return property{leaf: true}, nil
		case "edges":
			p = is(edge, s.typ)
			p.list = true
			return p, nil
		}
	case edge:
		switch f.Name {
		case "mode", "score":
			return property{leaf: true}, nil
		case "resource":
			return is(element, s.typ), nil
		}
	case element:
		if s.typ.Kind == fhir.Resource {
			if f.Name == "resourceType" {
				return property{leaf: true, member: f.Name}, nil
			}
		}
		if f.Name == "resource" && s.typ.Name == "Reference" {
			p = is(unknown, nil)
			p.resolve = true
			return p, nil
		}
		name, sibling := strings.CutPrefix(f.Name, "_")
		prop, known := s.typ.Properties[name]
		switch {
		case known && sibling && prop.Type != nil && prop.Type.Kind == fhir.Primitive:
			p = is(element, d.schema.Type("Element"))
		case known && !sibling && prop.Type == nil:
			p = is(unknown, nil)
		case known && !sibling:
			if p = is(element, prop.Type); prop.Type.Kind == fhir.Primitive {
				p = property{leaf: true}
			}
		case s.typ.Kind == fhir.Resource && searched():
			return p, nil
		default:
			return p, fault(at, "%s has no field %q", s.typ.Name, f.Name)
		}
		p.member, p.list = f.Name, prop.Element.Max != 1
		return p, nil
	}
	return p, fault(at, "%s has no field %q", s.name(), f.Name)
}

// resource is a concrete resource type by its name, or nil.
func (d *document) resource(name string) *fhir.Type {
	if t := d.schema.Type(name); t != nil && t.Kind == fhir.Resource && !t.Abstract {
		return t
	}
	return nil
}

// check goes through all that a query selects, before anything is read. Errors: Invalid, TooCostly, NotSupported.
func (d *document) check(selection ast.SelectionSet, s scope, at string, depth int, within []string) error {
	if depth > MaxDepth {
		return tooMuch("The fields of a GraphQL query nest %d deep at most", MaxDepth)
	}
	for _, one := range selection {
		if d.visited++; d.visited > MaxSelections {
			return tooMuch("A GraphQL query has %d fields at most, with its fragments put where they are spread", MaxSelections)
		}
		switch one := one.(type) {
		case *ast.Field:
			if err := d.checkField(one, s, join(at, one.Alias), depth, within); err != nil {
				return err
			}
		case *ast.InlineFragment:
			if err := d.checkFragment(one.TypeCondition, one.Directives, one.SelectionSet, s, at, depth, within); err != nil {
				return err
			}
		case *ast.FragmentSpread:
			f := d.fragments[one.Name]
			if f == nil {
				return fault(at, "There is no fragment %q", one.Name)
			}
			for _, name := range within {
				if name == one.Name {
					return fault(at, "The fragment %s spreads itself", one.Name)
				}
			}
			if err := d.checkFragment(f.TypeCondition, append(one.Directives, f.Directives...), f.SelectionSet, s, at, depth, append(within[:len(within):len(within)], one.Name)); err != nil {
				return err
			}
		}
	}
	return nil
}

func join(at, name string) string {
	if at == "" {
		return name
	}
	return at + "." + name
}

func (d *document) checkFragment(condition string, directives ast.DirectiveList, selection ast.SelectionSet, s scope, at string, depth int, within []string) error {
	if err := d.checkDirectives(directives, at, "skip", "include"); err != nil {
		return err
	}
	holds, decided := s.is(condition)
	if t := d.schema.Type(condition); t != nil && (!decided || t.Is(s.name())) {
		s, holds, decided = scope{element, t}, true, true
		if t.Abstract {
			s = scope{kind: unknown}
		}
	}
	switch {
	case decided && holds:
	case condition != "" && d.schema.Type(condition) == nil:
		return fault(at, "There is no type %q", condition)
	default:
		s = scope{kind: unknown} // it never holds here; what is in it is not looked at closely
	}
	return d.check(selection, s, at, depth+1, within)
}

func (d *document) checkDirectives(list ast.DirectiveList, at string, allowed ...string) error {
	seen := map[string]bool{}
	for _, one := range list {
		known := false
		for _, name := range allowed {
			known = known || name == one.Name
		}
		if !known {
			return unsupported(at, "The directive @%s is not offered here", one.Name)
		}
		if seen[one.Name] {
			return fault(at, "The directive @%s is here twice", one.Name)
		}
		seen[one.Name] = true
		for _, a := range one.Arguments {
			if _, err := d.value(a.Value); err != nil {
				return err
			}
		}
	}
	_, err := d.skips(list)
	return err
}

func (d *document) checkField(f *ast.Field, s scope, at string, depth int, within []string) error {
	p, err := d.field(s, f, at)
	if err != nil {
		return err
	}
	if err := d.checkDirectives(f.Directives, at, "skip", "include", "flatten", "first", "singleton", "slice"); err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, a := range f.Arguments {
		if seen[a.Name] {
			return fault(at, "The argument %s is here twice", a.Name)
		}
		seen[a.Name] = true
		if _, err := d.value(a.Value); err != nil {
			return err
		}
	}
	if p.leaf || len(f.SelectionSet) == 0 {
		switch {
		case s.kind == unknown && p.kind == unknown: // it may have fields or not
			return nil
		case !p.leaf:
			return fault(at, "%s consists of fields; say which in braces", f.Name)
		case len(f.SelectionSet) > 0:
			return fault(at, "%s has no fields", f.Name)
		case len(f.Arguments) > 0:
			return fault(at, "%s takes no arguments", f.Name)
		case directive(f.Directives, "flatten") != nil:
			return fault(at, "%s has no fields that @flatten could put in its place", f.Name)
		}
		return nil
	}
	if err := d.checkArguments(f, p, s, at); err != nil {
		return err
	}
	if t, err := d.argument(f.Arguments, "type"); p.resolve && err == nil && t != nil {
		if p.typ = d.resource(t.Text); p.typ == nil {
			return fault(at, "%q is not a resource type of FHIR R4", t.Text)
		}
		p.kind = element
	}
	return d.check(f.SelectionSet, p.scope, at, depth+1, within)
}

// checkArguments checks the names of arguments. Those of searches are the search's to check.
func (d *document) checkArguments(f *ast.Field, p property, s scope, at string) error {
	if p.search || s.kind == unknown {
		return nil
	}
	for _, a := range f.Arguments {
		known := false
		switch {
		case p.read:
			known = a.Name == "id"
		case p.resolve:
			known = a.Name == "optional" || a.Name == "type"
		case p.member != "":
			known = a.Name == "fhirpath" || a.Name == "_offset" || a.Name == "_count"
			if p.kind == element && !known {
				prop, there := p.typ.Properties[a.Name]
				known = there && prop.Type != nil && prop.Type.Kind == fhir.Primitive
			}
		}
		if !known {
			return fault(at, "%s has no argument %q", f.Name, a.Name)
		}
	}
	return nil
}
