package resources

import (
	"slices"
	"strings"
	"testing"

	"kiln/fhir"
)

func TestDocument(t *testing.T) {
	t.Parallel()
	s := newService(t)
	for _, body := range []string{
		`{"resourceType":"Patient","id":"p"}`, `{"resourceType":"Practitioner","id":"dr"}`,
		`{"resourceType":"Observation","id":"o","status":"preliminary","code":{"text":"x"},"subject":{"reference":"Patient/p"}}`,
		`{"resourceType":"Composition","id":"c","status":"final","type":{"text":"letter"},"subject":{"reference":"Patient/p"},"date":"2020","author":[{"reference":"Practitioner/dr"}],"title":"Letter","section":[{"title":"Found","entry":[{"reference":"Observation/o"},{"reference":"Patient/p"}]}]}`,
	} {
		put(t, s, body)
	}
	call := func(id, query string) Request {
		return Request{Interaction: Operate, Operation: "document", Type: "Composition", ID: id, Query: query}
	}
	for _, r := range []Request{call("c", ""), call("", "id=c"), call("", "id=Composition/c"), call("", "id="+testBase+"/Composition/c")} {
		bundle := do(t, s, r).Resource
		var held []string
		for e := range bundle.Get("entry").Items() {
			held = append(held, strings.TrimPrefix(e.GetText("fullUrl"), testBase+"/"))
		}
		slices.Sort(held[1:])
		if got := strings.Join(held, " "); got != "Composition/c Observation/o Patient/p Practitioner/dr" || bundle.GetText("type") != "document" {
			t.Errorf("%s?%s: a %s of %s", r.ID, r.Query, bundle.GetText("type"), got)
		}
	}
	if n := count(t, s, "Bundle"); n != 0 {
		t.Errorf("%d documents were stored that nobody wanted to be", n)
	}
	safe := call("c", "persist=true")
	safe.Safe = true
	refused(t, s, fhir.MethodNotAllowed, safe)
	stored := do(t, s, call("c", "persist=true"))
	if !stored.Created || !strings.Contains(string(read(t, s, "Bundle", stored.Version.ID).JSON()), `"document"`) {
		t.Error("persist does not store the document")
	}
	refused(t, s, fhir.Invalid, call("c", "id=c"))
	refused(t, s, fhir.Invalid, call("", ""))
	refused(t, s, fhir.Invalid, call("", "id=a b"))
	refused(t, s, fhir.NotSupported, call("", "id=http://elsewhere.example/Composition/1"))
	refused(t, s, fhir.NotSupported, call("c", "graph=http://x"))
	refused(t, s, fhir.NotFound, call("nobody", ""))
	// What is gone cannot be in a document that must hold it.
	do(t, s, Request{Interaction: Delete, Type: "Observation", ID: "o"})
	refused(t, s, fhir.Unprocessable, call("c", ""))
}
