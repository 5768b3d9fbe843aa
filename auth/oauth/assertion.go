package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/ory/fosite"

	"kiln/auth"
	"kiln/storage/identity"
)

const (
	// assertionLife is how far ahead exp may be (SMART App Launch 2.2, "Client Authentication: Asymmetric"), and
	// assertionLeeway what clocks may differ and clients may round.
	assertionLife   = 5 * time.Minute
	assertionLeeway = 10 * time.Second
	maxJTI          = 512
)

// assertionAlgorithms are those that SMART names. Neither none nor a symmetric one is ever tried.
var assertionAlgorithms = []jose.SignatureAlgorithm{jose.RS384, jose.ES384}

// assertionClaims are the claims of a client assertion. iat and nbf may be absent.
type assertionClaims struct {
	Issuer   string       `json:"iss"`
	Subject  string       `json:"sub"`
	Audience audience     `json:"aud"`
	ID       string       `json:"jti"`
	Expires  *json.Number `json:"exp"`
	NotYet   *json.Number `json:"nbf"`
	Issued   *json.Number `json:"iat"`
}

// audience is a string or a list of strings.
type audience []string

func (a *audience) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(a))
}

// authenticateAssertion finds the client that signed an assertion (RFC 7523, with the rules of SMART).
func (s *Server) authenticateAssertion(ctx context.Context, form url.Values) (fosite.Client, error) {
	refuse := func(hint string) (fosite.Client, error) {
		return nil, fosite.ErrInvalidClient.WithHint(hint)
	}
	signed, claims, hint := readAssertion(form.Get("client_assertion"))
	if hint != "" {
		return refuse(hint)
	}
	if claims.Issuer == "" || claims.Issuer != claims.Subject {
		return refuse("iss and sub of the client_assertion must both be the client_id.")
	}
	if given := form.Get("client_id"); given != "" && given != claims.Subject {
		return refuse("The client_id is not the one of the client_assertion.")
	}
	c, hint, err := s.signedBy(ctx, signed, claims, s.urls.token)
	if err != nil {
		return nil, err
	}
	if hint != "" {
		return refuse(hint)
	}
	return &client{c}, nil
}

// readAssertion reads a JWT, whose signature is still to be verified. hint says what is wrong with it, or "".
func readAssertion(text string) (signed *jose.JSONWebSignature, claims *assertionClaims, hint string) {
	signed, err := jose.ParseSignedCompact(text, assertionAlgorithms)
	if err != nil || len(signed.Signatures) != 1 {
		return nil, nil, "The client_assertion is not a JWT signed with RS384 or ES384."
	}
	claims = &assertionClaims{}
	if json.Unmarshal(signed.UnsafePayloadWithoutVerification(), claims) != nil {
		return nil, nil, "The claims of the client_assertion cannot be read."
	}
	return signed, claims, ""
}

// signedBy finds the client that has signed a JWT for an audience, to be used once. hint says why it is refused, or "".
func (s *Server) signedBy(ctx context.Context, signed *jose.JSONWebSignature, claims *assertionClaims, audience string) (c *identity.Client, hint string, err error) {
	refuse := func(hint string) (*identity.Client, string, error) { return nil, hint, nil }
	if c, err = s.store.Client(ctx, claims.Issuer); errors.Is(err, identity.ErrNotFound) || err == nil && c.AuthMethod != identity.AuthPrivateKey {
		return refuse("No client is registered for private_key_jwt under this iss.")
	}
	if err != nil {
		return nil, "", err
	}
	header := signed.Signatures[0].Protected
	if jku, present := header.ExtraHeaders["jku"]; present && jku != any(c.JWKSURI) {
		return refuse("The jku is not the registered one.")
	}
	if header.KeyID == "" {
		return refuse("The header of the client_assertion has no kid.")
	}
	keys, err := s.clientKeys(ctx, c, header.KeyID)
	if err != nil {
		return refuse("The client's keys cannot be fetched from its jwks_uri.")
	}
	verified := false
	for _, key := range keys {
		if _, err := signed.Verify(key); err == nil {
			verified = true
			break
		}
	}
	if !verified {
		return refuse("The client_assertion is not signed by a key of the client with this kid.")
	}
	if hint := s.checkClaims(claims, audience); hint != "" {
		return refuse(hint)
	}
	expires, _ := seconds(claims.Expires)
	switch err := s.store.UseAssertion(ctx, c.ID, claims.ID, expires.Add(2*assertionLeeway)); {
	case errors.Is(err, identity.ErrUsed):
		return refuse("The client_assertion was used before: each needs a jti of its own.")
	case err != nil:
		return nil, "", err
	}
	return c, "", nil
}

// AuthenticateCall finds out who calls a service of ours: the holder of an access token, or the client that has signed a JWT for
// the address of the service, as CDS Hooks has it (CDS Hooks 2.0, "Trusting CDS Clients"). The client acts for itself, with
// the system scopes that it is registered for. Errors: as Authenticate.
func (s *Server) AuthenticateCall(ctx context.Context, token, address string) (auth.Principal, error) {
	if strings.HasPrefix(token, accessPrefix) {
		return s.Authenticate(ctx, token)
	}
	refused := func(hint string) (auth.Principal, error) {
		return auth.Principal{}, &bearerError{http.StatusUnauthorized, "invalid_token", strings.ReplaceAll(hint, "client_assertion", "JWT")}
	}
	signed, claims, hint := readAssertion(token)
	switch {
	case hint != "":
		return auth.Principal{}, errInvalidToken
	case claims.Issuer == "" || claims.Subject != "" && claims.Subject != claims.Issuer:
		return refused("iss of the JWT must be the client_id.")
	case claims.Issued == nil:
		return refused("The JWT has no iat.")
	}
	c, hint, err := s.signedBy(ctx, signed, claims, address)
	switch {
	case err != nil:
		return auth.Principal{}, err
	case hint != "":
		return refused(hint)
	case !c.May(grantClient):
		return refused("The client is not registered for client_credentials.")
	}
	p := auth.Principal{Name: c.Name, Client: c.ID}
	p.Scopes = s.usable(c.Scope, auth.LevelSystem)
	return p, nil
}

// checkClaims says what is wrong with the claims of an assertion whose signature holds, or "".
func (s *Server) checkClaims(claims *assertionClaims, audience string) string {
	now := s.now()
	forUs := false
	for _, aud := range claims.Audience {
		forUs = forUs || aud == audience
	}
	if !forUs {
		return "aud of the client_assertion must be " + audience + "."
	}
	expires, ok := seconds(claims.Expires)
	switch {
	case !ok:
		return "The client_assertion has no exp."
	case now.After(expires.Add(assertionLeeway)):
		return "The client_assertion has expired."
	case expires.After(now.Add(assertionLife + assertionLeeway)):
		return "exp of the client_assertion is more than five minutes ahead."
	case claims.ID == "" || len(claims.ID) > maxJTI:
		return "The client_assertion has no jti, or one that is too long."
	}
	for _, from := range []*json.Number{claims.NotYet, claims.Issued} {
		if from == nil {
			continue
		}
		if at, ok := seconds(from); !ok || at.After(now.Add(assertionLeeway)) {
			return "The client_assertion is not valid yet."
		}
	}
	return ""
}

func seconds(n *json.Number) (time.Time, bool) {
	if n == nil {
		return time.Time{}, false
	}
	f, err := n.Float64()
	if err != nil || f < 0 || f > 1<<40 {
		return time.Time{}, false
	}
	return time.Unix(int64(f), 0), true
}
