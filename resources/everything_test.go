package resources

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"kiln/fhir"
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
	refused(t, s, fhir.NotFound, call("Patient", "", ""))
	refused(t, s, fhir.NotFound, call("Observation", "o1", ""))
	refused(t, s, fhir.Invalid, call("Patient", "p", "_type=Nonsense"))
	refused(t, s, fhir.Invalid, call("Patient", "p", "_count=0"))
	refused(t, s, fhir.Invalid, call("Patient", "p", "_cursor=forged"))
	refused(t, s, fhir.Invalid, call("Patient", "p", "start=yesterday"))
	refused(t, s, fhir.NotFound, call("Encounter", "", ""))
}
