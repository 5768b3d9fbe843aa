package resources

import "kiln/fhir"

// IHE Scheduling has reasons of its own, in cancelationReason or in an extension. Spec: IHE ITI Scheduling 1.0, status-reason.
const (
	iheReasonSystem    = "https://profiles.ihe.net/ITI/Scheduling/CodeSystem/status-reason"
	iheReasonExtension = "https://profiles.ihe.net/ITI/Scheduling/StructureDefinition/extension-status-reason"
)

// iheReasons are the codes of R4 for those of IHE, room-unavial as they spell it.
var iheReasons = map[string]string{
	"patient-cancel": "pat", "refused": "pat", "needs-tests": "pat", "no-show": "pat", "deceased": "pat-dec", "improved": "pat-fb", "transportation": "pat-lt",
	"terminated": "pat-mt", "moved": "pat-mv", "pregnant": "pat-preg", "wait-list": "pat-swl", "disgruntled": "pat-ucp", "new-provider": "pat-ucp",
	"staff-cancel": "prov", "personal": "prov-pers", "discharged": "prov-dch", "meeting": "prov-edu", "hospitalized": "prov-hosp",
	"abnormal-results": "prov-labs", "plan-changes": "prov-onc", "equip-unavail": "maint", "prep-incomplete": "meds-inc", "other": "other",
	"cms-auth": "oth-cms", "financial": "oth-fin", "improper-iv": "oth-iv", "interpreter-unavail": "oth-int", "prep-unavail": "oth-mu",
	"room-unavial": "oth-room", "scheduling-error": "oth-oerr", "walk-in-error": "oth-swie", "weather": "oth-weath",
}

// readIHEReason gives a cancelled appointment the reason of R4 for the one of IHE that it states; true where it did.
func readIHEReason(n *fhir.Node) bool {
	reason := n.Get("cancelationReason")
	if reason == nil {
		for e := range n.Get("extension").Items() {
			if e.GetText("url") == iheReasonExtension && e.Get("valueCodeableConcept") != nil {
				reason = new(e.Get("valueCodeableConcept").Clone())
			}
		}
	}
	ours := ""
	for c := range reason.Get("coding").Items() {
		switch c.GetText("system") {
		case reasonSystem:
			return false
		case iheReasonSystem:
			if ours == "" {
				ours = iheReasons[c.GetText("code")]
			}
		}
	}
	if ours == "" {
		return false
	}
	own := reason.Clone()
	codings := own.Get("coding").Clone()
	codings.Kids = append([]fhir.Node{coding(reasonSystem, ours, "")}, codings.Kids...)
	own.Set("coding", codings)
	n.Set("cancelationReason", own)
	return true
}
