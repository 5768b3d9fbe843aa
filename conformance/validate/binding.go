package validate

import (
	"strings"

	"kiln/conformance"
	"kiln/fhir"
)

// maxCodesShown is how many allowed codes a message lists; a longer list is named by its value set.
const maxCodesShown = 12

// binding is a required binding whose codes are known.
type binding struct {
	url string
	set *conformance.CodeSet
}

// binding gives nil for value sets whose codes cannot be listed: media types, UCUM units.
func (v *Validator) binding(valueSet string) *binding {
	set := v.registry.BindingCodes(valueSet)
	if set == nil {
		return nil
	}
	url, _, _ := strings.Cut(valueSet, "|")
	return &binding{url: url, set: set}
}

// allowed tells which codes would be right.
func (b *binding) allowed() string {
	codes := b.set.Codes()
	if len(codes) <= maxCodesShown {
		return "one of " + strings.Join(codes, ", ")
	}
	return "a code of the value set " + b.url
}

// checkCode checks a value of type code, or another primitive that is bound.
func (r *run) checkCode(n *fhir.Node, b *binding) {
	if n.Kind == fhir.String && !b.set.HasCode(n.Text) {
		r.fail(fhir.CodeCodeInvalid, "binding", "%s is not allowed here: use %s", quote(n.Text), b.allowed())
	}
}

// checkCoded checks a Coding, a CodeableConcept or a Quantity. A concept needs one coding of the value set among its
// codings (FHIR R4 terminologies.html#required); where it has none at all, an extension may say why.
func (r *run) checkCoded(start int, n *fhir.Node, b *binding) {
	codings := n
	if n.Get("coding") != nil {
		codings = n.Get("coding")
	}
	found := false
	for c := range codings.Items() {
		if code := c.Get("code"); code != nil && code.Kind == fhir.String {
			found = true
			if b.set.Has(c.GetText("system"), code.Text) {
				return
			}
		}
	}
	switch {
	case found:
		r.add(start, fhir.SeverityError, fhir.CodeCodeInvalid, "binding",
			"None of the codes is allowed here: use %s, with its system", b.allowed())
	case n.Get("extension") == nil && (codings == n || codings.Kind == fhir.Array) && !onlyQuantity(n):
		r.add(start, fhir.SeverityError, fhir.CodeCodeInvalid, "binding", "A code is needed here: use %s, with its system",
			b.allowed())
	}
}

// onlyQuantity says whether n is a quantity without a unit code, to which a binding has nothing to say.
func onlyQuantity(n *fhir.Node) bool { return n.Get("value") != nil }
