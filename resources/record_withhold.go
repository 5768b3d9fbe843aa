package resources

import (
	"time"

	"kiln/fhir"
	"kiln/resources/scheduling"
)

// maxWithholding is how long a record may be withheld from its patient; docs/limits.md publishes it.
const maxWithholding = 366 * 24 * time.Hour

// checkLabels lets a record be withheld from its patient only with a reason and an end, and by others than the patient. What
// the version before was labelled with stays as it is.
func (s *Service) checkLabels(r *record) error {
	for label := range r.after.At("meta").Get("security").Items() {
		if label.GetText("system") != fhir.ActCodeSystem || label.GetText("code") != fhir.NoDisclosureToPatient || r.labelled(label) {
			continue
		}
		no := func(text string) error {
			return fhir.NewError(fhir.BusinessRule, fhir.CodeBusinessRule, text).Coded("withholding").At(r.life.Type + ".meta.security")
		}
		if onlyPatient(r.who) {
			return no("Patients withhold nothing from themselves")
		}
		if r.who&scheduling.Server != 0 {
			continue // it was labelled elsewhere
		}
		reason, until, _ := fhir.Withholding(label)
		at, ok := fhir.ParseDateTime(until, time.UTC)
		switch {
		case reason == "" || !ok:
			return no("Say why this is withheld from the patient, and until when, in the extension " + fhir.WithholdingExtension + " of the label")
		case !at.Time.After(s.now()):
			return no("The end of the withholding has passed")
		case at.Time.Sub(s.now()) > maxWithholding:
			return no("Nothing is withheld from a patient for more than a year")
		}
	}
	return nil
}

// labelled says whether the version before had the same label.
func (r *record) labelled(label *fhir.Node) bool {
	for old := range r.before.At("meta").Get("security").Items() {
		if old.Equal(label) {
			return true
		}
	}
	return false
}
