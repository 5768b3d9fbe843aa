package storage

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// A row of treatment that is clear says in one look that a practitioner treats a patient who has no Consent (migrations/0260_clear_treatment.sql), and
// a row of opened that a token holds beside (0261_opened.sql). Rows become so on demand: whoever writes treatments takes no lock for it and does
// no more work, and what is never read needs none.

const sqlOpens = `SELECT treatment_opens($1, $2, $3)`

const sqlOpensTreated = `
SELECT count(*) FROM (SELECT patient FROM treatment
  WHERE actor = $2 AND confirmed AND low <= now() AND high > now() GROUP BY patient LIMIT $3) k WHERE treatment_opens($1, $2, k.patient)`

// OpenTreated has written of at most most patients what a token opens to a practitioner, by id, as reads of them one by one would, and says of how many that was
// so. It does so in a store that is ReadOnly, too.
func (s *Store) OpenTreated(ctx context.Context, p *Proof, practitioner string, most int) (n int, err error) {
	err = pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{AccessMode: pgx.ReadWrite}, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, sqlOpensTreated, p.hash, s.hash.Resource("Practitioner", practitioner), most).Scan(&n)
	})
	return n, translate(err)
}

// clearing remembers whom it has been tried for lately, so that who cannot become clear costs no more with each read.
type clearing struct {
	// one is held by whoever tries, and guards the rest: two at a time would keep each other from it. Others leave it to a later read.
	one   sync.Mutex
	tried map[opening]time.Time
}

// opening is a token, by its hash, and the row keys of a practitioner and a patient.
type opening struct {
	token          [32]byte
	actor, patient int64
}

const (
	// clearAgain is when it is tried again.
	clearAgain = 5 * time.Second
	// maxClearing bounds clearing.tried, which then begins anew.
	maxClearing = 10_000
)

// due says whether it is to be tried now, and remembers it.
func (c *clearing) due(p opening, now time.Time) bool {
	if last, known := c.tried[p]; known && now.Sub(last) < clearAgain {
		return false
	}
	if c.tried == nil || len(c.tried) >= maxClearing {
		c.tried = map[opening]time.Time{}
	}
	c.tried[p] = now
	return true
}

// opens has the rows written by which a practitioner with a token sees at once what there is of a patient, where there can be some, for the next time.
// Whatever keeps it from that is no error: the rule knows the same.
func (s *Store) opens(ctx context.Context, p *Proof, actor, patient int64) {
	if s.options.ReadOnly || len(p.hash) != len(p.room) || !s.clearing.one.TryLock() {
		return
	}
	defer s.clearing.one.Unlock()
	if s.clearing.due(opening{p.room, actor, patient}, time.Now()) {
		_, _ = s.pool.Exec(ctx, sqlOpens, p.hash, actor, patient)
	}
}
