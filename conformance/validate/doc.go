// Package validate tells whether a resource is valid FHIR R4 by the base definitions: structure, cardinality, primitive
// formats, required bindings, references, contained resources, extensions, narratives, Bundles and invariants. It runs
// on every write, so it walks the tree once, by tables made from fhir.Schema, and makes nothing unless it finds a fault.
//
// It knows no profiles (they build on it), stores nothing, resolves no references outside the resource and its Bundle,
// and decides no mode: what a server does with the issues is the caller's affair.
//
// Read first: Validator (New, Resource), then object.go for the walk and plan.go for the tables.
package validate
