package server_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"kiln/fhir"
	"kiln/resources"
	"kiln/server"
	"kiln/storage"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// fake stands for resources.Service: this package's tests are about HTTP alone.
type fake struct {
	mu   sync.Mutex
	got  []resources.Request
	give func(context.Context, resources.Request) (*resources.Response, error)
}

func (f *fake) Do(ctx context.Context, r resources.Request) (*resources.Response, error) {
	f.mu.Lock()
	f.got = append(f.got, r)
	f.mu.Unlock()
	if f.give == nil {
		return &resources.Response{Version: patient(3)}, nil
	}
	return f.give(ctx, r)
}

func (f *fake) last(t *testing.T) resources.Request {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.got) == 0 {
		t.Fatal("the service was not asked")
	}
	return f.got[len(f.got)-1]
}

var updated = time.Date(2026, 3, 4, 5, 6, 7, 890e6, time.UTC)

func patient(version int) *storage.Version {
	return &storage.Version{
		Type: "Patient", ID: "p1", Number: version, LastUpdated: updated, Method: storage.MethodUpdate,
		Content: fmt.Appendf(nil, `{"resourceType":"Patient","id":"p1","meta":{"versionId":"%d","lastUpdated":"2026-03-04T05:06:07.890Z"},"multipleBirthInteger":2,"extension":[{"url":"http://x","valueDecimal":1.10}]}`, version),
	}
}

