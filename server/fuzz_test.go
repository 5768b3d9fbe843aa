package server

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"kiln/fhir"
)

func FuzzNegotiation(f *testing.F) {
	for _, seed := range []string{
		"", "*/*", "application/fhir+json", "application/fhir+xml;q=0.9, application/json;q=0.1", `text/*;q=0.5;x="a,b;c"`,
		"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "application/fhir+json;q=NaN", `"`, ";;,,;q", "a=\\",
	} {
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, header, query string) {
		first, ok := negotiateAccept([]string{header})
		if ok && first.name != "json" && first.name != "xml" {
			t.Fatalf("%q gave %q", header, first.name)
		}
		// A range of quality one that is added at the end makes every header acceptable.
		if _, ok := negotiateAccept([]string{header, "application/fhir+json"}); !ok && !strings.Contains(header, "fhir+json") {
			t.Fatalf("%q hides what is accepted", header)
		}
		_, _ = formatParameter(query)
		rest, _, _ := splitQuery(query)
		if again, wanted, pretty := splitQuery(rest); again != rest || wanted != "" || pretty {
			t.Fatalf("%q left %q, and that left %q", query, rest, again)
		}
		if _, err := url.ParseQuery(rest); err == nil && strings.Contains(rest, "_format=") && !strings.Contains(rest, "_format=&") {
			if v, _ := url.ParseQuery(rest); v.Has("_format") {
				t.Fatalf("%q still holds _format: %q", query, rest)
			}
		}
		_, _ = parseContentType(header)
		_ = acceptsGzip([]string{header})
	})
}

func FuzzHeaders(f *testing.F) {
	for _, seed := range []string{`W/"3"`, `"3"`, "3", "*", `W/"1", W/"2"`, `W/3`, `"*"`, "return=minimal; x, handling=lenient", ",", `"\"`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		tags, err := parseTags("If-Match", []string{value})
		if (err == nil) == (len(tags) == 0) {
			t.Fatalf("%q gave %v and %v", value, tags, err)
		}
		for _, tag := range tags {
			if tag != "*" && !fhir.ValidID(tag) {
				t.Fatalf("%q gave the tag %q", value, tag)
			}
		}
		switch p := parsePrefer([]string{value}); p.content {
		case "", returnMinimal, returnRepresentation, returnOutcome:
		default:
			t.Fatalf("%q gave %q", value, p.content)
		}
		if id := requestID(http.Header{"X-Request-Id": {value}}); !plainToken(id, 128) {
			t.Fatalf("%q gave the id %q", value, id)
		}
		_ = tagListHas(value, "abc")
	})
}

func TestNegotiateAccept(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		header string
		want   string // content type, or "" for 406
	}{
		{"", "application/fhir+json; charset=utf-8"},
		{"*", "application/fhir+json; charset=utf-8"},
		{"application/*", "application/fhir+json; charset=utf-8"},
		{"text/*", "application/fhir+json; charset=utf-8"},
		{"text/html", "application/json; charset=utf-8"},
		{"text/html, application/fhir+json", "application/fhir+json; charset=utf-8"},
		{"text/html;q=0.5, */*;q=0.9", "application/fhir+json; charset=utf-8"},
		{"APPLICATION/FHIR+JSON;Q=0.1", "application/fhir+json; charset=utf-8"},
		{`application/fhir+json; charset="UTF-8"; fhirVersion=4.0`, "application/fhir+json; charset=utf-8"},
		{"application/fhir+json;q=0, application/json", "application/fhir+json; charset=utf-8"},
		{"application/fhir+xml, */*;q=0.1", "application/fhir+xml; charset=utf-8"},
		{"application/fhir+xml;q=0.5, */*;q=0.9", "application/fhir+json; charset=utf-8"},
		{"text/xml", "application/fhir+xml; charset=utf-8"},
		{"application/xml, application/json", "application/fhir+json; charset=utf-8"},
		{"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "application/json; charset=utf-8"},
		{"application/fhir+json; charset=latin1, */*", "application/fhir+json; charset=utf-8"},
		{"application/fhir+turtle", ""},
		{"application/fhir+json;q=0", ""},
		{"*/*;q=0", ""},
		{"image/*", ""},
		{"text/plain", ""},
	} {
		got, ok := negotiateAccept([]string{c.header})
		if ok != (c.want != "") || ok && got.contentType[0] != c.want {
			t.Errorf("Accept: %s gave %v, %v", c.header, got.contentType, ok)
		}
	}
}
