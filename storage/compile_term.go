package storage

import (
	"fmt"
	"slices"
	"strings"

	"kiln/conformance"
	"kiln/fhir"
	"kiln/fhir/search"
)

// MaxConcepts is how many codes a value set or a part of a hierarchy may come to in a search.
const MaxConcepts = 5000

const maxValueSetDepth = 20

// concept is a code of a system; an empty code stands for all of them.
type concept struct{ system, code string }

type conceptSet map[concept]struct{}

func (s conceptSet) has(c concept) bool {
	_, exact := s[c]
	_, all := s[concept{c.system, ""}]
	return exact || all
}

// concepts are the terms of the codes that a token with :in, :not-in, :above or :below stands for.
//
// Errors: Invalid for a value set or code system that is neither stored nor official, or whose codes cannot be listed.
func (c *compiler) concepts(p *paramPlan, modifier string, v search.Value) ([]int64, error) {
	var set conceptSet
	var err error
	if modifier == "in" || modifier == "not-in" {
		set, err = c.valueSet(v.Raw, 0)
	} else {
		set, err = c.hierarchy(modifier, v)
	}
	if fault, ours := err.(*termError); ours {
		return nil, fhir.NewError(fhir.Invalid, fault.code, fmt.Sprintf("Search parameter %q: %s", p.def.Code+":"+modifier, fault.text))
	}
	if err != nil {
		return nil, err
	}
	if len(set) > MaxConcepts {
		return nil, fhir.NewError(fhir.Invalid, fhir.CodeTooCostly, fmt.Sprintf(
			"Search parameter %q: it comes to more than %d codes.", p.def.Code+":"+modifier, MaxConcepts))
	}
	terms := []int64{}
	for one := range set {
		terms = c.ix.askedTerms(terms, p.def.Key, search.Value{HasSystem: true, System: one.system, Code: one.code})
	}
	slices.Sort(terms)
	return terms, nil
}

// termError is what keeps a terminology search from an answer. Its text ends a sentence about the parameter.
type termError struct{ code, text string }

func (e *termError) Error() string { return e.text }

func termFault(code, format string, args ...any) error {
	return &termError{code, fmt.Sprintf(format, args...)}
}

func (c *compiler) definition(typ, url string) (*fhir.Node, error) {
	if c.lookup != nil {
		if n, err := c.lookup(typ, url); n != nil || err != nil {
			return n, err
		}
	}
	data, ok := c.ix.registry.Definition(typ, url)
	if !ok {
		return nil, termFault(fhir.CodeNotFound, "the %s %q is neither stored here nor one of FHIR R4.", typ, url)
	}
	return fhir.ParseJSON(data)
}

// valueSet lists the codes of a value set.
func (c *compiler) valueSet(url string, depth int) (conceptSet, error) {
	if depth > maxValueSetDepth {
		return nil, termFault(fhir.CodeTooCostly, "value sets include each other more than %d levels deep.", maxValueSetDepth)
	}
	n, err := c.definition("ValueSet", url)
	if err != nil {
		return nil, err
	}
	compose, expansion := n.Get("compose"), n.Get("expansion")
	set := conceptSet{}
	if compose == nil {
		if expansion == nil {
			return nil, termFault(fhir.CodeNotSupported, "the value set %q has no content.", url)
		}
		if total := expansion.GetText("total"); total != "" && total != fmt.Sprint(expanded(set, expansion)) {
			return nil, termFault(fhir.CodeNotSupported, "the value set %q holds only a part of its expansion.", url)
		}
		expanded(set, expansion)
		return set, nil
	}
	for include := range compose.Get("include").Items() {
		part, err := c.include(url, include, depth)
		if err != nil {
			return nil, err
		}
		for one := range part {
			set[one] = struct{}{}
		}
	}
	for exclude := range compose.Get("exclude").Items() {
		part, err := c.include(url, exclude, depth)
		if err != nil {
			return nil, err
		}
		for one := range part {
			if _, all := set[concept{one.system, ""}]; all && one.code != "" {
				return nil, termFault(fhir.CodeNotSupported, "the value set %q leaves codes out of the system %q, which this server does not have.", url, one.system)
			}
		}
		for one := range set {
			if part.has(one) {
				delete(set, one)
			}
		}
	}
	return set, nil
}

