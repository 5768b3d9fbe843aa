package storage

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// This file knows how many patients a practitioner treats, which decides how searches go about it and nothing of what they show: so an answer of
// some seconds ago does.

const (
	// fewTreated is how many patients a practitioner may treat so that searches of all of them collect what they have.
	fewTreated = 200
	// nearTreated is up to how many are asked an index for together: what it compares each match with are all of them.
	nearTreated = 1000
	// manyTreated is up to how many are read in each statement, to look for rows among them. Of who treats more each row is looked for by itself, which
	// takes twice as long as to read one of them: the thousand rows that a search looks at are found among so many more as others are treated less.
	manyTreated = 10_000
	// treatedAgain is when they are counted again, and maxTreating bounds for how many practitioners it is remembered.
	treatedAgain, maxTreating = 30 * time.Second, 10_000
)

// treating remembers how many patients practitioners treat, by their row keys.
type treating struct {
	lock  sync.Mutex
	known map[int64]treatedOf
}

type treatedOf struct {
	n    int
	when time.Time
}

// treated counts the patients whom the caller treats, up to one more than manyTreated.
func (r *runner) treated(ctx context.Context) (n int, err error) {
	a := r.access
	if a.self == nil {
		return 0, nil
	}
	known := &r.store.treating
	known.lock.Lock()
	of, ok := known.known[a.self[0]]
	known.lock.Unlock()
	if ok && time.Since(of.when) < treatedAgain {
		return of.n, nil
	}
	err = r.rows(ctx, func(rows pgx.Rows) error {
		n, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[int])
		return err
	}, fmt.Sprintf("SELECT count(*) FROM (SELECT FROM visible.treated LIMIT %d) t", manyTreated+1))
	if err != nil {
		return 0, err
	}
	known.lock.Lock()
	defer known.lock.Unlock()
	if known.known == nil || len(known.known) >= maxTreating {
		known.known = map[int64]treatedOf{}
	}
	known.known[a.self[0]] = treatedOf{n, time.Now()}
	return n, nil
}

// treatsFew says whether the caller treats few patients.
func (r *runner) treatsFew(ctx context.Context) (bool, error) {
	n, err := r.treated(ctx)
	return n <= r.store.sorting.treated, err
}

// weighsCare finds out, of a search that is not of a few patients' records, how rows are looked for among those of the patients in treatment.
func (r *runner) weighsCare(ctx context.Context) error {
	if len(r.about) > 0 || !slices.ContainsFunc(r.access.ways, func(way byte) bool { return way&treatedFlag != 0 }) {
		return nil
	}
	n, err := r.treated(ctx)
	r.scarce = n <= r.store.sorting.treated
	if r.near = n <= r.store.sorting.near; n > r.store.sorting.together {
		r.each = "on"
	}
	return err
}

// gathering is a runner for statements that look at all matches: where they may be very many, those in treatment are read once.
func (p *searchPlan) gathering(r *runner) *runner {
	if r.each != "on" || p.seldom {
		return r
	}
	all := *r
	all.each = "off"
	return &all
}

const sqlSaysEach = `SELECT set_config('kiln.each', $1, true)`

// saysEach tells the views.
func (r *runner) saysEach(batch *pgx.Batch) {
	if r.each != "" {
		batch.Queue(sqlSaysEach, r.each)
	}
}
