package storage

import (
	"fmt"
	"strings"

	"kiln/fhir"
	"kiln/fhir/search"
)

// filtered answers the comparisons that only _filter can ask for.
func (c *compiler) filtered(m *search.Match, p *paramPlan, x string) (string, error) {
	switch m.Param.Kind {
	case search.String, search.URI:
		if m.Modifier == search.Contains || m.Modifier == search.EndsWith {
			parts := make([]string, len(m.Values))
			for i, v := range m.Values {
				if parts[i] = v.Raw; m.Param.Kind == search.String {
					parts[i] = foldIndexed(v.Raw)
				}
			}
			return c.partial(p.def.Key, parts, m.Modifier == search.Contains, x), nil
		}
		return c.side("search_string", p.def.Key, m.Values, x, func(v search.Value) (string, error) {
			folded := v.Raw
			if m.Param.Kind == search.String {
				folded = foldIndexed(v.Raw)
			}
			return c.filteredString(m, folded, v.Prefix)
		})
	case search.Token:
		if m.Modifier != search.Unequal {
			return "", notOffered(m)
		}
		// A hash cannot tell another value from another way to ask for the same one. With one value at most, another
		// value is any value that is not this one.
		if !isSingle(c.ix.registry.Schema(), p.def) || strings.Contains(p.def.Expression, ".exists()") {
			return "", fhir.NewError(fhir.Invalid, fhir.CodeNotSupported, fmt.Sprintf(
				"Search parameter %q: %s of %s can have several values, where this server does not offer ne; use not (%s eq %s).",
				"_filter", m.Param.Code, m.Type, m.Param.Code, m.Values[0].Raw))
		}
		equal := *m
		equal.Modifier = "not"
		other, err := c.token(&equal, p, x)
		if err != nil {
			return "", err
		}
		present, err := c.missing(&search.Missing{Type: m.Type, Param: m.Param}, x)
		return "(" + present + " AND " + other + ")", err
	}
	return "", notOffered(m)
}

func (c *compiler) filteredString(m *search.Match, value, prefix string) (string, error) {
	arg := func(s string) string { return c.arg(s, "text") }
	switch m.Modifier {
	case search.Equals:
		return "s.value = " + arg(value), nil
	case search.Unequal:
		return "s.value <> " + arg(value), nil
	case search.StartsWith:
		return c.prefix(value), nil
	case search.Ordered:
		if op := map[string]string{"gt": ">", "lt": "<", "ge": ">=", "le": "<="}[prefix]; op != "" {
			return "s.value " + op + " " + arg(value), nil
		}
	}
	return "", notOffered(m)
}