type harness struct {
	*httptest.Server
	fake *fake
	log  *safeBuffer
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

var types = []string{"Patient", "Observation", "Bundle", "Practitioner", "Encounter", "Device", "RelatedPerson", "Parameters"}

func start(t testing.TB, change ...func(*server.Options)) *harness {
	t.Helper()
	h := &harness{fake: &fake{}, log: &safeBuffer{}}
	o := server.Options{
		Service: h.fake, ResourceTypes: types, BaseURL: "https://ehr.example.org",
		Logger: slog.New(slog.NewTextHandler(h.log, nil)),
		Now:    func() time.Time { return updated.Add(time.Minute) },
		NewID:  func() string { return "00000000-0000-4000-8000-000000000000" },
		Capabilities: func() ([]byte, string) {
			return []byte(`{"resourceType":"CapabilityStatement"}`), "abc"
		},
	}
	for _, c := range change {
		c(&o)
	}
	h.Server = httptest.NewUnstartedServer(server.New(o))
	h.Server.Config = server.Listener(h.Server.Config.Handler, nil)
	h.Start()
	t.Cleanup(h.Close)
	return h
}

type answer struct {
	*http.Response
	body string
}

// send makes one request; headers are "Name: value". The path goes out as it stands.
func (h *harness) send(t testing.TB, method, path, body string, headers ...string) answer {
	t.Helper()
	var from io.Reader
	if body != "" {
		from = strings.NewReader(body)
	}
	req, err := http.NewRequest(method, h.URL, from)
	if err != nil {
		t.Fatal(err)
	}
	req.URL.Opaque = "//" + req.URL.Host + path
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		req.Header.Add(name, value)
	}
	client := &http.Client{
		Transport:     &http.Transport{DisableCompression: true, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp, string(got)}
}

func (a answer) wantStatus(t *testing.T, status int) answer {
	t.Helper()
	if a.StatusCode != status {
		t.Fatalf("status %d, want %d; body %s", a.StatusCode, status, a.body)
	}
	if strings.HasPrefix(a.Header.Get("Content-Type"), "application/fhir+xml") {
		if status >= 400 && !strings.Contains(a.body, "<OperationOutcome ") {
			t.Fatalf("status %d without an OperationOutcome: %s", status, a.body)
		}
	} else if status >= 400 && a.Request.Method != "HEAD" {
		n, err := fhir.ParseJSON([]byte(a.body))
		if err != nil || n.ResourceType() != "OperationOutcome" {
			t.Fatalf("status %d without an OperationOutcome: %s", status, a.body)
		}
		for issue := range n.Get("issue").Items() {
			if issue.GetText("severity") == "" || issue.GetText("code") == "" || issue.GetText("diagnostics") == "" {
				t.Fatalf("poor issue: %s", a.body)
			}
		}
	}
	if a.Header.Get("X-Request-Id") == "" {
		t.Fatal("no X-Request-Id")
	}
	return a
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	n, err := fhir.ParseJSON([]byte(got))
	if err != nil {
		t.Fatalf("%v: %s", err, got)
	}
	got = string(n.AppendIndented(nil))
	path := filepath.Join("testdata", name+".json")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

const (
	fhirJSON  = "Content-Type: application/fhir+json"
	jsonPatch = "Content-Type: application/json-patch+json"
	form      = "Content-Type: application/x-www-form-urlencoded"
	bareP     = `{"resourceType":"Patient"}`
	patientP1 = `{"resourceType":"Patient","id":"p1"}`
)

var sameNode = cmp.Comparer(func(a, b *fhir.Node) bool { return a == b || a != nil && b != nil && a.Equal(b) })

func TestRoutes_reach_the_service(t *testing.T) {
	t.Parallel()
	h := start(t)
	node := func(s string) *fhir.Node {
		n, err := fhir.ParseJSON([]byte(s))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	const batch = `{"resourceType":"Bundle","type":"batch"}`
	const transaction = `{"resourceType":"Bundle","type":"transaction"}`
	const parameters = `{"resourceType":"Parameters"}`
	for _, c := range []struct {
		name, method, path, body string
		headers                  []string
		want                     resources.Request
	}{
		{"read", "GET", "/fhir/Patient/p1?_summary=true&_format=json&_pretty=true", "", nil,
			resources.Request{Interaction: "read", Type: "Patient", ID: "p1", Query: "_summary=true"}},
		{"read_encoded_id", "GET", "/fhir/Patient/%701", "", nil, resources.Request{Interaction: "read", Type: "Patient", ID: "p1"}},
		{"head", "HEAD", "/fhir/Patient/p1", "", nil, resources.Request{Interaction: "read", Type: "Patient", ID: "p1"}},
		{"conditional_read", "GET", "/fhir/Patient/p1", "", []string{`If-None-Match: W/"3"`, "If-Modified-Since: Wed, 04 Mar 2026 05:06:07 GMT"},
			resources.Request{Interaction: "read", Type: "Patient", ID: "p1", IfNoneMatch: "3"}},
		{"conditional_read_list", "GET", "/fhir/Patient/p1", "", []string{`If-None-Match: W/"3", W/"4"`},
			resources.Request{Interaction: "read", Type: "Patient", ID: "p1"}},
		{"modified_since", "GET", "/fhir/Patient/p1", "", []string{"If-Modified-Since: Wed, 04 Mar 2026 05:06:07 GMT"},
			resources.Request{Interaction: "read", Type: "Patient", ID: "p1", IfModifiedSince: updated.Truncate(time.Second)}},
		{"vread", "GET", "/fhir/Patient/p1/_history/3", "", nil, resources.Request{Interaction: "vread", Type: "Patient", ID: "p1", Version: "3"}},
		{"create_as_hapi", "POST", "/fhir/Patient", bareP, []string{fhirJSON, "If-None-Exist: http://ehr.example.org/fhir/Patient?_format=json&identifier=http%3A%2F%2Fx%2FPatient%3Fa%7Cb"},
			resources.Request{Interaction: "create", Type: "Patient", Body: node(bareP), IfNoneExist: "identifier=http%3A%2F%2Fx%2FPatient%3Fa%7Cb"}},
		{"create", "POST", "/fhir/Patient", bareP, []string{fhirJSON, "Idempotency-Key: \"a-b\"", "If-None-Exist: ?identifier=a|b"},
			resources.Request{Interaction: "create", Type: "Patient", Body: node(bareP), IdempotencyKey: "a-b", IfNoneExist: "identifier=a|b"}},
		{"update", "PUT", "/fhir/Patient/p1", patientP1, []string{"Content-Type: application/json; charset=UTF-8", `If-Match: W/"3"`},
			resources.Request{Interaction: "update", Type: "Patient", ID: "p1", Body: node(patientP1), IfMatch: "3"}},
		{"update_if_absent", "PUT", "/fhir/Patient/p1", patientP1, []string{fhirJSON, `If-None-Match: *`},
			resources.Request{Interaction: "update", Type: "Patient", ID: "p1", Body: node(patientP1), IfNoneMatch: "*"}},
		{"conditional_update", "PUT", "/fhir/Patient?identifier=a|b", bareP, []string{fhirJSON},
			resources.Request{Interaction: "update", Type: "Patient", Query: "identifier=a|b", Body: node(bareP)}},
		{"json_patch", "PATCH", "/fhir/Patient/p1", `[]`, []string{jsonPatch, `If-Match: 3`},
			resources.Request{Interaction: "patch", Type: "Patient", ID: "p1", JSONPatch: []byte(`[]`), IfMatch: "3"}},
		{"fhirpath_patch", "PATCH", "/fhir/Patient/p1", parameters, []string{fhirJSON},
			resources.Request{Interaction: "patch", Type: "Patient", ID: "p1", Body: node(parameters)}},
		{"conditional_patch", "PATCH", "/fhir/Patient?a=b", `[]`, []string{jsonPatch},
			resources.Request{Interaction: "patch", Type: "Patient", Query: "a=b", JSONPatch: []byte(`[]`)}},
		{"delete", "DELETE", "/fhir/Patient/p1", "", nil, resources.Request{Interaction: "delete", Type: "Patient", ID: "p1"}},
		{"conditional_delete", "DELETE", "/fhir/Patient?a=b", "", nil, resources.Request{Interaction: "delete", Type: "Patient", Query: "a=b"}},
		{"search", "GET", "/fhir/Patient?name=%C3%A9&_format=application/fhir+json&x=1", "", []string{"Prefer: handling=lenient"},
			resources.Request{Interaction: "search-type", Type: "Patient", Query: "name=%C3%A9&x=1", Lenient: true}},
		{"search_form", "POST", "/fhir/Patient/_search?a=1", "b=2&_pretty=true&_format=json", []string{form},
			resources.Request{Interaction: "search-type", Type: "Patient", Query: "a=1&b=2"}},
		{"search_form_empty", "POST", "/fhir/Patient/_search?a=1", "", nil, resources.Request{Interaction: "search-type", Type: "Patient", Query: "a=1"}},
		{"search_system", "GET", "/fhir?_type=Patient", "", nil, resources.Request{Interaction: "search-system", Query: "_type=Patient"}},
		{"search_system_slash", "GET", "/fhir/?_type=Patient", "", nil, resources.Request{Interaction: "search-system", Query: "_type=Patient"}},
		{"search_by_get", "GET", "/fhir/Patient/_search?a=1", "", nil, resources.Request{Interaction: "search-type", Type: "Patient", Query: "a=1"}},
		{"search_system_by_get", "GET", "/fhir/_search?a=1", "", nil, resources.Request{Interaction: "search-system", Query: "a=1"}},
		{"search_system_form", "POST", "/fhir/_search", "_id=1", []string{form}, resources.Request{Interaction: "search-system", Query: "_id=1"}},
		{"compartment", "GET", "/fhir/Patient/p1/Observation?code=x", "", nil,
			resources.Request{Interaction: "search-type", Type: "Observation", Compartment: "Patient", CompartmentID: "p1", Query: "code=x"}},
		{"compartment_all", "GET", "/fhir/Patient/p1/*", "", nil,
			resources.Request{Interaction: "search-system", Compartment: "Patient", CompartmentID: "p1"}},
		{"compartment_form", "POST", "/fhir/Patient/p1/Observation/_search", "code=x", []string{form},
			resources.Request{Interaction: "search-type", Type: "Observation", Compartment: "Patient", CompartmentID: "p1", Query: "code=x"}},
		{"history_instance", "GET", "/fhir/Patient/p1/_history?_count=2", "", nil,
			resources.Request{Interaction: "history-instance", Type: "Patient", ID: "p1", Query: "_count=2"}},
		{"history_type", "GET", "/fhir/Patient/_history", "", nil, resources.Request{Interaction: "history-type", Type: "Patient"}},
		{"history_system", "GET", "/fhir/_history", "", nil, resources.Request{Interaction: "history-system"}},
		{"batch", "POST", "/fhir", batch, []string{fhirJSON}, resources.Request{Interaction: "batch", Body: node(batch)}},
		{"transaction", "POST", "/fhir/", transaction, []string{fhirJSON, "Idempotency-Key: k"},
			resources.Request{Interaction: "transaction", Body: node(transaction), IdempotencyKey: "k"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := h.send(t, c.method, c.path, c.body, c.headers...)
			if a.StatusCode >= 400 {
				t.Fatalf("status %d: %s", a.StatusCode, a.body)
			}
			if diff := cmp.Diff(c.want, h.fake.last(t), sameNode, cmpopts.IgnoreUnexported(resources.Request{})); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
		})
	}
}

func TestBad_requests_never_reach_the_service(t *testing.T) {
	t.Parallel()
	h := start(t, func(o *server.Options) { o.Limits.MaxBodyBytes = 1000 })
	h.fake.give = func(context.Context, resources.Request) (*resources.Response, error) {
		return nil, errors.New("the service was asked")
	}
	long := strings.Repeat("x", 2000)
	for _, c := range []struct {
		name, method, path, body string
		headers                  []string
		status                   int
		says                     string
	}{
		{"unknown_type", "GET", "/fhir/patient/1", "", nil, 404, "did you mean Patient?"},
		{"misspelt_type", "GET", "/fhir/Observaton", "", nil, 404, "did you mean Observation?"},
		{"unknown_compartment_type", "GET", "/fhir/Patient/1/Foo", "", nil, 404, "Foo"},
		{"operation", "GET", "/fhir/Patient/1/$everything", "", nil, 404, "$everything"},
		{"operation_on_type", "POST", "/fhir/Patient/$match", "{}", []string{fhirJSON}, 404, "$match"},
		{"operation_on_system", "GET", "/fhir/$meta", "", nil, 404, "$meta"},
		{"operation_encoded", "GET", "/fhir/%24meta", "", nil, 404, "$meta"},
		{"bad_id", "GET", "/fhir/Patient/a_b", "", nil, 400, "a_b"},
		{"huge_id", "GET", "/fhir/Patient/" + long, "", nil, 400, "1 to 64"},
		{"bad_version", "GET", "/fhir/Patient/1/_history/a_b", "", nil, 400, "version"},
		{"slash_in_id", "GET", "/fhir/Patient/a%2Fb", "", nil, 400, "a/b"},
		{"nul_in_id", "GET", "/fhir/Patient/a%00", "", nil, 400, ""},
		{"dots", "GET", "/fhir/../fhir/Patient/1", "", nil, 404, ""},
		{"dots_as_id", "GET", "/fhir/Patient/..%2f..%2fetc", "", nil, 400, ""},
		{"double_slash", "GET", "/fhir//Patient/1", "", nil, 404, ""},
		{"double_slash_in_front", "GET", "//fhir/Patient/1", "", nil, 404, ""},
		{"trailing_slash", "GET", "/fhir/Patient/", "", nil, 404, ""},
		{"no_such_path", "GET", "/nowhere", "", nil, 404, "https://ehr.example.org/fhir"},
		{"too_deep", "GET", "/fhir/Patient/1/a/b/c/d", "", nil, 404, ""},
		{"method_post_on_instance", "POST", "/fhir/Patient/1", bareP, []string{fhirJSON}, 405, "PUT"},
		{"method_trace", "TRACE", "/fhir/Patient/1", "", nil, 405, ""},
		{"method_made_up", "BREW", "/fhir", "", nil, 405, "POST"},
		{"method_put_on_search_form", "PUT", "/fhir/Patient/_search", "", nil, 405, "POST"},
		{"accept_turtle", "GET", "/fhir/Patient/1", "", []string{"Accept: application/fhir+turtle"}, 406, "application/fhir+xml"},
		{"format_wins_over_accept", "GET", "/fhir/Patient/1?_format=ttl", "", []string{"Accept: application/json"}, 406, ""},
		{"accept_charset", "GET", "/fhir/Patient/1", "", []string{"Accept: application/fhir+json; charset=utf-16"}, 406, ""},
		{"accept_fhir_version", "GET", "/fhir/Patient/1", "", []string{"Accept: application/fhir+json; fhirVersion=5.0"}, 406, ""},
		{"no_content_type", "POST", "/fhir/Patient", bareP, nil, 415, "no Content-Type"},
		{"turtle_body", "POST", "/fhir/Patient", "[]", []string{"Content-Type: application/fhir+turtle"}, 415, "application/fhir+xml"},
		{"xml_body_without_namespace", "POST", "/fhir/Patient", "<Patient/>", []string{"Content-Type: application/fhir+xml"}, 400, "http://hl7.org/fhir"},
		{"xml_entity_bomb", "POST", "/fhir/Patient", `<!DOCTYPE p [<!ENTITY a "b">]><Patient/>`, []string{"Content-Type: text/xml"}, 400, "DOCTYPE"},
		{"json_body_as_xml", "POST", "/fhir/Patient", bareP, []string{"Content-Type: application/xml"}, 400, "XML"},
		{"xml_of_other_type", "POST", "/fhir/Patient", `<Basic xmlns="http://hl7.org/fhir"/>`, []string{"Content-Type: application/xml"}, 400, "Patient"},
		{"latin1_body", "POST", "/fhir/Patient", bareP, []string{"Content-Type: application/json; charset=iso-8859-1"}, 415, "UTF-8"},
		{"r5_body", "POST", "/fhir/Patient", bareP, []string{"Content-Type: application/fhir+json; fhirVersion=5.0"}, 415, "4.0"},
		{"json_search_form", "POST", "/fhir/Patient/_search", "{}", []string{fhirJSON}, 415, "x-www-form-urlencoded"},
		{"patch_of_other_kind", "PATCH", "/fhir/Patient/1", "{}", []string{"Content-Type: application/merge-patch+json"}, 415, "json-patch"},
		{"json_patch_as_create", "POST", "/fhir/Patient", "[]", []string{jsonPatch}, 415, ""},
		{"brotli", "POST", "/fhir/Patient", bareP, []string{fhirJSON, "Content-Encoding: br"}, 415, "gzip"},
		{"false_gzip", "POST", "/fhir/Patient", bareP, []string{fhirJSON, "Content-Encoding: gzip"}, 400, "gzip"},
		{"empty_body", "POST", "/fhir/Patient", "", []string{fhirJSON}, 400, "empty"},
		{"malformed", "POST", "/fhir/Patient", `{"resourceType":`, []string{fhirJSON}, 400, "line 1"},
		{"array_body", "POST", "/fhir/Patient", `[]`, []string{fhirJSON}, 400, "an array"},
		{"no_resource_type", "POST", "/fhir/Patient", `{}`, []string{fhirJSON}, 400, "resourceType"},
		{"resource_type_number", "POST", "/fhir/Patient", `{"resourceType":1}`, []string{fhirJSON}, 400, "a number"},
		{"other_resource_type", "POST", "/fhir/Patient", `{"resourceType":"Observation"}`, []string{fhirJSON}, 400, "Observation"},
		{"unknown_resource_type", "POST", "/fhir/Patient", `{"resourceType":"Foo"}`, []string{fhirJSON}, 400, "Foo"},
		{"create_with_query", "POST", "/fhir/Patient?identifier=x", bareP, []string{fhirJSON}, 400, "If-None-Exist"},
		{"update_without_id", "PUT", "/fhir/Patient/1", bareP, []string{fhirJSON}, 400, "id"},
		{"update_other_id", "PUT", "/fhir/Patient/1", patientP1, []string{fhirJSON}, 400, "p1"},
		{"update_without_criteria", "PUT", "/fhir/Patient", bareP, []string{fhirJSON}, 400, "criteria"},
		{"delete_without_criteria", "DELETE", "/fhir/Patient?_format=json", "", nil, 400, "criteria"},
		{"patch_without_criteria", "PATCH", "/fhir/Patient", "[]", []string{jsonPatch}, 400, "criteria"},
		{"fhirpath_patch_not_parameters", "PATCH", "/fhir/Patient/1", bareP, []string{fhirJSON}, 400, "Parameters"},
		{"bundle_of_other_type", "POST", "/fhir", `{"resourceType":"Bundle","type":"document"}`, []string{fhirJSON}, 400, "transaction"},
		{"bundle_without_type", "POST", "/fhir", `{"resourceType":"Bundle"}`, []string{fhirJSON}, 400, "transaction"},
		{"resource_to_base", "POST", "/fhir", bareP, []string{fhirJSON}, 400, "https://ehr.example.org/fhir/Patient"},
		{"if_match_list", "PUT", "/fhir/Patient/p1", patientP1, []string{fhirJSON, `If-Match: W/"1", W/"2"`}, 400, "If-Match"},
		{"if_match_malformed", "PUT", "/fhir/Patient/p1", patientP1, []string{fhirJSON, `If-Match: W/1`}, 400, "If-Match"},
		{"if_match_empty", "PUT", "/fhir/Patient/p1", patientP1, []string{fhirJSON, `If-Match: `}, 400, "If-Match"},
		{"if_none_match_malformed", "GET", "/fhir/Patient/p1", "", []string{`If-None-Match: "`}, 400, "If-None-Match"},
		{"if_none_exist_empty", "POST", "/fhir/Patient", bareP, []string{fhirJSON, "If-None-Exist: ?"}, 400, "If-None-Exist"},
		{"idempotency_key", "POST", "/fhir/Patient", bareP, []string{fhirJSON, "Idempotency-Key: a b"}, 400, "Idempotency-Key"},
		{"too_large", "POST", "/fhir/Patient", `{"a":"` + long + `"}`, []string{fhirJSON}, 413, "1000 bytes"},
		{"too_large_form", "POST", "/fhir/Patient/_search", "a=" + long, []string{form}, 413, "1000 bytes"},
		{"gzip_bomb", "POST", "/fhir/Patient", zipped(`{"a":"` + strings.Repeat("x", 1<<20) + `"}`), []string{fhirJSON, "Content-Encoding: gzip"}, 413, "1000 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := h.send(t, c.method, c.path, c.body, c.headers...).wantStatus(t, c.status)
			if !strings.Contains(strings.ReplaceAll(a.body, `\"`, `"`), c.says) {
				t.Errorf("%q is not in %s", c.says, a.body)
			}
			if c.status == 405 && !strings.Contains(a.Header.Get("Allow"), "OPTIONS") {
				t.Errorf("Allow is %q", a.Header.Get("Allow"))
			}
		})
	}
	if strings.Contains(h.log.String(), "did you mean") || strings.Contains(h.log.String(), "identifier=x") {
		t.Error("the log repeats what clients sent")
	}
}

func zipped(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(s))
	_ = w.Close()
	return b.String()
}

func TestBody_over_the_limit_is_refused_before_it_is_sent(t *testing.T) {
	t.Parallel()
	h := start(t)
	conn, err := net.Dial("tcp", h.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /fhir/Patient HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n{")
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Minute))
	got := make([]byte, 12)
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != "HTTP/1.1 413" {
		t.Fatalf("%q, %v", got, err)
	}
}

func TestBody_that_comes_too_slowly_is_408(t *testing.T) {
	t.Parallel()
	h := start(t, func(o *server.Options) { o.Limits.BodyGrace = 50 * time.Millisecond })
	for _, head := range []string{"Content-Length: 50\r\n", "Transfer-Encoding: chunked\r\n"} {
		conn, err := net.Dial("tcp", h.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "POST /fhir/Patient HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n%s\r\n", head)
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Minute))
		got := make([]byte, 12)
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != "HTTP/1.1 408" {
			t.Fatalf("%s: %q, %v", head, got, err)
		}
	}
}

