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
	var any Or
	raws := split(value, ',')
	if len(raws) > MaxValues {
		p.issues = append(p.issues, tooMuch("A parameter has more than %d values.", MaxValues).Issues...)
		return nil
	}
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
		ref, ok := p.catalog.Param(typ, listParams[typ])
		own, found := p.catalog.Param(typ, "_id")
		if !ok || !found {
			p.fail(full, fhir.CodeNotSupported, "this server cannot tell what a %s lists.", typ)
			return nil
		}
		has := &Has{Type: typ, Param: ref, Where: &Match{Type: typ, Param: own, Values: []Value{{Raw: id, Code: id}}}}
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
	return slices.ContainsFunc(split(value, ','), func(raw string) bool {
		typ, _, ok := listNamed(code, unescape(raw))
		ref, found := p.catalog.Param(typ, listParams[typ])
		return !ok || found && ref.leadsTo(target)
	})
}
