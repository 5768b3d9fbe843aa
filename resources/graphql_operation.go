package resources

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"kiln/auth"
	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/resources/graphql"
	"kiln/storage"
)

// graphql answers $graphql, about the whole server or about one resource. What it reads and finds, it reads and finds as its
// caller does by REST. Its answer is JSON of GraphQL and no resource.
// Spec: FHIR R4 graphql.html.
//
// Errors: those of graphql.Run; NotFound, Gone for the resource that it is asked about.
func (s *Service) graphql(ctx context.Context, c *call) (*Response, error) {
	q, err := graphQuery(c.Request)
	if err != nil {
		return nil, err
	}
	ctx = s.store.WithinTime(ctx)
	src := &graphSource{service: s, ctx: ctx, who: c.Principal, zone: c.TimeZone}
	src.who.BreakGlass = nil // it has been broken, or not, for the one patient that the request names
	var focus *fhir.Node
	if c.ID != "" {
		if focus, err = src.Read(c.Type, c.ID, ""); err != nil {
			return nil, err
		}
	}
	data, err := graphql.Run(ctx, s.registry.Schema(), src, q, focus)
	if err != nil { // the log tells of them all the same: how a query fails may depend on what is in them
		trailOf(ctx).sees(src.holds)
		return nil, err
	}
	answer := fhir.Obj(data.As("data"))
	if len(src.issues) > 0 {
		answer.Set("extensions", fhir.Obj(fhir.OperationOutcome(src.issues...).As("resource")))
	}
	return &Response{Resource: &answer, holds: src.holds}, nil
}

// graphQuery reads a query from the URL and the body: the object that GraphQL has for it, or Parameters.
//
// Errors: Invalid.
func graphQuery(r *Request) (q graphql.Query, err error) {
	take := func(name string, n *fhir.Node) error {
		switch {
		case name == "query" && n.Kind == fhir.String && q.Text == "":
			q.Text = n.Text
		case name == "operationName" && (n.Kind == fhir.String || n.Kind == fhir.Null):
			q.Operation = n.Text
		case name == "variables" && (n.Kind == fhir.Object || n.Kind == fhir.Null):
			q.Variables = n
		case name == "extensions":
		default:
			return fhir.NewError(fhir.Invalid, fhir.CodeInvalid, "$graphql takes query, a text, once, operationName, a text, and variables, an object; "+quote(name)+" is none of these").At(name)
		}
		return nil
	}
	pairs, err := search.ParsePairs(r.Query)
	if err != nil {
		return q, err
	}
	for _, p := range pairs {
		n := fhir.Str(p.Value)
		if p.Name == "variables" && p.Value != "" {
			parsed, err := fhir.ParseJSON([]byte(p.Value))
			if err != nil {
				return q, err
			}
			n = *parsed
		}
		if err := take(p.Name, &n); err != nil {
			return q, err
		}
	}
	if r.Body != nil && r.Body.ResourceType() == "Parameters" {
		for p := range r.Body.Get("parameter").Items() {
			if v := p.Get("valueString"); v == nil || p.GetText("name") != "query" {
				return q, fhir.NewError(fhir.Invalid, fhir.CodeInvalid, "In Parameters, $graphql takes query as valueString and nothing else").At("Parameters.parameter")
			} else if err := take("query", v); err != nil {
				return q, err
			}
		}
	} else if r.Body != nil {
		for i := range r.Body.Kids {
			if err := take(r.Body.Kids[i].Name, &r.Body.Kids[i]); err != nil {
				return q, err
			}
		}
	}
	if q.Text == "" {
		err = fhir.NewError(fhir.Invalid, fhir.CodeRequired, "$graphql needs a query, as in $graphql?query={PatientList(name:\"x\"){id}}").At("query")
	}
	return q, err
}

// graphSource gives a query what its caller may see: each is a read or a search of the caller's.
type graphSource struct {
	service *Service
	ctx     context.Context
	who     auth.Principal
	zone    string
	holds   []*storage.Version
	bytes   int
	issues  []fhir.Issue
}

func (g *graphSource) Read(typ, id, version string) (*fhir.Node, error) {
	r := Request{Interaction: Read, Type: typ, ID: id, Version: version, Principal: g.who}
	if version != "" {
		r.Interaction = VRead
	}
	if !fhir.ValidID(id) || version != "" && !fhir.ValidID(version) {
		return nil, notFound(storage.Key{Type: typ, ID: id})
	}
	resp, err := g.service.Do(g.ctx, r)
	if err != nil {
		return nil, err
	}
	return g.opened(resp.Version)
}

// opened is the content of a version, which the audit log hears of. Errors: TooCostly.
func (g *graphSource) opened(v *storage.Version) (*fhir.Node, error) {
	if g.bytes += len(v.Content); g.bytes > g.service.limits.MaxQueriedBytes {
		return nil, fhir.NewError(fhir.TooCostly, fhir.CodeTooCostly,
			fmt.Sprintf("A GraphQL query looks at %d bytes of resources at most; ask for less at once", g.service.limits.MaxQueriedBytes)).Coded("too-costly")
	}
	g.holds = append(g.holds, v)
	n, err := fhir.ParseJSON(v.Content)
	if err != nil {
		return nil, fhir.NewError(fhir.Internal, fhir.CodeException, "A stored resource cannot be read").Because(err)
	}
	return n, nil
}

func (g *graphSource) Search(typ string, pairs []search.Pair) (*graphql.Page, error) {
	resp, err := g.service.Do(g.ctx, Request{Interaction: SearchType, Type: typ, Query: search.Encode(pairs), TimeZone: g.zone, Principal: g.who})
	if err != nil {
		return nil, err
	}
	page := &graphql.Page{Total: resp.Bundle.Total, Links: map[string]string{}}
	for _, e := range resp.Bundle.Entries {
		if e.Mode != "match" || e.Version == nil {
			continue
		}
		n, err := g.opened(e.Version)
		if err != nil {
			return nil, err
		}
		page.Matches = append(page.Matches, graphql.Match{Resource: n, Mode: e.Mode, Score: e.Score})
	}
	for _, l := range resp.Bundle.Links {
		if _, query, found := strings.Cut(l.URL, "?"); found && l.Relation != "self" {
			page.Links[l.Relation] = query
		}
	}
	for _, i := range resp.Bundle.Issues {
		if !slices.ContainsFunc(g.issues, func(o fhir.Issue) bool { return o.Code == i.Code && o.Text == i.Text }) {
			g.issues = append(g.issues, i)
		}
	}
	return page, nil
}

func (g *graphSource) Own(reference string) string {
	return strings.TrimPrefix(reference, g.service.options.Base+"/")
}
