// Package path is Kiln's FHIRPath engine: FHIRPath 2.0.0 as FHIR R4 uses it (http://hl7.org/fhirpath/N1,
// FHIR R4 fhirpath.html), with the later functions that R4's own test suite has (sort, encode, lowBoundary …).
//
// An expression is compiled once and evaluated over the decoded tree, without copying it. It is safe for concurrent
// use. Every evaluation is bounded by Env.MaxSteps and by the limits of limits.go; nothing in a resource or in an
// expression can make it panic or run on.
//
// The package knows types from fhir.Schema only: it loads no definitions, resolves no references by itself outside the
// resource at hand, and asks Env for terminology, profiles and narrative checks.
//
// Read first: Expression (Compile, Eval, EvalBool, Check), Element (an item of a collection), Env (what surrounds an
// evaluation).
package path
