package fhir

import "slices"

// DataAbsentReason is the extension that says why an element is not there.
const DataAbsentReason = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"

// Subsetted marks a resource as one that is not whole, with the tag SUBSETTED. Spec: FHIR R4 search.html#summary.
func Subsetted(n *Node) {
	meta := Obj()
	if m := n.Get("meta"); m != nil {
		meta = m.Clone()
	}
	tags := Arr()
	if m := meta.Get("tag"); m != nil {
		tags = *m
	}
	meta.Set("tag", Arr(append(slices.Clone(tags.Kids), Obj(Str(subsettedSystem).As("system"), Str(subsettedCode).As("code")))...))
	n.Set("meta", meta)
}

const subsettedSystem, subsettedCode = "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "SUBSETTED"

// IsSubsetted says whether a resource has the tag SUBSETTED: who has it does not have the whole.
func IsSubsetted(n *Node) bool {
	for tag := range n.Get("meta").Get("tag").Items() {
		if tag.GetText("code") == subsettedCode && tag.GetText("system") == subsettedSystem {
			return true
		}
	}
	return false
}
