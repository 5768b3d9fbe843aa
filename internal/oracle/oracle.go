// Package oracle is a slow and obvious search in memory, written from FHIR R4 search.html and from nothing else: it has
// its own string folding, date and number ranges and token rules, so that a test can compare storage with it. What the
// two share is the parser's tree (kiln/fhir/search), the definitions and the FHIRPath engine.
//
// Where the specification leaves room, the choice is named in a comment that begins with "Choice:".
//
// Read first: Oracle.
package oracle

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"kiln/conformance"
	"kiln/fhir"
	"kiln/fhir/path"
	"kiln/fhir/search"
)

// Oracle answers searches over a fixed set of resources. It is not safe for concurrent use.
type Oracle struct {
	// Base is the FHIR base URL of the server, without a slash at its end.
	Base string
	// Zone is where dates without an offset are read; nil is UTC.
	Zone *time.Location
	// Now is the moment that the prefix ap measures from.
	Now time.Time

	registry  *conformance.Registry
	resources []*fhir.Node
	byKey     map[string]*fhir.Node
	compiled  map[string]*path.Expression
	values    map[valueKey][]path.Element
	// inside are the contained resources of each resource, whole the resource that each of them is in.
	inside map[*fhir.Node][]*fhir.Node
	whole  map[*fhir.Node]*fhir.Node
	// steps is how many chains lead to what is looked at.
	steps int
}

type valueKey struct {
	n    *fhir.Node
	code string
}

// New makes an Oracle for resources, which must have ids and, for _lastUpdated, meta.
func New(registry *conformance.Registry, resources ...*fhir.Node) *Oracle {
	o := &Oracle{registry: registry, resources: resources, byKey: map[string]*fhir.Node{},
		compiled: map[string]*path.Expression{}, values: map[valueKey][]path.Element{}, inside: map[*fhir.Node][]*fhir.Node{}, whole: map[*fhir.Node]*fhir.Node{}}
	for _, n := range resources {
		o.byKey[n.ResourceType()+"/"+n.ID()] = n
		for kid := range n.Get("contained").Items() {
			if kid.ID() != "" && o.within(n, kid.ID()) == nil && slices.Contains(registry.Schema().Resources, kid.ResourceType()) {
				o.inside[n], o.whole[kid] = append(o.inside[n], kid), n
			}
		}
	}
	return o
}

// within is the contained resource with an id, nil for none. Choice: of several with one id the first.
func (o *Oracle) within(n *fhir.Node, id string) *fhir.Node {
	for _, kid := range o.inside[n] {
		if kid.ID() == id {
			return kid
		}
	}
	return nil
}

// Inside are the contained resources of a resource that can be found.
func (o *Oracle) Inside(n *fhir.Node) []*fhir.Node { return o.inside[n] }

// Found is a match of a search that looks inside of resources, and the resource that it is in: itself, where it is in none.
type Found struct{ Match, Whole *fhir.Node }

// Contained returns what a search with _contained=true or both finds, in its order (search.html#contained). Where the
// containers are asked for, each comes once, with the first of the matches in it.
func (o *Oracle) Contained(q *search.Query) (list []Found) {
	for _, n := range o.resources {
		if q.Contained == "both" && o.Matches(q, n) {
			list = append(list, Found{n, n})
		}
		for _, kid := range o.inside[n] {
			if o.Matches(q, kid) {
				list = append(list, Found{kid, n})
			}
		}
	}
	slices.SortStableFunc(list, func(a, b Found) int { return o.Compare(q, a.Match, b.Match) })
	if q.ContainedType == "contained" {
		return list
	}
	shown := map[*fhir.Node]bool{}
	return slices.DeleteFunc(list, func(f Found) bool {
		again := shown[f.Whole]
		shown[f.Whole] = true
		return again
	})
}

// Search returns the resources that match a query, in the order that it asks for. Resources that the order does not
// tell apart stay in the order in which New got them.
func (o *Oracle) Search(q *search.Query) []*fhir.Node {
	var found []*fhir.Node
	for _, n := range o.resources {
		if o.Matches(q, n) {
			found = append(found, n)
		}
	}
	slices.SortStableFunc(found, func(a, b *fhir.Node) int { return o.Compare(q, a, b) })
	return found
}

// Matches says whether a resource meets all conditions of a query.
func (o *Oracle) Matches(q *search.Query, n *fhir.Node) bool {
	return (q.Types == nil || slices.Contains(q.Types, n.ResourceType())) && o.holds(search.And(q.Where), n)
}

