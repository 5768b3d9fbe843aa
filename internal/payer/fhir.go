package payer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"kiln/auth/outbound"
	"kiln/fhir"
	"kiln/resources/coverage"
)

// MaxAnswer is how many bytes of an answer are read; a longer one is none.
const MaxAnswer = 1 << 20

// Options say where payers may be.
type Options struct {
	// Hosts are those that may be asked, as host or host:port. Without any, nobody is.
	Hosts []string
	// Private lets them be in the own network, and be asked without TLS.
	Private bool
	// Timeout bounds the making of a connection; the whole is bounded by who asks.
	Timeout time.Duration
}

// FHIR asks payers through CoverageEligibilityRequest/$submit of their own FHIR servers, and through the hook appointment-book
// of their CDS services: those that have both through both.
type FHIR struct {
	options  Options
	client   *http.Client
	services *services
}

// New makes the adapter.
func New(o Options) *FHIR {
	dialer := &net.Dialer{Timeout: o.Timeout}
	if !o.Private {
		dialer.Control = func(network, address string, c syscall.RawConn) error {
			if err := outbound.PublicOnly(network, address, c); err != nil {
				return &forbiddenAddress{err}
			}
			return nil
		}
	}
	return &FHIR{options: o, services: newServices(), client: &http.Client{
		Transport: &http.Transport{
			DialContext: dialer.DialContext, TLSHandshakeTimeout: o.Timeout, MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute,
			MaxResponseHeaderBytes: 32 << 10, // and no proxy from the environment, which would make the checks void
		},
		// A payer that sends elsewhere is not asked there: nobody has allowed that host.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

type forbiddenAddress struct{ cause error }

func (e *forbiddenAddress) Error() string { return e.cause.Error() }

// Errors that stay: asking again would not help.
var (
	errNoEndpoint = errors.New("payer: the payor has no active Endpoint of the type hl7-fhir-rest or cds-hooks-service that can be asked")
	errNotAllowed = errors.New("payer: the setting payer-hosts does not list the host of the Endpoint")
	errRefused    = errors.New("payer: the payer refuses the question")
)

// Ask asks all Endpoints that the payer has, at the same time; the CDS service only about visits. An answer is one of all of
// them: where one hangs, there is none yet. A payer that has a FHIR server counts as answering, with a condition, where its CDS
// service cannot be asked at all.
func (p *FHIR) Ask(ctx context.Context, q *coverage.Question) (*coverage.Answer, error) {
	if start, _ := q.Visit(); start == "" || q.Hooks == "" || q.Patient == nil || len(q.Coverages) == 0 {
		return p.submit(ctx, q)
	}
	if q.Endpoint == "" {
		heard, err := p.hear(ctx, q)
		if err != nil {
			return nil, err
		}
		a := &coverage.Answer{Outcome: coverage.Complete}
		a.Hear(q, heard)
		return a, nil
	}
	type outcome struct {
		heard *coverage.HookAnswer
		err   error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	hook := make(chan outcome, 1)
	go func() {
		heard, err := p.hear(ctx, q)
		hook <- outcome{heard, err}
	}()
	a, err := p.submit(ctx, q)
	if err != nil || a.Outcome == coverage.Failed {
		return a, err
	}
	o := <-hook
	switch {
	case errors.Is(o.err, coverage.ErrNoAnswer):
		return nil, o.err
	case o.err != nil:
		o.heard = coverage.Unheard(q)
	}
	a.Hear(q, o.heard)
	return a, nil
}

// submit sends the question with what it refers to, and reads the answer.
func (p *FHIR) submit(ctx context.Context, q *coverage.Question) (*coverage.Answer, error) {
	target, err := p.target(q.Endpoint, "CoverageEligibilityRequest", "$submit")
	if err != nil {
		return nil, err
	}
	body := bundle(q)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body.JSON()))
	if err != nil {
		return nil, errNoEndpoint
	}
	r.Header.Set("Content-Type", "application/fhir+json")
	r.Header.Set("Accept", "application/fhir+json")
	r.Header.Set("Idempotency-Key", q.Request.ID()) // the same question, however often it is sent
	n, err := p.send(r)
	if err != nil {
		return nil, err
	}
	return readAnswer(n, q)
}

// send sends a request and reads the JSON that comes back. What is no answer now may be one later: a page that tells of
// maintenance, say.
//
// Errors: coverage.ErrNoAnswer, wrapped; others where it will not be another time.
func (p *FHIR) send(r *http.Request) (*fhir.Node, error) {
	response, err := p.client.Do(r)
	if err != nil {
		var forbidden *forbiddenAddress
		if errors.As(err, &forbidden) {
			return nil, fmt.Errorf("payer: %w", err)
		}
		return nil, fmt.Errorf("%w: %w", coverage.ErrNoAnswer, err)
	}
	defer response.Body.Close()
	switch code := response.StatusCode; {
	case code >= 300 && code < 400:
		return nil, fmt.Errorf("payer: it sends elsewhere, with status %d", code)
	case code == http.StatusRequestTimeout, code == http.StatusTooManyRequests, code >= 500:
		return nil, fmt.Errorf("%w: status %d", coverage.ErrNoAnswer, code)
	case code >= 400:
		return nil, fmt.Errorf("%w: status %d", errRefused, code)
	}
	kind, _, err := mime.ParseMediaType(response.Header.Get("Content-Type"))
	if err != nil || kind != "application/fhir+json" && kind != "application/json" {
		return nil, unclear("it is no JSON")
	}
	content, err := io.ReadAll(io.LimitReader(response.Body, MaxAnswer+1))
	if err != nil {
		return nil, unclear("it breaks off")
	}
	if len(content) > MaxAnswer {
		return nil, unclear("it is too long")
	}
	n, err := fhir.ParseJSON(content)
	if err != nil {
		return nil, unclear("it cannot be read")
	}
	return n, nil
}

func unclear(what string) error { return fmt.Errorf("%w: %s", coverage.ErrNoAnswer, what) }

// target is an address below an Endpoint, if it may be asked.
func (p *FHIR) target(endpoint string, segments ...string) (string, error) {
	u, err := url.Parse(endpoint)
	if err != nil || endpoint == "" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", errNoEndpoint
	}
	if u.Scheme != "https" && !(u.Scheme == "http" && p.options.Private) {
		return "", errNoEndpoint
	}
	listed := slices.ContainsFunc(p.options.Hosts, func(host string) bool {
		return strings.EqualFold(host, u.Host) || strings.EqualFold(host, u.Hostname()) && u.Port() == ""
	})
	if !listed {
		return "", errNotAllowed
	}
	u.Path = strings.TrimSuffix(u.Path, "/") + "/" + strings.Join(segments, "/")
	u.RawPath = ""
	return u.String(), nil
}

// readAnswer reads what a FHIR server sent: a response, alone, in a Bundle or in Parameters.
func readAnswer(n *fhir.Node, q *coverage.Question) (*coverage.Answer, error) {
	switch n.ResourceType() {
	case "Bundle":
		for e := range n.Get("entry").Items() {
			if r := e.Get("resource"); r.ResourceType() == "CoverageEligibilityResponse" {
				n = r
				break
			}
		}
	case "Parameters":
		for x := range n.Get("parameter").Items() {
			if r := x.Get("resource"); x.GetText("name") == "return" && r != nil {
				n = r
				break
			}
		}
	}
	var names []string
	for _, c := range q.Coverages {
		names = append(names, "Coverage/"+c.ID())
	}
	a, ok := coverage.ReadAnswer(n, names...)
	if !ok {
		return nil, unclear("it is no CoverageEligibilityResponse")
	}
	if a.Outcome == coverage.Queued {
		return nil, unclear("the payer wants to be asked again")
	}
	if len(q.Items) == 1 && len(names) == 1 { // visits that are booked here from now on are not in its count
		a.Recorded, _ = a.Visits(names[0])
		a.Since, a.Benefit = q.Asked.Format(time.DateOnly), coverage.Keys(&q.Items[0].Code)
	}
	return a, nil
}

// bundle is a question with those whom it is about.
func bundle(q *coverage.Question) fhir.Node {
	entries := []fhir.Node{entry(*q.Request)}
	for _, n := range q.Parties() {
		entries = append(entries, entry(n))
	}
	return fhir.Obj(fhir.Str("Bundle").As("resourceType"), fhir.Str("collection").As("type"), fhir.Arr(entries...).As("entry"))
}

func entry(resource fhir.Node) fhir.Node { return fhir.Obj(resource.As("resource")) }
