package payer

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"kiln/resources/coverage"
)

const (
	// maxKnown is how many servers of CDS services are remembered, knownFor how long: a service that a payer adds, or that wants
	// other things along, is noticed after that.
	maxKnown = 100
	knownFor = 10 * time.Minute
)

// services remembers what the discoveries of CDS services said. It is safe for concurrent use.
type services struct {
	mu    sync.Mutex
	known map[string]known
}

// known is the service for the hook at one address; nil where there is none.
type known struct {
	service *coverage.HookService
	until   time.Time
}

func newServices() *services { return &services{known: map[string]known{}} }

func (s *services) get(address string) (known, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok := s.known[address]
	return k, ok && time.Now().Before(k.until)
}

func (s *services) put(address string, service *coverage.HookService) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.known[address]; !ok && len(s.known) >= maxKnown {
		for other := range s.known { // any of them: it is asked for again
			delete(s.known, other)
			break
		}
	}
	s.known[address] = known{service, time.Now().Add(knownFor)}
}

func (s *services) forget(address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.known, address)
}

var errNoService = errors.New("payer: its CDS services have none for the hook " + coverage.HookBook)

// hear calls the CDS service of a payer for the hook appointment-book. Spec: CDS Hooks 2.0.
//
// Errors: as Ask.
func (p *FHIR) hear(ctx context.Context, q *coverage.Question) (*coverage.HookAnswer, error) {
	address, err := p.target(q.Hooks, "cds-services")
	if err != nil {
		return nil, err
	}
	service, err := p.discover(ctx, address)
	if err != nil {
		return nil, err
	}
	if service == nil {
		return nil, errNoService
	}
	body := service.Request(q)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address+"/"+service.ID, bytes.NewReader(body.JSON()))
	if err != nil {
		return nil, errNoEndpoint
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json")
	n, err := p.send(r)
	if err != nil {
		if errors.Is(err, errRefused) { // it may have moved, or want other things along
			p.services.forget(address)
		}
		return nil, err
	}
	heard, ok := coverage.ReadHook(n, q)
	if !ok {
		return nil, unclear("it is no answer of a CDS service")
	}
	return heard, nil
}

// discover finds the service for the hook, nil where there is none.
func (p *FHIR) discover(ctx context.Context, address string) (*coverage.HookService, error) {
	if k, ok := p.services.get(address); ok {
		return k.service, nil
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, errNoEndpoint
	}
	r.Header.Set("Accept", "application/json")
	n, err := p.send(r)
	if err != nil {
		return nil, err
	}
	service, ok := coverage.ReadServices(n)
	if !ok {
		return nil, unclear("it is no discovery of CDS services")
	}
	p.services.put(address, service)
	return service, nil
}
