package main

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestSmart_104_every_link_begins_with_the_public_name: behind a proxy that does TLS, nothing tells of the address that the
// server itself listens on.
func TestSmart_104_every_link_begins_with_the_public_name(t *testing.T) {
	t.Parallel()
	addr := fixedAddr(t)
	db := "--database-url=" + startedDB(t)
	const public = "https://ehr.example.org"
	origin, stop := serve(t, "--auth=smart", db, "--data-dir="+t.TempDir(), "--addr="+addr, "--base-url="+public+"/", "--seed")
	defer stop()
	if origin != public {
		t.Errorf("it says that it serves at %s", origin)
	}
	code, token, errs := command(t, "token", "--scope=system/*.cruds", db, "--log-level=error")
	if code != 0 {
		t.Fatal(errs)
	}
	for path, names := range map[string]string{
		"/fhir/.well-known/smart-configuration":                       public + "/auth/token",
		"/.well-known/openid-configuration":                           `"issuer":"` + public + `"`,
		"/fhir/metadata":                                              public + "/auth/authorize",
		"/fhir/Patient?_count=1&_revinclude=Appointment:patient":      public + "/fhir/Patient/demo-",
		"/fhir/Patient/demo-tom/_history":                             public + "/fhir/Patient/demo-tom",
		"/fhir/Patient/demo-tom/$everything":                          public + "/fhir/",
		"/swagger/openapi/index.json":                                 public + "/fhir",
		"/swagger/openapi/Patient.json":                               public + "/auth/authorize",
		"POST /fhir/Patient":                                          public + "/fhir/Patient/",
		"/auth/authorize?client_id=nobody&redirect_uri=https://x.org": "not known",
	} {
		method := http.MethodGet
		var body io.Reader
		if rest, post := strings.CutPrefix(path, "POST "); post {
			method, path, body = http.MethodPost, rest, strings.NewReader(`{"resourceType":"Patient"}`)
		}
		req, err := http.NewRequest(method, "http://"+addr+path, body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(token))
		req.Header.Set("Content-Type", "application/fhir+json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		all := string(content)
		for name, values := range resp.Header {
			all += "\n" + name + ": " + strings.Join(values, ", ")
		}
		if !strings.Contains(all, names) || strings.Contains(all, addr) || strings.Contains(all, "localhost:") {
			t.Errorf("%s: %d %.1500s", path, resp.StatusCode, all)
		}
	}
}
