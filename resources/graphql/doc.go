// Package graphql answers GraphQL queries about FHIR resources: it reads a query, checks it against the types of R4, and takes
// what it asks for out of resources that a Source gives. What a caller may see is the business of the Source: this package
// has no other way to a resource. Run is where to begin.
// Spec: FHIR R4 graphql.html; GraphQL (October 2021) for the language.
//
// Introspection and mutations are refused. A field that a resource does not have is left out, as in the examples of FHIR, and is
// not null.
package graphql

import (
	"fmt"

	"kiln/fhir"
	"kiln/fhir/search"
)

// Bounds on one query. They are published in docs/limits.md.
const (
	// MaxQuery is how many bytes a query has, and MaxTokens how many tokens.
	MaxQuery, MaxTokens = 64 << 10, 10_000
	// MaxDepth is how deep fields nest, fragments included.
	MaxDepth = 20
	// MaxSelections is how many fields and fragments a query has once its fragments are put where they are spread.
	MaxSelections = 10_000
	// MaxFields is how many fields an answer has.
	MaxFields = 200_000
	// MaxAnswer is how many bytes of texts, numbers and names an answer has: a text may be selected many times.
	MaxAnswer = 32 << 20
	// MaxValues is how many values the list has that an element is compared with.
	MaxValues = search.MaxValues
	// MaxFetches is how many reads and searches a query takes; a resource that several references name is read once.
	MaxFetches = 500
	// MaxResources is how many resources those give, and MaxList how many one list has.
	MaxResources, MaxList = 5000, 1000
	// DefaultPage is how many edges a connection has that does not say _count.
	DefaultPage = 20
	// maxSteps bounds one evaluation of a FHIRPath expression on one element.
	maxSteps = 20_000
)

// Query is one request.
type Query struct {
	// Text is the document; Operation names one of the operations in it, and may be "" where there is one.
	Text, Operation string
	// Variables is a JSON object, or nil.
	Variables *fhir.Node
}

// Source gives resources. What a caller may not see is to it as what is not there.
type Source interface {
	// Read gives a resource, or one version of it. Errors: NotFound, Gone, Forbidden.
	Read(typ, id, version string) (*fhir.Node, error)
	// Search gives a page of what a search of a type finds. Errors: Invalid, Forbidden.
	Search(typ string, pairs []search.Pair) (*Page, error)
	// Own is the part of a reference behind the address of this server, where it begins with it.
	Own(reference string) string
}

// Page is a page of the matches of a search.
type Page struct {
	Matches []Match
	// Total is nil where it is not known.
	Total *int64
	// Links has the queries that lead to the pages first, previous and next, where there are such.
	Links map[string]string
}

// Match is a resource with what Bundle.entry.search says of it; Score is zero for none.
type Match struct {
	Resource *fhir.Node
	Mode     string
	Score    float64
}

func fault(at, format string, args ...any) *fhir.Error {
	e := fhir.NewError(fhir.Invalid, fhir.CodeInvalid, fmt.Sprintf(format, args...))
	if at != "" {
		e = e.At(at)
	}
	return e
}

func tooMuch(format string, args ...any) *fhir.Error {
	return fhir.NewError(fhir.TooCostly, fhir.CodeTooCostly, fmt.Sprintf(format, args...)).Coded("too-costly")
}

func unsupported(at, format string, args ...any) *fhir.Error {
	return fhir.NewError(fhir.NotSupported, fhir.CodeNotSupported, fmt.Sprintf(format, args...)).At(at)
}
