package resources

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"kiln/auth"
	"kiln/fhir"
	"kiln/storage"
)

// ward is a service with two patients, their records, and callers of all kinds.
type ward struct {
	*Service
	t testing.TB
}

func newWard(t testing.TB, change ...func(*Options, *storage.Options)) *ward {
	w := &ward{newService(t, append(change, func(o *Options, so *storage.Options) {
		so.Unrestricted = false
		so.PoolSize = 4
	})...), t}
	for _, body := range []string{
		`{"resourceType":"Practitioner","id":"treats","name":[{"family":"Treats"}]}`,
		`{"resourceType":"Practitioner","id":"stranger"}`,
		`{"resourceType":"Organization","id":"clinic","name":"Clinic"}`,
		`{"resourceType":"Patient","id":"anna","name":[{"family":"Apple"}],"generalPractitioner":[{"reference":"Practitioner/treats"}],"managingOrganization":{"reference":"Organization/clinic"}}`,
		`{"resourceType":"Patient","id":"ben","name":[{"family":"Berry"}],"identifier":[{"system":"urn:x","value":"ben"}],"link":[{"other":{"reference":"Patient/anna"},"type":"seealso"}]}`,
		observation("a1", "anna", "laboratory", "final"), observation("a2", "anna", "vital-signs", "final"),
		observation("b1", "ben", "laboratory", "final"), observation("b2", "ben", "vital-signs", "preliminary"),
		`{"resourceType":"Device","id":"implant","patient":{"reference":"Patient/ben"}}`,
		`{"resourceType":"Device","id":"scanner"}`,
		`{"resourceType":"Provenance","id":"pb","recorded":"2024-01-01T00:00:00Z","target":[{"reference":"Observation/b1"}],"agent":[{"who":{"reference":"Practitioner/treats"}}]}`,
		`{"resourceType":"Provenance","id":"pa","recorded":"2024-01-01T00:00:00Z","target":[{"reference":"Observation/a1"}],"agent":[{"who":{"reference":"Practitioner/treats"}}]}`,
		`{"resourceType":"Encounter","id":"ea","status":"finished","class":{"code":"AMB"},"subject":{"reference":"Patient/anna"}}`,
	} {
		w.put(body)
	}
	return w
}

func observation(id, patient, category, status string) string {
	return fmt.Sprintf(`{"resourceType":"Observation","id":"%s","status":"%s","category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"%s"}]}],
"code":{"coding":[{"system":"http://loinc.org","code":"%s"}]},"subject":{"reference":"Patient/%s"},"effectiveDateTime":"2024-01-0%c"}`,
		id, status, category, "code-"+id, patient, id[len(id)-1])
}

func (w *ward) put(body string) *storage.Version { return put(w.t, w.Service, body) }

func scopes(text string) auth.Scopes {
	list, faults := auth.ParseScopes(text)
	if faults != nil {
		panic(faults)
	}
	return list
}

func patientApp(id, text string) auth.Principal {
	return auth.Principal{User: "u-" + id, Client: "app", Roles: []auth.Role{auth.RolePatient}, FHIRUser: "Patient/" + id, Patient: id, Scopes: scopes(text)}
}

func doctor(id, text string) auth.Principal {
	return auth.Principal{User: "u-" + id, Client: "ehr", Roles: []auth.Role{auth.RolePractitioner}, FHIRUser: "Practitioner/" + id, Scopes: scopes(text)}
}

func admin(text string) auth.Principal {
	return auth.Principal{User: "u-admin", Client: "ehr", Roles: []auth.Role{auth.RoleAdmin}, Scopes: scopes(text)}
}

func backend(text string) auth.Principal {
	return auth.Principal{Client: "backend", Scopes: scopes(text)}
}

// found are the ids that a search finds, in order, as one text.
func (w *ward) found(p auth.Principal, typ, query string) string {
	w.t.Helper()
	r := do(w.t, w.Service, Request{Principal: p, Interaction: SearchType, Type: typ, Query: query})
	var ids []string
	for _, e := range r.Bundle.Entries {
		ids = append(ids, e.Version.ID)
	}
	slices.Sort(ids[matches(r.Bundle):]) // included resources have no order
	if r.Bundle.Total != nil && len(r.Bundle.Links) == 1 && int(*r.Bundle.Total) != matches(r.Bundle) {
		w.t.Errorf("%s?%s: total %d, %d matches", typ, query, *r.Bundle.Total, matches(r.Bundle))
	}
	return strings.Join(ids, " ")
}

func matches(b *Bundle) (n int) {
	for _, e := range b.Entries {
		if e.Mode == "match" {
			n++
		}
	}
	return n
}

func (w *ward) status(p auth.Principal, r Request) fhir.Kind {
	r.Principal = p
	_, err := w.Do(w.t.Context(), r)
	if err == nil {
		return 255
	}
	return fhir.KindOf(err)
}

const ok = fhir.Kind(255)

func (w *ward) reads(p auth.Principal, want fhir.Kind, keys ...string) {
	w.t.Helper()
	for _, key := range keys {
		typ, id, _ := strings.Cut(key, "/")
		for _, r := range []Request{{Interaction: Read}, {Interaction: VRead, Version: "1"}, {Interaction: HistoryInstance}} {
			r.Type, r.ID = typ, id
			if got := w.status(p, r); got != want {
				w.t.Errorf("%s %s: kind %d, want %d", r.Interaction, key, got, want)
			}
		}
	}
}

