package server_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"kiln/fhir"
	"kiln/resources"
	"kiln/server"
	"kiln/storage"
)

func always(resp *resources.Response) func(context.Context, resources.Request) (*resources.Response, error) {
	return func(context.Context, resources.Request) (*resources.Response, error) { return resp, nil }
}

func binaries(o *server.Options) { o.ResourceTypes = append([]string{"Binary"}, types...) }

// FHIR R4 binary.html#rest: what does not ask for FHIR's own media types gets what the Binary holds.
func TestBinary_comes_as_what_it_holds(t *testing.T) {
	const pdf, fhirJSON, fhirXML = "application/pdf", "application/fhir+json; charset=utf-8", "application/fhir+xml; charset=utf-8"
	for _, c := range []struct {
		name, query string
		accept      []string
		status      int
		contentType string
	}{
		{"no_accept", "", nil, 200, pdf},
		{"anything", "", []string{"Accept: */*"}, 200, pdf},
		{"itself", "", []string{"Accept: application/pdf"}, 200, pdf},
		{"its_kind", "", []string{"Accept: application/*"}, 200, pdf},
		{"browser", "", []string{"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"}, 200, pdf},
		{"axios", "", []string{"Accept: application/json, text/plain, */*"}, 200, pdf},
		{"rather_itself", "", []string{"Accept: application/fhir+json;q=0.5, application/pdf"}, 200, pdf},
		{"json_only", "", []string{"Accept: application/json"}, 200, fhirJSON},
		{"fhir_json", "", []string{"Accept: application/fhir+json"}, 200, fhirJSON},
		{"fhir_xml", "", []string{"Accept: application/fhir+xml"}, 200, fhirXML},
		{"rather_fhir", "", []string{"Accept: application/fhir+json, */*;q=0.1"}, 200, fhirJSON},
		{"as_good", "", []string{"Accept: application/pdf, application/fhir+json"}, 200, fhirJSON},
		{"format", "?_format=json", []string{"Accept: application/pdf"}, 200, fhirJSON},
		{"elements", "?_elements=contentType", nil, 200, fhirJSON},
		{"neither", "", []string{"Accept: image/png"}, 406, fhirJSON},
		{"refused", "", []string{"Accept: application/pdf;q=0"}, 406, fhirJSON},
	} {
		for _, path := range []string{"/fhir/Binary/b1", "/fhir/Binary/b1/_history/1"} {
			t.Run(c.name+strings.ReplaceAll(path, "/", "_"), func(t *testing.T) {
				h := start(t, binaries)
				h.fake.give = always(&resources.Response{Version: &storage.Version{Type: "Binary", ID: "b1", Number: 1, LastUpdated: updated,
					Content: []byte(`{"resourceType":"Binary","id":"b1","contentType":"application/pdf","securityContext":{"reference":"Patient/p1"},"data":"JVBE\n Ri0="}`)}})
				got := h.send(t, "GET", path+c.query, "", c.accept...)
				got.wantStatus(t, c.status)
				if ct := got.Header.Get("Content-Type"); ct != c.contentType {
					t.Fatalf("Content-Type %q, want %q", ct, c.contentType)
				}
				if c.status != 200 {
					return
				}
				if got.Header.Get("Etag") != `W/"1"` || got.Header.Get("X-Content-Type-Options") != "nosniff" {
					t.Errorf("headers %v", got.Header)
				}
				if c.contentType != pdf {
					return
				}
				if got.body != "%PDF-" || got.Header.Get("X-Security-Context") != "Patient/p1" || !strings.HasPrefix(got.Header.Get("Content-Security-Policy"), "sandbox;") {
					t.Errorf("body %q, headers %v", got.body, got.Header)
				}
				head := h.send(t, "HEAD", path+c.query, "", c.accept...)
				if head.StatusCode != 200 || head.Header.Get("Content-Type") != pdf || head.Header.Get("Content-Length") != "5" {
					t.Errorf("HEAD: %d %v", head.StatusCode, head.Header)
				}
			})
		}
	}
}

// What cannot be shown as it says it is comes as octets or is refused, and breaks no header.
func TestBinary_of_strange_content(t *testing.T) {
	for _, c := range []struct {
		content, contentType string
		status               int
	}{
		{`{"resourceType":"Binary","contentType":"a\r\nX-Evil: 1","data":"aGk="}`, "application/octet-stream", 200},
		{`{"resourceType":"Binary","contentType":"text/plain"}`, "text/plain", 200},
		{`{"resourceType":"Binary","contentType":"text/plain","data":"%%"}`, "application/fhir+json; charset=utf-8", 406},
	} {
		h := start(t, binaries)
		h.fake.give = always(&resources.Response{Version: &storage.Version{Type: "Binary", ID: "b1", Number: 1, Content: []byte(c.content)}})
		got := h.send(t, "GET", "/fhir/Binary/b1", "", "Accept: */*").wantStatus(t, c.status)
		if got.Header.Get("Content-Type") != c.contentType || got.Header.Get("X-Evil") != "" {
			t.Errorf("%s: %v", c.content, got.Header)
		}
	}
}

