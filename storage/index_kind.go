package storage

import (
	"slices"

	"kiln/fhir"
	"kiln/fhir/search"
)

// Holds says whether values of a type can be found by a parameter of a kind. It is what Indexer.value reads, without what FHIR has no
// meaning for, such as a day that is read as a URL. An abstract type may stand for any.
// Spec: R4 search.html#ptypes.
func Holds(kind search.Kind, t *fhir.Type) bool {
	if t.Abstract || kind == search.Composite {
		return true
	}
	is := func(names ...string) bool { return slices.ContainsFunc(names, t.Is) }
	text := t.Kind == fhir.Primitive && !is("boolean", "integer", "decimal")
	switch kind {
	case search.Token:
		return t.Kind == fhir.Primitive || is("CodeableConcept", "Coding", "Identifier", "ContactPoint")
	case search.Reference:
		return t.Kind == fhir.Resource || is("Reference", "uri", "string")
	case search.URI:
		return is("uri", "string")
	case search.String:
		return text || is("HumanName", "Address")
	case search.Date:
		return is("date", "dateTime", "instant", "Period", "Timing", "string")
	case search.Number, search.Quantity:
		return is("integer", "decimal", "Quantity", "Money", "Range")
	}
	return true
}
