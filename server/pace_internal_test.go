package server

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"kiln/fhir"
)

func TestPace_bounds_each_caller(t *testing.T) {
	t.Parallel()
	p, now := newPace(120), time.Date(2026, 1, 15, 10, 0, 0, 0, time.UTC)
	taken := func(caller string) (n int) {
		for p.take(caller, now) == nil {
			n++
		}
		return n
	}
	if n := taken("a"); n != 30 {
		t.Errorf("%d at once", n)
	}
	if n := taken("b"); n != 30 {
		t.Errorf("%d at once of another", n)
	}
	var e *fhir.Error
	if err := p.take("a", now); !errors.As(err, &e) || e.Kind != fhir.Throttled || e.RetryAfter != 500*time.Millisecond {
		t.Errorf("%v", err)
	}
	now = now.Add(5 * time.Second)
	if n := taken("a"); n != 10 {
		t.Errorf("%d after five seconds", n)
	}
}

func TestPace_remembers_few(t *testing.T) {
	t.Parallel()
	p, now := newPace(4), time.Date(2026, 1, 15, 10, 0, 0, 0, time.UTC)
	for i := range maxPaced - 1 {
		_ = p.take(fmt.Sprint(i), now)
	}
	now = now.Add(time.Minute)
	_ = p.take("busy", now)
	_ = p.take("one more", now)
	if len(p.callers) != 2 || p.take("busy", now) == nil {
		t.Errorf("%d are remembered", len(p.callers))
	}
	for i := range 3 * maxPaced {
		_ = p.take(fmt.Sprint(i), now)
	}
	if len(p.callers) > maxPaced {
		t.Errorf("%d are remembered", len(p.callers))
	}
}