// expanded adds the codes of an expansion and returns their number.
func expanded(set conceptSet, n *fhir.Node) (count int) {
	for item := range n.Get("contains").Items() {
		if code := item.GetText("code"); code != "" && item.GetText("abstract") != "true" {
			set[concept{item.GetText("system"), code}] = struct{}{}
			count++
		}
		count += expanded(set, item)
	}
	return count
}

// include lists what one include or exclude of a value set says: what its system part and all its value sets have in
// common.
func (c *compiler) include(url string, include *fhir.Node, depth int) (conceptSet, error) {
	var set conceptSet
	meet := func(other conceptSet) {
		if set == nil {
			set = other
			return
		}
		both := conceptSet{}
		for one := range set {
			if other.has(one) {
				both[one] = struct{}{}
			}
		}
		for one := range other {
			if set.has(one) {
				both[one] = struct{}{}
			}
		}
		set = both
	}
	if system := include.GetText("system"); system != "" {
		part, err := c.systemPart(url, system, include)
		if err != nil {
			return nil, err
		}
		meet(part)
	}
	for other := range include.Get("valueSet").Items() {
		part, err := c.valueSet(other.Text, depth+1)
		if err != nil {
			return nil, err
		}
		meet(part)
	}
	return set, nil
}

func (c *compiler) systemPart(url, system string, include *fhir.Node) (conceptSet, error) {
	set := conceptSet{}
	if concepts := include.Get("concept"); concepts != nil {
		for one := range concepts.Items() {
			set[concept{system, one.GetText("code")}] = struct{}{}
		}
		return set, nil
	}
	filters := include.Get("filter")
	n, err := c.definition("CodeSystem", system)
	if err != nil || n.GetText("content") != "complete" {
		if fault, ours := err.(*termError); err != nil && !ours || ours && fault.code != fhir.CodeNotFound {
			return nil, err
		}
		if filters != nil {
			return nil, termFault(fhir.CodeNotSupported, "the value set %q needs the code system %q, which this server does not have in full.", url, system)
		}
		return conceptSet{{system, ""}: {}}, nil
	}
	tree := treeOf(n)
	if filters == nil {
		for code := range tree.codes {
			set[concept{system, code}] = struct{}{}
		}
		return set, nil
	}
	first := true
	for filter := range filters.Items() {
		property, op, value := filter.GetText("property"), filter.GetText("op"), filter.GetText("value")
		part := map[string]bool{}
		switch {
		case property == "concept" && (op == "is-a" || op == "descendent-of"):
			part = reach(tree.children, value)
			if op == "descendent-of" {
				delete(part, value)
			}
		case property == "concept" && op == "is-not-a":
			below := reach(tree.children, value)
			for code := range tree.codes {
				if !below[code] {
					part[code] = true
				}
			}
		case property == "concept" && op == "in":
			for code := range strings.SplitSeq(value, ",") {
				part[strings.TrimSpace(code)] = true
			}
		default:
			return nil, termFault(fhir.CodeNotSupported, "the value set %q filters by %s %s, which this server cannot list.", url, property, op)
		}
		for code := range tree.codes {
			one := concept{system, code}
			if first && part[code] {
				set[one] = struct{}{}
			} else if !part[code] {
				delete(set, one)
			}
		}
		first = false
	}
	return set, nil
}

// codeTree is the hierarchy of a code system.
type codeTree struct {
	codes             map[string]bool
	children, parents map[string][]string
}

