package validate

import (
	"strings"

	"kiln/fhir"
)

// typeChecks are the rules of single types that are no matter of structure. Each gets the object, the property that
// it is the value of, and where the object's own issues begin.
var typeChecks = map[string]func(*run, *fhir.Node, *prop, int){
	"Attachment": attachment,
	"Bundle":     bundle,
	"Extension":  extension,
	"Reference":  reference,
}

// extension checks ext-1 and the form of the url (FHIR R4 extensibility.html). That the url is there is a matter of
// cardinality.
func extension(r *run, n *fhir.Node, _ *prop, start int) {
	value, children := false, false
	for i := range n.Kids {
		name := strings.TrimPrefix(n.Kids[i].Name, "_")
		value = value || strings.HasPrefix(name, "value")
		children = children || name == "extension"
	}
	switch {
	case value && children:
		r.add(start, fhir.SeverityError, fhir.CodeInvariant, "ext-1",
			"An extension has either a value or extensions, not both")
	case !value && !children:
		r.add(start, fhir.SeverityError, fhir.CodeInvariant, "ext-1", "An extension needs a value[x] or extensions")
	}
	switch u := n.GetText("url"); {
	case u == "":
	case strings.Contains(u, "|"):
		r.add(start, fhir.SeverityError, fhir.CodeValue, "extension-url",
			"The url of an extension must not have a version: %s has one", quote(u))
	case !hasScheme(u) && !r.inExtension():
		r.add(start, fhir.SeverityError, fhir.CodeValue, "extension-url",
			"The url of an extension must be absolute: %s is not", quote(u))
	}
}

// inExtension says whether the object at the path is an extension within an extension: its url may be relative to the
// outer one's definition.
func (r *run) inExtension() bool {
	if len(r.path) < 2 {
		return false
	}
	name := r.path[len(r.path)-2].name
	return name == "extension" || name == "modifierExtension"
}

// attachment checks that size is the size of data.
func attachment(r *run, n *fhir.Node, _ *prop, start int) {
	data, size := n.GetText("data"), n.Get("size")
	if data == "" || size == nil || size.Kind != fhir.Number {
		return
	}
	length, ok := base64Length(data)
	if stated, in := integer(size.Text); ok && in && stated != int64(length) {
		r.add(start, fhir.SeverityError, fhir.CodeValue, "attachment-size",
			"size says %d bytes, but data holds %d", stated, length)
	}
}
