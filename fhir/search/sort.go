package search

import (
	"slices"
	"strings"

	"kiln/fhir"
)

// sort reads _sort (R4 search.html#sort). An unknown key leaves the whole of it out, where it is ignored.
func (p *parser) sort(pair Pair) bool {
	var keys []Sort
	for _, key := range strings.Split(pair.Value, ",") {
		code, descending := strings.CutPrefix(key, "-")
		if code == "" {
			return p.malformed(pair.Name, "it names no parameter.")
		}
		if code == MainDate && len(p.searched()) > 1 {
			keys = append(keys, Sort{Param: Param{Code: MainDate, Kind: Date}, Descending: descending})
			continue
		}
		param, ok := p.catalog.Param(p.searched()[0], code)
		if !ok && slices.Contains(valueless, code) {
			return p.unsortable(pair, code, "has no value in a resource")
		}
		if ok && len(p.searched()) > 1 && !strings.HasPrefix(code, "_") {
			return p.unsortable(pair, code, "each type has for itself")
		}
		if !ok {
			hint := ""
			if near := nearest(code, p.catalog.Codes(p.searched()[0])); len(near) > 0 {
				hint = " Did you mean " + strings.Join(near, ", ") + "?"
			}
			return p.unknown(pair.Name, "%q is no search parameter of the type searched.%s", code, hint)
		}
		switch {
		case isText(param):
			return p.unsortable(pair, code, "finds words in many places, which have no order")
		case param.Kind == Composite:
			parts, ok := p.components(param)
			if !ok {
				return p.unsortable(pair, code, "is made of parts that are no parameters of the type")
			}
			for _, part := range parts {
				keys = append(keys, Sort{Param: part, Descending: descending})
			}
		case param.Kind == Special && code != "near":
			return p.unsortable(pair, code, "has no value in a resource")
		default:
			keys = append(keys, Sort{Param: param, Descending: descending})
		}
	}
	if len(p.query.Sort)+len(keys) > MaxSortKeys {
		return p.fail(pair.Name, fhir.CodeTooCostly, "it has more than %d keys.", MaxSortKeys)
	}
	p.query.Sort = append(p.query.Sort, keys...)
	return true
}

// valueless are the parameters that ask for something but are not about a value of the resource, and the rank of a match, which is none either.
var valueless = []string{"_filter", "_has", "_in", "_list", "_query", "_score", "_type"}

// components are the parameters that a composite is made of, as the type searched has them. Choice: where they are of one repeating
// element, each sorts by its own first value, wherever that stands, as if they were asked for by themselves.
func (p *parser) components(param Param) (parts []Param, ok bool) {
	for _, c := range param.Components {
		part, ok := p.catalog.Param(p.searched()[0], c.Code)
		if !ok || part.Kind != c.Kind || part.Kind == Composite || part.Kind == Special || isText(part) {
			return nil, false
		}
		parts = append(parts, part)
	}
	return parts, len(parts) > 1
}

// unsortable refuses a parameter that nothing can be sorted by, and names those that something can.
func (p *parser) unsortable(pair Pair, code, reason string) bool {
	var codes []string
	for _, one := range p.catalog.Codes(p.searched()[0]) {
		if param, ok := p.catalog.Param(p.searched()[0], one); ok && param.Kind != Composite && param.Kind != Special && !isText(param) &&
			(len(p.searched()) == 1 || strings.HasPrefix(one, "_")) {
			codes = append(codes, one)
		}
	}
	if len(p.searched()) > 1 {
		codes = append(codes, MainDate)
	}
	slices.Sort(codes)
	return p.unknown(pair.Name, "nothing can be sorted by %s, which %s. The order may be by %s.", code, reason, strings.Join(slices.Compact(codes), ", "))
}

// sortNear gives the keys of near the places that the search asks for, which may come behind _sort. An order by the distance from nowhere
// is malformed, also where the places were and are ignored.
func (p *parser) sortNear() {
	var from []Value
	for _, e := range p.query.Where {
		if m, ok := e.(*Match); ok && m.Param.Kind == Special && m.Modifier == "" {
			from = append(from, m.Values...)
		}
	}
	if from == nil {
		p.withoutNear()
	}
	for i := range p.query.Sort {
		if key := &p.query.Sort[i]; key.Param.Kind == Special {
			key.From = from
		}
	}
}

// withoutNear leaves out each order with a key of near.
func (p *parser) withoutNear() {
	byNear := func(k Sort) bool { return k.Param.Kind == Special }
	if !slices.ContainsFunc(p.query.Sort, byNear) {
		return
	}
	var kept []Sort
	p.query.Applied = slices.DeleteFunc(p.query.Applied, func(pair Pair) bool {
		if pair.Name != "_sort" {
			return false
		}
		p.query.Sort = nil
		p.sort(pair)
		if i := slices.IndexFunc(p.query.Sort, byNear); i >= 0 {
			code := p.query.Sort[i].Param.Code
			p.malformed("_sort", "%s sorts by the distance from the places that a search is for, and this one is for none: it needs a parameter %s, too.", code, code)
			return true
		}
		kept = append(kept, p.query.Sort...)
		return false
	})
	p.query.Sort = kept
}
