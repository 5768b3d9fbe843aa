package resources

import "kiln/fhir"

const loinc = "http://loinc.org"

// summarySection is a section of the International Patient Summary. Spec: IPS 1.1, Composition-uv-ips.
type summarySection struct {
	code, display, title string
	queries              []summaryQuery
	// latest lists only the newest record of each kind.
	latest bool
	// absent makes the entry of a required section where nothing is known, and nothing says so; nil: the section is left out.
	absent  func(id, patient string) fhir.Node
	nothing string
}

// summaryQuery is a search for records of the patient.
type summaryQuery struct{ typ, where string }

func summarySections() []summarySection {
	const (
		signed   = "status=final,amended,corrected"
		live     = "verification-status:not=entered-in-error&verification-status:not=refuted"
		category = "http://terminology.hl7.org/CodeSystem/observation-category|"
	)
	return []summarySection{
		{code: "11450-4", display: "Problem list - Reported", title: "Problems",
			queries: []summaryQuery{{"Condition", live + "&clinical-status:not=inactive&clinical-status:not=remission&clinical-status:not=resolved&_sort=-recorded-date"}},
			absent: func(id, patient string) fhir.Node {
				return fhir.Obj(fhir.Str("Condition").As("resourceType"), fhir.Str(id).As("id"),
					concept("http://terminology.hl7.org/CodeSystem/condition-clinical", "active").As("clinicalStatus"),
					unknown("no-problem-info", "No information about problems").As("code"), reference(patient).As("subject"))
			}, nothing: "There is no information about problems."},
		{code: "48765-2", display: "Allergies and adverse reactions Document", title: "Allergies and intolerances",
			queries: []summaryQuery{{"AllergyIntolerance", live + "&clinical-status:not=inactive&clinical-status:not=resolved&_sort=-date"}},
			absent: func(id, patient string) fhir.Node {
				return fhir.Obj(fhir.Str("AllergyIntolerance").As("resourceType"), fhir.Str(id).As("id"),
					concept("http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical", "active").As("clinicalStatus"),
					unknown("no-allergy-info", "No information about allergies").As("code"), reference(patient).As("patient"))
			}, nothing: "There is no information about allergies and intolerances."},
		{code: "10160-0", display: "History of Medication use Narrative", title: "Medications",
			queries: []summaryQuery{{"MedicationRequest", "status=active,on-hold&_sort=-authoredon"}, {"MedicationStatement", "status=active,intended,on-hold&_sort=-effective"}},
			absent: func(id, patient string) fhir.Node {
				reason := fhir.Obj(fhir.Arr(fhir.Obj(fhir.Str("http://hl7.org/fhir/StructureDefinition/data-absent-reason").As("url"), fhir.Str("unknown").As("valueCode"))).As("extension"))
				return fhir.Obj(fhir.Str("MedicationStatement").As("resourceType"), fhir.Str(id).As("id"), fhir.Str("unknown").As("status"),
					unknown("no-medication-info", "No information about medications").As("medicationCodeableConcept"),
					reference(patient).As("subject"), reason.As("_effectiveDateTime"))
			}, nothing: "There is no information about medications."},
		{code: "11369-6", display: "History of Immunization Narrative", title: "Immunizations", queries: []summaryQuery{{"Immunization", "status=completed&_sort=-date"}}},
		{code: "30954-2", display: "Relevant diagnostic tests/laboratory data Narrative", title: "Results",
			queries: []summaryQuery{{"DiagnosticReport", signed + ",appended&_sort=-date"}, {"Observation", signed + "&category=" + category + "laboratory," + category + "imaging&_sort=-date"}}},
		{code: "47519-4", display: "History of Procedures Document", title: "Procedures", queries: []summaryQuery{{"Procedure", "status=completed,in-progress,on-hold,stopped&_sort=-date"}}},
		{code: "46264-8", display: "History of medical device use", title: "Devices", queries: []summaryQuery{{"DeviceUseStatement", ""}}},
		{code: "8716-3", display: "Vital signs", title: "Vital signs", latest: true, queries: []summaryQuery{{"Observation", signed + "&category=" + category + "vital-signs&_sort=-date"}}},
		{code: "29762-2", display: "Social history Narrative", title: "Social history", latest: true, queries: []summaryQuery{{"Observation", signed + "&category=" + category + "social-history&_sort=-date"}}},
		{code: "11348-0", display: "History of Past illness Narrative", title: "Past illness",
			queries: []summaryQuery{{"Condition", live + "&clinical-status=inactive,remission,resolved&_sort=-recorded-date"}}},
		{code: "18776-5", display: "Plan of care note", title: "Plan of care", queries: []summaryQuery{{"CarePlan", "status=active,on-hold&_sort=-date"}}},
	}
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
