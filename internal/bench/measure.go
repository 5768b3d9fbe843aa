package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"
)

// request is one thing to ask, and how to tell a right answer from a wrong one.
type request struct {
	method, path string
	token        string // of access; "" for none
	body         []byte
	status       int
	check        func(body []byte) error
}

// scenario is what is measured: each function makes the next request of a worker, to Kiln, to the ceiling, and to the
// ceiling that writes no index rows. A nil one does not take part.
type scenario struct {
	name, group         string
	kiln, ceiling, bare func(random *rand.Rand) request
	// setup asks Kiln for what the requests need; nil for nothing.
	setup func(ctx context.Context, base string) error
	// ratio is the aim against the ceiling, growth that of the median from the first scale to the last; zero for none.
	ratio, growth float64
	// selective says that the answer does not grow with the data: the median has an aim of its own.
	selective bool
}

// contender is a server and what it is asked.
type contender struct {
	process  *process
	database *database
	make     func(random *rand.Rand) request
}

// tally is what came of many requests.
type tally struct {
	times []time.Duration
	took  time.Duration
	cpu   time.Duration // of the server
	work  time.Duration // of PostgreSQL for it
	// later is what both used afterwards, until the audit log had become AuditEvents.
	later time.Duration
	wrong error
	// matches is how many matches the answers had, where they are searchsets.
	matches int64
}

func (t *tally) rate() float64 { return float64(len(t.times)) / max(t.took.Seconds(), 1e-9) }

func (t *tally) percentile(p float64) time.Duration {
	if len(t.times) == 0 {
		return 0
	}
	slices.Sort(t.times)
	return t.times[min(len(t.times)-1, int(p*float64(len(t.times))))]
}

func (t *tally) each(total time.Duration) time.Duration {
	return total / time.Duration(max(len(t.times), 1))
}

// measure gives the contenders their turns, one after the other and again, so that what else the machine does hits all
// alike.
func (o *Options) measure(ctx context.Context, contenders []contender, workers int) []tally {
	tallies := make([]tally, len(contenders))
	for _, c := range contenders {
		c.measure(ctx, workers, o.Slice/2, 99, &tally{}) // warm
		c.settle(ctx, &tally{})
	}
	for turn := range o.Turns {
		for i, c := range contenders {
			c.measure(ctx, workers, o.Slice, uint64(turn), &tallies[i])
			c.settle(ctx, &tallies[i]) // or the next would pay for it
		}
	}
	return tallies
}

var client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}, Timeout: 5 * time.Minute}

// measure sends requests from workers for a while and adds what came of them to t.
func (c *contender) measure(ctx context.Context, workers int, during time.Duration, seed uint64, t *tally) {
	var mu sync.Mutex
	var wait sync.WaitGroup
	work := c.database.backends(ctx)
	before, began := c.process.cpu(), time.Now()
	for w := range workers {
		wait.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(w)))
			var times []time.Duration
			var wrong error
			var matches int64
			for time.Since(began) < during && ctx.Err() == nil && wrong == nil {
				r := c.make(random)
				at := time.Now()
				body, err := send(ctx, c.process.base, r)
				times = append(times, time.Since(at))
				matches += int64(matchesIn(body))
				if err == nil {
					err = r.check(body)
				}
				if wrong = err; err != nil {
					wrong = fmt.Errorf("%s %s: %w", r.method, r.path, err)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			t.times, t.matches = append(t.times, times...), t.matches+matches
			if wrong != nil && ctx.Err() == nil {
				t.wrong = wrong
			}
		})
	}
	wait.Wait()
	t.took += time.Since(began)
	t.cpu += c.process.cpu() - before
	for pid, used := range c.database.backends(ctx) {
		t.work += used - work[pid]
	}
}

// settle waits until no entry of the audit log is left that is to become an AuditEvent, for a minute at most.
func (c *contender) settle(ctx context.Context, t *tally) {
	work, before := c.database.backends(ctx), c.process.cpu()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		time.Sleep(50 * time.Millisecond) // what is in the journal of the server is in the database by then
		left, _, err := c.database.store.AuditBacklog(ctx)
		if err != nil || left == 0 {
			break
		}
	}
	t.later += c.process.cpu() - before
	for pid, used := range c.database.backends(ctx) {
		t.later += used - work[pid]
	}
}

func send(ctx context.Context, base string, r request) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, r.method, base+r.path, bytes.NewReader(r.body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/fhir+json")
	req.Header.Set("Accept", "application/fhir+json")
	if r.token != "" {
		req.Header.Set("Authorization", "Bearer "+r.token)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != r.status {
		err = fmt.Errorf("status %d, not %d: %.300s", resp.StatusCode, r.status, body)
	}
	return body, err
}
