package resources

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"

	"kiln/auth"
	"kiln/fhir"
	"kiln/storage"
)

func TestEverything(t *testing.T) {
	t.Parallel()
	s := newService(t)
	for _, body := range []string{
		`{"resourceType":"Organization","id":"org","name":"Clinic"}`,
		`{"resourceType":"Practitioner","id":"dr"}`,
		`{"resourceType":"Practitioner","id":"other-dr"}`,
		`{"resourceType":"Patient","id":"p","birthDate":"1950-01-01","managingOrganization":{"reference":"Organization/org"}}`,
		`{"resourceType":"Patient","id":"q","generalPractitioner":[{"reference":"Practitioner/other-dr"}]}`,
		`{"resourceType":"Encounter","id":"e","status":"finished","class":{"code":"AMB"},"subject":{"reference":"Patient/p"},"period":{"start":"2020-01-05","end":"2020-01-05"}}`,
		`{"resourceType":"Observation","id":"o1","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/p"},"encounter":{"reference":"Encounter/e"},"effectiveDateTime":"2020-01-05","performer":[{"reference":"Practitioner/dr"}]}`,
		`{"resourceType":"Observation","id":"o2","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/p"},"effectiveDateTime":"2021-06-01"}`,
		`{"resourceType":"Observation","id":"o3","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/q"},"effectiveDateTime":"2021-06-01"}`,
		`{"resourceType":"Coverage","id":"c","status":"active","beneficiary":{"reference":"Patient/p"},"payor":[{"reference":"Organization/org"}]}`,
		`{"resourceType":"Provenance","id":"pv","target":[{"reference":"Observation/o2"}],"recorded":"2021-06-01T00:00:00Z","agent":[{"who":{"reference":"Practitioner/dr"}}]}`,
	} {
		put(t, s, body)
	}
	call := func(typ, id, query string) Request {
		return Request{Interaction: Operate, Operation: "everything", Type: typ, ID: id, Query: query}
	}
	names := func(b *Bundle) (list []string) {
		for _, e := range b.Entries {
			list = append(list, e.Version.ID)
		}
		slices.Sort(list)
		return list
	}
	before := do(t, s, Request{Interaction: Read, Type: "Observation", ID: "o2"}).Version.LastUpdated
	for _, c := range []struct{ rule, typ, id, query, want string }{
		{"all_that_is_theirs_and_what_it_refers_to", "Patient", "p", "", "c dr e o1 o2 org p pv"},
		{"care_in_a_range_and_what_has_no_date", "Patient", "p", "start=2021-01-01", "c o2 org p pv"},
		{"care_until", "Patient", "p", "end=2020-12-31", "c dr e o1 org p"},
		{"one_day", "Patient", "p", "start=2020-01-05&end=2020-01-05&_type=Observation", "o1"},
		{"types", "Patient", "p", "_type=Observation,Patient", "o1 o2 p"},
		{"types_twice", "Patient", "p", "_type=Observation&_type=Patient", "o1 o2 p"},
		{"types_of_others", "Patient", "p", "_type=Practitioner", "dr"},
		{"since", "Patient", "p", "_since=" + url.QueryEscape(fhir.FormatInstant(before)), "c pv"},
		{"of_an_encounter", "Encounter", "e", "", "dr e o1 p"},
		{"nobody_elses", "Patient", "q", "_type=Patient,Observation", "o3 q"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			got := strings.Join(names(do(t, s, call(c.typ, c.id, c.query)).Bundle), " ")
			if got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
	t.Run("pages", func(t *testing.T) {
		var all []string
		query := "_count=2"
		for n := 0; query != "" && n < 10; n++ {
			b := do(t, s, call("Patient", "p", query)).Bundle
			query = ""
			for _, e := range b.Entries {
				if e.Mode == "match" {
					all = append(all, e.Version.ID)
				}
			}
			for _, link := range b.Links {
				if link.Relation == "next" {
					_, query, _ = strings.Cut(link.URL, "$everything?")
				}
			}
		}
		slices.Sort(all)
		if got := strings.Join(all, " "); got != "c e o1 o2 p" {
			t.Errorf("got %s", got)
		}
	})
	t.Run("arguments_in_a_body", func(t *testing.T) {
		r := call("Patient", "p", "")
		r.Body = parse(t, `{"resourceType":"Parameters","parameter":[{"name":"_type","valueCode":"Coverage"},{"name":"_count","valueInteger":1}]}`)
		b := do(t, s, r).Bundle
		if got := strings.Join(names(b), " "); got != "c" || !strings.Contains(b.Links[0].URL, "_type=Coverage") {
			t.Errorf("got %s %v", got, b.Links)
		}
	})
	refused(t, s, fhir.NotFound, call("Patient", "nobody", ""))
	refused(t, s, fhir.NotFound, call("Observation", "o1", ""))
	refused(t, s, fhir.Invalid, call("Patient", "p", "_type=Nonsense"))
	refused(t, s, fhir.Invalid, call("Patient", "p", "_count=0"))
	refused(t, s, fhir.Invalid, call("Patient", "p", "_cursor=forged"))
	refused(t, s, fhir.Invalid, call("Patient", "p", "start=yesterday"))
	refused(t, s, fhir.NotFound, call("Encounter", "", ""))
}

// TestEverything_page_by_page follows the links of $everything: each member comes once, what a page refers to is on it, once, and in the
// end there is all that one page of all has.
func TestEverything_page_by_page(t *testing.T) {
	t.Parallel()
	s := newService(t, func(o *Options, so *storage.Options) { o.Limits.EverythingPageSize, so.Unrestricted = 4, false })
	for i := range 3 {
		put(t, s, fmt.Sprintf(`{"resourceType":"Organization","id":"org%d","name":"x"}`, i))
		put(t, s, fmt.Sprintf(`{"resourceType":"Practitioner","id":"dr%d"}`, i))
	}
	put(t, s, `{"resourceType":"Questionnaire","id":"form","url":"http://example.org/form","status":"active"}`)
	put(t, s, `{"resourceType":"Medication","id":"pill"}`)
	put(t, s, `{"resourceType":"Patient","id":"p","birthDate":"1950-01-01"}`)
	put(t, s, `{"resourceType":"Patient","id":"q"}`)
	put(t, s, `{"resourceType":"Encounter","id":"e","status":"finished","class":{"code":"AMB"},"subject":{"reference":"Patient/p"},"participant":[{"individual":{"reference":"Practitioner/dr0"}}]}`)
	for i := range 9 {
		put(t, s, fmt.Sprintf(`{"resourceType":"Observation","id":"o%d","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/p"},"encounter":{"reference":"Encounter/e"},
"effectiveDateTime":"202%d-01-05","performer":[{"reference":"Practitioner/dr%d"},{"reference":"Organization/org%d"}]}`, i, i, i%3, i%3))
		put(t, s, fmt.Sprintf(`{"resourceType":"Provenance","id":"pv%d","target":[{"reference":"Observation/o%d"}],"recorded":"2021-06-01T00:00:00Z","agent":[{"who":{"reference":"Practitioner/dr0"}}]}`, i, i))
	}
	put(t, s, `{"resourceType":"QuestionnaireResponse","id":"answers","status":"completed","questionnaire":"http://example.org/form","subject":{"reference":"Patient/p"}}`)
	put(t, s, `{"resourceType":"MedicationDispense","id":"d","status":"completed","subject":{"reference":"Patient/p"},"medicationReference":{"reference":"Medication/pill"},
"substitution":{"wasSubstituted":true,"responsibleParty":[{"reference":"Organization/org2"}]}}`)
	put(t, s, `{"resourceType":"Provenance","id":"all","target":[{"reference":"Patient/p"},{"reference":"Observation/o0"},{"reference":"Observation/o8"}],"recorded":"2021-06-01T00:00:00Z","agent":[{"who":{"reference":"Practitioner/dr0"}}]}`)

	const members = "all answers d e o0 o1 o2 o3 o4 o5 o6 o7 o8 p"
	for _, c := range []struct {
		rule             string
		who              auth.Principal
		typ, id, query   string
		members, include string
		pages            int
	}{
		{"all", auth.Principal{}, "Patient", "p", "", members, "dr0 dr1 dr2 form org0 org1 org2 pill pv0 pv1 pv2 pv3 pv4 pv5 pv6 pv7 pv8", 4},
		{"more_on_a_page", auth.Principal{}, "Patient", "p", "_count=1000", members, "dr0 dr1 dr2 form org0 org1 org2 pill pv0 pv1 pv2 pv3 pv4 pv5 pv6 pv7 pv8", 1},
		{"of_the_patient_alone", patientApp("p", "patient/*.rs"), "Patient", "p", "", members, "dr0 dr1 dr2 form org0 org1 org2 pill pv0 pv1 pv2 pv3 pv4 pv5 pv6 pv7 pv8", 4},
		{"granular_scopes", patientApp("p", "patient/Observation.rs?code=none patient/Patient.rs patient/Encounter.rs user/Practitioner.rs"), "Patient", "p", "_count=1", "e p", "dr0", 2},
		{"types", auth.Principal{}, "Patient", "p", "_type=Observation,Practitioner&_count=7", "o0 o1 o2 o3 o4 o5 o6 o7 o8", "dr0 dr1 dr2", 2},
		{"of_an_encounter", auth.Principal{}, "Encounter", "e", "", "e o0 o1 o2 o3 o4 o5 o6 o7 o8", "dr0 dr1 dr2 org0 org1 org2 p pv0 pv1 pv2 pv3 pv4 pv5 pv6 pv7 pv8 all", 3},
	} {
		t.Run(c.rule, func(t *testing.T) {
			times, beside := map[string]int{}, map[string]bool{}
			pages, query := 0, c.query
			for more := true; more && pages < 30; pages++ {
				b := do(t, s, Request{Principal: c.who, Interaction: Operate, Operation: "everything", Type: c.typ, ID: c.id, Query: query}).Bundle
				here := map[string]bool{}
				for _, e := range b.Entries {
					id := e.Version.ID
					if here[id] {
						t.Errorf("page %d has %s twice", pages, id)
					}
					if here[id] = true; e.Mode == "match" {
						times[id]++
					} else {
						beside[id] = true
					}
				}
				more = false
				for _, link := range b.Links {
					if link.Relation == "next" {
						_, query, more = strings.Cut(link.URL, "$everything?")
					}
				}
			}
			for id, n := range times {
				if n != 1 || beside[id] {
					t.Errorf("%s is there %d times, and also beside: %v", id, n, beside[id])
				}
			}
			want := strings.Fields(c.include)
			slices.Sort(want)
			if got := slices.Sorted(maps.Keys(times)); strings.Join(got, " ") != c.members {
				t.Errorf("members: %s, want %s", got, c.members)
			}
			if got := slices.Sorted(maps.Keys(beside)); !slices.Equal(got, want) {
				t.Errorf("beside: %s, want %s", got, want)
			}
			if pages != c.pages {
				t.Errorf("%d pages, want %d", pages, c.pages)
			}
		})
	}
}

// TestEverything_of_several walks through the records of many patients: each resource comes once, with the first whose it is.
func TestEverything_of_several(t *testing.T) {
	t.Parallel()
	s := newService(t, func(_ *Options, so *storage.Options) { so.Unrestricted = false })
	put(t, s, `{"resourceType":"Practitioner","id":"dr"}`)
	for i := range 25 {
		put(t, s, fmt.Sprintf(`{"resourceType":"Patient","id":"p%02d","generalPractitioner":[{"reference":"Practitioner/dr"}]}`, i))
		if i%3 == 0 {
			put(t, s, fmt.Sprintf(`{"resourceType":"Observation","id":"o%02d","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/p%02d"},"effectiveDateTime":"2020-01-05"}`, i, i))
		}
	}
	put(t, s, `{"resourceType":"Patient","id":"other"}`)
	put(t, s, `{"resourceType":"Observation","id":"alien","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/other"},"effectiveDateTime":"2020-01-05"}`)
	put(t, s, `{"resourceType":"Appointment","id":"both","status":"proposed","participant":[{"actor":{"reference":"Patient/p02"},"status":"needs-action"},{"actor":{"reference":"Patient/p20"},"status":"needs-action"}]}`)
	put(t, s, `{"resourceType":"Provenance","id":"pv","target":[{"reference":"Observation/o03"},{"reference":"Patient/p20"}],"recorded":"2021-06-01T00:00:00Z","agent":[{"who":{"reference":"Practitioner/dr"}}]}`)
	put(t, s, `{"resourceType":"Group","id":"g","type":"person","actual":true,"member":[{"entity":{"reference":"Patient/p20"}},{"entity":{"reference":"Patient/p02"}},{"entity":{"reference":"Patient/p02"}},
{"entity":{"reference":"Patient/p03"},"inactive":true},{"entity":{"reference":"Patient/p06"},"period":{"end":"2020"}},{"entity":{"reference":"Patient/p09"},"period":{"end":"9998"}},{"entity":{"reference":"Patient/gone"}},{"entity":{"reference":"Practitioner/dr"}}]}`)
	put(t, s, `{"resourceType":"Consent","id":"no","status":"active","scope":{"coding":[{"code":"patient-privacy"}]},"category":[{"text":"x"}],"patient":{"reference":"Patient/p06"},"policyRule":{"text":"x"},"provision":{"type":"deny"}}`)
	var patients, seen []string
	for i := range 25 {
		id := fmt.Sprintf("p%02d", i)
		patients = append(patients, id)
		if i != 6 {
			seen = append(seen, id)
		}
	}
	joined := func(lists ...[]string) string {
		var all []string
		for _, l := range lists {
			all = append(all, l...)
		}
		slices.Sort(all)
		return strings.Join(all, " ")
	}
	observations := strings.Fields("o00 o03 o06 o09 o12 o15 o18 o21 o24")
	withoutOne := slices.DeleteFunc(slices.Clone(observations), func(id string) bool { return id == "o06" })
	for _, c := range []struct {
		rule, typ, id string
		who           auth.Principal
		query         string
		members       string
	}{
		{"of_all", "Patient", "", auth.Principal{}, "_count=7", joined(patients, observations, []string{"alien", "other", "both", "pv", "no", "g"})},
		{"one_by_one", "Patient", "", auth.Principal{}, "_count=1", joined(patients, observations, []string{"alien", "other", "both", "pv", "no", "g"})},
		{"on_one_page", "Patient", "", auth.Principal{}, "", joined(patients, observations, []string{"alien", "other", "both", "pv", "no", "g"})},
		{"of_a_type", "Patient", "", auth.Principal{}, "_type=Appointment,Provenance&_count=1", "both pv"},
		{"of_a_patient_the_own", "Patient", "", patientApp("p02", "patient/*.rs"), "", "both p02"},
		{"of_a_practitioner_who_is_treated_without_a_consent", "Patient", "", doctor("dr", "user/*.rs"), "_count=4", joined(seen, withoutOne, []string{"both", "pv"})},
		{"of_a_group", "Group", "g", auth.Principal{}, "_count=2", "both g o09 p02 p09 p20 pv"},
		{"of_a_backend_system", "Group", "g", backend("system/*.rs"), "", "both g o09 p02 p09 p20 pv"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			var all []string
			query := c.query
			for n := 0; n < 100; n++ {
				b := do(t, s, Request{Principal: c.who, Interaction: Operate, Operation: "everything", Type: c.typ, ID: c.id, Query: query}).Bundle
				for _, e := range b.Entries {
					if e.Mode == "match" {
						all = append(all, e.Version.ID)
					}
				}
				more := false
				for _, link := range b.Links {
					if link.Relation == "next" {
						_, query, more = strings.Cut(link.URL, "$everything?")
					}
				}
				if !more {
					break
				}
			}
			slices.Sort(all)
			if got := strings.Join(all, " "); got != c.members {
				t.Errorf("got  %s\nwant %s", got, c.members)
			}
		})
	}
	of := func(who auth.Principal, typ, id, query string) Request {
		return Request{Principal: who, Interaction: Operate, Operation: "everything", Type: typ, ID: id, Query: query}
	}
	refused(t, s, fhir.Invalid, of(auth.Principal{}, "Patient", "", "_cursor=forged"))
	refused(t, s, fhir.Invalid, of(auth.Principal{}, "Patient", "", "_count=0"))
	refused(t, s, fhir.NotFound, of(auth.Principal{}, "Group", "", ""))
	refused(t, s, fhir.NotFound, of(auth.Principal{}, "Group", "none", ""))
	refused(t, s, fhir.Forbidden, of(doctor("dr", "user/*.rs"), "Group", "g", ""))
	refused(t, s, fhir.Forbidden, of(patientApp("p02", "patient/Observation.rs"), "Patient", "", ""))
	refused(t, s, fhir.Forbidden, of(patientApp("p02", "patient/Patient.r"), "Patient", "", ""))
}
