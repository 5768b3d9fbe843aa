package fhir

import "strings"

// What keeps a record from the patient whom it is about: the label NOPAT in meta.security, with an extension that says why
// and until when.
const (
	ActCodeSystem         = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
	NoDisclosureToPatient = "NOPAT"
	WithholdingExtension  = CanonicalBase + "StructureDefinition/withholding"
	// LabelSystem holds the labels that are Kiln's own.
	LabelSystem = CanonicalBase + "CodeSystem/label"
)

// Withholding reads the extension of a label: why, and until when as a dateTime.
func Withholding(label *Node) (reason, until string, found bool) {
	for e := range label.Get("extension").Items() {
		if e.GetText("url") != WithholdingExtension {
			continue
		}
		found = true
		for part := range e.Get("extension").Items() {
			switch part.GetText("url") {
			case "reason":
				reason = strings.TrimSpace(part.GetText("valueString"))
			case "until":
				until = part.GetText("valueDateTime")
			}
		}
	}
	return reason, until, found
}
