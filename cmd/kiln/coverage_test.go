package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// outsidePayer is a payer's FHIR server, which behaves as it is told to.
type outsidePayer struct {
	*httptest.Server
	says atomic.Pointer[string]
	// asked is how many questions there were, heard what they said.
	asked atomic.Int32
	mu    sync.Mutex
	heard []string
}

const payerAnswer = `{"resourceType":"CoverageEligibilityResponse","status":"active","purpose":["validation"],"patient":{"reference":"Patient/99"},"created":"2026-01-15","request":{"reference":"CoverageEligibilityRequest/1"},"outcome":"complete","disposition":"Welcome","insurer":{"display":"x"},
	"insurance":[{"coverage":{"reference":"Coverage/theirs"},"inforce":true,"item":[{"category":{"text":"visits"},"benefit":[{"type":{"text":"visits"},"allowedUnsignedInt":5,"usedUnsignedInt":2}]}]}]}`

func newOutsidePayer(t *testing.T) *outsidePayer {
	t.Helper()
	p := &outsidePayer{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.asked.Add(1)
		body, _ := io.ReadAll(r.Body)
		p.mu.Lock()
		p.heard = append(p.heard, string(body))
		p.mu.Unlock()
		w.Header().Set("Content-Type", "application/fhir+json")
		switch says := *p.says.Load(); says {
		case "down":
			w.WriteHeader(http.StatusServiceUnavailable)
		case "hang":
			<-r.Context().Done()
		case "elsewhere":
			http.Redirect(w, r, "http://169.254.169.254/latest/meta-data", http.StatusTemporaryRedirect)
		case "too much":
			_, _ = io.WriteString(w, `{"resourceType":"CoverageEligibilityResponse","disposition":"`+strings.Repeat("x", 10<<20)+`"}`)
		default:
			_, _ = io.WriteString(w, says)
		}
	}))
	t.Cleanup(p.Close)
	return p
}

// askedOf is how often it was asked about a member. About those to whom it gave no answer it is asked again in the background.
func (p *outsidePayer) askedOf(member string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, body := range p.heard {
		n += strings.Count(body, fmt.Sprintf(`"subscriberId":%q`, member))
	}
	return n
}