func TestGzip_both_ways(t *testing.T) {
	t.Parallel()
	h := start(t, func(o *server.Options) { o.Limits.GzipMinBytes = 100 })
	const body = `{"resourceType":"Patient","active":true}`
	a := h.send(t, "POST", "/fhir/Patient", zipped(body), fhirJSON, "Content-Encoding: gzip", "Accept-Encoding: br, gzip;q=0.5").wantStatus(t, 200)
	if got := string(h.fake.last(t).Body.JSON()); got != body {
		t.Errorf("the service got %s", got)
	}
	r, err := gzip.NewReader(strings.NewReader(a.body))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || string(got) != string(patient(3).Content) {
		t.Errorf("%s, %v", got, err)
	}
	if a.Header.Get("Content-Encoding") != "gzip" || !strings.Contains(a.Header.Get("Vary"), "Accept-Encoding") {
		t.Errorf("headers %v", a.Header)
	}
	if a := h.send(t, "GET", "/fhir/Patient/p1", "", "Accept-Encoding: gzip;q=0, *"); a.Header.Get("Content-Encoding") != "" {
		t.Error("gzip although it was refused")
	}
}

func TestRead_sends_stored_bytes(t *testing.T) {
	t.Parallel()
	h := start(t)
	want := http.Header{
		"Content-Type":           {"application/fhir+json; charset=utf-8"},
		"Etag":                   {`W/"3"`},
		"Last-Modified":          {"Wed, 04 Mar 2026 05:06:07 GMT"},
		"Content-Length":         {fmt.Sprint(len(patient(3).Content))},
		"Cache-Control":          {"no-store"},
		"Vary":                   {"Accept, Accept-Encoding"},
		"X-Request-Id":           {"my-id"},
		"X-Content-Type-Options": {"nosniff"},

		"Strict-Transport-Security": {"max-age=31536000"},
	}
	for _, method := range []string{"GET", "HEAD"} {
		a := h.send(t, method, "/fhir/Patient/p1", "", "X-Request-Id: my-id").wantStatus(t, 200)
		a.Header.Del("Date")
		if diff := cmp.Diff(want, a.Header); diff != "" {
			t.Errorf("%s headers (-want +got):\n%s", method, diff)
		}
		if body := string(patient(3).Content); method == "GET" && a.body != body || method == "HEAD" && a.body != "" {
			t.Errorf("%s body %s", method, a.body)
		}
	}
	a := h.send(t, "GET", "/fhir/Patient/p1?_pretty=true", "", "X-Request-Id: a\"b").wantStatus(t, 200)
	if !strings.Contains(a.body, "\n  \"id\": \"p1\"") || !strings.Contains(a.body, "1.10") {
		t.Errorf("not pretty: %s", a.body)
	}
	if id := a.Header.Get("X-Request-Id"); len(id) != 16 {
		t.Errorf("request id %q", id)
	}
	a = h.send(t, "GET", "/fhir/Patient/p1", "", "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8").wantStatus(t, 200)
	if a.Header.Get("Content-Type") != "application/json; charset=utf-8" || !strings.Contains(a.body, "\n") {
		t.Errorf("browsers get %s: %s", a.Header.Get("Content-Type"), a.body)
	}
}

