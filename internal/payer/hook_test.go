package payer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"kiln/resources/coverage"
)

const discovery = `{"services":[{"hook":"appointment-book","id":"book","prefetch":{"coverage":"Coverage?patient={{context.patientId}}"}}]}`

// crd is a payer with a FHIR server that answers well, and a CDS service that does as a handler says.
func crd(t *testing.T, discovers, hook http.HandlerFunc) *coverage.Question {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /fhir/CoverageEligibilityRequest/$submit", answers("application/fhir+json", 200, good))
	mux.HandleFunc("GET /crd/cds-services", discovers)
	mux.HandleFunc("POST /crd/cds-services/book", hook)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	q := question(t, server.URL+"/fhir")
	q.Request.Set("extension", *node(t, fmt.Sprintf(`[{"url":%q,"valuePeriod":{"start":"2026-01-16T09:00:00Z","end":"2026-01-16T09:30:00Z"}}]`, coverage.ExtensionVisitPeriod)))
	q.Hooks = server.URL + "/crd"
	return q
}

func open(q *coverage.Question, more ...string) *FHIR {
	u, _ := url.Parse(q.Hooks)
	return New(Options{Hosts: append(more, u.Host), Private: true, Timeout: time.Minute})
}

func says(parts string) string {
	return `{"cards":[],"systemActions":[{"type":"update","resource":{"resourceType":"Appointment","id":"q","extension":[{"url":"` + coverage.CoverageInformation + `","extension":[{"url":"coverage","valueReference":{"reference":"Coverage/c"}}` + parts + `]}]}}]}`
}

// TestAsk_hook asks a payer that has both, over real connections.
func TestAsk_hook(t *testing.T) {
	t.Parallel()
	const json = "application/json"
	found := answers(json, 200, discovery)
	for name, c := range map[string]struct {
		discovers, hook http.HandlerFunc
		// want is what is judged, "again" for no answer now.
		want string
	}{
		"covered":             {found, answers(json, 200, says(`,{"url":"covered","valueCode":"covered"}`)), "[]"},
		"not_covered":         {found, answers(json, 200, says(`,{"url":"covered","valueCode":"not-covered"}`)), "[service-excluded]"},
		"authorization":       {found, answers(json, 200, says(`,{"url":"covered","valueCode":"covered"},{"url":"pa-needed","valueCode":"auth-needed"}`)), "[authorization-required]"},
		"nothing":             {found, answers(json, 200, `{"cards":[]}`), "[]"},
		"hangs":               {found, func(_ http.ResponseWriter, r *http.Request) { hang(r) }, "again"},
		"discovery_hangs":     {func(_ http.ResponseWriter, r *http.Request) { hang(r) }, nil, "again"},
		"is_down":             {found, answers(json, 503, ""), "again"},
		"discovery_is_down":   {answers(json, 502, ""), nil, "again"},
		"breaks_off":          {found, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "again"},
		"a_page":              {found, answers("text/html", 200, "<h1>Maintenance</h1>"), "again"},
		"discovery_is_a_page": {answers("text/html", 200, "<h1>Maintenance</h1>"), nil, "again"},
		"discovery_of_10_MB":  {answers(json, 200, `{"services":[{"hook":"`+strings.Repeat("x", 10<<20)+`"}]}`), nil, "again"},
		"10_MB":               {found, answers(json, 200, `{"cards":[{"summary":"`+strings.Repeat("x", 10<<20)+`"}]}`), "again"},
		"no_such_hook":        {answers(json, 200, `{"services":[{"hook":"order-sign","id":"book"}]}`), nil, "[coverage-conditional]"},
		"no_discovery":        {answers(json, 404, ""), nil, "[coverage-conditional]"},
		"wants_more":          {found, answers(json, 412, ""), "[coverage-conditional]"},
		"sends_into_the_network": {found, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://169.254.169.254/", http.StatusTemporaryRedirect)
		}, "[coverage-conditional]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.hook == nil {
				c.hook = func(http.ResponseWriter, *http.Request) { t.Error("called all the same") }
			}
			q := crd(t, c.discovers, c.hook)
			limit := time.Minute
			if strings.Contains(name, "hangs") {
				limit = 300 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			a, err := open(q).Ask(ctx, q)
			if errors.Is(err, coverage.ErrNoAnswer) {
				if c.want != "again" {
					t.Fatal(err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			codes := []coverage.Code{}
			for _, f := range a.Judge(coverage.Visit{Coverage: "Coverage/c", Date: "2026-01-16"}) {
				codes = append(codes, f.Code)
			}
			if fmt.Sprint(codes) != c.want {
				t.Errorf("%v, want %s", codes, c.want)
			}
			if a.Recorded != 2 {
				t.Error("what the FHIR server counts is lost")
			}
		})
	}
}

// A discovery is remembered, for a while and not without bound, and asked for again when the service refuses.
func TestAsk_hook_discovery(t *testing.T) {
	t.Parallel()
	var discovered atomic.Int32
	var refuses atomic.Bool
	q := crd(t, func(w http.ResponseWriter, r *http.Request) {
		discovered.Add(1)
		answers("application/json", 200, discovery)(w, r)
	}, func(w http.ResponseWriter, r *http.Request) {
		if refuses.Load() {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		answers("application/json", 200, `{"cards":[]}`)(w, r)
	})
	p := open(q)
	ask := func() {
		t.Helper()
		if _, err := p.Ask(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	ask()
	ask()
	if discovered.Load() != 1 {
		t.Errorf("%d", discovered.Load())
	}
	refuses.Store(true)
	ask()
	ask()
	if discovered.Load() != 2 {
		t.Errorf("%d", discovered.Load())
	}
	for i := range 3 * maxKnown {
		p.services.put(fmt.Sprint(i), nil)
	}
	if len(p.services.known) != maxKnown {
		t.Errorf("%d are remembered", len(p.services.known))
	}
}

// The service is asked where an operator has allowed it, and about visits alone.
func TestAsk_hook_goes_nowhere_else(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	q := crd(t, func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		_, _ = io.WriteString(w, discovery)
	}, func(http.ResponseWriter, *http.Request) { asked.Add(1) })
	elsewhere := *q
	elsewhere.Hooks = strings.Replace(q.Hooks, "127.0.0.1", "localhost", 1)
	alone := elsewhere
	alone.Endpoint = ""
	if a, err := open(q).Ask(t.Context(), &elsewhere); err != nil || len(a.Judge(coverage.Visit{Coverage: "Coverage/c", Date: "2026-01-16"})) != 1 {
		t.Errorf("%+v, %v", a, err)
	}
	if _, err := open(q).Ask(t.Context(), &alone); !errors.Is(err, errNotAllowed) {
		t.Error(err)
	}
	u, _ := url.Parse(q.Hooks)
	public := New(Options{Hosts: []string{u.Host}, Timeout: time.Minute})
	secure := alone
	secure.Hooks = strings.Replace(q.Hooks, "http://", "https://", 1)
	if _, err := public.Ask(t.Context(), &secure); err == nil || errors.Is(err, coverage.ErrNoAnswer) {
		t.Error(err)
	}
	client := *q
	request := q.Request.Clone()
	request.Remove("extension")
	client.Request = &request
	if _, err := open(q).Ask(t.Context(), &client); err != nil {
		t.Error(err)
	}
	if asked.Load() > 0 {
		t.Errorf("asked %d times", asked.Load())
	}
}
