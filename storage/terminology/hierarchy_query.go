package terminology

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"
)

func contains(list []int32, n int32) bool { return slices.Contains(list, n) }

const (
	sqlBelow = `
SELECT k.code FROM concept c JOIN concept k ON k.system = c.system AND (k.number = c.number OR k.ancestors @> ARRAY[c.number])
WHERE c.system = $1 AND c.code = $2 LIMIT $3`
	sqlAbove = `
SELECT k.code FROM concept c JOIN concept k ON k.system = c.system AND k.number = ANY(c.ancestors || c.number)
WHERE c.system = $1 AND c.code = $2 LIMIT $3`
)

// Below lists a code and all that it subsumes, Above a code and all that subsume it: limit codes at most. The list is
// empty where the system has no such code.
func (r *Resolver) Below(ctx context.Context, s *System, code string, limit int) ([]string, error) {
	return r.codes(ctx, sqlBelow, s, code, limit)
}

// Above is described with Below.
func (r *Resolver) Above(ctx context.Context, s *System, code string, limit int) ([]string, error) {
	return r.codes(ctx, sqlAbove, s, code, limit)
}

func (r *Resolver) codes(ctx context.Context, sql string, s *System, code string, limit int) (list []string, err error) {
	if s.grammar != nil { // such codes have no hierarchy
		if s.grammar.valid(code) {
			list = append(list, code)
		}
		return list, nil
	}
	err = r.query(ctx, sql, []any{s.Key, code, limit}, func(rows pgx.Rows) error {
		var one string
		err := rows.Scan(&one)
		list = append(list, one)
		return err
	})
	return list, err
}