// FHIR R4 binary.html#rest: any content is taken as it is, unless it is a Binary itself.
func TestBinary_is_made_of_any_content(t *testing.T) {
	const made = `{"resourceType":"Binary","contentType":`
	for _, c := range []struct {
		name, method, path, body string
		headers                  []string
		status                   int
		want                     string // of the resource, or in the refusal
	}{
		{"text", "POST", "/fhir/Binary", "hello", []string{"Content-Type: text/plain; charset=latin1"}, 201, made + `"text/plain; charset=latin1","data":"aGVsbG8="}`},
		{"owner", "POST", "/fhir/Binary", "hello", []string{"Content-Type: image/png", "X-Security-Context: Patient/p1"}, 201, made + `"image/png","securityContext":{"reference":"Patient/p1"},"data":"aGVsbG8="}`},
		{"update", "PUT", "/fhir/Binary/b1", "hello", []string{"Content-Type: image/png"}, 200, `{"resourceType":"Binary","id":"b1","contentType":"image/png","data":"aGVsbG8="}`},
		{"empty", "POST", "/fhir/Binary", "", []string{"Content-Type: image/png"}, 201, made + `"image/png"}`},
		{"form", "POST", "/fhir/Binary", "a=b", []string{"Content-Type: application/x-www-form-urlencoded"}, 201, made + `"application/x-www-form-urlencoded","data":"YT1i"}`},
		{"json", "POST", "/fhir/Binary", "[1]", []string{"Content-Type: application/json"}, 201, made + `"application/json","data":"WzFd"}`},
		{"cda", "POST", "/fhir/Binary", `<a xmlns="urn:hl7-org:v3"/>`, []string{"Content-Type: text/xml"}, 201, made + `"text/xml","data":"PGEgeG1sbnM9InVybjpobDctb3JnOnYzIi8+"}`},
		{"other_resource", "POST", "/fhir/Binary", `{"resourceType":"Patient"}`, []string{"Content-Type: application/fhir+json"}, 201, made + `"application/fhir+json","data":"eyJyZXNvdXJjZVR5cGUiOiJQYXRpZW50In0="}`},
		{"resource", "POST", "/fhir/Binary", `{"resourceType":"Binary","contentType":"a/b"}`, []string{"Content-Type: application/fhir+json"}, 201, made + `"a/b"}`},
		{"resource_as_json", "POST", "/fhir/Binary", `{"resourceType":"Binary","contentType":"a/b"}`, []string{"Content-Type: application/json"}, 201, made + `"a/b"}`},
		{"resource_as_xml", "POST", "/fhir/Binary", `<Binary xmlns="http://hl7.org/fhir"><contentType value="a/b"/></Binary>`, []string{"Content-Type: application/fhir+xml"}, 201, made + `"a/b"}`},
		{"wrong_id", "PUT", "/fhir/Binary/b1", `{"resourceType":"Binary","id":"b2","contentType":"a/b"}`, []string{"Content-Type: application/fhir+json"}, 400, "b2"},
		{"broken_fhir", "POST", "/fhir/Binary", `{"resourceType":"Bin`, []string{"Content-Type: application/fhir+json"}, 400, "JSON"},
		{"no_type", "POST", "/fhir/Binary", "hello", nil, 415, "no Content-Type"},
		{"bad_type", "POST", "/fhir/Binary", "hello", []string{"Content-Type: ;;"}, 415, "cannot be read"},
		{"other_version", "POST", "/fhir/Binary", "{}", []string{"Content-Type: application/fhir+json; fhirVersion=5.0"}, 415, "not 4.0"},
		{"criteria", "PUT", "/fhir/Binary?_id=b1", "hello", []string{"Content-Type: image/png"}, 200, made + `"image/png","data":"aGVsbG8="}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := start(t, binaries)
			h.fake.give = always(&resources.Response{Created: c.status == 201, Version: &storage.Version{Type: "Binary", ID: "b1", Number: 1, Content: []byte(`{"resourceType":"Binary"}`)}})
			got := h.send(t, c.method, c.path, c.body, c.headers...).wantStatus(t, c.status)
			if c.status >= 400 {
				if !strings.Contains(got.body, c.want) {
					t.Fatalf("%s", got.body)
				}
				return
			}
			body := h.fake.last(t).Body
			if text := string(body.JSON()); text != c.want {
				t.Errorf("got  %s\nwant %s", text, c.want)
			}
			if _, err := fhir.ParseJSON(body.JSON()); err != nil {
				t.Error(err)
			}
		})
	}
	h := start(t, binaries, func(o *server.Options) { o.Limits.MaxBodyBytes = 10 })
	h.send(t, http.MethodPost, "/fhir/Binary", strings.Repeat("x", 11), "Content-Type: image/png").wantStatus(t, 413)
}
