package resources

import (
	"context"
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

	"kiln/internal/payer"
	"kiln/resources/coverage"
	"kiln/resources/scheduling"
	"kiln/storage"
)

// hangingPayer is a payer's server that takes questions and never answers, until it is told to.
type hangingPayer struct {
	*httptest.Server
	answers atomic.Bool
	// adapter asks it.
	adapter             coverage.Payer
	mu                  sync.Mutex
	asking, most, asked int
}

// Ask counts the questions where they are put: the server notices a while later that whoever asked has gone away.
func (p *hangingPayer) Ask(ctx context.Context, q *coverage.Question) (*coverage.Answer, error) {
	p.count(1)
	defer p.count(-1)
	return p.adapter.Ask(ctx, q)
}

func newHangingPayer(t *testing.T) *hangingPayer {
	p := &hangingPayer{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if !p.answers.Load() {
			<-r.Context().Done()
			return
		}
		w.Header().Set("Content-Type", "application/fhir+json")
		_, _ = io.WriteString(w, `{"resourceType":"CoverageEligibilityResponse","status":"active","purpose":["validation"],"patient":{"display":"x"},"created":"2026-01-15","request":{"display":"x"},"outcome":"complete","insurer":{"display":"x"},
			"insurance":[{"coverage":{"reference":"Coverage/theirs"},"inforce":true}]}`)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *hangingPayer) count(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asking += n
	if n > 0 {
		p.asked++
		p.most = max(p.most, p.asking)
	}
}

func (p *hangingPayer) tally() (most, asked int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.most, p.asked
}

// TestPayer_that_never_answers_holds_up_nobody_else: many patients of a payer that hangs book at once, with few database
// connections, beside others whose payer answers. All are served, the payer that hangs is asked a few questions and no more, and
// when it answers again all its patients are booked.
func TestPayer_that_never_answers_holds_up_nobody_else(t *testing.T) {
	t.Parallel()
	const visits = 24
	p := newHangingPayer(t)
	u, err := url.Parse(p.URL)
	if err != nil {
		t.Fatal(err)
	}
	p.adapter = payer.New(payer.Options{Hosts: []string{u.Host}, Private: true, Timeout: time.Second})
	s, clock := insured(t, scheduling.CoverageStrict, func(o *Options, so *storage.Options) {
		so.PoolSize = 3
		o.PayerTimeout = 300 * time.Millisecond
		o.Payers = map[string]coverage.Payer{coverage.AdapterFHIR: p}
	})
	put(t, s, `{"resourceType":"Endpoint","id":"e","status":"active","connectionType":{"code":"hl7-fhir-rest","system":"http://terminology.hl7.org/CodeSystem/endpoint-connection-type"},"payloadType":[{"text":"any"}],"address":"`+p.URL+`"}`)
	put(t, s, fmt.Sprintf(`{"resourceType":"Organization","id":"hanging","name":"Payer","extension":[{"url":%q,"valueCode":"fhir"}],"endpoint":[{"reference":"Endpoint/e"}]}`, coverage.ExtensionPayerAdapter))
	visit := func(kind string, i int) string {
		id := fmt.Sprint(kind, i)
		put(t, s, fmt.Sprintf(`{"resourceType":"Patient","id":%q}`, id))
		put(t, s, fmt.Sprintf(`{"resourceType":"Practitioner","id":%q}`, "doc-"+id))
		put(t, s, fmt.Sprintf(`{"resourceType":"Schedule","id":%q,"extension":[{"url":%q,"extension":[{"url":"coverage","valueCode":"strict"}]}],"actor":[{"reference":"Practitioner/doc-%[1]s"}]}`, id, scheduling.ExtensionBookingPolicy))
		put(t, s, fmt.Sprintf(`{"resourceType":"Slot","id":%q,"schedule":{"reference":"Schedule/%[1]s"},"status":"free","start":"2026-01-16T09:00:00Z","end":"2026-01-16T09:30:00Z"}`, id))
		cover(t, s, id, id, map[string]string{"h": "hanging", "g": "sandbox"}[kind], "OK-"+id, "") // whose turns at the sandbox are its own
		return strings.Replace(booking(id, id), "{", `{"start":"2026-01-16T09:00:00Z","end":"2026-01-16T09:30:00Z",`, 1)
	}
	var bodies []string
	for i := range visits {
		bodies = append(bodies, visit("h", i), visit("g", i))
	}
	ids := make([]string, len(bodies))
	race(len(bodies), func(i int) {
		resp, err := create(s, t, bodies[i])
		if err != nil {
			t.Error(describe(err))
			return
		}
		ids[i] = resp.Version.ID
	})
	stands := func(kind int, want string) {
		t.Helper()
		for i := kind; i < len(ids); i += 2 {
			if n := read(t, s, "Appointment", ids[i]); n.GetText("status") != want {
				t.Errorf("%s, want %s", n.JSON(), want)
			}
		}
	}
	stands(0, "pending")
	stands(1, "booked")
	most, asked := p.tally()
	if most > coverage.DefaultTurns || asked > 2*coverage.DefaultTurns {
		t.Errorf("the payer that hangs was asked %d questions, %d at a time", asked, most)
	}
	recheckAll(t, s) // nothing is due
	clock.Advance(2 * time.Minute)
	recheckAll(t, s) // one question finds out that it hangs still
	if _, again := p.tally(); again > asked+2 {
		t.Errorf("it was asked %d more questions", again-asked)
	}
	for _, e := range do(t, s, Request{Interaction: SearchType, Type: "CoverageEligibilityResponse", Query: "outcome=queued&_count=100"}).Bundle.Entries {
		if n := parse(t, string(e.Version.Content)); e.Version.Number > 2 || n.GetText("outcome") != "queued" {
			t.Errorf("version %d of %s: a question that was not put makes no new version of the answer", e.Version.Number, n.JSON())
		}
	}
	p.answers.Store(true)
	for range 8 {
		clock.Advance(5 * time.Minute)
		recheckAll(t, s)
	}
	stands(0, "booked")
	if most, _ := p.tally(); most > coverage.DefaultTurns {
		t.Errorf("%d at a time", most)
	}
	agrees(t, s)
}
