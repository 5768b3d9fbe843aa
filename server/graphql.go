package server

import (
	"mime"
	"strings"
	"unicode/utf8"

	"kiln/fhir"
)

// $graphql is asked and answered in JSON of GraphQL, errors too, and not in resources. Spec: FHIR R4 graphql.html.

const (
	graphqlOperation = "graphql"
	// graphqlText is the media type of a query by itself, graphqlAnswer that of answers, for those who ask for it by that name.
	graphqlText, graphqlAnswer = "application/graphql", "application/graphql-response+json"
)

var graphqlFormat = format{name: "json", contentType: []string{"application/json; charset=utf-8"}, graphql: true}

// maxGraphQL bounds the body of a query, with its variables.
const maxGraphQL = 1 << 20

// negotiateGraphQL is negotiate for $graphql, which has one form of an answer. Errors: NotAcceptable.
func (x *exchange) negotiateGraphQL() error {
	err := x.negotiate()
	accept := x.r.Header["Accept"]
	takes := !x.formatWanted && len(accept) == 0 || x.formatWanted && err == nil && !x.format.xml
	for _, mediaType := range []string{"application/json", "application/fhir+json", graphqlAnswer, "text/html"} {
		takes = takes || !x.formatWanted && acceptQuality(accept, mediaType) > 0
	}
	x.format = graphqlFormat
	if !takes {
		return fhir.NewError(fhir.NotAcceptable, fhir.CodeNotSupported, "$graphql answers in application/json; what you accept is not offered")
	}
	return nil
}

// graphqlBody reads a query: application/graphql is the text of one, JSON is an object with query, variables and
// operationName, or Parameters.
//
// Errors: UnsupportedMedia; those of readBody; Invalid.
func (x *exchange) graphqlBody() (*fhir.Node, error) {
	if x.r.ContentLength == 0 {
		return nil, nil
	}
	mediaType, params, err := mime.ParseMediaType(x.r.Header.Get("Content-Type"))
	if err != nil || mediaType != graphqlText {
		if _, err := x.contentType(bodyFHIR); err != nil {
			return nil, fhir.NewError(fhir.UnsupportedMedia, fhir.CodeNotSupported,
				"A query comes as application/graphql, or as application/json with query, variables and operationName, in UTF-8").Because(err)
		}
		return x.readNode(maxGraphQL)
	}
	if charset, ok := params["charset"]; ok && !isUTF8(charset) {
		return nil, fhir.NewError(fhir.UnsupportedMedia, fhir.CodeNotSupported, "The charset of the body is not UTF-8")
	}
	buf := getBuffer()
	defer putBuffer(buf)
	if err := x.readBody(buf, maxGraphQL); err != nil {
		return nil, err
	}
	text := strings.TrimPrefix(buf.String(), string(utf8Mark))
	if !utf8.ValidString(text) {
		return nil, fhir.NewError(fhir.Invalid, fhir.CodeStructure, "The body is not UTF-8")
	}
	n := fhir.Obj(fhir.Str(text).As("query"))
	return &n, nil
}

// graphqlErrors is an outcome as GraphQL tells it: an error for each issue, with the issue as the resource beside it
// (FHIR R4 graphql.html#errors).
func graphqlErrors(issues []fhir.Issue) fhir.Node {
	list := fhir.Arr()
	for _, i := range issues {
		list.Kids = append(list.Kids, fhir.Obj(fhir.Str(i.Text).As("message"), fhir.Obj(fhir.OperationOutcome(i).As("resource")).As("extensions")))
	}
	return fhir.Obj(fhir.Node{}.As("data"), list.As("errors"))
}
