package terminology

import (
	"slices"
	"strings"

	"kiln/fhir"
	"kiln/storage/fold"
)

// Concept is one concept of a code system on its way into the tables.
type Concept struct {
	Code, Display, Definition string
	// Inactive concepts are no longer used; Abstract ones group others and are not for selection.
	Inactive, Abstract bool
	// Parents are the codes above it. They may come later than the concept itself.
	Parents      []string
	Properties   []Property
	Designations []Designation
}

// Property is one value of a property of a concept.
type Property struct {
	Code string
	// Type is that of the value[x]: code, Coding, string, integer, boolean, dateTime or decimal.
	Type string
	// Value is the value as text; of a Coding its code.
	Value string
	// Coding is the whole of a Coding; nil for other types.
	Coding *fhir.Node
}

// Designation is another name of a concept.
type Designation struct {
	Language string
	Use      *fhir.Node // a Coding, or nil
	Value    string
}

// maxWords bounds the words of one concept that filters find.
const maxWords = 1000

// words makes the tsvector of a concept: the words of its code and its names. The code is there as a whole, too.
func (c *Concept) words() string {
	var list []string
	add := func(s string) {
		fold.Words(s, func(w string) bool {
			list = append(list, "'"+w+"'")
			return len(list) < maxWords
		})
	}
	add(c.Code)
	add(c.Display)
	for _, d := range c.Designations {
		add(d.Value)
	}
	if whole := lexeme(c.Code); whole != "" {
		list = append(list, whole)
	}
	slices.Sort(list)
	return strings.Join(slices.Compact(list), " ")
}

// lexeme writes a whole string as one word of a tsvector or tsquery, in quotes; "" for nothing to write.
func lexeme(s string) string {
	s = fold.Cut(fold.String(s), fold.MaxWord)
	if s == "" || strings.ContainsRune(s, 0) {
		return ""
	}
	return "'" + strings.NewReplacer("'", "''", `\`, `\\`).Replace(s) + "'"
}

// textQuery makes the tsquery of a filter: every word of it begins a word of the concept, or the filter as a whole
// begins the code. It is "" for a filter without letters and digits.
func textQuery(filter string) string {
	var parts []string
	fold.Words(filter, func(w string) bool {
		parts = append(parts, "'"+w+"':*")
		return len(parts) < maxFilterWords
	})
	whole := lexeme(filter)
	switch {
	case len(parts) == 0 && whole == "":
		return ""
	case len(parts) == 0:
		return whole + ":*"
	case whole == "":
		return strings.Join(parts, " & ")
	}
	return "(" + strings.Join(parts, " & ") + ") | " + whole + ":*"
}

// maxFilterWords is how many words of a text filter count.
const maxFilterWords = 20

// matchesText says of a display what textQuery asks of a concept.
func matchesText(filter, code, display string) bool {
	if strings.HasPrefix(fold.String(code), fold.String(filter)) {
		return true
	}
	var have []string
	gather := func(w string) bool { have = append(have, w); return len(have) < maxWords }
	fold.Words(code, gather)
	fold.Words(display, gather)
	found, n := true, 0
	fold.Words(filter, func(w string) bool {
		n++
		found = found && slices.ContainsFunc(have, func(h string) bool { return strings.HasPrefix(h, w) })
		return found && n < maxFilterWords
	})
	return found && n > 0
}
