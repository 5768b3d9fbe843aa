// Package conformance knows what FHIR R4 (4.0.1) says: types and their elements, search parameters, compartments,
// the codes of required bindings, and the official definitions themselves, all embedded in the binary.
//
// It knows no HTTP and no SQL, and it never changes after loading: Registry.With gives a copy with more in it.
//
// The official files are pinned in definitions/r4-definitions.zip; internal/gen makes from them the short tables that
// are read at start. Read first: Registry, then fhir.Schema.
package conformance
