package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/ory/fosite"

	"kiln/storage/identity"
)

// fositeStorage shows the identity store as what fosite wants to keep things in. A Requester becomes a grant, made once
// under the id that fosite gives to a code and all that comes of it, and a token of that grant.
type fositeStorage struct {
	store *identity.Store
	base  string // the FHIR base
	now   func() time.Time
}

func splitScopes(s string) fosite.Arguments { return strings.Fields(s) }

// GetClient finds a client. Errors: fosite.ErrNotFound.
func (f *fositeStorage) GetClient(ctx context.Context, id string) (fosite.Client, error) {
	c, err := f.store.Client(ctx, id)
	if err != nil {
		return nil, found(err)
	}
	return &client{c}, nil
}

// ClientAssertionJWTValid and SetClientAssertionJWT are for fosite's own check of assertions, which assertion.go replaces.
func (f *fositeStorage) ClientAssertionJWTValid(context.Context, string) error { return nil }
func (f *fositeStorage) SetClientAssertionJWT(context.Context, string, time.Time) error {
	return nil
}

func (f *fositeStorage) BeginTX(ctx context.Context) (context.Context, error) {
	return f.store.Begin(ctx)
}
func (f *fositeStorage) Commit(ctx context.Context) error   { return f.store.Commit(ctx) }
func (f *fositeStorage) Rollback(ctx context.Context) error { return f.store.Rollback(ctx) }

// found turns the store's errors into those that fosite knows.
func found(err error) error {
	switch {
	case errors.Is(err, identity.ErrNotFound):
		return fosite.ErrNotFound
	case errors.Is(err, identity.ErrUsed):
		return fosite.ErrSerializationFailure
	}
	return err
}

// add keeps a token of a request.
func (f *fositeStorage) add(ctx context.Context, kind rune, sig string, expires fosite.TokenType, r fosite.Requester) error {
	s, ok := r.GetSession().(*session)
	if !ok {
		return errors.New("oauth: a request without our session")
	}
	content, err := json.Marshal(s.context)
	if err != nil {
		return err
	}
	scope := strings.Join(r.GetGrantedScopes(), " ")
	if err := f.store.EnsureGrant(ctx, &identity.Grant{
		ID: r.GetID(), Client: r.GetClient().GetID(), Account: s.account, Session: s.login,
		Requested: strings.Join(r.GetRequestedScopes(), " "), Scope: scope, Context: content,
	}); err != nil {
		return err
	}
	if kind == identity.Refresh {
		scope = strings.Join(s.scope, " ") // RFC 6749 section 6: it stays what was granted, whatever this refresh asked for
	}
	kept, err := json.Marshal(keptRequest{Form: r.GetRequestForm(), RequestedAt: r.GetRequestedAt()})
	if err != nil {
		return err
	}
	return found(f.store.AddToken(ctx, &identity.Token{
		Hash: unsign(sig), Kind: kind, Grant: r.GetID(), Scope: scope, Request: kept, Expires: s.GetExpiresAt(expires),
	}))
}

// get finds a token as the request that made it, and fills into, if given.
func (f *fositeStorage) get(ctx context.Context, kind rune, sig string, expires fosite.TokenType, into fosite.Session) (*fosite.Request, *identity.Token, error) {
	t, g, err := f.store.Token(ctx, kind, unsign(sig))
	if err != nil {
		return nil, nil, found(err)
	}
	s, ok := into.(*session)
	if !ok || s == nil {
		s = newSession(f.now)
	}
	var kept keptRequest
	if err := json.Unmarshal(t.Request, &kept); err != nil {
		return nil, nil, err
	}
	if err := s.fill(g, f.base); err != nil {
		return nil, nil, err
	}
	s.expires[expires] = t.Expires
	c, err := f.store.Client(ctx, g.Client)
	if err != nil {
		return nil, nil, found(err)
	}
	r := fosite.NewRequest()
	r.ID, r.RequestedAt, r.Client, r.Session, r.Form = g.ID, kept.RequestedAt, &client{c}, s, url.Values(kept.Form)
	r.SetRequestedScopes(splitScopes(g.Requested))
	for _, scope := range splitScopes(t.Scope) {
		r.GrantScope(scope)
	}
	return r, t, nil
}

func (f *fositeStorage) CreateAuthorizeCodeSession(ctx context.Context, code string, r fosite.Requester) error {
	return f.add(ctx, identity.Code, code, fosite.AuthorizeCode, r)
}

