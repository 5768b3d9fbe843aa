package payer

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"kiln/fhir"
	"kiln/resources/coverage"
)

func node(t testing.TB, text string) *fhir.Node {
	t.Helper()
	n, err := fhir.ParseJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func question(t testing.TB, endpoint string) *coverage.Question {
	code := fhir.Obj(fhir.Arr(fhir.Obj(fhir.Str("urn:service").As("system"), fhir.Str("check-up").As("code"))).As("coding"))
	return &coverage.Question{
		Request: node(t, `{"resourceType":"CoverageEligibilityRequest","id":"q","status":"active","purpose":["validation"],"patient":{"reference":"Patient/p"},"created":"2026-01-15","insurer":{"reference":"Organization/o"}}`),
		Coverages: []*fhir.Node{node(t, `{"resourceType":"Coverage","id":"c","status":"active","subscriberId":"1","beneficiary":{"reference":"Patient/p"},"payor":[{"reference":"Organization/o"}],
			"extension":[{"url":"urn:note","valueString":"not for payers"}]}`)},
		Patient:  node(t, `{"resourceType":"Patient","id":"p","name":[{"family":"Abara"}],"birthDate":"1980-01-01","telecom":[{"system":"phone","value":"12345"}]}`),
		Endpoint: endpoint, From: "2026-01-16", To: "2026-01-16", Items: []coverage.Item{{Code: code}}, Asked: time.Date(2026, 1, 15, 10, 0, 0, 0, time.UTC),
	}
}

// good is how a payer that knows its member answers.
const good = `{"resourceType":"CoverageEligibilityResponse","status":"active","purpose":["validation"],"patient":{"reference":"Patient/99"},"created":"2026-01-15","request":{"reference":"CoverageEligibilityRequest/1"},"outcome":"complete","insurer":{"display":"x"},
	"insurance":[{"coverage":{"reference":"Coverage/theirs"},"inforce":true,"item":[{"productOrService":{"coding":[{"system":"urn:service","code":"check-up"}]},"benefit":[{"type":{"coding":[{"code":"visit"}]},"allowedUnsignedInt":5,"usedUnsignedInt":2}]}]}]}`

// answers is a payer that says one thing.
func answers(kind string, status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// hang says nothing until the other side has gone, which a server notices once it has read the body.
func hang(r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

// TestAsk puts one question to payers of all kinds, over real connections.
func TestAsk(t *testing.T) {
	t.Parallel()
	const json = "application/fhir+json; charset=utf-8"
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		// again says that the payer is worth being asked again.
		ok, again bool
	}{
		"answers":               {answers(json, 200, good), true, false},
		"answers_in_a_bundle":   {answers(json, 200, `{"resourceType":"Bundle","type":"collection","entry":[{"resource":`+good+`}]}`), true, false},
		"answers_in_parameters": {answers(json, 200, `{"resourceType":"Parameters","parameter":[{"name":"return","resource":`+good+`}]}`), true, false},
		"hangs":                 {func(_ http.ResponseWriter, r *http.Request) { hang(r) }, false, true},
		"begins_and_hangs": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", json)
			_, _ = io.WriteString(w, `{"a`)
			w.(http.Flusher).Flush()
			hang(r)
		}, false, true},
		"breaks_off":              {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, false, true},
		"answers_a_page":          {answers("text/html", 200, "<h1>Maintenance</h1>"), false, true},
		"answers_garbage":         {answers(json, 200, `{"resourceType":`), false, true},
		"answers_another_type":    {answers(json, 200, `{"resourceType":"Patient"}`), false, true},
		"answers_no_outcome":      {answers(json, 200, `{"resourceType":"CoverageEligibilityResponse"}`), false, true},
		"answers_10_MB":           {answers(json, 200, `{"resourceType":"CoverageEligibilityResponse","disposition":"`+strings.Repeat("x", 10<<20)+`"}`), false, true},
		"answers_later":           {answers(json, 200, strings.Replace(good, `"complete"`, `"queued"`, 1)), false, true},
		"is_busy":                 {answers(json, 503, ""), false, true},
		"is_asked_too_often":      {answers(json, 429, ""), false, true},
		"refuses":                 {answers(json, 422, ""), false, false},
		"does_not_know_this_path": {answers(json, 404, ""), false, false},
		"sends_into_the_network": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://169.254.169.254/latest", http.StatusTemporaryRedirect)
		}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(c.handler)
			t.Cleanup(server.Close)
			u, _ := url.Parse(server.URL)
			p := New(Options{Hosts: []string{u.Host}, Private: true, Timeout: time.Minute})
			limit := time.Minute
			if strings.Contains(name, "hangs") {
				limit = 50 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			a, err := p.Ask(ctx, question(t, server.URL+"/fhir"))
			if (err == nil) != c.ok || err != nil && errors.Is(err, coverage.ErrNoAnswer) != c.again {
				t.Fatalf("%+v, %v", a, err)
			}
			if c.ok && (a.Insurance[0].Coverage != "Coverage/c" || a.Recorded != 2 || a.Since != "2026-01-15" || len(a.Judge(coverage.Visit{Coverage: "Coverage/c", Date: "2026-01-16"})) != 0) {
				t.Errorf("%+v", a)
			}
		})
	}
}

