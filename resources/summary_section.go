package resources

import (
	"strings"

	"kiln/fhir"
)

const loinc = "http://loinc.org"

// summarySection is a section of the International Patient Summary. Spec: IPS 1.1, Composition-uv-ips, whose slicing is open:
// alerts and what the patient tells are sections that IPS 2.0 adds.
type summarySection struct {
	code, display, title string
	queries              []summaryQuery
	// latest lists only the newest record of each kind.
	latest bool
	// absent makes the entry of a required section where nothing is known, and nothing says so; nil: the section is left out.
	absent  func(id, patient string) fhir.Node
	nothing string
}

// summaryQuery is a search for records of the patient. keep, if any, picks among those found: R4 has no search parameter for
// all that a section asks for.
type summaryQuery struct {
	typ, where string
	keep       func(*fhir.Node) bool
}

// documents are signed or current documents of a type.
func documents(code string) summaryQuery {
	return summaryQuery{typ: "DocumentReference", where: "status=current&type=" + loinc + "|" + code + "&_sort=-date"}
}

// pregnancyCodes are what observations of a pregnancy are about: whether there is one, when the child is expected
// (edd-method-uv-ips) and how earlier ones ended (pregnancies-summary-uv-ips).
const pregnancyCodes = "82810-3,11778-8,11779-6,11780-4,11636-8,11637-6,11638-4,11639-2,11640-0,11612-9,11613-7,11614-5,33065-4"

// isFunctional says whether a Condition or ClinicalImpression is about what a patient is able to do.
func isFunctional(n *fhir.Node) bool {
	for _, element := range []string{"code", "category"} {
		for concept := range n.Get(element).Items() {
			for c := range concept.Get("coding").Items() {
				switch system, code := c.GetText("system"), c.GetText("code"); {
				case system == loinc && code == functionalStatus,
					system == usCoreCategory && (code == "functional-status" || code == "disability-status" || code == "cognitive-status"):
					return true
				}
			}
		}
	}
	return false
}

const (
	functionalStatus = "47420-5"
	usCoreCategory   = "http://hl7.org/fhir/us/core/CodeSystem/us-core-category"
)

