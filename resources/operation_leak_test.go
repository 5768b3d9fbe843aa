package resources

import (
	"testing"

	"kiln/fhir"
)

// What operations that gather show is what their callers may read one by one.
func TestLeaks_operations(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	anna := patientApp("anna", "patient/*.rs")
	call := func(code, typ, id, query string) Request {
		return Request{Interaction: Operate, Operation: code, Type: typ, ID: id, Query: query}
	}
	for _, r := range []Request{call("everything", "Patient", "ben", ""), call("diff", "Patient", "ben", ""), call("diff", "Observation", "b1", "from=1&to=1"), call("meta", "Observation", "b1", "")} {
		if got := w.status(anna, r); got != fhir.NotFound {
			t.Errorf("$%s of another's %s: kind %d", r.Operation, r.Type, got)
		}
	}
	for _, query := range []string{"", "start=1900", "end=2100", "_since=1900-01-01T00:00:00Z", "_type=Observation,Patient,Provenance,Device"} {
		r := call("everything", "Patient", "anna", query)
		r.Principal = anna
		entries := do(t, w.Service, r).Bundle.Entries
		if len(entries) == 0 {
			t.Errorf("%q shows nothing", query)
		}
		for _, e := range entries {
			if got := w.status(anna, Request{Interaction: Read, Type: e.Version.Type, ID: e.Version.ID}); got != ok {
				t.Errorf("%q shows %s/%s, which cannot be read: kind %d", query, e.Version.Type, e.Version.ID, got)
			}
		}
	}
	narrow := patientApp("anna", "patient/Observation.rs?category=laboratory patient/Patient.rs")
	r := call("everything", "Patient", "anna", "")
	r.Principal = narrow
	for _, e := range do(t, w.Service, r).Bundle.Entries {
		if e.Version.ID == "a2" || e.Version.Type != "Observation" && e.Version.Type != "Patient" {
			t.Errorf("granular scopes let $everything show %s/%s", e.Version.Type, e.Version.ID)
		}
	}
	if got := w.status(patientApp("anna", "patient/Patient.rs"), call("diff", "Observation", "a1", "")); got != fhir.Forbidden {
		t.Errorf("$diff without a scope for the type: kind %d", got)
	}
	// A document that would have to hold what the caller may not see is refused just as one whose part is missing.
	for id, target := range map[string]string{"hidden": "Observation/b1", "missing": "Observation/none"} {
		w.put(`{"resourceType":"Composition","id":"` + id + `","status":"final","type":{"text":"x"},"subject":{"reference":"Patient/anna"},"date":"2020","author":[{"reference":"Practitioner/treats"}],"title":"x","section":[{"entry":[{"reference":"` + target + `"}]}]}`)
		if got := w.status(anna, call("document", "Composition", id, "")); got != fhir.Unprocessable {
			t.Errorf("%s: kind %d", id, got)
		}
	}
	w.put(`{"resourceType":"Composition","id":"whole","status":"final","type":{"text":"x"},"subject":{"reference":"Patient/anna"},"date":"2020","author":[{"reference":"Practitioner/treats"}],"title":"x"}`)
	if got := w.status(anna, call("document", "Composition", "whole", "")); got != ok {
		t.Errorf("her own document: kind %d", got)
	}
	if got := w.status(anna, call("document", "Composition", "whole", "persist=true")); got != fhir.Forbidden {
		t.Errorf("storing without the right to create: kind %d", got)
	}
}