func (o *Oracle) holds(e search.Expr, n *fhir.Node) bool {
	switch e := e.(type) {
	case search.And:
		for _, one := range e {
			if !o.holds(one, n) {
				return false
			}
		}
		return true
	case search.Or:
		for _, one := range e {
			if o.holds(one, n) {
				return true
			}
		}
		return false
	case search.Not:
		return !o.holds(e.Expr, n)
	case *search.IsType:
		return n.ResourceType() == e.Type
	case *search.Match:
		// The parser asks _lastUpdated of one type when it searches several: it is the same for all.
		return (n.ResourceType() == e.Type || e.Param.Code == "_lastUpdated") && o.match(e, n)
	case *search.Missing:
		return (n.ResourceType() == e.Type || e.Param.Code == "_lastUpdated") && (len(o.Values(n, e.Param.Code)) == 0) == e.Missing
	case *search.Chain:
		return n.ResourceType() == e.Type && slices.ContainsFunc(o.Values(n, e.Param.Code), func(v path.Element) bool {
			return slices.ContainsFunc(o.targets(n, v), func(target *fhir.Node) bool {
				o.steps++
				defer func() { o.steps-- }()
				return target.ResourceType() == e.Target && o.holds(e.Where, target)
			})
		})
	case *search.Has:
		return n.ResourceType() == e.Target && slices.ContainsFunc(o.resources, func(r *fhir.Node) bool {
			return r.ResourceType() == e.Type && o.holds(e.Where, r) && slices.ContainsFunc(o.Values(r, e.Param.Code), func(v path.Element) bool {
				return slices.Contains(o.targets(r, v), n)
			})
		})
	case *search.Member:
		return n.ResourceType() == e.Type && (e.Type == e.Compartment && n.ID() == e.ID && o.whole[n] == nil ||
			slices.ContainsFunc(e.Params, func(code string) bool { return o.refers(n, code, e.Compartment, e.ID) }))
	}
	panic(fmt.Sprintf("oracle: no rule for %T", e))
}

func (o *Oracle) refers(n *fhir.Node, code, typ, id string) bool {
	return slices.ContainsFunc(o.Values(n, code), func(v path.Element) bool {
		return o.local(referenceText(v)).key() == typ+"/"+id
	})
}

// targets are the resources that a reference leads to: the one of a literal reference, whatever version it names, and
// those that have the URL of a canonical, with its version if it names one (search.html#versions). A local reference
// leads to what is inside of the same resource, and # alone to that one itself (references.html#contained).
func (o *Oracle) targets(from *fhir.Node, v path.Element) (list []*fhir.Node) {
	s := referenceText(v)
	if local, ok := strings.CutPrefix(s, "#"); ok && v.TypeName() == "Reference" {
		whole := from
		if o.whole[from] != nil {
			whole = o.whole[from]
		}
		if local == "" {
			return []*fhir.Node{whole}
		}
		if kid := o.within(whole, local); kid != nil {
			list = append(list, kid)
		}
		return list
	}
	if n := o.byKey[o.local(s).key()]; n != nil {
		list = append(list, n)
	}
	if v.TypeName() == "canonical" || v.TypeName() == "uri" {
		for _, n := range o.resources {
			url := n.GetText("url")
			if o.registry.SearchParameter(n.ResourceType(), "url") != nil && url != "" && (s == url || s == url+"|"+n.GetText("version")) {
				list = append(list, n)
			}
		}
	}
	return list
}

// match says whether any value of the resource matches any value asked for; :not turns the answer round, so that it
// also holds for a resource without values (search.html#token).
func (o *Oracle) match(m *search.Match, n *fhir.Node) bool {
	if m.Param.Code == "_id" && o.steps > 0 && o.whole[n] != nil {
		return m.Modifier == "not" // Choice: an id within another resource is none that a chain can name
	}
	one := func(v path.Element, asked search.Value) bool { return o.matchOne(m.Param, m.Modifier, v, asked) }
	if m.Param.Kind == search.Composite {
		def := o.registry.SearchParameter(m.Type, m.Param.Code)
		one = func(focus path.Element, asked search.Value) bool { return o.composite(def, m.Param, n, focus, asked) }
	}
	found := slices.ContainsFunc(o.elements(n, m.Param.Code), func(v path.Element) bool {
		return slices.ContainsFunc(m.Values, func(asked search.Value) bool { return one(v, asked) })
	})
	return found != (m.Modifier == "not")
}

