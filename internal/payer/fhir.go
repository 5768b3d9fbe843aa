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

// FHIR asks payers through CoverageEligibilityRequest/$submit of their own FHIR servers.
type FHIR struct {
	options Options
	client  *http.Client
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
	return &FHIR{options: o, client: &http.Client{
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
	errNoEndpoint = errors.New("payer: the payor has no active Endpoint of the type hl7-fhir-rest")
	errNotAllowed = errors.New("payer: the setting payer-hosts does not list the host of the Endpoint")
	errRefused    = errors.New("payer: the payer refuses the question")
)

// Ask sends the question with what it refers to, and reads the answer.
func (p *FHIR) Ask(ctx context.Context, q *coverage.Question) (*coverage.Answer, error) {
	target, err := p.target(q.Endpoint)
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
	return readAnswer(response, q)
}

// target is the address of $submit, if it may be asked.
func (p *FHIR) target(endpoint string) (string, error) {
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
	u.Path = strings.TrimSuffix(u.Path, "/") + "/CoverageEligibilityRequest/$submit"
	u.RawPath = ""
	return u.String(), nil
}

// readAnswer reads what a payer sent: a response, alone, in a Bundle or in Parameters. What is no answer now may be one
// later: a page that tells of maintenance, say.
func readAnswer(response *http.Response, q *coverage.Question) (*coverage.Answer, error) {
	unclear := func(what string) error { return fmt.Errorf("%w: %s", coverage.ErrNoAnswer, what) }
	kind, _, err := mime.ParseMediaType(response.Header.Get("Content-Type"))
	if err != nil || kind != "application/fhir+json" && kind != "application/json" {
		return nil, unclear("it is no FHIR JSON")
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

// bundle is a question with what a payer has to know of those whom it is about, and nothing else of them.
func bundle(q *coverage.Question) fhir.Node {
	entries := []fhir.Node{entry(*q.Request)}
	if q.Patient != nil {
		entries = append(entries, entry(part(q.Patient, "name", "gender", "birthDate")))
	}
	for _, c := range q.Coverages {
		entries = append(entries, entry(part(c, "identifier", "status", "type", "subscriberId", "beneficiary", "dependent", "relationship", "period", "payor", "class", "network")))
	}
	if q.Payor != nil {
		entries = append(entries, entry(part(q.Payor, "identifier", "name")))
	}
	return fhir.Obj(fhir.Str("Bundle").As("resourceType"), fhir.Str("collection").As("type"), fhir.Arr(entries...).As("entry"))
}

func entry(resource fhir.Node) fhir.Node { return fhir.Obj(resource.As("resource")) }

// part is a resource with some of its elements.
func part(n *fhir.Node, elements ...string) fhir.Node {
	out := fhir.Obj()
	for _, name := range append([]string{"resourceType", "id"}, elements...) {
		if v := n.Get(name); v != nil {
			out.Set(name, v.Clone())
		}
	}
	return out
}