func TestAnswers_to_writes(t *testing.T) {
	t.Parallel()
	h := start(t)
	at := "https://ehr.example.org/fhir/Patient/p1/_history/3"
	whole := string(patient(3).Content)
	warning := []fhir.Issue{{Severity: "warning", Code: "business-rule", Text: "Mind the gap"}}
	for _, c := range []struct {
		name, method, prefer      string
		resp                      resources.Response
		status                    int
		location, contentLocation string
		body                      string // exact, or a part after "~"
	}{
		{"created", "POST", "", resources.Response{Created: true, Version: patient(3)}, 201, at, "", whole},
		{"created_minimal", "POST", "return=minimal", resources.Response{Created: true, Version: patient(3)}, 201, at, "", ""},
		{"created_outcome", "POST", "handling=strict, return=OperationOutcome", resources.Response{Created: true, Version: patient(3), Issues: warning}, 201, at, "", "~Mind the gap"},
		{"created_outcome_all_ok", "POST", "return=OperationOutcome", resources.Response{Created: true, Version: patient(3)}, 201, at, "", "~All OK"},
		{"matched", "POST", "", resources.Response{Version: patient(3)}, 200, "", at, whole},
		{"updated", "PUT", "return=representation", resources.Response{Version: patient(3)}, 200, "", at, whole},
		{"updated_as_create", "PUT", "", resources.Response{Created: true, Version: patient(3)}, 201, at, "", whole},
		{"unchanged", "PUT", "", resources.Response{Unchanged: true, Version: patient(3)}, 200, "", at, whole},
		{"patched", "PATCH", "return=minimal", resources.Response{Version: patient(3)}, 200, "", at, ""},
		{"deleted", "DELETE", "", resources.Response{Deleted: 1, Version: &storage.Version{Number: 4, Deleted: true}}, 204, "", "", ""},
		{"deleted_outcome", "DELETE", "return=OperationOutcome", resources.Response{Deleted: 2}, 200, "", "", "~2 resources were deleted"},
		{"deleted_warning", "DELETE", "", resources.Response{Deleted: 1, Issues: warning}, 200, "", "", "~Mind the gap"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h.fake.give = func(context.Context, resources.Request) (*resources.Response, error) { return &c.resp, nil }
			path, body, kind := "/fhir/Patient/p1", patientP1, fhirJSON
			switch c.method {
			case "POST":
				path = "/fhir/Patient"
			case "PATCH":
				body, kind = "[]", jsonPatch
			case "DELETE":
				body = ""
			}
			a := h.send(t, c.method, path, body, kind, "Prefer: "+c.prefer).wantStatus(t, c.status)
			if got := a.Header.Get("Location"); got != c.location {
				t.Errorf("Location %q", got)
			}
			if got := a.Header.Get("Content-Location"); got != c.contentLocation {
				t.Errorf("Content-Location %q", got)
			}
			part, found := strings.CutPrefix(c.body, "~")
			if found && !strings.Contains(a.body, part) || !found && a.body != c.body {
				t.Errorf("body %s", a.body)
			}
			if v := c.resp.Version; v != nil && a.Header.Get("ETag") != fmt.Sprintf(`W/"%d"`, v.Number) {
				t.Errorf("ETag %q", a.Header.Get("ETag"))
			}
		})
	}
}

