package identity

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"
)

// Grant is what one person granted to one client at one time; for a backend system, nobody did.
type Grant struct {
	ID string
	// Client is "" for an operator's token.
	Client string
	// Account is "" where no person is involved.
	Account string
	// Session, if not nil, is the login session that the grant ends with.
	Session []byte
	// Requested and Scope are the scopes asked for and granted, separated by spaces.
	Requested, Scope string
	// Context is what a token response says beside the scopes: see auth/oauth.
	Context       json.RawMessage
	Created, Used time.Time
}

// What a Token can be.
const (
	Code    = 'C'
	PKCE    = 'P' // the challenge of a code
	OpenID  = 'I' // the OpenID part of a code
	Access  = 'A'
	Refresh = 'R'
)

// Token is a code or token of a Grant.
type Token struct {
	Hash    []byte
	Kind    rune
	Grant   string
	Scope   string
	Used    bool
	Request json.RawMessage
	Expires time.Time
}

// EnsureGrant records a grant unless it is there: a code makes it, and its tokens find it.
func (s *Store) EnsureGrant(ctx context.Context, g *Grant) error {
	_, err := s.exec(ctx, "add grant", `
INSERT INTO oauth_grant (id, client, account, session, requested, scope, context, created, used)
VALUES ($1, nullif($2, ''), nullif($3, '')::text::uuid, $4, $5, $6, $7, $8, $8) ON CONFLICT (id) DO NOTHING`,
		g.ID, g.Client, g.Account, g.Session, g.Requested, g.Scope, g.Context, s.now())
	return err
}

// AddToken records a token of a grant. Errors: ErrNotFound where the grant was revoked meanwhile.
func (s *Store) AddToken(ctx context.Context, t *Token) error {
	if len(t.Request) == 0 {
		t.Request = json.RawMessage("{}")
	}
	_, err := s.exec(ctx, "add token", `
INSERT INTO oauth_token (hash, kind, grant_id, scope, request, expires) VALUES ($1, $2, $3, $4, $5, $6)`,
		t.Hash, t.Kind, t.Grant, t.Scope, t.Request, t.Expires)
	return err
}

const sqlToken = `
SELECT t.grant_id, t.scope, t.used, t.request, t.expires,
       coalesce(g.client, ''), coalesce(g.account::text, ''), g.session, g.requested, g.scope, g.context, g.created, g.used
FROM oauth_token t JOIN oauth_grant g ON g.id = t.grant_id WHERE t.hash = $1 AND t.kind = $2`

// Token finds a token, used and expired ones too, with its grant.
func (s *Store) Token(ctx context.Context, kind rune, hash []byte) (*Token, *Grant, error) {
	t, g := &Token{Hash: hash, Kind: kind}, &Grant{}
	err := s.row(ctx, "read token", sqlToken, []any{hash, kind}, &t.Grant, &t.Scope, &t.Used, &t.Request, &t.Expires,
		&g.Client, &g.Account, &g.Session, &g.Requested, &g.Scope, &g.Context, &g.Created, &g.Used)
	if err != nil {
		return nil, nil, err
	}
	g.ID = t.Grant
	return t, g, nil
}

// TakeToken marks a code or refresh token as used. Errors: ErrUsed where somebody else did so first, or revoked it.
// The grant is locked before the token, as Revoke does it: the other way round, an exchange that goes on to add tokens to
// the grant and a revocation would wait for each other.
func (s *Store) TakeToken(ctx context.Context, kind rune, hash []byte) error {
	n, err := s.exec(ctx, "take token", `
WITH held AS MATERIALIZED (
  SELECT g.id FROM oauth_token t JOIN oauth_grant g ON g.id = t.grant_id WHERE t.hash = $1 AND t.kind = $2 FOR KEY SHARE OF g)
UPDATE oauth_token t SET used = true FROM held WHERE t.hash = $1 AND t.kind = $2 AND NOT t.used`, hash, kind)
	if err == nil && n == 0 {
		err = ErrUsed
	}
	return err
}

// DeleteToken removes one token; one that is not there is no error.
func (s *Store) DeleteToken(ctx context.Context, kind rune, hash []byte) error {
	_, err := s.ends(ctx, "delete token", `DELETE FROM oauth_token WHERE hash = $1 AND kind = $2`, hash, kind)
	return err
}

// DeleteTokens removes the tokens of one kind of a grant.
func (s *Store) DeleteTokens(ctx context.Context, grant string, kind rune) error {
	_, err := s.ends(ctx, "delete tokens", `DELETE FROM oauth_token WHERE grant_id = $1 AND kind = $2`, grant, kind)
	return err
}

// TouchGrant records that a grant was used to refresh.
func (s *Store) TouchGrant(ctx context.Context, id string) error {
	_, err := s.exec(ctx, "touch grant", `UPDATE oauth_grant SET used = $2 WHERE id = $1`, id, s.now())
	return err
}

// Revoke deletes a grant and all its tokens; one that is not there is no error.
func (s *Store) Revoke(ctx context.Context, grant string) error {
	_, err := s.ends(ctx, "revoke", `DELETE FROM oauth_grant WHERE id = $1`, grant)
	return err
}

// RevokeClient revokes what an account granted to a client and returns how many grants that were.
func (s *Store) RevokeClient(ctx context.Context, account, client string) (int64, error) {
	return s.ends(ctx, "revoke client", `DELETE FROM oauth_grant WHERE account = $1::text::uuid AND client = $2`, account, client)
}

// Grants lists what an account granted and is still alive, newest first.
func (s *Store) Grants(ctx context.Context, account string) ([]*Grant, error) {
	rows, _ := s.on(ctx).Query(ctx, `
SELECT id, coalesce(client, ''), account::text, session, requested, scope, context, created, used FROM oauth_grant g
WHERE account = $1::text::uuid AND EXISTS (
  SELECT FROM oauth_token t WHERE t.grant_id = g.id AND t.kind IN ('A', 'R') AND NOT t.used AND t.expires > $2)
ORDER BY created DESC, id`, account, s.now())
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*Grant, error) {
		g := new(Grant)
		return g, row.Scan(&g.ID, &g.Client, &g.Account, &g.Session, &g.Requested, &g.Scope, &g.Context, &g.Created, &g.Used)
	})
	return all, translate("list grants", err)
}
