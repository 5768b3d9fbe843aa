package server

import (
	"net"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"kiln/fhir"
)

// pace bounds how often one caller may ask this server: a bucket for each, which fills with time.
type pace struct {
	perMinute int
	mu        sync.Mutex
	callers   map[string]*rate.Limiter
}

const (
	// paceAtOnce is the part of a minute's requests that may come at once.
	paceAtOnce = 4
	// maxPaced is how many callers are remembered. When there are more, those who have asked for nothing lately are
	// forgotten, and where there are none of those, all are.
	maxPaced = 20_000
)

// newPace returns nil, which bounds nothing, for 0 requests.
func newPace(perMinute int) *pace {
	if perMinute <= 0 {
		return nil
	}
	return &pace{perMinute: perMinute, callers: map[string]*rate.Limiter{}}
}

// take counts a request of a caller. Errors: Throttled, with the time after which the next one is taken.
func (p *pace) take(caller string, now time.Time) error {
	turn := p.bucket(caller, now).ReserveN(now, 1)
	wait := turn.DelayFrom(now)
	if wait == 0 {
		return nil
	}
	turn.CancelAt(now)
	e := fhir.NewError(fhir.Throttled, fhir.CodeThrottled, "Too many requests at once; wait as long as Retry-After says and go on more slowly")
	e.RetryAfter = wait
	return e
}

func (p *pace) bucket(caller string, now time.Time) *rate.Limiter {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.callers[caller]
	if b == nil {
		if len(p.callers) >= maxPaced {
			p.forget(now)
		}
		b = rate.NewLimiter(rate.Limit(float64(p.perMinute)/60), max(1, p.perMinute/paceAtOnce))
		p.callers[caller] = b
	}
	return b
}

func (p *pace) forget(now time.Time) {
	for caller, b := range p.callers {
		if b.TokensAt(now) >= float64(b.Burst()) {
			delete(p.callers, caller)
		}
	}
	if len(p.callers) >= maxPaced {
		clear(p.callers)
	}
}

// caller is who a request counts for: the app and the user of its token, or the address that it comes from.
func (x *exchange) caller() string {
	if x.principal.Client != "" || x.principal.User != "" {
		return "token " + x.principal.Client + "\x00" + x.principal.User
	}
	host, _, err := net.SplitHostPort(x.r.RemoteAddr)
	if err != nil {
		host = x.r.RemoteAddr
	}
	return "address " + host
}
