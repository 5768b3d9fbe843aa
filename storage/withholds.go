package storage

import (
	"context"
	"slices"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
)

const sqlWithholds = `SELECT visible.withholds($1)`

// Withheld is the question whether the caller treats a patient and does not see something of the record that breaking the glass
// would show. The answer says neither what nor why.
type Withheld struct {
	access   *Access
	patient  []int64
	answered atomic.Bool
	is       atomic.Bool
}

type withheldKey struct{}

// AskWithheld makes the question for the caller in ctx.
func (s *Store) AskWithheld(ctx context.Context, patient string) (*Withheld, error) {
	a, err := s.access(ctx)
	if err != nil {
		return nil, err
	}
	w := &Withheld{access: a, patient: s.indexer.Load().sameTarget("Patient", patient)}
	w.answered.Store(a.everything || a.self == nil)
	return w, nil
}

// WithQuestion returns a context in which the next read with the same rights asks beside, in its own round trip.
func WithQuestion(ctx context.Context, w *Withheld) context.Context {
	return context.WithValue(ctx, withheldKey{}, w)
}

// Withholds is the answer. It is asked for by itself where no read has asked.
func (s *Store) Withholds(ctx context.Context, w *Withheld) (bool, error) {
	if w.answered.Load() {
		return w.is.Load(), nil
	}
	run, err := s.runner(WithAccess(ctx, w.access), nil)
	if err != nil {
		return false, err
	}
	if run.access.everything {
		return false, nil
	}
	err = run.rows(ctx, w.read, sqlWithholds, w.patient)
	return w.is.Load(), err
}

func (w *Withheld) read(rows pgx.Rows) error {
	is, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[bool])
	w.is.Store(is)
	return err
}

// questionOf is the question that ctx has, to be asked with the next read with a; nil where there is none, or it is answered.
func questionOf(ctx context.Context, a *Access) *Withheld {
	w, ok := ctx.Value(withheldKey{}).(*Withheld)
	if !ok || w.answered.Load() || w.access != a && !(slices.Equal(w.access.names, a.names) && slices.Equal(w.access.values, a.values)) {
		return nil
	}
	return w
}
