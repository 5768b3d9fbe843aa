package xml

import (
	"strconv"
	"strings"

	"kiln/fhir"
)

// step is one step of a FHIRPath expression; index is -1 for an element that does not repeat.
type step struct {
	name  string
	index int
}

// trail is where a reader or writer is.
type trail []step

func (t trail) String() string {
	var b strings.Builder
	for i, s := range t {
		if i > 0 {
			b.WriteByte('.')
		}
		b.WriteString(s.name)
		if s.index >= 0 {
			b.WriteString("[" + strconv.Itoa(s.index) + "]")
		}
	}
	return b.String()
}

// repeats says whether JSON writes the element as an array.
func repeats(e *fhir.Element) bool { return e.Max != 1 }

// jsonKind is the kind of node that holds a primitive's value.
func jsonKind(t *fhir.Type) fhir.NodeKind {
	switch {
	case t.Is("boolean"):
		return fhir.Bool
	case t.Is("integer"), t.Is("decimal"):
		return fhir.Number
	}
	return fhir.String
}

func isXHTML(t *fhir.Type) bool { return t != nil && t.Name == "xhtml" }
