package search

import (
	"strings"

	"kiln/fhir"
)

// listParams are the parameters by which a resource names what it lists: what _list and _in ask of.
var listParams = map[string]string{"List": "item", "Group": "member", "CareTeam": "participant"}

// listed reads _list (R4 search.html#list), the ids of Lists, and _in, which takes Lists, Groups and CareTeams: it asks
// for the resources that one of them names. An entry counts whether or not it is flagged as deleted or inactive.
func (p *parser) listed(name, value string) Expr {
	var any Or
	for _, raw := range split(value, ',') {
		raw = unescape(raw)
		if strings.HasPrefix(raw, "$") {
			p.fail(name, fhir.CodeNotSupported, "this server keeps no functional lists such as %q; give the id of a List.", raw)
			return nil
		}
		typ, id, qualified := strings.Cut(raw, "/")
		if !qualified {
			typ, id = "List", raw
		}
		by, ok := listParams[typ]
		if !fhir.ValidID(id) || !ok || name == "_list" && typ != "List" || name == "_in" && !qualified {
			form := "the id of a List"
			if name == "_in" {
				form = "List/id, Group/id or CareTeam/id"
			}
			p.malformed(name, "%q is not %s.", raw, form)
			return nil
		}
		ref, ok := p.catalog.Param(typ, by)
		own, found := p.catalog.Param(typ, "_id")
		if !ok || !found {
			p.fail(name, fhir.CodeNotSupported, "this server cannot tell what a %s lists.", typ)
			return nil
		}
		has := &Has{Type: typ, Param: ref, Where: &Match{Type: typ, Param: own, Values: []Value{{Raw: id, Code: id}}}}
		if list := p.searched(); len(list) == 1 {
			has.Target = list[0]
		}
		if has.Target == "" || ref.leadsTo(has.Target) {
			any = append(any, has)
		}
	}
	if len(any) == 0 {
		p.fail(name, fhir.CodeValue, "what it names cannot list resources of the type searched.")
		return nil
	}
	return any
}
