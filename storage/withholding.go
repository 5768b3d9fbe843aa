package storage

import (
	"slices"

	"kiln/fhir"
)

// unreleasedLabel stands in security_label for results that are not final: the index finds them by their status, not by a
// label in them.
const unreleasedLabel = fhir.LabelSystem + "|" + "unreleased"

// unreleased are the statuses of results that somebody has still to answer for.
var unreleased = []string{"registered", "partial", "preliminary"}

// withholding finds out what keeps a record from the patient whom it is about: a result that is not final, unless the
// patient, or somebody on the patient's side, has reported it, and the label NOPAT until the time that its extension gives.
func (ix *Indexer) withholding(row *indexRow, n *fhir.Node) {
	if typ := n.ResourceType(); (typ == "Observation" || typ == "DiagnosticReport") && slices.Contains(unreleased, n.GetText("status")) {
		bit, restricts := ix.rules.labels[unreleasedLabel]
		for p := range n.Get("performer").Items() {
			if ref, ok := ix.parseReference(p.GetText("reference")); ok && (ref.Type == "Patient" || ref.Type == "RelatedPerson") {
				restricts = false
			}
		}
		if restricts {
			row.labels |= 1 << bit
		}
	}
	for label := range n.At("meta").Get("security").Items() {
		if label.GetText("system") != fhir.ActCodeSystem || label.GetText("code") != fhir.NoDisclosureToPatient {
			continue
		}
		until := endOfTime
		if _, text, found := fhir.Withholding(label); found {
			if at, ok := fhir.ParseDateTime(text, ix.zone); ok {
				until = at.Time
			}
		}
		if until.After(row.withheld) {
			row.withheld = until
		}
	}
}
