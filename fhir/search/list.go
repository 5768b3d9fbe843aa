package search

import (
	"slices"
	"strings"

	"kiln/fhir"
)

// listParams are the parameters by which a resource names what it lists: what _list and _in ask of.
var listParams = map[string]string{"List": "item", "Group": "member", "CareTeam": "participant"}

// listed reads _list (R4 search.html#list), the ids of Lists, and _in, which takes Lists, Groups and CareTeams: it asks for the resources
// of some types that one of them names. An entry counts whether or not it is flagged as deleted or inactive. full is the whole parameter
// name, code that of the two.
func (p *parser) listed(full, code, value string, types []string) Expr {
	raws := split(value, ',')
	if len(raws) > MaxValues {
		p.issues = append(p.issues, tooMuch("A parameter has more than %d values.", MaxValues).Issues...)
		return nil
	}
	var any Or
	var lists []*Match // one of each type, with all its ids: a thousand conditions took 27 s to plan for a search of all types
	for _, raw := range raws {
		raw = unescape(raw)
		if strings.HasPrefix(raw, "$") {
			p.fail(full, fhir.CodeNotSupported, "this server keeps no functional lists such as %q; give the id of a List.", raw)
			return nil
		}
		typ, id, ok := listNamed(code, raw)
		if !ok {
			form := "the id of a List"
			if code == "_in" {
				form = "List/id, Group/id or CareTeam/id"
			}
			p.malformed(full, "%q is not %s.", raw, form)
			return nil
		}
		i := slices.IndexFunc(lists, func(m *Match) bool { return m.Type == typ })
		if i >= 0 {
			lists[i].Values = append(lists[i].Values, Value{Raw: id, Code: id})
			continue
		}
		ref, ok := p.catalog.Param(typ, listParams[typ])
		own, found := p.catalog.Param(typ, "_id")
		if !ok || !found {
			p.fail(full, fhir.CodeNotSupported, "this server cannot tell what a %s lists.", typ)
			return nil
		}
		m := &Match{Type: typ, Param: own, Values: []Value{{Raw: id, Code: id}}}
		lists = append(lists, m)
		has := &Has{Type: typ, Param: ref, Where: m}
		if len(types) == 1 {
			has.Target = types[0]
		}
		if has.Target == "" || ref.leadsTo(has.Target) {
			any = append(any, has)
		}
	}
	if len(any) == 0 {
		p.fail(full, fhir.CodeValue, "what it names cannot list resources of the type searched.")
		return nil
	}
	return any
}

// listNamed takes a value of _list or _in apart.
func listNamed(code, raw string) (typ, id string, ok bool) {
	typ, id, qualified := strings.Cut(raw, "/")
	if !qualified {
		typ, id = "List", raw
	}
	_, ok = listParams[typ]
	return typ, id, ok && fhir.ValidID(id) && (code == "_in" && qualified || code == "_list" && typ == "List")
}

// mayList says whether something that a value of _list or _in names, as far as it can be read, may list resources of a type.
func (p *parser) mayList(code, value, target string) bool {
	if l := &p.listing; l.code != code || l.value != value { // it is asked for each type that a chain leads to from each
		*l = listing{code: code, value: value}
		for _, raw := range split(value, ',') {
			typ, _, ok := listNamed(code, unescape(raw))
			if l.unread = l.unread || !ok; ok && !slices.Contains(l.types, typ) {
				l.types = append(l.types, typ)
			}
		}
	}
	return p.listing.unread || slices.ContainsFunc(p.listing.types, func(typ string) bool {
		ref, found := p.catalog.Param(typ, listParams[typ])
		return found && ref.leadsTo(target)
	})
}

// listing is what a value of _list or _in names: the types of it, and whether some of it cannot be read.
type listing struct {
	code, value string
	types       []string
	unread      bool
}
