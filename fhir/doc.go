// Package fhir holds what every other package says FHIR with: resources as decoded JSON that keep every field and
// every digit, references, dates, decimals, Bundles, OperationOutcomes, the type model, and the one error type.
//
// It knows no HTTP, no SQL and no definitions: conformance fills the Schema from the official StructureDefinitions.
//
// Read first: Node (a JSON value), Schema (what R4 says about it), Error (how anything fails).
package fhir
