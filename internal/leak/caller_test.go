package leak

import (
	"time"

	"kiln/auth"
)

func scopes(text string) auth.Scopes {
	list, faults := auth.ParseScopes(text)
	if faults != nil {
		panic(faults)
	}
	return list
}

// named is a caller with a name for messages.
type named struct {
	name string
	auth.Principal
}

func user(name, scope, self, patient string, roles ...auth.Role) named {
	return named{name, auth.Principal{User: "u-" + name, Client: "app", Roles: roles, FHIRUser: self, Patient: patient, Scopes: scopes(scope)}}
}

// callers are those whose answers are compared.
func callers() []named {
	const laboratory = "http://terminology.hl7.org/CodeSystem/observation-category|laboratory"
	patient, practitioner, admin := auth.RolePatient, auth.RolePractitioner, auth.RoleAdmin
	expired := user("expired", "patient/*.cruds", "Patient/p0", "p0", patient)
	expired.Expires = time.Now().Add(-time.Hour)
	proxy := user("proxy", "patient/*.cruds", "RelatedPerson/of-p1", "p1", patient)
	proxy.Represents = "p1"
	ended := user("proxy of the past", "patient/*.cruds", "RelatedPerson/once-of-p2", "p2", patient)
	ended.Represents = "p2"
	several := user("patient and proxy", "user/*.cruds", "Patient/p0", "", patient)
	several.Others = []auth.Record{{Link: "RelatedPerson/of-p1", Patient: "p1"}, {Link: "RelatedPerson/once-of-p2", Patient: "p2"}}
	over := user("proxy of one still", "user/*.cruds", "RelatedPerson/once-of-p2", "", patient)
	over.Represents, over.Others = "p2", []auth.Record{{Link: "RelatedPerson/of-p1", Patient: "p1"}}
	purpose := user("doctor for research", "user/*.rs", "Practitioner/d1", "", practitioner)
	purpose.Purpose = "HRESCH"
	return []named{
		user("patient", "patient/*.cruds", "Patient/p0", "p0", patient),
		user("patient v1", "patient/*.read", "Patient/p1", "p1", patient),
		user("patient by user scope", "user/*.cruds", "Patient/p2", "", patient),
		user("patient granular", "patient/Observation.cruds?category="+laboratory+" patient/Patient.rs patient/Encounter.r patient/Provenance.s patient/List.rs", "Patient/p3", "p3", patient),
		user("patient granular twice", "patient/Observation.rs?category="+laboratory+"&status=final patient/Observation.rs?status=preliminary patient/*.r", "Patient/p0", "p0", patient),
		user("doctor", "user/*.cruds", "Practitioner/d0", "", practitioner),
		user("doctor v1", "user/*.*", "Practitioner/d1", "", practitioner),
		user("doctor in context", "patient/*.cruds launch", "Practitioner/d1", "p1", practitioner),
		user("doctor in context and beyond", "patient/Observation.rs user/Observation.rs?category="+laboratory+" patient/*.r user/Condition.rs user/DiagnosticReport.rs", "Practitioner/d0", "p1", practitioner),
		user("doctor granular", "user/Observation.rs?code=http://loinc.org|8302-2 user/Patient.rs?gender=male user/Encounter.rs user/Practitioner.rs", "Practitioner/d2", "", practitioner),
		user("doctor and patient", "patient/*.rs user/*.rs", "Practitioner/d3", "p4", practitioner, patient),
		user("doctor and admin", "user/*.cruds", "Practitioner/d2", "", practitioner, admin),
		purpose,
		user("doctor of nobody", "user/*.cruds", "Practitioner/none", "", practitioner),
		user("doctor who signs in", "openid fhirUser", "Practitioner/d1", "", practitioner),
		user("doctor who signs in, in context", "openid fhirUser patient/Observation.rs patient/PractitionerRole.rs user/Practitioner.s", "Practitioner/d1", "p1", practitioner),
		user("patient who signs in", "openid fhirUser patient/Observation.rs", "Patient/p0", "p0", patient),
		user("admin", "user/*.cruds", "", "", admin),
		user("admin granular", "user/Patient.cruds?gender=female user/Appointment.cruds user/Consent.rs", "", "", admin),
		{"backend", auth.Principal{Client: "backend", Scopes: scopes("system/Observation.cruds system/Patient.rs")}},
		{"backend granular", auth.Principal{Client: "backend", Scopes: scopes("system/Observation.rs?status=final system/*.r")}},
		proxy,
		ended,
		several,
		over,
		user("wrong context", "patient/*.rs", "Patient/p0", "p1", patient),
		expired,
	}
}
