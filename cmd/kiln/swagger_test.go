package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"pgregory.net/rapid"

	"kiln/internal/browser"
)

// TestSwagger_in_a_browser opens /swagger/ in Chromium, tries a call, and sees its answer. What the page's policy
// refuses would show as an error in the console.
func TestSwagger_in_a_browser(t *testing.T) {
	t.Parallel()
	b := browser.Open(t)
	origin, stop := serve(t, "--database-url="+startedDB(t))
	defer stop()
	var answer string
	const call = "#operations-system-capabilities "
	b.Do(
		chromedp.Navigate(origin+"/swagger/?urls.primaryName=system"),
		chromedp.WaitVisible(browser.CSS(call+".opblock-summary-control")), browser.Picture("swagger"),
		chromedp.Click(browser.CSS(call+".opblock-summary-control")),
		chromedp.WaitVisible(browser.CSS(call+".try-out__btn")),
		chromedp.Click(browser.CSS(call+".try-out__btn")),
		chromedp.WaitVisible(browser.CSS(call+"button.execute")),
		chromedp.Click(browser.CSS(call+"button.execute")),
		chromedp.WaitVisible(browser.CSS(call+".live-responses-table .response-col_status")),
		browser.Keep(&answer, chromedp.Text(browser.CSS(call+".live-responses-table"))), browser.Picture("swagger-answer"),
	)
	if !strings.Contains(answer, "200") || !strings.Contains(answer, "CapabilityStatement") {
		t.Errorf("the page shows %.300q", answer)
	}
	if said := b.Complaints(); len(said) > 0 {
		t.Errorf("the console says %q", said)
	}
}

// TestSwagger_client: the server itself registers the client that the page signs in as, with the page's redirect alone,
// and a second start finds it there.
func TestSwagger_client(t *testing.T) {
	t.Parallel()
	db, dir := "--database-url="+startedDB(t), "--data-dir="+t.TempDir()
	for range 2 {
		origin, stop := serve(t, db, "--auth=smart", dir)
		ask := func(redirect, challenge string) (int, string) {
			return get(t, origin+"/auth/authorize?"+url.Values{
				"response_type": {"code"}, "client_id": {"kiln-swagger"}, "redirect_uri": {redirect}, "scope": {"openid fhirUser user/*.cruds"},
				"state": {"a-state-that-is-long-enough"}, "aud": {origin + "/fhir"}, "code_challenge": {challenge}, "code_challenge_method": {"S256"},
			}.Encode())
		}
		challenge := strings.Repeat("A", 43)
		if status, page := ask(origin+"/swagger/oauth2-redirect.html", challenge); status != http.StatusOK || !strings.Contains(page, `id="username"`) {
			t.Errorf("signing in: %d %.300s", status, page)
		}
		if status, page := ask("https://elsewhere.example/cb", challenge); status < 400 || strings.Contains(page, `id="username"`) {
			t.Errorf("another redirect: %d %.300s", status, page)
		}
		stop()
	}
}