// TestCoverage_of_an_outside_payer books over HTTP with a payer that hangs, answers garbage, 10 MB, sends elsewhere, and answers.
func TestCoverage_of_an_outside_payer(t *testing.T) {
	t.Parallel()
	p := newOutsidePayer(t)
	u, err := url.Parse(p.URL)
	if err != nil {
		t.Fatal(err)
	}
	origin, stop := serve(t, "--database-url="+startedDB(t), "--payer-hosts="+u.Host, "--payer-private", "--payer-timeout=5s") // as long as a payer that answers may take on a busy machine
	base := origin + "/fhir/"
	put := func(typ, id, body string) {
		t.Helper()
		if a := send(t.Context(), "PUT", base+typ+"/"+id, body); a.err != nil || a.status > 201 {
			t.Fatalf("%s/%s: %+v", typ, id, a)
		}
	}
	const extension = "https://kiln.example/fhir/StructureDefinition/"
	put("Endpoint", "e", `{"resourceType":"Endpoint","id":"e","status":"active","connectionType":{"system":"http://terminology.hl7.org/CodeSystem/endpoint-connection-type","code":"hl7-fhir-rest"},"payloadType":[{"text":"any"}],"address":"`+p.URL+`/fhir"}`)
	put("Organization", "payer", `{"resourceType":"Organization","id":"payer","name":"Payer","extension":[{"url":"`+extension+`payer-adapter","valueCode":"fhir"}],"endpoint":[{"reference":"Endpoint/e"}]}`)
	put("Practitioner", "doc", `{"resourceType":"Practitioner","id":"doc"}`)
	put("Schedule", "cal", `{"resourceType":"Schedule","id":"cal","actor":[{"reference":"Practitioner/doc"}],"extension":[{"url":"`+extension+`booking-policy","extension":[{"url":"coverage","valueCode":"strict"}]}]}`)
	day := time.Now().UTC().Truncate(24 * time.Hour).Add(10 * 24 * time.Hour)
	n := 0
	book := func(says, more string) answer {
		t.Helper()
		p.says.Store(&says)
		n++
		put("Patient", fmt.Sprint("p", n), fmt.Sprintf(`{"resourceType":"Patient","id":"p%d"}`, n))
		put("Coverage", fmt.Sprint("c", n), fmt.Sprintf(`{"resourceType":"Coverage","id":"c%d","status":"active","subscriberId":"S%[1]d","beneficiary":{"reference":"Patient/p%[1]d"},"payor":[{"reference":"Organization/payer"}]}`, n))
		start := day.Add(time.Duration(n) * time.Hour)
		return send(t.Context(), "POST", base+"Appointment/$book", fmt.Sprintf(`{"resourceType":"Parameters","parameter":[{"name":"appointment-resource","resource":{"resourceType":"Appointment","status":"booked","start":%q,"end":%q,
			"participant":[{"actor":{"reference":"Practitioner/doc"},"status":"accepted"},{"actor":{"reference":"Patient/p%d"},"status":"accepted"}]}}%s]}`, start.Format(time.RFC3339), start.Add(30*time.Minute).Format(time.RFC3339), n, more))
	}
	statusOf := func(a answer) string {
		entries, _ := a.body["entry"].([]any)
		if len(entries) == 0 {
			return fmt.Sprint(a.status, a.body, a.err)
		}
		resource, _ := entries[0].(map[string]any)["resource"].(map[string]any)
		return fmt.Sprint(resource["status"])
	}
	for _, c := range []struct{ says, want string }{
		{payerAnswer, "booked"},
		{"hang", "pending"},
		{"<h1>Maintenance</h1>", "pending"},
		{"{}", "pending"},
		{"too much", "pending"},
	} {
		if got := statusOf(book(c.says, "")); got != c.want {
			t.Errorf("a payer that says %.30q: %s, want %s", c.says, got, c.want)
		}
	}
	if a := book("elsewhere", ""); a.status != 422 || !strings.Contains(fmt.Sprint(a.body), "coverage-not-in-force") {
		t.Errorf("a payer that sends elsewhere: %+v", a)
	}
	if got := statusOf(book("elsewhere", `,{"name":"self-pay","valueBoolean":true}`)); got != "booked" {
		t.Errorf("self-pay: %s", got)
	}
	if a := book(strings.Replace(payerAnswer, `"usedUnsignedInt":2`, `"usedUnsignedInt":5`, 1), ""); a.status != 422 || !strings.Contains(fmt.Sprint(a.body), "benefit-exhausted") || p.askedOf(fmt.Sprint("S", n)) != 1 {
		t.Errorf("used up: %+v, asked %d times", a, p.askedOf(fmt.Sprint("S", n)))
	}
	// $submit is in the CapabilityStatement, and answers.
	if a := send(t.Context(), "GET", base+"metadata", ""); !strings.Contains(fmt.Sprint(a.body), "CoverageEligibilityRequest-submit") {
		t.Error("$submit is not declared")
	}
	says := payerAnswer
	p.says.Store(&says)
	a := send(t.Context(), "POST", base+"CoverageEligibilityRequest/$submit", `{"resourceType":"CoverageEligibilityRequest","status":"active","purpose":["validation"],"patient":{"reference":"Patient/p1"},"created":"2026-01-15","insurer":{"reference":"Organization/payer"},"insurance":[{"coverage":{"reference":"Coverage/c1"}}]}`)
	if a.status != 200 || a.body["outcome"] != "complete" || a.body["disposition"] != "Welcome" {
		t.Errorf("%+v", a)
	}
	if found := send(t.Context(), "GET", base+"CoverageEligibilityResponse?_id="+a.id()+"&_revinclude=Provenance:target", ""); !strings.Contains(fmt.Sprint(found.body), "adapter fhir") {
		t.Errorf("%+v", found)
	}
	if stop() != 0 {
		t.Error("it did not end well")
	}
}
