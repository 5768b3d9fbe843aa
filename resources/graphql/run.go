package graphql

import (
	"context"
	"slices"
	"strconv"

	"github.com/vektah/gqlparser/v2/ast"

	"kiln/fhir"
	"kiln/fhir/path"
)

// run is the execution of one query.
type run struct {
	*document
	ctx context.Context
	src Source
	// fields, fetches and resources count what there has been of them, bytes what the answer has.
	fields, fetches, resources, bytes int
	fetched                           map[string]fetched
	expressions                       map[string]*path.Expression
}

// fetched is what came of reading a resource.
type fetched struct {
	node *fhir.Node
	err  error
}

// place is a scope with the data that fields are selected from.
type place struct {
	scope
	node *fhir.Node
	// lies is the element in its resource, for FHIRPath; container is the resource that a reference to #id looks in.
	lies      path.Element
	container *fhir.Node
	// page is that of a connection, match that of an edge; first says that the page is the first.
	page  *Page
	match *Match
	first bool
}

// Run answers a query about one resource, or about the whole server where focus is nil. The answer is what stands under data.
//
// Errors: Invalid for a query that cannot be read, has fields or arguments that there are not, or gives several values for one;
// NotSupported; TooCostly beyond a bound; those of the Source, but for references that are optional.
func Run(ctx context.Context, schema *fhir.Schema, src Source, q Query, focus *fhir.Node) (*fhir.Node, error) {
	d, err := read(q, schema)
	if err != nil {
		return nil, err
	}
	r := &run{document: d, ctx: ctx, src: src, fetched: map[string]fetched{}, expressions: map[string]*path.Expression{}}
	at := place{scope: scope{kind: system}}
	if focus != nil {
		at = r.resourcePlace(focus)
	}
	if err := d.check(d.operation.SelectionSet, at.scope, "", 1, nil); err != nil {
		return nil, err
	}
	out := fhir.Obj()
	return &out, r.object(d.operation.SelectionSet, at, into(&out))
}

// resourcePlace is the place of a whole resource.
func (r *run) resourcePlace(n *fhir.Node) place {
	t := r.resource(n.ResourceType())
	if t == nil {
		return place{}
	}
	return place{scope: scope{element, t}, node: n, lies: path.Root(n, r.schema), container: n}
}

// sink is where the fields of an object go: into one of their own, or with @flatten into that around it.
type sink struct {
	out *fhir.Node
	// places has those of the names in out.
	places map[string]int
	// lists says that each field becomes a list, since several objects go into one. suffix stands behind their names (@slice).
	lists  bool
	suffix string
}

func into(out *fhir.Node) sink { return sink{out: out, places: map[string]int{}} }

// put adds a value. Errors: Invalid where a field that is no list gets another.
func (s sink) put(name string, n fhir.Node, list bool, at string) error {
	name += s.suffix
	i, has := s.places[name]
	switch {
	case list && has && s.out.Kids[i].Kind == fhir.Array:
		s.out.Kids[i].Kids = append(s.out.Kids[i].Kids, n)
	case has:
		return fault(at, "There are several values for %s, which is no list", name)
	case list:
		s.add(name, fhir.Arr(n))
	default:
		s.add(name, n)
	}
	return nil
}

func (s sink) add(name string, n fhir.Node) {
	s.places[name] = len(s.out.Kids)
	s.out.Kids = append(s.out.Kids, n.As(name))
}

// selected is one field of an object, with what all fields of its name and kind select.
type selected struct {
	*ast.Field
	selection ast.SelectionSet
}

// collected are the fields of an object, each once.
type collected struct {
	list []*selected
	by   map[string]*selected
}

// collect finds the fields of an object: of the fragments those whose condition holds (GraphQL, section 6.3.2).
func (r *run) collect(found *collected, selection ast.SelectionSet, at place) error {
	add := func(condition string, directives ast.DirectiveList, inner ast.SelectionSet) (err error) {
		if holds, _ := at.is(condition); holds {
			if skips, err := r.skips(directives); skips || err != nil {
				return err
			}
			err = r.collect(found, inner, at)
		}
		return err
	}
	for _, one := range selection {
		if err := r.step(); err != nil {
			return err
		}
		switch one := one.(type) {
		case *ast.InlineFragment:
			if err := add(one.TypeCondition, one.Directives, one.SelectionSet); err != nil {
				return err
			}
		case *ast.FragmentSpread:
			f := r.fragments[one.Name]
			if err := add(f.TypeCondition, one.Directives, f.SelectionSet); err != nil {
				return err
			}
		case *ast.Field:
			skips, err := r.skips(one.Directives)
			if err != nil {
				return err
			}
			if skips {
				continue
			}
			name := r.written(one)
			if s := found.by[name]; s != nil {
				s.selection = append(s.selection, one.SelectionSet...)
				continue
			}
			s := &selected{one, slices.Clip(one.SelectionSet)}
			found.by[name], found.list = s, append(found.list, s)
		}
	}
	return nil
}

