package server_test

import (
	"strings"
	"testing"

	"kiln/conformance"
	"kiln/fhir"
	"kiln/resources"
	"kiln/server"
)

// FHIR R4 graphql.html: a query comes in the URL, as text or in JSON, its answer is JSON, and errors are those of GraphQL with an
// OperationOutcome each.
func TestGraphQL(t *testing.T) {
	registry, err := conformance.R4()
	if err != nil {
		t.Fatal(err)
	}
	definition, err := registry.Operation("Resource-graphql")
	if err != nil {
		t.Fatal(err)
	}
	offered := func(o *server.Options) {
		o.Operations = func(string, string, string) *conformance.Operation { return definition }
	}
	data := fhir.Obj(fhir.Obj(fhir.Str("1").As("id")).As("data"))
	for _, c := range []struct {
		name, method, query, body string
		headers                   []string
		status                    int
		asked                     string
	}{
		{"get", "GET", "?query=%7Bid%7D", "", nil, 200, ""},
		{"get_as_graphql", "GET", "?query=%7Bid%7D", "", []string{"Accept: application/graphql-response+json, application/json;q=0.9"}, 200, ""},
		{"get_by_that_name_alone", "GET", "?query=%7Bid%7D", "", []string{"Accept: application/graphql-response+json"}, 200, ""},
		{"get_as_fhir", "GET", "?query=%7Bid%7D", "", []string{"Accept: application/fhir+json"}, 200, ""},
		{"get_as_xml", "GET", "?query=%7Bid%7D", "", []string{"Accept: application/fhir+xml"}, 406, ""},
		{"get_format_xml", "GET", "?query=%7Bid%7D&_format=xml", "", nil, 406, ""},
		{"text", "POST", "", "{ id }", []string{"Content-Type: application/graphql"}, 200, `{"query":"{ id }"}`},
		{"text_and_charset", "POST", "", "{ id }", []string{"Content-Type: application/graphql; charset=utf-8"}, 200, `{"query":"{ id }"}`},
		{"json", "POST", "", `{"query":"{ id }","variables":{},"operationName":null}`, []string{"Content-Type: application/json"}, 200, `{"query":"{ id }","variables":{},"operationName":null}`},
		{"another_charset", "POST", "", "{ id }", []string{"Content-Type: application/graphql; charset=latin1"}, 415, ""},
		{"another_type", "POST", "", "{ id }", []string{"Content-Type: text/plain"}, 415, ""},
		{"no_utf8", "POST", "", "{ \xff }", []string{"Content-Type: application/graphql"}, 400, ""},
		{"no_json", "POST", "", "{ id }", []string{"Content-Type: application/json"}, 400, ""},
		{"another_method", "PUT", "", "{ id }", []string{"Content-Type: application/graphql"}, 405, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := start(t, offered)
			h.fake.give = always(&resources.Response{Resource: &data})
			got := h.send(t, c.method, "/fhir/$graphql"+c.query, c.body, c.headers...)
			if got.StatusCode != c.status {
				t.Fatalf("status %d, want %d; body %s", got.StatusCode, c.status, got.body)
			}
			if ct := got.Header.Get("Content-Type"); ct != "application/json; charset=utf-8" {
				t.Errorf("Content-Type %q", ct)
			}
			if c.status != 200 {
				if !strings.HasPrefix(got.body, `{"data":null,"errors":[{"message":"`) || !strings.Contains(got.body, `"extensions":{"resource":{"resourceType":"OperationOutcome"`) {
					t.Errorf("body %s", got.body)
				}
				return
			}
			if got.body != `{"data":{"id":"1"}}` {
				t.Errorf("body %s", got.body)
			}
			asked := h.fake.last(t)
			if body := asked.Body; (body == nil) != (c.asked == "") || body != nil && string(body.JSON()) != c.asked {
				t.Errorf("asked %v", asked)
			}
		})
	}
}
