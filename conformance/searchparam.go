package conformance

import (
	"hash/fnv"
	"slices"
	"strings"

	"kiln/fhir/search"
)

// SearchParameter is a search parameter as one resource type has it.
type SearchParameter struct {
	Code string // what stands in the URL: "birthdate"
	URL  string // canonical; the same for every Base that shares the definition
	ID   string
	// Description is what the definition says of Base, in Markdown.
	Description string
	Type        search.Kind
	// Base is the resource type. Parameters of all resources are there once for each type, and once for "Resource".
	Base string
	// Expression is the FHIRPath that yields the values, evaluated on a resource of type Base. It is the union of the
	// branches of the definition that concern Base; "x as T" is written x.ofType(T), which also works where x repeats.
	// It is empty for _text and _content, which look at the whole resource.
	Expression string
	// Targets are the types that a reference may point at: those of the definition that the elements can hold. None
	// means any type.
	Targets []string
	// Components are the parts of a composite, in order; each is evaluated on every value of Expression.
	Components []Component
	// Key is Key(Base, Code).
	Key uint32
	// MultipleOr says whether a value may be a list (a,b); MultipleAnd whether the parameter may be repeated.
	MultipleOr, MultipleAnd bool
}

// Component is one part of a composite search parameter.
type Component struct {
	// Definition is the URL of the part's search parameter; Param is that parameter for the same Base. Param is nil
	// only before the parameter has gone through Registry.With.
	Definition string
	Param      *SearchParameter
	// Expression is relative to a value of the composite's own expression.
	Expression string
}

// Key returns the number that index rows carry for a search parameter: FNV-1a, 32 bits, of "Base.code". It is stored,
// so it never changes.
func Key(base, code string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(base + "." + code))
	return h.Sum32()
}

// SearchParameters returns the parameters of a resource type, those of all resources included, in the order of their
// codes. "Resource" has those of all resources alone. Nobody may change the list. Result parameters (_sort, _include…)
// and those with a grammar of their own (_has, _list, _type, _query, _filter) are not here.
func (r *Registry) SearchParameters(resourceType string) []*SearchParameter {
	return r.params[resourceType]
}

// SearchParameter returns the parameter that a resource type knows by this code, or nil.
func (r *Registry) SearchParameter(resourceType, code string) *SearchParameter {
	list := r.params[resourceType]
	if i, ok := findCode(list, code); ok {
		return list[i]
	}
	return nil
}

// SearchParameterByURL returns the parameter that is defined by a canonical URL, as the resource type has it, or nil.
func (r *Registry) SearchParameterByURL(resourceType, url string) *SearchParameter {
	url, _, _ = strings.Cut(url, "|")
	for _, p := range r.params[resourceType] {
		if p.URL == url {
			return p
		}
	}
	return nil
}

// SearchParameterByKey returns the parameter with this key, or nil.
func (r *Registry) SearchParameterByKey(key uint32) *SearchParameter { return r.keys[key] }

func findCode(list []*SearchParameter, code string) (int, bool) {
	return slices.BinarySearchFunc(list, code, func(p *SearchParameter, c string) int { return strings.Compare(p.Code, c) })
}

// With returns a registry that also has the given parameters, as ParseSearchParameter makes them. One with the code of
// an older one takes its place for that resource type. What Check finds fault with is left out. r and extra stay as
// they are.
func (r *Registry) With(extra ...*SearchParameter) *Registry {
	c := *r
	c.params = make(map[string][]*SearchParameter, len(r.params))
	for base, list := range r.params {
		c.params[base] = slices.Clone(list)
	}
	c.keys = make(map[uint32]*SearchParameter, len(r.keys)+len(extra))
	for key, p := range r.keys {
		c.keys[key] = p
	}
	var fresh []*SearchParameter
	for _, p := range extra {
		if len(r.check(p, extra)) == 0 {
			fresh = append(fresh, c.add(p)...)
		}
	}
	c.linkComponents(fresh)
	return &c
}

// add puts a parameter into the lists of the types that it is for, and returns what it put there.
func (r *Registry) add(p *SearchParameter) []*SearchParameter {
	var fresh []*SearchParameter
	for _, base := range r.concreteBases(p.Base) {
		own := *p
		if own.Base != base {
			own.Base = base
			own.Expression = rebase(p.Expression, base)
			own.Key = Key(base, p.Code)
		}
		own.Components = slices.Clone(p.Components)
		if own.URL == "http://hl7.org/fhir/SearchParameter/DocumentReference-relationship" && len(own.Components) == 2 && own.Components[0].Expression == "code" {
			// An error of R4 4.0.1: the expressions stand with each other's definition.
			own.Components[0].Expression, own.Components[1].Expression = own.Components[1].Expression, own.Components[0].Expression
		}
		own.Targets = narrowTargets(r.schema, &own)
		list := r.params[base]
		i, found := findCode(list, own.Code)
		if found {
			list[i] = &own
		} else {
			list = slices.Insert(list, i, &own)
		}
		r.params[base] = list
		r.keys[own.Key] = &own
		fresh = append(fresh, &own)
	}
	return fresh
}

// concreteBases returns the names under which a parameter with this base is listed.
func (r *Registry) concreteBases(base string) []string {
	if base != "Resource" && base != "DomainResource" {
		return []string{base}
	}
	list := []string{base}
	if base == "Resource" {
		list = append(list, "DomainResource")
	}
	for _, name := range r.schema.Resources {
		if r.schema.Type(name).Is(base) {
			list = append(list, name)
		}
	}
	return list
}

// linkComponents finds the parameters that the composites among fresh are made of.
func (r *Registry) linkComponents(fresh []*SearchParameter) {
	for _, p := range fresh {
		for i := range p.Components {
			p.Components[i].Param = r.SearchParameterByURL(p.Base, p.Components[i].Definition)
		}
	}
}