// step counts a field or fragment that is worked on. Errors: TooCostly; that of the context.
func (r *run) step() error {
	if r.fields++; r.fields > MaxFields {
		return tooMuch("The answer to a GraphQL query has %d fields at most; ask for less at once", MaxFields)
	}
	return r.ctx.Err()
}

// grow counts what is added to the answer. Errors: TooCostly.
func (r *run) grow(bytes int) error {
	if r.bytes += bytes; r.bytes > MaxAnswer {
		return tooMuch("The answer to a GraphQL query has %d MiB at most; ask for less at once", MaxAnswer>>20)
	}
	return nil
}

func (r *run) object(selection ast.SelectionSet, at place, to sink) error {
	fields := &collected{by: map[string]*selected{}}
	if err := r.collect(fields, selection, at); err != nil {
		return err
	}
	for _, f := range fields.list {
		if err := r.one(f, at, to); err != nil {
			return err
		}
	}
	return nil
}

// one adds the values of one field.
func (r *run) one(f *selected, from place, to sink) error {
	at := join(from.name(), f.Alias)
	p, err := r.field(from.scope, f.Field, at)
	if err != nil {
		return err
	}
	switch { // what check could not know of a resource whose type the data tell
	case p.leaf && len(f.selection) > 0:
		return fault(at, "%s has no fields", f.Name)
	case p.leaf && len(f.Arguments) > 0:
		return fault(at, "%s takes no arguments", f.Name)
	case !p.leaf && len(f.selection) == 0:
		return fault(at, "%s consists of fields; say which in braces", f.Name)
	}
	if err := r.checkArguments(f.Field, p, from.scope, at); err != nil {
		return err
	}
	values, err := r.values(f.Field, p, from, at)
	if err != nil {
		return err
	}
	if directive(f.Directives, "first") != nil {
		values = values[:min(1, len(values))]
	}
	flatten, slice := directive(f.Directives, "flatten") != nil, directive(f.Directives, "slice")
	list := (p.list || to.lists) && directive(f.Directives, "singleton") == nil
	if p.list && p.member == "" && list && !flatten && slice == nil {
		if _, has := to.places[f.Alias+to.suffix]; !has {
			to.add(f.Alias+to.suffix, fhir.Arr()) // that nothing was found is an answer, too
		}
	}
	for i, v := range values {
		if err := r.step(); err != nil {
			return err
		}
		if v.node != nil && v.node.Kind == fhir.Null && (flatten || to.lists || !list) {
			continue // it keeps a place in a list of its own only
		}
		to := to
		if slice != nil {
			suffix, err := r.sliceName(slice, v, i, at)
			if err != nil {
				return err
			}
			to.suffix += suffix
		}
		size := len(f.Alias) + len(to.suffix)
		if v.node != nil && p.leaf {
			size += len(v.node.Text)
		}
		if err := r.grow(size); err != nil {
			return err
		}
		switch {
		case p.leaf || v.node != nil && v.node.Kind == fhir.Null:
			err = to.put(f.Alias, *v.node, list, at)
		case flatten:
			to.lists = to.lists || p.list
			err = r.object(f.selection, v, to)
		default:
			child := fhir.Obj()
			if err = r.object(f.selection, v, into(&child)); err == nil {
				err = to.put(f.Alias, child, list, at)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// sliceName is what @slice puts behind the names of what comes of one value: its place in the list, or what an expression says.
func (r *run) sliceName(slice *ast.Directive, v place, i int, at string) (string, error) {
	var text string
	for _, a := range slice.Arguments {
		n, err := r.value(a.Value)
		if err != nil {
			return "", err
		}
		if n == nil || n.Kind != fhir.String || a.Name != "path" && a.Name != "fhirpath" {
			return "", fault(at, "@slice takes one argument, path, a FHIRPath expression")
		}
		text = n.Text
	}
	switch {
	case text == "":
		return "", fault(at, "@slice takes one argument, path, a FHIRPath expression")
	case text == "$index":
		return "." + strconv.Itoa(i), nil
	case v.kind != element || v.node == nil:
		return "", fault(at, "@slice is for what consists of elements, or has the path $index")
	}
	x, err := r.expression(text, at)
	if err != nil {
		return "", err
	}
	found, err := x.Eval(r.surroundings(v), v.lies)
	if err != nil || len(found) == 0 {
		return "", err
	}
	if len(found) > 1 {
		return "", fault(at, "The path of @slice gives several values")
	}
	return "." + found[0].Text(), nil
}

// expression compiles a FHIRPath expression once. Errors: Invalid.
func (r *run) expression(text, at string) (*path.Expression, error) {
	if x := r.expressions[text]; x != nil {
		return x, nil
	}
	x, err := path.Compile(text, r.schema)
	if err == nil {
		r.expressions[text] = x
	}
	return x, err
}

func (r *run) surroundings(v place) *path.Env {
	return &path.Env{Resource: path.Root(v.container, r.schema), MaxSteps: maxSteps}
}
