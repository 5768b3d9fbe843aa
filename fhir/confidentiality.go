package fhir

import (
	"bytes"
	"slices"
)

// ConfidentialitySystem has the codes of confidentialities.
const ConfidentialitySystem = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"

// confidentialities from the least to the most.
// Spec: FHIR R4 security-labels.html#core; v3-Confidentiality.
var confidentialities = []string{"", "U", "L", "M", "N", "R", "V"}

// Confidentiality is the highest confidentiality of some resources: what a Bundle of them is labelled with. The zero value is
// that of none.
type Confidentiality struct{ rank int }

// AtLeast is a confidentiality that begins with a code.
func AtLeast(code string) Confidentiality {
	return Confidentiality{max(0, slices.Index(confidentialities, code))}
}

// Code is the code; "" for none.
func (c *Confidentiality) Code() string { return confidentialities[c.rank] }

// Of takes a resource into account, by its meta.security.
func (c *Confidentiality) Of(n *Node) {
	for label := range n.At("meta").Get("security").Items() {
		if label.GetText("system") == ConfidentialitySystem {
			c.rank = max(c.rank, slices.Index(confidentialities, label.GetText("code")))
		}
	}
}

// OfJSON takes a stored resource into account. One that never speaks of confidentiality, as most do not, is not parsed.
func (c *Confidentiality) OfJSON(content []byte) {
	if !bytes.Contains(content, []byte(ConfidentialitySystem)) {
		return
	}
	if n, err := ParseJSON(content); err == nil {
		c.Of(n)
	}
}

// Label is the Coding for meta.security; ok is false where no resource has a confidentiality.
func (c *Confidentiality) Label() (coding Node, ok bool) {
	if c.rank <= 0 {
		return Node{}, false
	}
	return Obj(Str(ConfidentialitySystem).As("system"), Str(confidentialities[c.rank]).As("code")), true
}
