// Package search is the parsed form of a FHIR search (R4 search.html): a small expression tree, the parameters that
// shape the result, and the parser that makes both from a query string.
//
// It knows neither SQL nor the definitions: it asks a Catalog which parameters there are. storage compiles the tree to
// SQL; a slow in-memory matcher in internal/oracle evaluates the same tree, and tests compare the two.
//
// Read first: Query, Expr, Parse.
package search