func TestAccess_reading(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	for _, c := range []struct {
		name            string
		who             auth.Principal
		sees, not, none []string // by read: seen, not found, forbidden
		searches        map[string]string
	}{
		{"operator", auth.Operator("test"), []string{"Patient/anna", "Patient/ben", "Observation/b1", "Device/implant"}, nil, nil,
			map[string]string{"Observation?_sort=_id": "a1 a2 b1 b2"}},
		{"patient", patientApp("anna", "patient/*.rs"),
			[]string{"Patient/anna", "Observation/a1", "Practitioner/treats", "Device/scanner", "Provenance/pa", "Encounter/ea"},
			[]string{"Patient/ben", "Observation/b1", "Device/implant", "Provenance/pb", "Observation/nothing"}, nil,
			map[string]string{"Observation?_sort=_id": "a1 a2", "Observation?patient=ben": "", "Patient": "anna", "Device": "scanner",
				"Observation?patient.name=berry": "", "Patient?_has:Observation:patient:code=code-b1": "", "Provenance": "pa",
				"Observation?_id=a1,b1": "a1", "Patient?_revinclude=Observation:patient": "anna a1 a2", "Practitioner?_revinclude=Patient:general-practitioner&_id=treats": "treats anna",
				"Observation?_lastUpdated=gt2000-01-01&_sort=-_lastUpdated,-_id": "a2 a1", "Patient?link=Patient/anna": ""}},
		{"patient_without_context", func() auth.Principal { p := patientApp("anna", "patient/*.rs"); p.Patient = ""; return p }(),
			nil, nil, []string{"Patient/anna", "Observation/a1"}, nil},
		{"patient_in_the_context_of_another", func() auth.Principal { p := patientApp("anna", "patient/*.rs"); p.Patient = "ben"; return p }(),
			nil, []string{"Patient/ben", "Observation/b1", "Patient/anna"}, nil, nil},
		{"patient_without_scopes", patientApp("anna", "openid"), nil, nil, []string{"Patient/anna"}, nil},
		{"patient_by_user_scope", patientApp("anna", "user/*.rs"), []string{"Observation/a1"}, []string{"Observation/b1"}, nil, nil},
		{"granular", patientApp("anna", "patient/Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|laboratory patient/Patient.rs"),
			[]string{"Observation/a1"}, []string{"Observation/a2", "Observation/b1"}, []string{"Encounter/ea"},
			map[string]string{"Observation": "a1", "Observation?category=vital-signs": "", "Patient?_has:Observation:patient:code=code-a2": "",
				"Patient?_has:Observation:patient:code=code-a1": "anna", "Patient?_revinclude=Observation:patient": "anna a1"}},
		{"granular_two_conditions", patientApp("anna", "patient/Observation.rs?category=laboratory&status=preliminary patient/Observation.rs?category=vital-signs&status=final"),
			[]string{"Observation/a2"}, []string{"Observation/a1", "Observation/b2"}, nil, map[string]string{"Observation": "a2"}},
		{"treating", doctor("treats", "user/*.rs"), []string{"Patient/anna", "Observation/a1", "Provenance/pa", "Practitioner/stranger"},
			[]string{"Patient/ben", "Observation/b1", "Device/implant", "Provenance/pb"}, nil,
			map[string]string{"Patient": "anna", "Observation?_sort=-date": "a2 a1", "Observation?code=code-b1": "", "Observation?patient.name=berry": "",
				"Patient?name=b": "", "Patient?identifier=urn:x|ben": "", "Patient?_has:Observation:patient:status=preliminary": ""}},
		{"treating_in_context", func() auth.Principal { p := doctor("treats", "patient/*.rs"); p.Patient = "anna"; return p }(),
			[]string{"Patient/anna", "Observation/a1", "Organization/clinic"}, []string{"Observation/b1"}, nil, map[string]string{"Observation": "a2 a1"}},
		{"not_treating_in_context", func() auth.Principal { p := doctor("stranger", "patient/*.rs"); p.Patient = "anna"; return p }(),
			nil, []string{"Patient/anna", "Observation/a1"}, nil, map[string]string{"Observation": ""}},
		{"stranger", doctor("stranger", "user/*.rs"), []string{"Practitioner/treats"}, []string{"Patient/anna", "Observation/b1"}, nil, map[string]string{"Observation": "", "Patient": ""}},
		{"admin", admin("user/*.rs"), []string{"Patient/ben", "Observation/b1", "Device/implant"}, []string{"Observation/nothing"}, nil, map[string]string{"Observation?_sort=_id": "a1 a2 b1 b2"}},
		{"backend", backend("system/Observation.rs"), []string{"Observation/b1"}, nil, []string{"Patient/ben"},
			map[string]string{"Observation?_sort=_id": "a1 a2 b1 b2", "Observation?patient.name=berry": "", "Observation?_include=Observation:patient&_sort=_id": "a1 a2 b1 b2"}},
		{"backend_with_user_scopes", backend("user/*.rs patient/*.rs"), nil, nil, []string{"Observation/b1"}, nil},
		{"nobody's_role", auth.Principal{User: "u", Scopes: scopes("user/*.rs")}, nil, nil, []string{"Patient/anna", "Practitioner/treats"}, nil},
		{"practitioner_without_resource", func() auth.Principal { p := doctor("treats", "user/*.rs"); p.FHIRUser = ""; return p }(),
			[]string{"Practitioner/treats"}, nil, []string{"Patient/anna"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := &ward{w.Service, t}
			w.reads(c.who, ok, c.sees...)
			w.reads(c.who, fhir.NotFound, c.not...)
			w.reads(c.who, fhir.Forbidden, c.none...)
			for search, want := range c.searches {
				typ, query, _ := strings.Cut(search, "?")
				if got := w.found(c.who, typ, query); got != want {
					t.Errorf("%s: %q, want %q", search, got, want)
				}
			}
		})
	}
}
