package validate

// fault is an invariant that R4 published wrongly.
type fault struct {
	published string
	meant     string // what is asked instead; "" leaves the invariant out
	reason    string
}

// faults are the known faults of the published invariants, by key. An entry holds only for the expression as published,
// so that a corrected one in a later package is asked as it stands.
var faults = map[string]fault{
	"app-4": {
		published: "Appointment.cancelationReason.exists() implies (Appointment.status='no-show' or Appointment.status='cancelled')",
		meant:     "Appointment.cancelationReason.exists() implies (Appointment.status='noshow' or Appointment.status='cancelled')",
		reason:    "The code is noshow (appointmentstatus); no-show does not exist, so a reason for it could never be given.",
	},
	"con-3": {
		published: "clinicalStatus.exists() or verificationStatus.coding.where(system='http://terminology.hl7.org/CodeSystem/condition-ver-status' and code = 'entered-in-error').exists() or category.select($this='problem-list-item').empty()",
		meant:     "clinicalStatus.exists() or verificationStatus.coding.where(system='http://terminology.hl7.org/CodeSystem/condition-ver-status' and code = 'entered-in-error').exists() or category.coding.where(system='http://terminology.hl7.org/CodeSystem/condition-category' and code='problem-list-item').empty()",
		reason:    "It compares a CodeableConcept with a string, so that every category would count as that of a problem list.",
	},
	"que-7": {
		published: "operator = 'exists' implies (answer is Boolean)",
		meant:     "operator = 'exists' implies (answer is boolean)",
		reason: "Boolean is the type of FHIRPath; the answer is FHIR's boolean, which is another type " +
			"(the official example Questionnaire-bb would fail).",
	},
	"que-12": {
		published: "enableWhen.count() > 2 implies enableBehavior.exists()",
		meant:     "enableWhen.count() > 1 implies enableBehavior.exists()",
		reason: "The rule's text says more than one, and with two conditions enableBehavior decides " +
			"(validator case questionnaire-enableWhen-dw).",
	},
}
