package search

// Common is a parameter that searches of all types take and that no SearchParameter of R4 defines: a condition with a grammar of its
// own, or what shapes the answer.
type Common struct {
	Name string
	Kind Kind
	// Meaning is a sentence for those who read what a server offers.
	Meaning string
	// Shapes says that it shapes the answer, so that criteria cannot have it.
	Shapes bool
	// System says that only searches of several types take it.
	System bool
}

// Commons lists them all, by name. What the parser takes beyond them is Kiln's own (_timezone, _explain) or of the protocol (_format, _pretty).
// Spec: R4 search.html#all, #return, #has, #list; search_filter.html.
func Commons() []Common {
	return []Common{
		{Name: "_contained", Kind: Token, Shapes: true, Meaning: "Whether resources inside of others are looked for: true, false or both"},
		{Name: "_containedType", Kind: Token, Shapes: true, Meaning: "What the answer has of them: container or contained"},
		{Name: "_count", Kind: Number, Shapes: true, Meaning: "How many matches a page has"},
		{Name: "_elements", Kind: String, Shapes: true, Meaning: "Only these elements, comma separated"},
		{Name: "_filter", Kind: Special, Meaning: `An expression, such as name eq "x" and birthdate gt 2000`},
		{Name: "_has", Kind: Special, Meaning: "What something refers to: _has:Type:reference:parameter=value"},
		{Name: "_in", Kind: Reference, Meaning: "What is in a List, Group or CareTeam: Group/id"},
		{Name: "_include", Kind: Token, Shapes: true, Meaning: "Also what matches refer to: Type:parameter"},
		{Name: "_list", Kind: Token, Meaning: "What is in a List, by its id"},
		{Name: "_revinclude", Kind: Token, Shapes: true, Meaning: "Also what refers to matches: Type:parameter"},
		{Name: "_sort", Kind: Token, Shapes: true, Meaning: "Search parameters, comma separated; a minus sign before one turns its order. By _text, _content and what has no value in a resource (_filter, _has, _list, _in, _type) nothing is sorted, by near the Locations of a search with near"},
		{Name: "_summary", Kind: Token, Shapes: true, Meaning: "true, text, data, count or false"},
		{Name: "_total", Kind: Token, Shapes: true, Meaning: "none, estimate or accurate"},
		{Name: "_type", Kind: Token, Meaning: "Resource types, comma separated", System: true},
	}
}
