package storage

import (
	"context"

	"github.com/jackc/pgx/v5"
)

const sqlWithholds = `SELECT visible.withholds($1)`

// Withholds says whether the caller treats a patient and does not see something of the record that breaking the glass would
// show. It says neither what nor why.
func (s *Store) Withholds(ctx context.Context, patient string) (is bool, err error) {
	run, err := s.runner(ctx, nil)
	if err != nil || run.access.everything || run.access.self == nil {
		return false, err
	}
	err = run.rows(ctx, func(rows pgx.Rows) (err error) {
		is, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[bool])
		return err
	}, sqlWithholds, s.indexer.Load().sameTarget("Patient", patient))
	return is, err
}
