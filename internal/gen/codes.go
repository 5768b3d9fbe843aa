package main

import (
	"slices"
	"strings"

	"kiln/fhir"
)

// terminology expands the value sets of the official definitions.
type terminology struct {
	systems, sets map[string]*fhir.Node // by URL
	// expansions holds value sets of code systems that the definitions lack, as HL7 expanded them.
	expansions map[string]*fhir.Node
}

// code is a member of a value set.
type code struct{ code, system string }

func (c code) compare(o code) int {
	if d := strings.Compare(c.code, o.code); d != 0 {
		return d
	}
	return strings.Compare(c.system, o.system)
}

// writeCodes writes the value sets of required bindings that can be listed in full, and how code systems compare:
//
//	V valueset         a value set
//	S system code…     its codes from one system, the systems in the order of their URLs
//	Y system flag      1 when the codes of the system are case-sensitive, 0 when not
//
// The currencies of ISO 4217 come from the specification's bundle of expansions (currencies.json): the code system
// itself is not HL7's and not among the definitions.
func writeCodes(out *records, defs definitions) error {
	t := terminology{systems: byURL(defs["CodeSystem"]), sets: byURL(defs["ValueSet"]), expansions: byURL(defs[expansions])}
	for _, url := range requiredBindings(defs) {
		codes, ok := t.expand(url, nil)
		if !ok {
			continue
		}
		out.add("V", url)
		bySystem := map[string][]string{}
		var systems []string
		for _, c := range codes {
			if bySystem[c.system] == nil {
				systems = append(systems, c.system)
			}
			bySystem[c.system] = append(bySystem[c.system], c.code)
		}
		slices.Sort(systems)
		for _, s := range systems {
			out.add(append([]string{"S", s}, bySystem[s]...)...)
		}
	}
	for _, d := range defs["CodeSystem"] {
		if c := d.Get("caseSensitive"); c != nil {
			out.add("Y", d.GetText("url"), map[string]string{"true": "1", "false": "0"}[c.Text])
		}
	}
	return nil
}

// requiredBindings returns the URLs, without versions, of the value sets in required bindings of types, in order.
func requiredBindings(defs definitions) []string {
	urls := map[string]bool{}
	for _, d := range defs["StructureDefinition"] {
		if d.GetText("derivation") == "constraint" {
			continue
		}
		for e := range d.At("snapshot", "element").Items() {
			if b := e.Get("binding"); b.GetText("strength") == "required" {
				url, _, _ := strings.Cut(b.GetText("valueSet"), "|")
				urls[url] = true
			}
		}
	}
	list := make([]string, 0, len(urls))
	for url := range urls {
		list = append(list, url)
	}
	slices.Sort(list)
	return list
}

// expand lists the codes of a value set in order; ok is false when they cannot be listed in full.
func (t *terminology) expand(url string, within []string) (list []code, ok bool) {
	if slices.Contains(within, url) {
		return nil, false
	}
	within = append(within, url)
	if x := t.expansions[url]; x != nil {
		for c := range x.At("expansion", "contains").Items() {
			list = append(list, code{c.GetText("code"), c.GetText("system")})
		}
		slices.SortFunc(list, code.compare)
		return list, true
	}
	compose := t.sets[url].Get("compose")
	if compose == nil {
		return nil, false
	}
	for part := range compose.Get("include").Items() {
		codes, ok := t.part(part, within)
		if !ok {
			return nil, false
		}
		list = append(list, codes...)
	}
	for part := range compose.Get("exclude").Items() {
		codes, ok := t.part(part, within)
		if !ok {
			return nil, false
		}
		list = slices.DeleteFunc(list, func(c code) bool { return slices.Contains(codes, c) })
	}
	slices.SortFunc(list, code.compare)
	return slices.Compact(list), true
}

// part lists the codes of one include or exclude: those of its system that are also in each of its value sets.
func (t *terminology) part(n *fhir.Node, within []string) (list []code, ok bool) {
	system := n.GetText("system")
	some := system != ""
	switch {
	case !some:
	case n.Get("concept") != nil:
		for c := range n.Get("concept").Items() {
			list = append(list, code{c.GetText("code"), system})
		}
	default:
		if list, ok = t.systemCodes(system, n.Get("filter")); !ok {
			return nil, false
		}
	}
	for v := range n.Get("valueSet").Items() {
		url, _, _ := strings.Cut(v.Text, "|")
		codes, ok := t.expand(url, within)
		if !ok {
			return nil, false
		}
		if !some {
			list, some = codes, true
			continue
		}
		list = slices.DeleteFunc(list, func(c code) bool { return !slices.Contains(codes, c) })
	}
	return list, some
}

// systemCodes lists the codes of a complete code system that pass the filters. It knows the filters on the hierarchy
// (concept is-a, descendent-of, is-not-a); any other makes the value set one that cannot be listed.
func (t *terminology) systemCodes(system string, filters *fhir.Node) (list []code, ok bool) {
	d := t.systems[system]
	if d.GetText("content") != "complete" {
		return nil, false
	}
	for f := range filters.Items() {
		op := f.GetText("op")
		if f.GetText("property") != "concept" || op != "is-a" && op != "descendent-of" && op != "is-not-a" {
			return nil, false
		}
	}
	var walk func(concepts *fhir.Node, above []string)
	walk = func(concepts *fhir.Node, above []string) {
		for c := range concepts.Items() {
			name := c.GetText("code")
			passes := !isNotSelectable(c)
			for f := range filters.Items() {
				value := f.GetText("value")
				below, self := slices.Contains(above, value), name == value
				switch f.GetText("op") {
				case "is-a":
					passes = passes && (below || self)
				case "descendent-of":
					passes = passes && below
				case "is-not-a":
					passes = passes && !below && !self
				}
			}
			if passes {
				list = append(list, code{name, system})
			}
			walk(c.Get("concept"), append(slices.Clone(above), name))
		}
	}
	walk(d.Get("concept"), nil)
	return list, true
}

// isNotSelectable says whether a concept only groups others: item-type's "question" is no type that an item can have.
func isNotSelectable(concept *fhir.Node) bool {
	for p := range concept.Get("property").Items() {
		if p.GetText("code") == "notSelectable" && isTrue(p.Get("valueBoolean")) {
			return true
		}
	}
	return false
}

func byURL(list []*fhir.Node) map[string]*fhir.Node {
	m := make(map[string]*fhir.Node, len(list))
	for _, n := range list {
		m[n.GetText("url")] = n
	}
	return m
}
