package coverage

import (
	"context"
	"errors"
	"sync"
	"time"
)

// The bounds on asking one payer, which docs/limits.md publishes.
const (
	// DefaultTurns is how many questions one payer is asked at a time, turnsOfPatient how many of them are about one patient.
	DefaultTurns   = 4
	turnsOfPatient = 2
	// hangsAfter is how many questions in a row run out of time until a payer counts as hanging. Then it is asked one question
	// every hangsFor, and all others are told at once that there is no answer yet.
	hangsAfter = 4
	hangsFor   = 30 * time.Second
	// keepTurns is how many payers are remembered that nobody is asking.
	keepTurns = 1000
)

// ErrHanging says that a payer was not asked, since it has not answered others.
var ErrHanging = errors.New("the payer does not answer at present")

// Turns bounds how many questions a payer is asked at a time, so that one that hangs holds up nobody but itself. It is safe
// for concurrent use.
type Turns struct {
	atOnce int
	now    func() time.Time
	mu     sync.Mutex
	payers map[string]*turns
}

// NewTurns lets each payer be asked so many questions at a time, by a clock.
func NewTurns(atOnce int, now func() time.Time) *Turns {
	return &Turns{atOnce: atOnce, now: now, payers: map[string]*turns{}}
}

// turns are those of one payer.
type turns struct {
	asking   int
	patients map[string]int
	failures int
	// until is how long a payer that hangs is left in peace; probing says that one question is on its way to find out more.
	until   time.Time
	probing bool
	// moved is closed, and made anew, when something changes for those who wait.
	moved chan struct{}
}

// TurnEnd is what came of a turn.
type TurnEnd int

const (
	// Answered: the payer said something.
	Answered TurnEnd = iota
	// OutOfTime: it did not, as long as it was waited for.
	OutOfTime
	// Unclear says nothing of whether the payer hangs: it could not be reached, say, or whoever asked has gone away.
	Unclear
)

// Take waits for a turn to ask a payer about a patient. Whoever gets one calls done with what came of it.
//
// Errors: ErrHanging, at once; that of ctx when it ends before there is a turn.
func (t *Turns) Take(ctx context.Context, payer, patient string) (done func(TurnEnd), err error) {
	for {
		moved, probe, err := t.try(payer, patient)
		if err != nil {
			return nil, err
		}
		if moved == nil {
			return func(e TurnEnd) { t.end(payer, patient, probe, e) }, nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// try takes a turn if there is one; else moved tells when to try again.
func (t *Turns) try(payer, patient string) (moved <-chan struct{}, probe bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.payers[payer]
	if p == nil {
		t.forget()
		p = &turns{patients: map[string]int{}, moved: make(chan struct{})}
		t.payers[payer] = p
	}
	if probe = p.failures >= hangsAfter; probe && (p.probing || t.now().Before(p.until)) {
		return nil, false, ErrHanging
	}
	if !probe && (p.asking >= t.atOnce || p.patients[patient] >= turnsOfPatient) {
		return p.moved, false, nil
	}
	p.asking++
	p.patients[patient]++
	p.probing = probe
	return nil, probe, nil
}

func (t *Turns) end(payer, patient string, probe bool, e TurnEnd) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.payers[payer]
	p.asking--
	if p.patients[patient]--; p.patients[patient] == 0 {
		delete(p.patients, patient)
	}
	if probe {
		p.probing = false
	}
	switch e {
	case Answered:
		p.failures = 0
	case OutOfTime:
		if p.failures++; p.failures >= hangsAfter {
			p.until = t.now().Add(hangsFor)
		}
	}
	close(p.moved)
	p.moved = make(chan struct{})
	if p.asking == 0 && p.failures == 0 {
		delete(t.payers, payer)
	}
}

// forget makes room where many payers have been asked that nobody asks now.
func (t *Turns) forget() {
	if len(t.payers) < keepTurns {
		return
	}
	for name, p := range t.payers {
		if p.asking == 0 {
			delete(t.payers, name)
		}
	}
}
