package resources

import (
	"encoding/json"
	"strings"
	"testing"

	"kiln/auth"
	"kiln/fhir"
	"kiln/storage"
)

// The scope fhirUser opens the resource that stands for the user, and no other, on all ways: lessons.md asks "visible by any path exactly when
// visible by read", and this is what a read of it is.
func TestAccess_own_resource(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	for _, body := range []string{
		`{"resourceType":"RelatedPerson","id":"mum","patient":{"reference":"Patient/anna"}}`,
		`{"resourceType":"RelatedPerson","id":"dad","patient":{"reference":"Patient/anna"}}`,
		`{"resourceType":"RelatedPerson","id":"past","patient":{"reference":"Patient/ben"},"period":{"end":"2020-01-01"}}`,
		`{"resourceType":"Person","id":"of-anna","link":[{"target":{"reference":"Patient/anna"}}]}`,
		`{"resourceType":"Person","id":"of-ben","link":[{"target":{"reference":"Patient/ben"}}]}`,
		`{"resourceType":"Practitioner","id":"treats","name":[{"family":"Treats"}],"identifier":[{"system":"urn:p","value":"t"}]}`, // a second version
		`{"resourceType":"Practitioner","id":"stranger","identifier":[{"system":"urn:p","value":"s"}]}`,
		`{"resourceType":"Practitioner","id":"third","identifier":[{"system":"urn:p","value":"s"}]}`,
		`{"resourceType":"PractitionerRole","id":"role","practitioner":{"reference":"Practitioner/stranger"}}`,
		`{"resourceType":"Provenance","id":"of-stranger","recorded":"2024-01-01T00:00:00Z","target":[{"reference":"Practitioner/stranger"}],"agent":[{"who":{"reference":"Practitioner/treats"}}]}`,
	} {
		w.put(body)
	}
	in := func(p auth.Principal, patient string) auth.Principal { p.Patient = patient; return p }
	related := func(id, patient, text string) auth.Principal {
		p := patientApp(patient, text)
		p.FHIRUser, p.Represents = "RelatedPerson/"+id, patient
		return p
	}
	person := func(id, text string, roles ...auth.Role) auth.Principal {
		return auth.Principal{User: "u-" + id, Client: "app", Roles: roles, FHIRUser: "Person/" + id, Scopes: scopes(text)}
	}
	for _, c := range []struct {
		name            string
		who             auth.Principal
		sees, not, none string // with spaces between: by read, vread and history of one
	}{
		{"practitioner", doctor("treats", "openid fhirUser"), "Practitioner/treats", "Practitioner/stranger Practitioner/nothing", "Patient/anna Organization/clinic PractitionerRole/role"},
		{"practitioner_in_context", in(doctor("treats", "fhirUser patient/Observation.rs"), "anna"), "Practitioner/treats Observation/a1", "Practitioner/stranger Observation/b1", "Patient/anna"},
		{"practitioner_with_a_granular_scope", doctor("treats", "fhirUser user/Practitioner.rs?identifier=urn:p|s"), "Practitioner/treats Practitioner/third", "Practitioner/nothing", "Patient/anna"},
		{"practitioner_who_may_read_all", doctor("treats", "fhirUser user/Practitioner.r"), "Practitioner/treats Practitioner/stranger", "Practitioner/nothing", "Patient/anna"},
		{"practitioner_who_may_search_all", doctor("treats", "fhirUser user/Practitioner.s"), "Practitioner/treats", "Practitioner/stranger", "Patient/anna"},
		{"practitioner_of_no_role", auth.Principal{User: "u", FHIRUser: "Practitioner/treats", Scopes: scopes("fhirUser")}, "Practitioner/treats", "Practitioner/stranger", "Patient/anna"},
		{"administrator", auth.Principal{User: "u", Roles: []auth.Role{auth.RoleAdmin}, FHIRUser: "Practitioner/treats", Scopes: scopes("fhirUser")}, "Practitioner/treats", "Practitioner/stranger", "Patient/anna"},
		{"patient", patientApp("anna", "fhirUser"), "Patient/anna", "Patient/ben", "Observation/a1 Practitioner/treats"},
		{"patient_without_context", in(patientApp("anna", "fhirUser user/Observation.rs"), ""), "Patient/anna Observation/a1", "Patient/ben Observation/b1", "Practitioner/treats"},
		{"patient_in_the_context_of_another", in(patientApp("anna", "fhirUser patient/Patient.rs"), "ben"), "Patient/anna", "Patient/ben", "Observation/a1"},
		{"patient_with_a_granular_scope", patientApp("anna", "fhirUser patient/Patient.rs?identifier=urn:x|ben"), "Patient/anna", "Patient/ben", "Observation/a1"},
		{"doctor_who_stands_for_a_patient", auth.Principal{User: "u", Roles: []auth.Role{auth.RolePractitioner}, FHIRUser: "Patient/anna", Scopes: scopes("fhirUser user/*.rs")}, "Patient/anna Practitioner/stranger", "Patient/ben", "Observation/a1"},
		{"proxy", related("mum", "anna", "fhirUser"), "RelatedPerson/mum", "RelatedPerson/dad RelatedPerson/past", "Patient/anna"},
		{"proxy_who_reads_the_record", related("mum", "anna", "fhirUser patient/*.r"), "RelatedPerson/mum RelatedPerson/dad Patient/anna", "RelatedPerson/past Patient/ben", ""},
		{"proxy_of_the_past", related("past", "ben", "fhirUser"), "", "RelatedPerson/past RelatedPerson/mum", "Patient/ben"},
		{"proxy_of_nobody", func() auth.Principal { p := related("mum", "anna", "fhirUser"); p.Represents = ""; return p }(), "", "", "RelatedPerson/mum Patient/anna"},
		{"person", person("of-anna", "fhirUser", auth.RolePractitioner), "Person/of-anna", "Person/of-ben", "Patient/anna"},
		{"administrator_in_context", in(person("of-anna", "fhirUser patient/Person.rs", auth.RoleAdmin), "ben"), "Person/of-anna Person/of-ben", "Person/nothing", "Patient/anna"},
		{"without_the_scope", doctor("treats", "openid profile user/Observation.rs"), "", "", "Practitioner/treats"},
		{"a_backend_system", auth.Principal{Client: "b", FHIRUser: "Practitioner/treats", Scopes: scopes("fhirUser system/Observation.rs")}, "", "", "Practitioner/treats"},
		{"of_another_type", auth.Principal{User: "u", Roles: []auth.Role{auth.RoleAdmin}, FHIRUser: "Organization/clinic", Scopes: scopes("fhirUser")}, "", "", "Organization/clinic"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := &ward{w.Service, t}
			w.reads(c.who, ok, strings.Fields(c.sees)...)
			w.reads(c.who, fhir.NotFound, strings.Fields(c.not)...)
			w.reads(c.who, fhir.Forbidden, strings.Fields(c.none)...)
			for _, key := range strings.Fields(c.sees + " " + c.not + " " + c.none) { // and each the same as an entry of a batch
				body := parse(t, `{"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"GET","url":"`+key+`"}}]}`)
				resp := do(t, w.Service, Request{Principal: c.who, Interaction: Batch, Body: body})
				shown := resp.Bundle.Entries[0].Response != nil && resp.Bundle.Entries[0].Response.Version != nil
				if want := strings.Contains(" "+c.sees+" ", " "+key+" "); shown != want {
					t.Errorf("%s in a batch: %v, want %v", key, shown, want)
				}
			}
		})
	}
	dr := doctor("treats", "openid fhirUser")
	t.Run("it_is_neither_searched_nor_changed", func(t *testing.T) {
		w := &ward{w.Service, t}
		for _, r := range []Request{
			{Interaction: SearchType, Type: "Practitioner"}, {Interaction: SearchType, Type: "Practitioner", Query: "_id=treats"}, {Interaction: HistoryType, Type: "Practitioner"},
			{Interaction: HistorySystem}, {Interaction: SearchSystem, Query: "_type=Practitioner"}, {Interaction: SearchType, Compartment: "Practitioner", CompartmentID: "treats", Type: "Schedule"},
			{Interaction: Operate, Type: "Patient", ID: "anna", Operation: "everything", Safe: true},
			{Interaction: Delete, Type: "Practitioner", ID: "treats"},
			{Interaction: Update, Type: "Practitioner", ID: "treats", Body: parse(t, `{"resourceType":"Practitioner","id":"treats"}`)},
			{Interaction: Patch, Type: "Practitioner", ID: "treats", JSONPatch: []byte(`[{"op":"add","path":"/active","value":true}]`)},
			{Interaction: Create, Type: "Subscription", Body: parse(t, subscription("Practitioner?active=true", idOnly))},
		} {
			if got := w.status(dr, r); got != fhir.Forbidden {
				t.Errorf("%s %s%s/%s %s: %v", r.Interaction, r.Compartment, r.Type, r.ID, r.Query, got)
			}
		}
	})
	t.Run("no_include_chain_or_query_leads_to_another", func(t *testing.T) {
		w := &ward{w.Service, t}
		who := doctor("treats", "fhirUser user/PractitionerRole.rs user/Provenance.rs user/Patient.rs")
		for search, want := range map[string]string{
			"PractitionerRole?_include=PractitionerRole:practitioner": "role", "PractitionerRole?practitioner.identifier=urn:p|s": "", "PractitionerRole?practitioner:Practitioner._id=stranger": "",
			"Patient?_include=Patient:general-practitioner": "anna", "Patient?general-practitioner:Practitioner.family=Treats": "", "Provenance?_include=Provenance:agent": "pa",
		} {
			typ, query, _ := strings.Cut(search, "?")
			if got := w.found(who, typ, query); got != want {
				t.Errorf("%s: %q, want %q", search, got, want)
			}
		}
		for query, want := range map[string]string{
			`{ Practitioner(id: "treats") { id } }`:   `"Practitioner":{"id":"treats"}`,
			`{ Practitioner(id: "stranger") { id } }`: "",
			`{ PractitionerRoleList { practitioner { resource(optional: true) { ... on Practitioner { id } } } } }`: "",
			`{ PractitionerList { id } }`: "",
		} {
			text, _ := json.Marshal(map[string]string{"query": query})
			resp, err := w.Do(t.Context(), Request{Principal: who, Interaction: Operate, Operation: "graphql", Body: parse(t, string(text)), Safe: true})
			got := ""
			if err == nil {
				got = string(resp.Resource.JSON())
			}
			if want != "" && !strings.Contains(got, want) || want == "" && strings.Contains(got, `"id"`) {
				t.Errorf("%s: %s %v", query, got, err)
			}
		}
	})
	t.Run("below_the_query_builder_too", func(t *testing.T) {
		for name, who := range map[string]auth.Principal{"alone": dr, "with_a_granular_scope": doctor("treats", "fhirUser user/Practitioner.rs?identifier=urn:p|t"),
			"with_a_record": in(doctor("treats", "fhirUser patient/*.r?_tag=x patient/Observation.rs"), "anna")} {
			ctx, err := w.identified(t.Context(), &who)
			if err != nil {
				t.Fatal(err)
			}
			for id, want := range map[string]bool{"treats": true, "stranger": false} {
				if v, err := w.store.Read(ctx, "Practitioner", id); err != nil || (v != nil) != want {
					t.Errorf("%s: %s: %v, %v", name, id, v, err)
				}
				if err := w.store.Write(ctx, func(tx *storage.Tx) error {
					found, err := tx.Read(ctx, storage.Key{Type: "Practitioner", ID: id})
					if (len(found) > 0) != want {
						t.Errorf("%s: %s in a transaction: %v", name, id, found)
					}
					return err
				}); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
	t.Run("a_relative_who_is_refused_by_name_loses_it", func(t *testing.T) {
		w := &ward{w.Service, t}
		who := related("mum", "anna", "fhirUser")
		w.reads(who, ok, "RelatedPerson/mum")
		w.put(`{"resourceType":"Consent","id":"no-mum","status":"active","scope":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/consentscope","code":"patient-privacy"}]},
"category":[{"text":"x"}],"patient":{"reference":"Patient/anna"},"provision":{"type":"deny","actor":[{"role":{"text":"x"},"reference":{"reference":"RelatedPerson/mum"}}]}}`)
		w.reads(who, fhir.NotFound, "RelatedPerson/mum")
	})
}
