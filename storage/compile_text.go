package storage

import (
	"fmt"
	"strings"

	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/storage/fold"
)

// text answers _text and _content. Values are alternatives.
func (c *compiler) text(m *search.Match, x string) (string, error) {
	var alternatives []string
	for _, v := range m.Values {
		t, reason := search.ParseText(v.Raw)
		if reason != "" {
			return "", fhir.NewError(fhir.Invalid, fhir.CodeValue, fmt.Sprintf("Search parameter %q: %s", m.Param.Code, reason))
		}
		weight := ""
		if m.Param.Code == "_text" {
			weight = ":A"
		}
		if q := textQuery(t, weight); q != "" {
			alternatives = append(alternatives, q)
		}
	}
	if len(alternatives) == 0 {
		return "false", nil // nothing but punctuation
	}
	query := c.arg(strings.Join(alternatives, " | "), "text::tsquery")
	cond := c.asked(fmt.Sprintf("%s.rk IN (SELECT s.rk FROM %s s WHERE s.words @@ %s)", x, c.table("search_text", x), query))
	if x == "x" && !c.was && c.others == "" {
		c.words = append(c.words, cond, fmt.Sprintf("EXISTS (SELECT FROM search_text s WHERE s.rk = x.rk AND s.words @@ %s OFFSET 0)", query))
	}
	return cond, nil
}

// textQuery writes a query for PostgreSQL. Words hold letters and digits alone, so nothing needs quoting. It is empty
// where no words are left.
func textQuery(t search.Text, weight string) string {
	if t.Operator == "" {
		var words []string
		fold.Words(t.Phrase, func(w string) bool {
			words = append(words, "'"+w+"'"+weight)
			return true
		})
		return group(words, " <-> ")
	}
	var parts []string
	for _, k := range t.Kids {
		if q := textQuery(k, weight); q != "" {
			parts = append(parts, q)
		}
	}
	switch {
	case t.Operator == "not" && len(parts) == 1:
		return "!" + parts[0]
	case t.Operator == "or":
		return group(parts, " | ")
	}
	return group(parts, " & ")
}

func group(parts []string, operator string) string {
	if len(parts) == 0 {
		return ""
	}
	return "(" + strings.Join(parts, operator) + ")"
}
