package storage

import (
	"fmt"
	"slices"
	"strings"

	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/storage/fold"
)

// text answers _text and _content. Values are alternatives.
func (c *compiler) text(m *search.Match, x string) (string, error) {
	any := search.Text{Operator: "or"}
	for _, v := range m.Values {
		t, reason := search.ParseText(v.Raw)
		if reason != "" {
			return "", fhir.NewError(fhir.Invalid, fhir.CodeValue, fmt.Sprintf("Search parameter %q: %s", m.Param.Code, reason))
		}
		if t, some := withWords(t); some {
			any.Kids = append(any.Kids, t)
		}
	}
	switch len(any.Kids) {
	case 0:
		return "false", nil // nothing but punctuation
	case 1:
		any = any.Kids[0]
	}
	w := wordsOf{c: c, x: x, types: c.searched(), narrative: m.Param.Code == "_text"}
	if !c.ix.worded || !any.Positive() { // where no word must be there, its text must
		return w.unhashed(any), nil
	}
	if m.Type != "" {
		w.types = []string{m.Type}
	}
	c.texts = true
	cond := w.condition(any)
	if cond != c.termed.sql { // the last of its terms are not all
		c.termed = termsOf{}
	}
	return cond, nil
}

// searched are the types that the search is for.
func (c *compiler) searched() []string {
	if c.types == nil {
		return c.ix.registry.Schema().Resources
	}
	return c.types
}

// withWords is a query without what has no words in it; some is false where nothing is left.
func withWords(t search.Text) (_ search.Text, some bool) {
	if t.Operator == "" {
		return t, len(phrase(t)) > 0
	}
	kids := t.Kids
	t.Kids = nil
	for _, k := range kids {
		if k, some := withWords(k); some {
			t.Kids = append(t.Kids, k)
		}
	}
	return t, len(t.Kids) > 0
}

// phrase are the words of a phrase, in their order.
func phrase(t search.Text) (words []string) {
	fold.Words(t.Phrase, func(w string) bool {
		words = append(words, w)
		return true
	})
	return words
}

// wordsOf compiles a text query over rows x of some types. narrative says that words of the narrative alone count.
type wordsOf struct {
	c         *compiler
	x         string
	types     []string
	narrative bool
}

// condition asks the terms of a row for words. Their places are in search_text alone: of what has all words of a phrase its row is looked
// at. What is asked of the terms stands first, where it is looked for.
func (w *wordsOf) condition(t search.Text) string {
	var parts []string
	switch t.Operator {
	case "":
		words := phrase(t)
		for _, word := range unique(slices.Clone(words)) {
			parts = append(parts, w.word(word))
		}
		if len(words) > 1 {
			parts = append(parts, fmt.Sprintf("EXISTS (SELECT FROM %s s WHERE s.rk = %s.rk AND s.words @@ %s OFFSET 0)", w.c.table("search_text", w.x), w.x, w.query(t)))
		}
	case "not":
		return "NOT (" + w.condition(t.Kids[0]) + ")"
	case "or":
		for _, k := range t.Kids {
			parts = append(parts, w.condition(k))
		}
		return "(" + strings.Join(parts, " OR ") + ")"
	default:
		for _, k := range t.Kids {
			parts = append(parts, w.condition(k))
		}
	}
	return strings.Join(parts, " AND ")
}

// word asks for one word.
func (w *wordsOf) word(word string) string {
	ofTypes := make([][]int64, w.c.ix.registry.LastType()+1)
	for _, typ := range w.types {
		number := w.c.ix.registry.TypeNumber(typ)
		terms := []int64{w.c.ix.hash.word(number, termNarrated, word)}
		if !w.narrative {
			terms = append(terms, w.c.ix.hash.word(number, termWord, word))
		}
		ofTypes[number] = terms
	}
	if len(w.types) == 1 || w.x != "x" || !w.c.unites() {
		return w.c.contains(w.x+".tokens", slices.Concat(ofTypes...))
	}
	return w.c.union(map[string][][]int64{"x.tokens": ofTypes})
}

// query is a query for PostgreSQL, as an argument.
func (w *wordsOf) query(t search.Text) string {
	weight := ""
	if w.narrative {
		weight = ":A"
	}
	return w.c.arg(textQuery(t, weight), "text::tsquery")
}

// unhashed asks search_text alone: see words.go.
func (w *wordsOf) unhashed(t search.Text) string {
	query := w.query(t)
	cond := w.c.asked(fmt.Sprintf("%s.rk IN (SELECT s.rk FROM %s s WHERE s.words @@ %s)", w.x, w.c.table("search_text", w.x), query))
	if w.x == "x" && !w.c.was && w.c.others == "" {
		w.c.words = append(w.c.words, cond, fmt.Sprintf("EXISTS (SELECT FROM search_text s WHERE s.rk = x.rk AND s.words @@ %s OFFSET 0)", query))
	}
	return cond
}

// textQuery writes a query for PostgreSQL. Words hold letters and digits alone, so nothing needs quoting.
func textQuery(t search.Text, weight string) string {
	var parts []string
	if t.Operator == "" {
		for _, w := range phrase(t) {
			parts = append(parts, "'"+w+"'"+weight)
		}
		return "(" + strings.Join(parts, " <-> ") + ")"
	}
	for _, k := range t.Kids {
		parts = append(parts, textQuery(k, weight))
	}
	switch t.Operator {
	case "not":
		return "!" + parts[0]
	case "or":
		return "(" + strings.Join(parts, " | ") + ")"
	}
	return "(" + strings.Join(parts, " & ") + ")"
}