// What a payer is told is what it needs to find its member, and it is told the same thing under one key.
func TestAsk_tells_no_more_than_is_needed(t *testing.T) {
	t.Parallel()
	var path, key, body string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		path, key, body = r.URL.Path, r.Header.Get("Idempotency-Key"), string(data)
		answers("application/fhir+json", 200, good)(w, r)
	}))
	defer server.Close()
	u, _ := url.Parse(server.URL)
	if _, err := New(Options{Hosts: []string{u.Host}, Private: true, Timeout: time.Minute}).Ask(t.Context(), question(t, server.URL+"/fhir/")); err != nil {
		t.Fatal(err)
	}
	if path != "/fhir/CoverageEligibilityRequest/$submit" || key != "q" || !strings.Contains(body, "Abara") || strings.Contains(body, "12345") || strings.Contains(body, "not for payers") {
		t.Errorf("%s %s %s", path, key, body)
	}
}

// No Endpoint leads where no operator has allowed it.
func TestAsk_goes_nowhere_else(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		answers("application/fhir+json", 200, good)(w, r)
	})
	plain, secure := httptest.NewServer(handler), httptest.NewTLSServer(handler)
	t.Cleanup(plain.Close)
	t.Cleanup(secure.Close)
	host := func(s *httptest.Server) string { u, _ := url.Parse(s.URL); return u.Host }
	for name, c := range map[string]struct {
		options  Options
		endpoint string
	}{
		"no_host_is_allowed":               {Options{Private: true}, plain.URL},
		"another_host_is_allowed":          {Options{Private: true, Hosts: []string{"payer.example.org"}}, plain.URL},
		"another_port_is_allowed":          {Options{Private: true, Hosts: []string{"127.0.0.1:1"}}, plain.URL},
		"a_host_stands_for_its_usual_port": {Options{Private: true, Hosts: []string{"127.0.0.1"}}, plain.URL},
		"private_address":                  {Options{Hosts: []string{host(secure)}}, secure.URL},
		"private_address_by_name":          {Options{Hosts: []string{"localhost:" + strings.Split(host(secure), ":")[1]}}, "https://localhost:" + strings.Split(host(secure), ":")[1]},
		"without_TLS":                      {Options{Hosts: []string{host(plain)}}, plain.URL},
		"with_a_certificate_of_nobody":     {Options{Private: true, Hosts: []string{host(secure)}}, secure.URL},
		"with_a_password":                  {Options{Private: true, Hosts: []string{host(plain)}}, strings.Replace(plain.URL, "http://", "http://a:b@", 1)},
		"with_a_query":                     {Options{Private: true, Hosts: []string{host(plain)}}, plain.URL + "/?x="},
		"another_scheme":                   {Options{Private: true, Hosts: []string{host(plain)}}, "file:///etc/passwd"},
		"no_endpoint":                      {Options{Private: true, Hosts: []string{host(plain)}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c.options.Timeout = time.Minute
			if a, err := New(c.options).Ask(t.Context(), question(t, c.endpoint)); err == nil {
				t.Errorf("%+v", a)
			}
		})
	}
	if asked.Load() > 0 {
		t.Errorf("asked %d times", asked.Load())
	}
}