func TestNotModified_has_no_body(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.fake.give = func(context.Context, resources.Request) (*resources.Response, error) {
		return &resources.Response{NotModified: true, Version: patient(3)}, nil
	}
	a := h.send(t, "GET", "/fhir/Patient/p1", "", `If-None-Match: W/"3"`).wantStatus(t, 304)
	if a.body != "" || a.Header.Get("ETag") != `W/"3"` || a.Header.Get("Last-Modified") == "" {
		t.Errorf("%v %s", a.Header, a.body)
	}
}

func TestErrors_become_outcomes(t *testing.T) {
	t.Parallel()
	h := start(t)
	for _, c := range []struct {
		name    string
		err     error
		status  int
		headers map[string]string
	}{
		{"invalid", fhir.NewError(fhir.Invalid, fhir.CodeValue, "No date").At("Patient.birthDate"), 400, nil},
		{"unprocessable", fhir.NewError(fhir.Unprocessable, fhir.CodeInvariant, "Rule pat-1").Coded("pat-1"), 422, nil},
		{"not_found", fhir.NewError(fhir.NotFound, fhir.CodeNotFound, "Patient/p1 is not known"), 404, nil},
		{"gone", fhir.NewError(fhir.Gone, fhir.CodeDeleted, "Patient/p1 has been deleted"), 410, map[string]string{"Etag": `W/"4"`}},
		{"unauthenticated", fhir.NewError(fhir.Unauthenticated, fhir.CodeLogin, "No token"), 401,
			map[string]string{"Www-Authenticate": `Bearer realm="https://ehr.example.org/fhir"`}},
		{"forbidden", fhir.NewError(fhir.Forbidden, fhir.CodeForbidden, "Not yours"), 403, nil},
		{"conflict", fhir.NewError(fhir.Conflict, fhir.CodeConflict, "Somebody else was faster"), 409, nil},
		{"precondition", fhir.NewError(fhir.Precondition, fhir.CodeConflict, "Version 4 is current"), 412, nil},
		{"business_rule", fhir.NewError(fhir.BusinessRule, fhir.CodeBusinessRule, "Closed on Sundays"), 422, nil},
		{"not_supported", fhir.NewError(fhir.NotSupported, fhir.CodeNotSupported, "No such parameter"), 400, nil},
		{"too_costly", fhir.NewError(fhir.TooCostly, fhir.CodeTooCostly, "Too wide"), 422, nil},
		{"throttled", &fhir.Error{Kind: fhir.Throttled, RetryAfter: 1500 * time.Millisecond,
			Issues: []fhir.Issue{{Severity: "error", Code: "throttled", Text: "Slow down"}}}, 429, map[string]string{"Retry-After": "2"}},
		{"transient", fhir.NewError(fhir.Transient, fhir.CodeTransient, "Try again"), 503, map[string]string{"Retry-After": "1"}},
		{"wrapped", fmt.Errorf("resources: read: %w", fhir.NewError(fhir.NotFound, fhir.CodeNotFound, "Patient/p1 is not known")), 404, nil},
		{"deadline", fmt.Errorf("storage: %w", context.DeadlineExceeded), 503, map[string]string{"Retry-After": "1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h.fake.give = func(context.Context, resources.Request) (*resources.Response, error) {
				if c.status == 410 {
					return &resources.Response{Version: patient(4)}, c.err
				}
				return nil, c.err
			}
			a := h.send(t, "GET", "/fhir/Patient/p1", "").wantStatus(t, c.status)
			golden(t, "outcome_"+c.name, a.body)
			for name, value := range c.headers {
				if a.Header.Get(name) != value {
					t.Errorf("%s is %q", name, a.Header.Get(name))
				}
			}
		})
	}
}

