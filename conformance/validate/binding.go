package validate

import (
	"strings"

	"kiln/conformance"
	"kiln/fhir"
	"kiln/fhir/ucum"
)

// maxCodesShown is how many allowed codes a message lists; a longer list is named by its value set.
const maxCodesShown = 12

// binding is a required binding whose codes are known, or can be told by their form.
type binding struct {
	url string
	set interface {
		Has(system, code string) bool
		HasCode(code string) bool
	}
	// allowed tells which codes would be right.
	allowed string
}

// binding gives nil for value sets whose codes nobody here knows: the answer list LL379-9 of LOINC.
func (v *Validator) binding(valueSet string) *binding {
	url, _, _ := strings.Cut(valueSet, "|")
	switch url {
	case "http://hl7.org/fhir/ValueSet/mimetypes":
		return &binding{url, grammar{"urn:ietf:bcp:13", isMediaType}, "a media type, such as application/pdf"}
	case "http://hl7.org/fhir/ValueSet/ucum-units":
		return &binding{url, grammar{"http://unitsofmeasure.org", isUnit}, "a unit of UCUM"}
	}
	set := v.registry.BindingCodes(valueSet)
	if set == nil {
		return nil
	}
	b := &binding{url, set, "a code of the value set " + url}
	if codes := set.Codes(); len(codes) <= maxCodesShown {
		b.allowed = "one of " + strings.Join(codes, ", ")
	}
	return b
}

// grammar is a code system whose codes are built by rules, so that nobody can list them.
type grammar struct {
	system string
	valid  func(code string) bool
}

// Has says whether it is a code of the system.
func (g grammar) Has(system, code string) bool { return system == g.system && g.valid(code) }

// HasCode is Has for a value of type code, whose system the binding implies.
func (g grammar) HasCode(code string) bool { return g.valid(code) }

// isMediaType also takes the short names of the formats of FHIR, which R4 allows where it asks for a media type
// (CapabilityStatement.format: "or xml, json or ttl"; its own examples of TestScript).
func isMediaType(code string) bool {
	return code == "xml" || code == "json" || code == "ttl" || conformance.IsMediaType(code)
}

func isUnit(code string) bool { return ucum.Comparable(code, code) }

// checkCode checks a value of type code, or another primitive that is bound.
func (r *run) checkCode(n *fhir.Node, b *binding) {
	if n.Kind == fhir.String && !b.set.HasCode(n.Text) {
		r.fail(fhir.CodeCodeInvalid, "binding", "%s is not allowed here: use %s", quote(n.Text), b.allowed)
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
			"None of the codes is allowed here: use %s, with its system", b.allowed)
	case n.Get("extension") == nil && (codings == n || codings.Kind == fhir.Array) && !onlyQuantity(n):
		r.add(start, fhir.SeverityError, fhir.CodeCodeInvalid, "binding", "A code is needed here: use %s, with its system",
			b.allowed)
	}
}

// onlyQuantity says whether n is a quantity without a unit code, to which a binding has nothing to say.
func onlyQuantity(n *fhir.Node) bool { return n.Get("value") != nil }
