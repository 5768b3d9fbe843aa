package storage_test

import (
	"slices"
	"testing"

	"kiln/fhir/search"
	"kiln/storage"
)

// TestSearch_is_planned_once tells which searches leave PostgreSQL one way whatever is asked for, so that it plans them once.
func TestSearch_is_planned_once(t *testing.T) {
	t.Parallel()
	s := open(t)
	for query, want := range map[string]bool{
		"date=2020-05":                                               true,
		"date=ge2020-05&date=le2020-06":                              true,
		"_lastUpdated=gt2020-01-01&_sort=-_lastUpdated":              true,
		"code=http://loinc.org|8302-2&value-quantity=gt150":          true,
		"subject:Patient.family=smi":                                 true,
		"subject:Patient.identifier=http://mrn|1":                    true,
		"patient=p1&category=vital-signs":                            true,
		"date=2020-05&_sort=-_lastUpdated":                           false, // either index may be the better one
		"value-quantity=gt150":                                       false, // how many have it decides
		"subject:Patient.gender=male":                                false,
		"subject:Patient.family=smi&value-quantity=gt150":            false,
		"code=http://loinc.org|8302-2&performer:Patient.gender=male": false,
	} {
		q, err := parseQuery(s, "Observation", query)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.PlannedOnce(t.Context(), q); err != nil || got != want {
			t.Errorf("%s: planned once is %v (%v), want %v", query, got, err, want)
		}
	}
}

// TestInclude_of_an_element looks at an element and at nothing beside or inside it.
func TestInclude_of_an_element(t *testing.T) {
	t.Parallel()
	s := open(t)
	o := &storage.Version{Type: "Observation", ID: "o", Content: []byte(`{"resourceType":"Observation","id":"o","encounter":{"reference":"Encounter/e"},
"subject":{"reference":"Patient/p/_history/2","identifier":{"value":"x","assigner":{"reference":"Organization/assigner"}}},
"performer":[{"reference":"Practitioner/a"},{"reference":"#inside"},{"reference":"http://elsewhere.example/fhir/Practitioner/far"},{"reference":"Practitioner/a"},{"reference":"Organization/b"},{"display":"x"}]}`)}
	everything := []storage.Key{{Type: "Encounter", ID: "e"}, {Type: "Patient", ID: "p"}, {Type: "Organization", ID: "assigner"}, {Type: "Practitioner", ID: "a"}, {Type: "Practitioner", ID: "far"}, {Type: "Organization", ID: "b"}}
	for _, c := range []struct {
		in   search.Include
		want []storage.Key
	}{
		{search.Include{Source: "Observation", Param: "subject"}, everything[1:2]},
		{search.Include{Source: "Observation", Param: "patient"}, everything[1:2]},
		{search.Include{Source: "Observation", Param: "encounter"}, everything[:1]},
		{search.Include{Source: "Observation", Param: "performer"}, []storage.Key{everything[3], everything[5]}},
		{search.Include{Source: "Observation", Param: "performer", Target: "Organization"}, everything[5:]},
	} {
		if got, ok := s.ElementTargets([]*storage.Version{o}, c.in, everything...); !ok || !slices.Equal(got, c.want) {
			t.Errorf("%v leads to %v (%v), want %v", c.in, got, ok, c.want)
		}
	}
	for _, in := range []search.Include{{Source: "Observation", Param: "*"}, {Source: "*", Param: "*"}} {
		if _, ok := s.ElementTargets([]*storage.Version{o}, in); ok {
			t.Errorf("%v is of no one element", in)
		}
	}
	visit := &storage.Version{Type: "Appointment", ID: "v", Content: []byte(`{"resourceType":"Appointment","id":"v","participant":[{"actor":{"reference":"Patient/p"}}]}`)}
	if _, ok := s.ElementTargets([]*storage.Version{visit}, search.Include{Source: "Appointment", Param: "actor"}); ok {
		t.Error("Appointment.participant.actor is no element of the resource itself")
	}
}