func treeOf(system *fhir.Node) *codeTree {
	t := &codeTree{map[string]bool{}, map[string][]string{}, map[string][]string{}}
	link := func(parent, child string) {
		t.children[parent] = append(t.children[parent], child)
		t.parents[child] = append(t.parents[child], parent)
	}
	var walk func(n *fhir.Node, parent string)
	walk = func(n *fhir.Node, parent string) {
		for one := range n.Get("concept").Items() {
			code := one.GetText("code")
			t.codes[code] = true
			if parent != "" {
				link(parent, code)
			}
			for property := range one.Get("property").Items() {
				switch other := property.GetText("valueCode"); property.GetText("code") {
				case "child":
					link(code, other)
				case "parent", "subsumedBy":
					link(other, code)
				}
			}
			walk(one, code)
		}
	}
	walk(system, "")
	return t
}

// reach is code and everything that can be reached from it.
func reach(next map[string][]string, code string) map[string]bool {
	seen := map[string]bool{code: true}
	for list := []string{code}; len(list) > 0; {
		one := list[len(list)-1]
		list = list[:len(list)-1]
		for _, n := range next[one] {
			if !seen[n] {
				seen[n] = true
				list = append(list, n)
			}
		}
	}
	return seen
}

// hierarchy lists a code and what it subsumes (below), or what subsumes it (above).
func (c *compiler) hierarchy(modifier string, v search.Value) (conceptSet, error) {
	if v.System == "" || v.Code == "" {
		return nil, termFault(fhir.CodeValue, "%q must have the form system|code.", v.Raw)
	}
	n, err := c.definition("CodeSystem", v.System)
	if err != nil {
		return nil, err
	}
	if n.GetText("content") != "complete" {
		return nil, termFault(fhir.CodeNotSupported, "this server does not have the code system %q in full.", v.System)
	}
	tree := treeOf(n)
	if !tree.codes[v.Code] {
		return nil, termFault(fhir.CodeCodeInvalid, "the code system %q has no code %q.", v.System, v.Code)
	}
	next := tree.children
	if modifier == "above" {
		next = tree.parents
	}
	set := conceptSet{}
	for code := range reach(next, v.Code) {
		set[concept{v.System, code}] = struct{}{}
	}
	return set, nil
}

// versions answers :above and :below of a canonical reference, url|version: versions are a hierarchy by the points in
// them, so 1 is above 1.2 (FHIR R4 search.html#canonical). A URL without a version is above all its versions.
func (c *compiler) versions(m *search.Match, p *paramPlan, x string) (string, error) {
	if !canonicalParam(c.ix.registry.Schema(), p.def) {
		return "", fhir.NewError(fhir.Invalid, fhir.CodeNotSupported, fmt.Sprintf(
			"Search parameter %q: this server offers the modifier for canonical references alone, url|version.", m.Param.Code+":"+m.Modifier))
	}
	if m.Modifier == "above" {
		var terms []int64
		for _, v := range m.Values {
			url, version, _ := strings.Cut(v.Raw, "|")
			terms = append(terms, c.ix.canonicalTerm(url)^p.salt)
			for i := range len(version) + 1 {
				if i == len(version) || version[i] == '.' {
					terms = append(terms, c.ix.canonicalTerm(url+"|"+version[:i])^p.salt)
				}
			}
		}
		return c.contains(x+".refs", terms), nil
	}
	return c.side("search_string", p.def.Key, m.Values, x, func(v search.Value) (string, error) {
		separator := "|"
		if strings.Contains(v.Raw, "|") {
			separator = "."
		}
		return fmt.Sprintf("(s.value = %s OR %s)", c.arg(v.Raw, "text"), c.prefix(v.Raw+separator)), nil
	})
}

// canonicalParam says whether a reference parameter looks at canonical URLs.
func canonicalParam(schema *fhir.Schema, def *conformance.SearchParameter) bool {
	found := false
	steps(schema, def, func(_ *fhir.Element, types []string, last bool) {
		found = found || last && (slices.Contains(types, "canonical") || slices.Contains(types, "uri"))
	})
	return found
}
