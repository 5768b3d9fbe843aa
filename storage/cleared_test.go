package storage_test

import (
	"testing"

	"kiln/fhir/search"
	"kiln/internal/kilntest"
	"kiln/storage"
)

// What was found out of a patient for one caller shows another nothing of what a page refers to.
func TestInclude_what_was_found_out_for_another_caller(t *testing.T) {
	t.Parallel()
	s := openWith(t, storage.Options{URL: kilntest.DB(t), PoolSize: 2})
	for _, body := range []string{`{"resourceType":"Practitioner","id":"doc"}`, `{"resourceType":"Practitioner","id":"other"}`,
		`{"resourceType":"Patient","id":"p","generalPractitioner":[{"reference":"Practitioner/doc"}]}`,
		`{"resourceType":"Observation","id":"o","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/p"}}`} {
		put(t, s, body)
	}
	caller := func(r *search.Restriction) *storage.Access {
		r.Consent, r.Roles = true, []string{"practitioner"}
		r.Rules = []search.Rule{{Types: []string{"Patient", "Observation"}, Reach: search.ReachTreated, Context: r.Context != ""}}
		a, err := s.Access(r)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	q, err := parseQuery(s, "Observation", "patient=p")
	if err != nil {
		t.Fatal(err)
	}
	doc := caller(&search.Restriction{Self: "Practitioner/doc"})
	page, err := s.Search(storage.WithAccess(t.Context(), doc), nil, q, 10, nil)
	if err != nil || len(page.Matches) != 1 {
		t.Fatalf("%v, %v", page, err)
	}
	for name, a := range map[string]*storage.Access{"doc": doc, "doc in another's context": caller(&search.Restriction{Self: "Practitioner/doc", Context: "q"}), "other": caller(&search.Restriction{Self: "Practitioner/other"})} {
		added, _, err := s.Include(storage.WithAccess(t.Context(), a), nil, page.Matches, []search.Include{{Source: "Observation", Param: "subject"}}, 10)
		if err != nil || (len(added) == 1) != (name == "doc") {
			t.Errorf("%s is shown %d, %v", name, len(added), err)
		}
	}
}