func (o *Oracle) matchOne(param search.Param, modifier string, v path.Element, asked search.Value) bool {
	switch param.Kind {
	case search.Token:
		return o.token(param, modifier, v, asked)
	case search.Reference:
		return o.reference(param, modifier, v, asked)
	case search.URI:
		return uri(modifier, v, asked.Raw)
	case search.String:
		return text(modifier, v, asked.Raw)
	case search.Date:
		return o.date(v, asked)
	case search.Number, search.Quantity:
		return quantity(v, asked)
	case search.Special:
		return near(v, asked)
	}
	panic(fmt.Sprintf("oracle: no rule for a parameter of type %s", param.Kind))
}

// composite asks that one element meets all parts (search.html#composite).
func (o *Oracle) composite(def *conformance.SearchParameter, param search.Param, n *fhir.Node, focus path.Element, asked search.Value) bool {
	for i, part := range asked.Parts {
		met := slices.ContainsFunc(o.eval(n, def.Components[i].Expression, focus), func(v path.Element) bool {
			return o.matchOne(param.Components[i], "", v, part)
		})
		if !met {
			return false
		}
	}
	return true
}

// Values are the values that a resource has for a parameter. An element that has nothing but extensions is none
// (search.html#modifiers, :missing); nor is an element of a composite that lacks one of its parts.
func (o *Oracle) Values(n *fhir.Node, code string) []path.Element {
	list := o.elements(n, code)
	def := o.registry.SearchParameter(n.ResourceType(), code)
	if def == nil || def.Type != search.Composite {
		return list
	}
	return slices.DeleteFunc(slices.Clone(list), func(focus path.Element) bool {
		return slices.ContainsFunc(def.Components, func(c conformance.Component) bool {
			return !slices.ContainsFunc(o.eval(n, c.Expression, focus), func(v path.Element) bool { return o.searchable(c.Param, v) })
		})
	})
}

// Parts are the values of the i-th component of a composite within one of its values.
func (o *Oracle) Parts(n *fhir.Node, code string, i int, focus path.Element) []path.Element {
	return o.eval(n, o.registry.SearchParameter(n.ResourceType(), code).Components[i].Expression, focus)
}

func (o *Oracle) elements(n *fhir.Node, code string) []path.Element {
	key := valueKey{n, code}
	list, ok := o.values[key]
	if !ok {
		of := n
		if code == "_lastUpdated" && o.whole[n] != nil { // Choice: what is inside was updated with the whole
			of = o.whole[n]
		}
		def := o.registry.SearchParameter(of.ResourceType(), code)
		if def == nil {
			panic(fmt.Sprintf("oracle: %s has no parameter %s", of.ResourceType(), code))
		}
		list = o.eval(of, def.Expression, path.Root(of, o.registry.Schema()))
		o.values[key] = list
	}
	return list
}

func (o *Oracle) eval(n *fhir.Node, expression string, focus path.Element) []path.Element {
	x, ok := o.compiled[expression]
	if !ok {
		var err error
		if x, err = path.Compile(expression, o.registry.Schema()); err != nil {
			panic(fmt.Sprintf("oracle: %s: %v", expression, err))
		}
		o.compiled[expression] = x
	}
	self := path.Root(n, o.registry.Schema())
	root := self
	if whole := o.whole[n]; whole != nil {
		root = path.Root(whole, o.registry.Schema())
	}
	list, err := x.Eval(&path.Env{Resource: self, Root: root}, focus)
	if err != nil {
		panic(fmt.Sprintf("oracle: %s: %v", expression, err))
	}
	return slices.DeleteFunc(list, func(v path.Element) bool { return !v.IsSystem() && (v.Value == nil || v.Type == nil) })
}

// searchable says whether a value can match anything at all as a part of a composite.
func (o *Oracle) searchable(def *conformance.SearchParameter, v path.Element) bool {
	switch def.Type {
	case search.Token:
		return len(o.codings(v)) > 0
	case search.String:
		return len(texts(v)) > 0
	case search.Date:
		_, ok := o.period(v)
		return ok
	case search.Number, search.Quantity:
		_, ok := measureOf(v)
		return ok
	case search.Reference:
		return referenceText(v) != "" || v.Value.Get("identifier") != nil
	}
	return true
}