func summarySections() []summarySection {
	const (
		signed   = "status=final,amended,corrected"
		live     = "verification-status:not=entered-in-error&verification-status:not=refuted"
		category = "http://terminology.hl7.org/CodeSystem/observation-category|"
		consents = "http://terminology.hl7.org/CodeSystem/consentcategorycodes|"
	)
	active := func(n *fhir.Node) bool { return n.GetText("status") == "active" }
	pregnancy := loinc + "|" + strings.ReplaceAll(pregnancyCodes, ",", ","+loinc+"|")
	return []summarySection{
		{code: "11450-4", display: "Problem list - Reported", title: "Problems",
			queries: []summaryQuery{{typ: "Condition", where: live + "&clinical-status:not=inactive&clinical-status:not=remission&clinical-status:not=resolved&_sort=-recorded-date"}},
			absent: func(id, patient string) fhir.Node {
				return fhir.Obj(fhir.Str("Condition").As("resourceType"), fhir.Str(id).As("id"),
					concept("http://terminology.hl7.org/CodeSystem/condition-clinical", "active").As("clinicalStatus"),
					unknown("no-problem-info", "No information about problems").As("code"), reference(patient).As("subject"))
			}, nothing: "There is no information about problems."},
		{code: "48765-2", display: "Allergies and adverse reactions Document", title: "Allergies and intolerances",
			queries: []summaryQuery{{typ: "AllergyIntolerance", where: live + "&clinical-status:not=inactive&clinical-status:not=resolved&_sort=-date"}},
			absent: func(id, patient string) fhir.Node {
				return fhir.Obj(fhir.Str("AllergyIntolerance").As("resourceType"), fhir.Str(id).As("id"),
					concept("http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical", "active").As("clinicalStatus"),
					unknown("no-allergy-info", "No information about allergies").As("code"), reference(patient).As("patient"))
			}, nothing: "There is no information about allergies and intolerances."},
		{code: "10160-0", display: "History of Medication use Narrative", title: "Medications",
			queries: []summaryQuery{{typ: "MedicationRequest", where: "status=active,on-hold&_sort=-authoredon"}, {typ: "MedicationStatement", where: "status=active,intended,on-hold&_sort=-effective"}},
			absent: func(id, patient string) fhir.Node {
				reason := fhir.Obj(fhir.Arr(fhir.Obj(fhir.Str("http://hl7.org/fhir/StructureDefinition/data-absent-reason").As("url"), fhir.Str("unknown").As("valueCode"))).As("extension"))
				return fhir.Obj(fhir.Str("MedicationStatement").As("resourceType"), fhir.Str(id).As("id"), fhir.Str("unknown").As("status"),
					unknown("no-medication-info", "No information about medications").As("medicationCodeableConcept"),
					reference(patient).As("subject"), reason.As("_effectiveDateTime"))
			}, nothing: "There is no information about medications."},
		{code: "104605-1", display: "Alert", title: "Alerts", queries: []summaryQuery{{typ: "Flag", where: "_sort=-date", keep: active}}},
		{code: "11369-6", display: "History of Immunization Narrative", title: "Immunizations", queries: []summaryQuery{{typ: "Immunization", where: "status=completed&_sort=-date"}}},
		{code: "30954-2", display: "Relevant diagnostic tests/laboratory data Narrative", title: "Results",
			queries: []summaryQuery{{typ: "DiagnosticReport", where: signed + ",appended&_sort=-date"}, {typ: "Observation", where: signed + "&category=" + category + "laboratory," + category + "imaging&_sort=-date"}}},
		{code: "47519-4", display: "History of Procedures Document", title: "Procedures", queries: []summaryQuery{{typ: "Procedure", where: "status=completed,in-progress,on-hold,stopped&_sort=-date"}}},
		{code: "46264-8", display: "History of medical device use", title: "Devices", queries: []summaryQuery{{typ: "DeviceUseStatement", keep: inUse}}},
		{code: "8716-3", display: "Vital signs", title: "Vital signs", latest: true, queries: []summaryQuery{{typ: "Observation", where: signed + "&category=" + category + "vital-signs&_sort=-date"}}},
		{code: "29762-2", display: "Social history Narrative", title: "Social history", latest: true, queries: []summaryQuery{{typ: "Observation", where: signed + "&category=" + category + "social-history&_sort=-date"}}},
		{code: "11348-0", display: "History of Past illness Narrative", title: "Past illness",
			queries: []summaryQuery{{typ: "Condition", where: live + "&clinical-status=inactive,remission,resolved&_sort=-recorded-date"}}},
		{code: "10162-6", display: "History of pregnancies Narrative", title: "Pregnancy", latest: true,
			queries: []summaryQuery{{typ: "Observation", where: signed + "&code=" + pregnancy + "&_sort=-date"}}},
		{code: functionalStatus, display: "Functional status assessment note", title: "Functional status",
			queries: []summaryQuery{{typ: "Condition", where: live + "&clinical-status:not=inactive&clinical-status:not=resolved&_sort=-recorded-date", keep: isFunctional},
				{typ: "ClinicalImpression", where: "status=completed&_sort=-date", keep: isFunctional}, documents(functionalStatus)}},
		{code: "18776-5", display: "Plan of care note", title: "Plan of care", queries: []summaryQuery{{typ: "CarePlan", where: "status=active,on-hold&_sort=-date"}, documents("18776-5")}},
		{code: "42348-3", display: "Advance healthcare directives", title: "Advance directives",
			queries: []summaryQuery{{typ: "Consent", where: "status=active&scope=http://terminology.hl7.org/CodeSystem/consentscope|adr&_sort=-date"},
				{typ: "Consent", where: "status=active&category=" + consents + "acd," + consents + "dnr," + consents + "hcd," + consents + "polst," + consents + "emrgonly&_sort=-date"},
				documents("42348-3")}},
		{code: "81338-6", display: "Patient Goals, preferences, and priorities for care experience", title: "What the patient tells", queries: []summaryQuery{documents("81338-6")}},
	}
}

// inUse says whether the use of a device is one: R4 has no search parameter for its status.
func inUse(n *fhir.Node) bool {
	switch n.GetText("status") {
	case "entered-in-error", "intended":
		return false
	}
	return true
}

// unknown is a code of IPS for what nobody has said anything about.
func unknown(code, display string) fhir.Node {
	return coded("http://hl7.org/fhir/uv/ips/CodeSystem/absent-unknown-uv-ips", code, display)
}

// coded is a CodeableConcept of one code; display may be "".
func coded(system, code, display string) fhir.Node {
	c := fhir.Obj(fhir.Str(system).As("system"), fhir.Str(code).As("code"))
	if display != "" {
		c.Set("display", fhir.Str(display))
	}
	return fhir.Obj(fhir.Arr(c).As("coding"))
}