func TestFaults_of_ours_show_an_id_and_nothing_else(t *testing.T) {
	t.Parallel()
	for name, give := range map[string]func(context.Context, resources.Request) (*resources.Response, error){
		"unknown_error": func(context.Context, resources.Request) (*resources.Response, error) {
			return nil, fmt.Errorf("storage: read: %w", errors.New("relation secret does not exist"))
		},
		"internal": func(context.Context, resources.Request) (*resources.Response, error) {
			return nil, fhir.NewError(fhir.Internal, fhir.CodeException, "secret patient Smith").Because(errors.New("relation secret"))
		},
		"panic": func(context.Context, resources.Request) (*resources.Response, error) { panic("relation secret") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := start(t)
			h.fake.give = give
			a := h.send(t, "GET", "/fhir/Patient/p1?name=Smith", "").wantStatus(t, 500)
			if strings.Contains(a.body, "secret") || strings.Contains(a.body, "goroutine") {
				t.Errorf("told the client: %s", a.body)
			}
			_, id, _ := strings.Cut(a.body, "the id e")
			id = "e" + id[:11]
			log := h.log.String()
			if !strings.Contains(log, id) || !strings.Contains(log, "relation secret") {
				t.Errorf("%s or the cause is not in the log:\n%s", id, log)
			}
			if strings.Contains(log, "Smith") {
				t.Errorf("patient data in the log:\n%s", log)
			}
		})
	}
}

