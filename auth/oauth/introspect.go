package oauth

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/ory/fosite"

	"kiln/auth"
	"kiln/storage"
	"kiln/storage/identity"
)

// introspect tells an authorized client what a token is (RFC 7662): its own or another's. Whatever is not an active
// token is answered alike.
func (s *Server) introspect(w http.ResponseWriter, r *http.Request) error {
	form, err := postForm(r)
	if err != nil {
		return err
	}
	caller, err := s.introspector(r, form)
	if err != nil {
		return err
	}
	if form.Get("token") == "" {
		return fosite.ErrInvalidRequest.WithHint("The parameter token is missing.")
	}
	answer, grant, err := s.describeToken(r.Context(), form.Get("token"))
	if err != nil {
		return err
	}
	about := "a token that is not active"
	if grant != "" {
		about = "a token of the grant " + grant
	}
	if err := s.note(r.Context(), Event{Principal: caller, Action: ActIntrospect, Detail: about}); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, noStore, answer)
}

// introspector lets in clients that prove who they are, and holders of an access token. A public client proves nothing.
func (s *Server) introspector(r *http.Request, form map[string][]string) (auth.Principal, error) {
	if bearer, _ := bearerToken(r); bearer {
		return s.holder(r)
	}
	c, err := s.authenticate(r.Context(), r, form)
	if err == nil && c.IsPublic() {
		err = fosite.ErrInvalidClient.WithHint("Introspection needs a client that can authenticate.")
	}
	if err != nil {
		return auth.Principal{}, err
	}
	return s.named(r.Context(), c.GetID())
}

// describeToken is the answer about a token; grant is the id of what it was granted by, "" where it is not active.
func (s *Server) describeToken(ctx context.Context, token string) (answer map[string]any, grant string, err error) {
	inactive := map[string]any{"active": false}
	for _, kind := range []rune{identity.Access, identity.Refresh} {
		t, g, err := s.store.Token(ctx, kind, identity.Hash(token))
		if errors.Is(err, identity.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, "", err
		}
		if t.Used || !s.now().Before(t.Expires) {
			return inactive, "", nil
		}
		var c Context
		if err := json.Unmarshal(g.Context, &c); err != nil {
			return nil, "", err
		}
		answer := map[string]any{
			"active": true, "scope": t.Scope, "client_id": g.Client, "exp": t.Expires.Unix(), "iat": g.Used.Unix(),
			"iss": s.urls.origin, "token_type": "Bearer",
		}
		if kind == identity.Refresh {
			answer["token_type"] = "refresh_token"
		}
		add := func(name, value string) {
			if value != "" {
				answer[name] = value
			}
		}
		add("sub", g.Account)
		add("username", c.Username)
		if c.FHIRUser != "" && splitScopes(t.Scope).Has(scopeFHIRUser) {
			answer["fhirUser"] = s.urls.fhir + "/" + c.FHIRUser
		}
		maps.Copy(answer, c.launch(s.urls.style))
		return answer, g.ID, nil
	}
	return inactive, "", nil
}

// revoke is the revocation endpoint (RFC 7009). A token that is unknown, or another client's, is answered like one that
// was revoked; the other client's is left alone.
func (s *Server) revoke(w http.ResponseWriter, r *http.Request) error {
	form, err := postForm(r)
	if err != nil {
		return err
	}
	if form.Get("token") == "" {
		return fosite.ErrInvalidRequest.WithHint("The parameter token is missing.")
	}
	event := Event{Action: ActRevoke}
	known, err := s.aboutToken(r.Context(), &event, form.Get("token"))
	if err != nil {
		return err
	}
	revoke := func(ctx context.Context) error {
		err := s.provider.NewRevocationRequest(ctx, r)
		if errors.Is(err, fosite.ErrUnauthorizedClient) {
			event.Refused, err = true, nil
		}
		return err
	}
	if known {
		err = s.noted(r.Context(), &event, revoke)
	} else {
		err = revoke(r.Context())
	}
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, noStore, struct{}{})
}

// aboutToken completes an event with whom a token was granted to and by whom.
func (s *Server) aboutToken(ctx context.Context, e *Event, token string) (known bool, err error) {
	for _, kind := range []rune{identity.Access, identity.Refresh} {
		_, g, err := s.store.Token(ctx, kind, identity.Hash(token))
		if errors.Is(err, identity.ErrNotFound) {
			continue
		}
		if err != nil {
			return false, err
		}
		e.Principal, e.Detail = auth.Principal{Client: g.Client, User: g.Account}, g.Client
		return true, nil
	}
	return false, nil
}

// userinfo tells the holder of an access token who the user is (OpenID Connect Core section 5.3).
func (s *Server) userinfo(w http.ResponseWriter, r *http.Request) error {
	p, err := s.holder(r)
	if err != nil {
		return err
	}
	if !p.Scopes.Has(scopeOpenID) || p.User == "" {
		return s.refuseHolder(r, p, errNoOpenID)
	}
	claims := map[string]any{"sub": p.User}
	if p.FHIRUser != "" && p.Scopes.Has(scopeFHIRUser) {
		claims["fhirUser"] = s.urls.fhir + "/" + p.FHIRUser
	}
	if p.Scopes.Has(scopeProfile) {
		claims["preferred_username"] = p.Name
	}
	var told []string
	for name := range claims {
		told = append(told, name)
	}
	slices.Sort(told)
	if err := s.note(r.Context(), Event{Principal: p, Action: ActUserInfo, Detail: strings.Join(told, " "), Patient: strings.TrimPrefix(p.Own(), "Patient/")}); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, noStore, claims)
}

