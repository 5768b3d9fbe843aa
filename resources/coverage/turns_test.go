package coverage

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

// bank is Turns by a clock that the test moves.
func bank(atOnce int) (*Turns, func(time.Duration)) {
	now := time.Date(2026, 1, 15, 10, 0, 0, 0, time.UTC)
	return NewTurns(atOnce, func() time.Time { return now }), func(d time.Duration) { now = now.Add(d) }
}

// soon is a context that has ended already: who has to wait is told so.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

func take(t *testing.T, turns *Turns, payer, patient string) func(TurnEnd) {
	t.Helper()
	done, err := turns.Take(soon(t), payer, patient)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

func TestTurns_are_few_for_one_payer_and_fewer_for_one_patient(t *testing.T) {
	t.Parallel()
	turns, _ := bank(3)
	first := take(t, turns, "a", "1")
	take(t, turns, "a", "1")
	if _, err := turns.Take(soon(t), "a", "1"); !errors.Is(err, context.Canceled) {
		t.Errorf("a third question about one patient: %v", err)
	}
	take(t, turns, "a", "2")
	if _, err := turns.Take(soon(t), "a", "3"); !errors.Is(err, context.Canceled) {
		t.Errorf("a fourth question: %v", err)
	}
	take(t, turns, "b", "1") // another payer has turns of its own
	first(Answered)
	take(t, turns, "a", "3")
}

func TestTurns_whoever_waits_gets_the_next_one(t *testing.T) {
	t.Parallel()
	turns, _ := bank(2)
	var mu sync.Mutex
	asking, most, all := 0, 0, 0
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			done, err := turns.Take(t.Context(), "a", fmt.Sprint(i))
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			asking++
			all++
			most = max(most, asking)
			mu.Unlock()
			mu.Lock()
			asking--
			mu.Unlock()
			done(Answered)
		})
	}
	wg.Wait()
	if all != 50 || most > 2 || len(turns.payers) != 0 {
		t.Errorf("%d asked, %d at a time, %d payers remembered", all, most, len(turns.payers))
	}
}

func TestTurns_a_payer_that_hangs_is_asked_now_and_then(t *testing.T) {
	t.Parallel()
	turns, wait := bank(4)
	for i := range hangsAfter {
		if i == hangsAfter-1 { // who goes away meanwhile changes nothing
			take(t, turns, "a", "x")(Unclear)
		}
		take(t, turns, "a", fmt.Sprint(i))(OutOfTime)
	}
	refused := func(when string) {
		t.Helper()
		if _, err := turns.Take(t.Context(), "a", "y"); !errors.Is(err, ErrHanging) {
			t.Errorf("%s: %v", when, err)
		}
	}
	refused("at once")
	take(t, turns, "b", "y")(Answered)
	wait(hangsFor)
	probe := take(t, turns, "a", "y")
	refused("while one is on its way")
	probe(OutOfTime)
	refused("after it had no answer either")
	wait(hangsFor)
	take(t, turns, "a", "y")(Answered)
	for i := range 4 {
		defer take(t, turns, "a", fmt.Sprint(i))(Answered)
	}
}

func TestTurns_remember_few_payers(t *testing.T) {
	t.Parallel()
	turns, _ := bank(4)
	held := take(t, turns, "held", "x")
	for i := range 3 * keepTurns {
		take(t, turns, fmt.Sprint(i), "x")(OutOfTime)
	}
	if n := len(turns.payers); n > keepTurns+1 || turns.payers["held"] == nil {
		t.Errorf("%d", n)
	}
	held(Answered)
}
