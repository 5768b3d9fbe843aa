package identity

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// Use is what a client has been granted and still holds.
type Use struct {
	Grants int
	Last   time.Time
}

// Uses are the grants that are alive, by client.
func (s *Store) Uses(ctx context.Context) (map[string]Use, error) {
	rows, _ := s.on(ctx).Query(ctx, `
SELECT g.client, count(*), max(g.used) FROM oauth_grant g
WHERE g.client IS NOT NULL AND EXISTS (SELECT FROM oauth_token t WHERE t.grant_id = g.id AND t.kind IN ('A', 'R') AND NOT t.used AND t.expires > $1)
GROUP BY g.client`, s.now())
	uses := map[string]Use{}
	var client string
	var u Use
	_, err := pgx.ForEachRow(rows, []any{&client, &u.Grants, &u.Last}, func() error { uses[client] = u; return nil })
	return uses, translate("list uses", err)
}

// RevokeAll revokes everything that a client was granted, by whomever, and returns how many grants that were.
func (s *Store) RevokeAll(ctx context.Context, client string) (int64, error) {
	return s.ends(ctx, "revoke all", `DELETE FROM oauth_grant WHERE client = $1`, client)
}

// AccountsLike lists accounts whose name or resource holds a text, by name, limit at most.
func (s *Store) AccountsLike(ctx context.Context, text string, limit int) ([]*Account, error) {
	rows, _ := s.on(ctx).Query(ctx, "SELECT "+accountColumns+` FROM account
WHERE strpos(lower(username), lower($1)) > 0 OR $1 = ANY(fhir_user) ORDER BY lower(username) LIMIT $2`, text, limit)
	all, err := pgx.CollectRows(rows, scanAccount)
	return all, translate("find accounts", err)
}

// EndAccount ends the sessions of an account and revokes what it granted.
func (s *Store) EndAccount(ctx context.Context, id string) error { return s.endAccount(ctx, id) }