func (f *fositeStorage) GetAuthorizeCodeSession(ctx context.Context, code string, s fosite.Session) (fosite.Requester, error) {
	r, t, err := f.get(ctx, identity.Code, code, fosite.AuthorizeCode, s)
	if err != nil {
		return nil, err
	}
	if t.Used {
		return r, fosite.ErrInvalidatedAuthorizeCode
	}
	return r, nil
}

func (f *fositeStorage) InvalidateAuthorizeCodeSession(ctx context.Context, code string) error {
	return found(f.store.TakeToken(ctx, identity.Code, unsign(code)))
}

func (f *fositeStorage) CreatePKCERequestSession(ctx context.Context, code string, r fosite.Requester) error {
	return f.add(ctx, identity.PKCE, code, fosite.AuthorizeCode, r)
}

func (f *fositeStorage) GetPKCERequestSession(ctx context.Context, code string, s fosite.Session) (fosite.Requester, error) {
	r, _, err := f.get(ctx, identity.PKCE, code, fosite.AuthorizeCode, s)
	if err != nil {
		return nil, err
	}
	return r, nil
}

func (f *fositeStorage) DeletePKCERequestSession(ctx context.Context, code string) error {
	return f.store.DeleteToken(ctx, identity.PKCE, unsign(code))
}

// For the three below fosite hands over the code itself and not its signature.

func (f *fositeStorage) CreateOpenIDConnectSession(ctx context.Context, code string, r fosite.Requester) error {
	return f.add(ctx, identity.OpenID, signature(code), fosite.AuthorizeCode, r)
}

func (f *fositeStorage) GetOpenIDConnectSession(ctx context.Context, code string, r fosite.Requester) (fosite.Requester, error) {
	got, _, err := f.get(ctx, identity.OpenID, signature(code), fosite.AuthorizeCode, r.GetSession())
	if err != nil {
		return nil, err
	}
	return got, nil
}

func (f *fositeStorage) DeleteOpenIDConnectSession(ctx context.Context, code string) error {
	return f.store.DeleteToken(ctx, identity.OpenID, identity.Hash(code))
}

func (f *fositeStorage) CreateAccessTokenSession(ctx context.Context, sig string, r fosite.Requester) error {
	return f.add(ctx, identity.Access, sig, fosite.AccessToken, r)
}

func (f *fositeStorage) GetAccessTokenSession(ctx context.Context, sig string, s fosite.Session) (fosite.Requester, error) {
	r, _, err := f.get(ctx, identity.Access, sig, fosite.AccessToken, s)
	if err != nil {
		return nil, err
	}
	return r, nil
}

func (f *fositeStorage) DeleteAccessTokenSession(ctx context.Context, sig string) error {
	return f.store.DeleteToken(ctx, identity.Access, unsign(sig))
}

func (f *fositeStorage) CreateRefreshTokenSession(ctx context.Context, sig, _ string, r fosite.Requester) error {
	return f.add(ctx, identity.Refresh, sig, fosite.RefreshToken, r)
}

func (f *fositeStorage) GetRefreshTokenSession(ctx context.Context, sig string, s fosite.Session) (fosite.Requester, error) {
	r, t, err := f.get(ctx, identity.Refresh, sig, fosite.RefreshToken, s)
	if err != nil {
		return nil, err
	}
	if t.Used {
		return r, fosite.ErrInactiveToken
	}
	return r, nil
}

// DeleteRefreshTokenSession leaves the token to RevokeRefreshToken, which fosite calls next and which deletes it with its grant:
// to lock the token before the grant is the other way round than TakeToken does, and the two would wait for each other.
func (f *fositeStorage) DeleteRefreshTokenSession(context.Context, string) error { return nil }

// RotateRefreshToken takes the old refresh token out of use. Access tokens live on until they expire: requests that an
// app has under way while it refreshes must not fail.
func (f *fositeStorage) RotateRefreshToken(ctx context.Context, grant, sig string) error {
	if err := f.store.TakeToken(ctx, identity.Refresh, unsign(sig)); err != nil {
		return found(err)
	}
	return f.store.TouchGrant(ctx, grant)
}

// RevokeRefreshToken and RevokeAccessToken revoke the whole grant: what was built on a stolen code or token goes, and a
// client that gives back one token is done with all.
func (f *fositeStorage) RevokeRefreshToken(ctx context.Context, grant string) error {
	return f.store.Revoke(ctx, grant)
}

func (f *fositeStorage) RevokeAccessToken(ctx context.Context, grant string) error {
	return f.store.Revoke(ctx, grant)
}