func bearerToken(r *http.Request) (bearer bool, token string) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.EqualFold(scheme, "Bearer"), token
}

// holder finds out who holds the access token that a request of an endpoint comes with. Errors: a bearerError, which is noted.
func (s *Server) holder(r *http.Request) (auth.Principal, error) {
	nobody := auth.Principal{Name: "somebody without a token"}
	bearer, token := bearerToken(r)
	if !bearer {
		return nobody, s.refuseHolder(r, nobody, errNoToken)
	}
	p, err := s.Authenticate(r.Context(), token)
	if refused := (*bearerError)(nil); errors.As(err, &refused) {
		return nobody, s.refuseHolder(r, nobody, refused)
	}
	return p, err
}

// refuseHolder notes why a token is of no use at an endpoint, and returns that.
func (s *Server) refuseHolder(r *http.Request, p auth.Principal, why *bearerError) error {
	if err := s.note(r.Context(), Event{Principal: p, Action: ActUnfit, Refused: true, Detail: why.text}); err != nil {
		return err
	}
	return why
}

// bearerError is why a token does not open what was asked for (RFC 6750 section 3.1).
type bearerError struct {
	status     int
	code, text string
}

func (e *bearerError) Error() string { return e.code + ": " + e.text }

func (e *bearerError) challenge(realm string) string {
	if e.code == "" {
		return `Bearer realm="` + realm + `"`
	}
	return `Bearer realm="` + realm + `", error="` + e.code + `", error_description="` + e.text + `"`
}

var (
	errNoToken      = &bearerError{http.StatusUnauthorized, "", "An access token is needed"}
	errInvalidToken = &bearerError{http.StatusUnauthorized, "invalid_token", "The access token is not known, has expired or was revoked"}
	errNoOpenID     = &bearerError{http.StatusForbidden, "insufficient_scope", "The access token was not granted openid"}
)

// Authenticate finds out who holds an access token. It asks the database each time, so that a revoked token is of no use
// from the next request on, on every node. Errors: one whose Challenge says what goes into WWW-Authenticate.
func (s *Server) Authenticate(ctx context.Context, token string) (auth.Principal, error) {
	if !strings.HasPrefix(token, accessPrefix) || len(token) > 100 {
		return auth.Principal{}, errInvalidToken
	}
	t, g, err := s.store.Token(ctx, identity.Access, identity.Hash(token))
	if errors.Is(err, identity.ErrNotFound) || err == nil && !s.now().Before(t.Expires) {
		return auth.Principal{}, errInvalidToken
	}
	if err != nil {
		return auth.Principal{}, err
	}
	p, err := principal(t, g)
	if err == nil {
		s.remember(t, p)
	}
	return p, err
}

// maxHolders bounds how many holders of tokens a node remembers; beyond it, it begins anew.
const maxHolders = 10_000

// remember keeps who holds a token. What a token stands for never changes: only that it ends, which Recall does not say.
func (s *Server) remember(t *identity.Token, p auth.Principal) {
	p = p.Keep()
	s.holders.mu.Lock()
	defer s.holders.mu.Unlock()
	if s.holders.known == nil || len(s.holders.known) >= maxHolders {
		s.holders.known = map[[32]byte]*auth.Principal{}
	}
	s.holders.known[[32]byte(t.Hash)] = &p
}

// Recall says who holds a token that Authenticate has seen before, without asking the database: the proof is still to
// be given, with the first read of the request (storage.WithProof).
func (s *Server) Recall(token string) (p auth.Principal, proof *storage.Proof, known bool) {
	hash, now := sha256.Sum256([]byte(token)), s.now()
	s.holders.mu.RLock()
	holder := s.holders.known[hash]
	s.holders.mu.RUnlock()
	if holder == nil || !now.Before(holder.Expires) {
		return auth.Principal{}, nil, false
	}
	return *holder, storage.NewProof(hash[:], now), true
}

// principal makes the caller that a token stands for.
func principal(t *identity.Token, g *identity.Grant) (auth.Principal, error) {
	var c Context
	if err := json.Unmarshal(g.Context, &c); err != nil {
		return auth.Principal{}, err
	}
	p := auth.Principal{
		User: g.Account, Name: c.Username, Client: g.Client, FHIRUser: c.FHIRUser, Represents: c.Represents, Others: c.Others, Patient: c.Patient, Encounter: c.Encounter,
		Roles: roles(c.Roles), Token: g.ID, Expires: t.Expires,
	}
	if g.Client == "" {
		p.Client = operatorClient
	}
	p.Scopes, _ = auth.ParseScopes(t.Scope)
	return p, nil
}

// operatorClient stands for tokens made by kiln token.
const operatorClient = "kiln-token"

func roles(names []string) []auth.Role {
	var list []auth.Role
	for _, role := range auth.Roles() {
		if slices.Contains(names, string(role)) {
			list = append(list, role)
		}
	}
	return list
}

// Challenge is the WWW-Authenticate header for an error of Authenticate, and whether it is one that the caller is to
// blame for.
func Challenge(err error, realm string) (header string, refused bool) {
	var e *bearerError
	if !errors.As(err, &e) {
		return "", false
	}
	return e.challenge(realm), true
}
