package storage

import (
	"context"
	"sync"
	"time"
)

// A row of treatment that is clear says in one look that a practitioner treats a patient who has no Consent (migrations/0260_clear_treatment.sql).
// Rows become so on demand: whoever writes treatments takes no lock for it and does no more work, and what is never read needs none.

const sqlClears = `SELECT treatment_clears($1, $2)`

// clearing remembers whom it has been tried for lately, so that who cannot become clear costs no more with each read.
type clearing struct {
	// one is held by whoever tries, and guards the rest: two at a time would keep each other from it. Others leave it to a later read.
	one   sync.Mutex
	tried map[pair]time.Time
}

// pair are the row keys of a practitioner and a patient.
type pair struct{ actor, patient int64 }

const (
	// clearAgain is when it is tried again.
	clearAgain = 5 * time.Second
	// maxClearing bounds clearing.tried, which then begins anew.
	maxClearing = 10_000
)

// due says whether it is to be tried now, and remembers it.
func (c *clearing) due(p pair, now time.Time) bool {
	if last, known := c.tried[p]; known && now.Sub(last) < clearAgain {
		return false
	}
	if c.tried == nil || len(c.tried) >= maxClearing {
		c.tried = map[pair]time.Time{}
	}
	c.tried[p] = now
	return true
}

// clears finds the row that is clear for a practitioner and a patient, where there can be one, for the next time. Whatever keeps it from that
// is no error: the rule knows the same.
func (s *Store) clears(ctx context.Context, actor, patient int64) {
	if s.options.ReadOnly || !s.clearing.one.TryLock() {
		return
	}
	defer s.clearing.one.Unlock()
	if s.clearing.due(pair{actor, patient}, time.Now()) {
		_, _ = s.pool.Exec(ctx, sqlClears, actor, patient)
	}
}
