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
	meta.Set("tag", Arr(append(slices.Clone(tags.Kids), Obj(
		Str("http://terminology.hl7.org/CodeSystem/v3-ObservationValue").As("system"), Str("SUBSETTED").As("code")))...))
	n.Set("meta", meta)
}