// TestAPI_as_described sends what the OpenAPI documents allow, and things they do not, and looks at the answers: a
// described status, a FHIR resource as the body, never a fault of the server's.
func TestAPI_as_described(t *testing.T) {
	t.Parallel()
	origin, stop := serve(t, "--database-url="+startedDB(t), "--seed")
	defer stop()
	type method struct {
		Parameters []struct{ Name, In string }
		Responses  map[string]any
		Body       map[string]any `json:"requestBody"`
	}
	type document struct {
		Paths map[string]map[string]json.RawMessage
	}
	type target struct {
		verb, path string
		method
	}
	var targets []target
	for _, name := range []string{"system", "Patient", "Appointment", "Observation", "ValueSet", "Slot", "Bundle", "SearchParameter"} {
		_, text := get(t, origin+"/swagger/openapi/"+name+".json")
		var doc document
		if err := json.Unmarshal([]byte(text), &doc); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for path, item := range doc.Paths {
			for verb, raw := range item {
				if verb == "parameters" {
					continue
				}
				var m method
				if err := json.Unmarshal(raw, &m); err != nil {
					t.Fatal(err)
				}
				targets = append(targets, target{strings.ToUpper(verb), path, m})
			}
		}
	}
	slices.SortFunc(targets, func(a, b target) int { return strings.Compare(a.path+a.verb, b.path+b.verb) })
	client := &http.Client{Timeout: time.Minute}
	values := []string{"", "1", "x", "true", "2020-01-01", "ge2020", "http://loinc.org|1", "Patient/demo-tom", "demo-tom", "a,b", "%", "'", "\x00", "ü", strings.Repeat("9", 60), "-1", "|", "$", "Patient:name", "*"}
	bodies := []string{"", "{}", "[]", "null", `{"resourceType":"Patient"}`, `{"resourceType":"Parameters"}`, `{"resourceType":"Bundle","type":"batch"}`,
		`{"resourceType":"Parameters","parameter":[{"name":"url","valueUri":"x"}]}`, `{"resourceType":"Observation","status":"final"}`, `[{"op":"add","path":"/x","value":1}]`, "\xff", `{"resourceType":`}
	rapid.Check(t, func(t *rapid.T) {
		target := rapid.SampledFrom(targets).Draw(t, "target")
		path := strings.NewReplacer(
			"{id}", rapid.SampledFrom([]string{"demo-tom", "nobody", "a b", "..", "%2F"}).Draw(t, "id"),
			"{vid}", rapid.SampledFrom([]string{"1", "99", "x"}).Draw(t, "version")).Replace(target.path)
		query := url.Values{}
		header := http.Header{"Accept": {"application/fhir+json"}}
		for _, p := range target.Parameters {
			if rapid.IntRange(0, 9).Draw(t, "take "+p.Name) != 0 {
				continue
			}
			value := rapid.SampledFrom(values).Draw(t, p.Name)
			if p.In == "query" {
				query.Add(p.Name, value)
			} else if p.In == "header" && !strings.ContainsAny(value, "\x00ü") {
				header.Set(p.Name, value)
			}
		}
		var body io.Reader
		if target.Body != nil {
			body = strings.NewReader(rapid.SampledFrom(bodies).Draw(t, "body"))
			content, _ := target.Body["content"].(map[string]any)
			kinds := []string{}
			for kind := range content {
				kinds = append(kinds, kind)
			}
			slices.Sort(kinds)
			header.Set("Content-Type", rapid.SampledFrom(kinds).Draw(t, "kind"))
		}
		at := origin + "/fhir" + strings.ReplaceAll(path, " ", "%20") + "?" + query.Encode()
		req, err := http.NewRequest(target.verb, at, body)
		if err != nil {
			t.Skip(err)
		}
		req.Header = header
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		content, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		what := fmt.Sprintf("%s %s: %d %.300s", target.verb, at, resp.StatusCode, content)
		if resp.StatusCode >= 500 {
			t.Fatalf("a fault of the server's: %s", what)
		}
		if _, described := target.Responses[fmt.Sprint(resp.StatusCode)]; resp.StatusCode < 400 && !described {
			t.Fatalf("not described: %s", what)
		}
		if len(content) == 0 {
			if resp.StatusCode >= 400 {
				t.Fatalf("no outcome: %s", what)
			}
			return
		}
		type typed struct{ ResourceType string }
		if strings.HasSuffix(path, "/$graphql") && resp.StatusCode != http.StatusUnauthorized {
			var answer struct {
				Data   json.RawMessage
				Errors []struct{ Extensions struct{ Resource typed } }
			}
			if err := json.Unmarshal(content, &answer); err != nil || (resp.StatusCode >= 400) != (len(answer.Errors) > 0) {
				t.Fatalf("no answer to a query: %s", what)
			}
			for _, e := range answer.Errors {
				if e.Extensions.Resource.ResourceType != "OperationOutcome" {
					t.Fatalf("no outcome: %s", what)
				}
			}
			return
		}
		var resource typed
		if err := json.Unmarshal(content, &resource); err != nil || resource.ResourceType == "" || resp.StatusCode >= 400 && resource.ResourceType != "OperationOutcome" {
			t.Fatalf("no such resource: %s", what)
		}
	})
}
