package identity

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// How a client proves who it is at the token endpoint.
const (
	AuthNone       = "none"            // a public client: by PKCE alone
	AuthSecret     = "client_secret"   // Basic or in the form
	AuthPrivateKey = "private_key_jwt" // a signed assertion
)

// Client is an app or a backend system.
type Client struct {
	ID, Name   string
	AuthMethod string
	// Secret is the SHA-256 of the secret; nil for none.
	Secret []byte
	// JWKS holds the client's public keys, or JWKSURI says where they are.
	JWKS         json.RawMessage
	JWKSURI      string
	RedirectURIs []string
	LaunchURI    string
	GrantTypes   []string
	// Scope is what it may ask for, separated by spaces.
	Scope        string
	RegisteredBy string
	Metadata     json.RawMessage
	Created      time.Time
}

// May says whether the client is registered for a grant type.
func (c *Client) May(grantType string) bool { return slices.Contains(c.GrantTypes, grantType) }

const clientColumns = `id, name, auth_method, secret, jwks, coalesce(jwks_uri, ''), redirect_uris, coalesce(launch_uri, ''),
  grant_types, scope, registered_by, metadata, created`

func scanClient(row pgx.CollectableRow) (*Client, error) {
	c := new(Client)
	err := row.Scan(&c.ID, &c.Name, &c.AuthMethod, &c.Secret, &c.JWKS, &c.JWKSURI, &c.RedirectURIs, &c.LaunchURI,
		&c.GrantTypes, &c.Scope, &c.RegisteredBy, &c.Metadata, &c.Created)
	return c, err
}

// Client finds a client by its id.
func (s *Store) Client(ctx context.Context, id string) (*Client, error) {
	rows, _ := s.on(ctx).Query(ctx, "SELECT "+clientColumns+" FROM client WHERE id = $1", id)
	c, err := pgx.CollectExactlyOneRow(rows, scanClient)
	if err != nil {
		return nil, translate("read client", err)
	}
	return c, nil
}

// Clients lists all clients by name.
func (s *Store) Clients(ctx context.Context) ([]*Client, error) {
	rows, _ := s.on(ctx).Query(ctx, "SELECT "+clientColumns+" FROM client ORDER BY lower(name), id")
	all, err := pgx.CollectRows(rows, scanClient)
	return all, translate("list clients", err)
}

// AddClient registers a client. Errors: ErrExists.
func (s *Store) AddClient(ctx context.Context, c *Client) error {
	if c.RedirectURIs == nil {
		c.RedirectURIs = []string{}
	}
	if c.RegisteredBy == "" {
		c.RegisteredBy = "operator"
	}
	if len(c.Metadata) == 0 {
		c.Metadata = json.RawMessage("{}")
	}
	return s.row(ctx, "add client", `
INSERT INTO client (id, name, auth_method, secret, jwks, jwks_uri, redirect_uris, launch_uri, grant_types, scope, registered_by, metadata)
VALUES ($1, $2, $3, $4, $5, nullif($6, ''), $7, nullif($8, ''), $9, $10, $11, $12) RETURNING created`,
		[]any{c.ID, c.Name, c.AuthMethod, c.Secret, c.JWKS, c.JWKSURI, c.RedirectURIs, c.LaunchURI, c.GrantTypes, c.Scope,
			c.RegisteredBy, c.Metadata}, &c.Created)
}

// KeepClient registers a client of the server's own, or makes the one that is there like it. One that somebody else
// registered under the id stays as it is.
func (s *Store) KeepClient(ctx context.Context, c *Client) error {
	_, err := s.on(ctx).Exec(ctx, `
INSERT INTO client (id, name, auth_method, redirect_uris, launch_uri, grant_types, scope, registered_by, metadata)
VALUES ($1, $2, $3, $4, nullif($5, ''), $6, $7, 'server', '{}')
ON CONFLICT (id) DO UPDATE SET name = excluded.name, auth_method = excluded.auth_method, redirect_uris = excluded.redirect_uris,
  launch_uri = excluded.launch_uri, grant_types = excluded.grant_types, scope = excluded.scope
WHERE client.registered_by = 'server'`, c.ID, c.Name, c.AuthMethod, c.RedirectURIs, c.LaunchURI, c.GrantTypes, c.Scope)
	return translate("keep client", err)
}

// SetSecret replaces the secret of a client that has one. What it was granted stays.
func (s *Store) SetSecret(ctx context.Context, id string, secret []byte) error {
	return s.must(ctx, "rotate secret", `UPDATE client SET secret = $2 WHERE id = $1 AND auth_method = 'client_secret'`, id, secret)
}

// SetJWKS replaces the keys of a client that signs assertions.
func (s *Store) SetJWKS(ctx context.Context, id string, jwks json.RawMessage, uri string) error {
	return s.must(ctx, "rotate keys", `
UPDATE client SET jwks = $2, jwks_uri = nullif($3, '') WHERE id = $1 AND auth_method = 'private_key_jwt'`, id, jwks, uri)
}

// RemoveClient removes a client and revokes everything that it was granted.
func (s *Store) RemoveClient(ctx context.Context, id string) error {
	n, err := s.ends(ctx, "remove client", `DELETE FROM client WHERE id = $1`, id)
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	return err
}
