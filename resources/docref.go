package resources

import (
	"context"
	"strings"

	"kiln/auth"
	"kiln/fhir/search"
)

// docref answers DocumentReference/$docref: the documents of a patient that there are, newest first. It is a search, and its
// further pages are pages of that.
// Spec: US Core 6.1.0, OperationDefinition docref.
//
// Errors: Invalid; Forbidden for who may not search DocumentReferences.
func (s *Service) docref(ctx context.Context, c *call) (*Response, error) {
	const typ = "DocumentReference"
	if err := permitted(ctx, auth.Search, typ); err != nil {
		return nil, err
	}
	if c.is("on-demand") { // none is made when it is asked for
		self := typ + "/$docref" + query([]search.Pair{{Name: "patient", Value: c.text("patient")}, {Name: "on-demand", Value: "true"}})
		return &Response{Bundle: &Bundle{Type: "searchset", Total: new(int64), Links: []Link{{"self", self}}}}, nil
	}
	pairs := []search.Pair{{Name: "patient", Value: c.text("patient")}, {Name: "status", Value: "current"}}
	var types, formats []string
	for _, a := range c.all("type") {
		token := asValue(a.value.GetText("code"))
		if system := a.value.GetText("system"); system != "" {
			token = asValue(system) + "|" + token
		}
		types = append(types, token)
	}
	for _, profile := range c.texts("profile") {
		formats = append(formats, asValue(profile))
	}
	if len(types) > 0 {
		pairs = append(pairs, search.Pair{Name: "type", Value: strings.Join(types, ",")})
	}
	if len(formats) > 0 {
		pairs = append(pairs, search.Pair{Name: "format", Value: strings.Join(formats, ",")})
	}
	if start, end := c.text("start"), c.text("end"); start != "" || end != "" {
		pairs = append(pairs, search.Pair{Name: "_filter",
			Value: "(" + between("period", start, end) + ") or (period pr false and " + between("date", start, end) + ")"})
	}
	pairs = append(pairs, search.Pair{Name: "_sort", Value: "-date"})
	r := *c.Request
	r.Interaction, r.Operation, r.Body, r.Query = SearchType, "", nil, search.Encode(pairs)
	return s.search(acting(ctx, auth.Search), r)
}

// between is the filter for a time from start on, until end; each may be "", not both.
func between(param, start, end string) string {
	var parts []string
	if start != "" {
		parts = append(parts, param+" ge "+start)
	}
	if end != "" {
		parts = append(parts, param+" le "+end)
	}
	return strings.Join(parts, " and ")
}

// asValue writes a text as one value of a search (FHIR R4 search.html#escaping).
func asValue(text string) string {
	return strings.NewReplacer(`\`, `\\`, `,`, `\,`, `|`, `\|`, `$`, `\$`).Replace(text)
}
