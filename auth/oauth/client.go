package oauth

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ory/fosite"

	"kiln/storage/identity"
)

// client is a registered client as fosite sees it.
type client struct{ *identity.Client }

func (c *client) GetID() string                      { return c.ID }
func (c *client) GetHashedSecret() []byte            { return c.Secret }
func (c *client) GetRedirectURIs() []string          { return c.RedirectURIs }
func (c *client) GetGrantTypes() fosite.Arguments    { return c.GrantTypes }
func (c *client) GetResponseTypes() fosite.Arguments { return fosite.Arguments{"code"} }
func (c *client) GetScopes() fosite.Arguments        { return splitScopes(c.Scope) }
func (c *client) IsPublic() bool                     { return c.AuthMethod == identity.AuthNone }
func (c *client) GetAudience() fosite.Arguments      { return nil }

// GetEffectiveLifespan shortens what backend systems get (SMART Backend Services section 4.1.4: 300 seconds).
func (c *client) GetEffectiveLifespan(grant fosite.GrantType, _ fosite.TokenType, otherwise time.Duration) time.Duration {
	if grant == fosite.GrantTypeClientCredentials {
		return min(otherwise, backendTokenLife)
	}
	return otherwise
}

const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// authenticate finds out which client sends a request to the token, introspection or revocation endpoint. A client gets
// in by the one method it is registered for, tried in one way.
func (s *Server) authenticate(ctx context.Context, r *http.Request, form url.Values) (fosite.Client, error) {
	header := r.Header.Get("Authorization")
	asserted := form.Has("client_assertion") || form.Has("client_assertion_type")
	ways := 0
	for _, tried := range []bool{header != "", form.Has("client_secret"), asserted} {
		if tried {
			ways++
		}
	}
	if ways > 1 {
		return nil, fosite.ErrInvalidRequest.WithHint("Credentials were sent in two ways at once.")
	}
	if asserted {
		if form.Get("client_assertion_type") != assertionType {
			return nil, fosite.ErrInvalidClient.WithHint("The client_assertion_type must be " + assertionType + ".")
		}
		return s.authenticateAssertion(ctx, form)
	}
	id, secret := form.Get("client_id"), form.Get("client_secret")
	if header != "" {
		var ok bool
		if id, secret, ok = basicCredentials(header); !ok {
			return nil, fosite.ErrInvalidClient.WithHint("The Authorization header is not of the form Basic id:secret.")
		}
		if given := form.Get("client_id"); given != "" && given != id && given != percentDecoded(id) {
			return nil, fosite.ErrInvalidRequest.WithHint("The client_id is not the one of the Authorization header.")
		}
	}
	if id == "" && ways == 0 && form.Get("grant_type") == grantRefresh {
		return s.refresher(ctx, form.Get("refresh_token"))
	}
	c, err := s.store.Client(ctx, id)
	if err == identity.ErrNotFound && header != "" && percentDecoded(id) != id {
		id = percentDecoded(id)
		c, err = s.store.Client(ctx, id)
	}
	if err == identity.ErrNotFound {
		return nil, fosite.ErrInvalidClient.WithHint("There is no such client.")
	}
	if err != nil {
		return nil, err
	}
	switch c.AuthMethod {
	case identity.AuthNone:
		if ways > 0 {
			return nil, fosite.ErrInvalidClient.WithHint("This client is registered as a public one, which has no secret.")
		}
		return &client{c}, nil
	case identity.AuthSecret:
		locked, err := s.guessed(ctx, r, c.ID)
		if err != nil {
			return nil, err
		}
		if locked {
			return nil, fosite.ErrInvalidClient.WithHint("Too many wrong secrets of this client came from this address; try again later.")
		}
		if sameSecret(c.Secret, secret) || header != "" && sameSecret(c.Secret, percentDecoded(secret)) {
			return &client{c}, nil
		}
		return nil, fosite.ErrInvalidClient.WithHint(hintSecret)
	}
	return nil, fosite.ErrInvalidClient.WithHint("This client is registered for private_key_jwt.")
}

const hintSecret = "The client secret is missing or wrong."

// guesses is what wrong secrets of a client are counted by: the address too, so that nobody else can lock a client out. It is
// "" for this machine.
func guesses(r *http.Request, client string) string {
	if address := addressSubject(r); address != "" {
		return "secret:" + client + " " + address
	}
	return ""
}

// guessed says whether as many wrong secrets of a client came from an address as lock it for sign-ins too. Then no secret is
// looked at.
func (s *Server) guessed(ctx context.Context, r *http.Request, client string) (bool, error) {
	subject := guesses(r, client)
	if subject == "" {
		return false, nil
	}
	n, err := s.store.FailedLogins(ctx, subject, s.now().Add(-s.limits.LoginWindow))
	return n >= 10*s.limits.LoginAttempts, err
}

// noteClient records that a client did not prove who it is, where err says so, and counts wrong secrets: here, as what led to
// it may have been in a transaction that is undone.
func (s *Server) noteClient(r *http.Request, err error) error {
	e, _ := tell(err)
	if e.Code != "invalid_client" {
		return nil
	}
	id := r.PostForm.Get("client_id")
	if basic, _, ok := basicCredentials(r.Header.Get("Authorization")); ok {
		id = percentDecoded(basic)
	}
	if _, claims, hint := readAssertion(r.PostForm.Get("client_assertion")); hint == "" {
		id = claims.Issuer
	}
	named, err := s.named(r.Context(), id)
	if err != nil {
		return err
	}
	if subject := guesses(r, named.Client); named.Client != "" && subject != "" && e.Description == hintSecret {
		if err := s.store.LoginFailed(r.Context(), subject); err != nil {
			return err
		}
	}
	return s.note(r.Context(), Event{Principal: named, Action: ActClient, Refused: true, Detail: e.Description})
}

// refresher finds the public client of a refresh token that comes without client_id, as the SMART JS client sends it: a
// public client proves nothing by naming itself. Whatever else the token is, the answer is that of an unknown one.
func (s *Server) refresher(ctx context.Context, token string) (fosite.Client, error) {
	_, g, err := s.store.Token(ctx, identity.Refresh, identity.Hash(token))
	if err == nil {
		var c *identity.Client
		if c, err = s.store.Client(ctx, g.Client); err == nil && c.AuthMethod == identity.AuthNone {
			return &client{c}, nil
		}
	}
	if err != nil && !errors.Is(err, identity.ErrNotFound) {
		return nil, err
	}
	return nil, fosite.ErrInvalidClient.WithHint("The client_id is missing, and the refresh token is not that of a public client.")
}

func sameSecret(hash []byte, secret string) bool {
	return secret != "" && subtle.ConstantTimeCompare(hash, identity.Hash(secret)) == 1
}

// basicCredentials reads an Authorization header as sent: many clients do not form-encode id and secret before, as RFC
// 6749 section 2.3.1 wants it, so that both readings are tried.
func basicCredentials(header string) (id, secret string, ok bool) {
	scheme, encoded, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Basic") {
		return "", "", false
	}
	decoded, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
	if err != nil {
		return "", "", false
	}
	return strings.Cut(string(decoded), ":")
}

func percentDecoded(s string) string {
	if decoded, err := url.QueryUnescape(s); err == nil {
		return decoded
	}
	return s
}
