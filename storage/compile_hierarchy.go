package storage

import (
	"fmt"
	"slices"
	"strings"

	"kiln/conformance"
	"kiln/fhir"
	"kiln/fhir/search"
)

// parentOf is the parameter by which resources of a type say of which other one they are a part, such as partof of
// Location; nil where a type is no strict hierarchy: there is one parent at most, and it is of the same type.
func parentOf(registry *conformance.Registry, typ string) *conformance.SearchParameter {
	for _, code := range []string{"partof", "part-of"} {
		def := registry.SearchParameter(typ, code)
		if def != nil && def.Type == search.Reference && slices.Equal(def.Targets, []string{typ}) && isSingle(registry.Schema(), def) {
			return def
		}
	}
	return nil
}

// hierarchy answers :above and :below of a reference to what is a part of others (FHIR R4 search.html#recursive): a reference
// to the resource named or to one that it is a part of, or that is a part of it, at any distance.
func (c *compiler) hierarchy(m *search.Match, p *paramPlan, x string) (string, error) {
	rks := map[string][]int64{}
	for _, v := range m.Values {
		ref := v.Reference
		if ref.Base != "" && ref.Base != c.ix.base || ref.ID == "" || ref.Version != "" || ref.Query != "" {
			return "", fhir.NewError(fhir.Invalid, fhir.CodeValue, fmt.Sprintf("Search parameter %q: %q must name a resource of this server, as Type/id.", m.Param.Code+":"+m.Modifier, v.Raw))
		}
		for _, typ := range m.Param.Targets {
			if (ref.Type == typ || ref.Type == "") && parentOf(c.ix.registry, typ) != nil {
				rks[typ] = append(rks[typ], c.ix.hash.Resource(typ, ref.ID))
			}
		}
	}
	if len(rks) == 0 {
		return "", fhir.NewError(fhir.Invalid, fhir.CodeNotSupported, fmt.Sprintf(
			"Search parameter %q: this server offers the modifier for canonical references, url|version, and for references to types of which one is a part of another: %s.",
			m.Param.Code+":"+m.Modifier, strings.Join(hierarchies(c.ix.registry), ", ")))
	}
	var ways []string
	salt := c.arg(p.salt, "bigint")
	for _, typ := range m.Param.Targets {
		if rks[typ] == nil {
			continue
		}
		parent := c.arg(c.ix.hash.Salt(parentOf(c.ix.registry, typ).Key), "bigint")
		number := c.arg(c.ix.registry.TypeNumber(typ), "smallint")
		index := c.others + "search_index"
		next := fmt.Sprintf("SELECT y.rk FROM h, %s y WHERE y.type + 0 = %s AND y.refs @> ARRAY[h.rk # %s]", index, number, parent)
		if m.Modifier == "above" {
			next = fmt.Sprintf("SELECT z.rk FROM h, %s y, unnest(y.refs) AS u(f), %s z WHERE y.rk = h.rk AND z.rk = u.f # %s AND z.type = %s", index, index, parent, number)
		}
		ways = append(ways, fmt.Sprintf("%s.refs && ARRAY(WITH RECURSIVE h(rk) AS (SELECT unnest(%s) UNION %s) SELECT h.rk # %s FROM h)",
			x, c.arg(rks[typ], "bigint[]"), next, salt))
	}
	if len(ways) == 1 {
		return ways[0], nil
	}
	return "(" + strings.Join(ways, " OR ") + ")", nil
}

// hierarchies are the types of which one resource may be a part of another.
func hierarchies(registry *conformance.Registry) (types []string) {
	for _, typ := range registry.Schema().Resources {
		if parentOf(registry, typ) != nil {
			types = append(types, typ)
		}
	}
	return types
}