func TestTimeout_is_503(t *testing.T) {
	t.Parallel()
	h := start(t, func(o *server.Options) { o.Limits.RequestTimeout = 10 * time.Millisecond })
	h.fake.give = func(ctx context.Context, _ resources.Request) (*resources.Response, error) {
		<-ctx.Done()
		return nil, fmt.Errorf("storage: %w", ctx.Err())
	}
	h.send(t, "GET", "/fhir/Patient/p1", "").wantStatus(t, 503)
}

func TestAccess_log_and_metrics_name_routes(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.send(t, "GET", "/fhir/Patient/p1?family=Smith", "").wantStatus(t, 200)
	h.send(t, "GET", "/nowhere/Smith", "").wantStatus(t, 404)
	h.send(t, "BREW", "/fhir", "").wantStatus(t, 405)
	log := h.log.String()
	if !strings.Contains(log, "route=/fhir/{type}/{id} status=200") || strings.Contains(log, "Smith") || strings.Contains(log, "p1") {
		t.Errorf("log:\n%s", log)
	}
	metrics := h.send(t, "GET", "/metrics", "", "Accept: application/openmetrics-text").body
	for _, line := range []string{
		`kiln_http_requests_total{method="GET",route="/fhir/{type}/{id}",status="2xx"} 1`,
		`kiln_http_requests_total{method="GET",route="unmatched",status="4xx"} 1`,
		`kiln_http_requests_total{method="other",route="/fhir",status="4xx"} 1`,
		`kiln_http_request_duration_seconds_count{method="GET",route="/fhir/{type}/{id}"} 1`,
	} {
		if !strings.Contains(metrics, line) {
			t.Errorf("%s is not in the metrics", line)
		}
	}
}

func TestProbes(t *testing.T) {
	t.Parallel()
	var fail error
	h := start(t, func(o *server.Options) { o.Ready = func(context.Context) error { return fail } })
	if a := h.send(t, "GET", "/healthz", "", "Accept: text/plain"); a.StatusCode != 200 {
		t.Errorf("healthz %d", a.StatusCode)
	}
	if a := h.send(t, "HEAD", "/readyz", ""); a.StatusCode != 200 {
		t.Errorf("readyz %d", a.StatusCode)
	}
	fail = errors.New("no database")
	if a := h.send(t, "GET", "/readyz", ""); a.StatusCode != 503 || strings.Contains(a.body, "database") {
		t.Errorf("readyz %d %s", a.StatusCode, a.body)
	}
}

func TestMetadata(t *testing.T) {
	t.Parallel()
	h := start(t)
	a := h.send(t, "GET", "/fhir/metadata", "").wantStatus(t, 200)
	if a.Header.Get("ETag") != `W/"abc"` || !strings.Contains(a.body, "CapabilityStatement") {
		t.Errorf("%v %s", a.Header, a.body)
	}
	h.send(t, "GET", "/fhir/metadata", "", `If-None-Match: W/"x", W/"abc"`).wantStatus(t, 304)
}

func TestCORS(t *testing.T) {
	t.Parallel()
	h := start(t)
	a := h.send(t, "OPTIONS", "/fhir/Patient/1", "", "Origin: https://app", "Access-Control-Request-Method: PUT").wantStatus(t, 204)
	if a.Header.Get("Access-Control-Allow-Origin") != "*" || !strings.Contains(a.Header.Get("Access-Control-Allow-Headers"), "If-Match") ||
		!strings.Contains(a.Header.Get("Access-Control-Allow-Methods"), "PUT") {
		t.Errorf("preflight %v", a.Header)
	}
	a = h.send(t, "GET", "/fhir/Foo", "", "Origin: https://app").wantStatus(t, 404)
	if a.Header.Get("Access-Control-Allow-Origin") != "*" || !strings.Contains(a.Header.Get("Access-Control-Expose-Headers"), "ETag") ||
		a.Header.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("errors must be readable too: %v", a.Header)
	}
	a = h.send(t, "OPTIONS", "/fhir/Patient", "").wantStatus(t, 204)
	if a.Header.Get("Allow") != "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS" {
		t.Errorf("Allow %q", a.Header.Get("Allow"))
	}
}
