package oauth

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"kiln/auth"
	"kiln/storage/identity"
)

// Outside is an OpenID provider that people may sign in with instead of a password. Who somebody is there opens the
// account here that an operator linked (kiln user link), and no other: nobody gets in by a name or an e-mail address.
type Outside struct {
	// Issuer is where /.well-known/openid-configuration is, "" for no provider; Name is what the button says.
	Issuer, Name string
	// ClientID and ClientSecret are what Kiln is registered with there; no secret makes it a public client.
	ClientID, ClientSecret string
}

const (
	outsidePurpose = "outside sign-in"
	outsideLife    = 10 * time.Minute
	outsideTimeout = 10 * time.Second
	// maxOutsideCookie bounds the cookie that carries a sign-in: what it seals is of bounded size.
	maxOutsideCookie = 2000
)

// outside speaks with the provider. It asks for the provider's metadata when somebody first signs in, so that Kiln starts
// without it.
type outside struct {
	Outside
	redirect string
	client   *http.Client

	mu       sync.Mutex
	provider *oidc.Provider
}

func newOutside(o Outside, redirect string) *outside {
	if o.Issuer == "" {
		return nil
	}
	if o.Name == "" {
		if u, err := url.Parse(o.Issuer); err == nil {
			o.Name = u.Host
		}
	}
	return &outside{Outside: o, redirect: redirect, client: &http.Client{
		Timeout:       outsideTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// discover returns the provider. A failure is not kept: the next sign-in asks again.
func (o *outside) discover(ctx context.Context) (*oidc.Provider, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.provider != nil {
		return o.provider, nil
	}
	provider, err := oidc.NewProvider(oidc.ClientContext(ctx, o.client), o.Issuer)
	if err == nil {
		o.provider = provider
	}
	return provider, err
}

func (o *outside) config(provider *oidc.Provider) *oauth2.Config {
	return &oauth2.Config{
		ClientID: o.ClientID, ClientSecret: o.ClientSecret, Endpoint: provider.Endpoint(), RedirectURL: o.redirect,
		Scopes: []string{oidc.ScopeOpenID},
	}
}

// visit is a sign-in on its way to the provider and back. The browser carries it, sealed, in a cookie: so the answer is of
// use in no other browser, and any node can take it.
type visit struct {
	State    string    `json:"s"`
	Nonce    string    `json:"n"`
	Verifier string    `json:"v"`
	Request  string    `json:"r,omitempty"`
	To       string    `json:"t,omitempty"`
	Until    time.Time `json:"u"`
}

func (s *Server) noOutside() error {
	return bad("There is no other way to sign in here", "Sign in with your password.")
}

// loginOutside sends the browser to the provider.
func (s *Server) loginOutside(w http.ResponseWriter, r *http.Request) error {
	if s.outside == nil {
		return s.noOutside()
	}
	form := r.PostForm
	provider, err := s.outside.discover(r.Context())
	if err != nil {
		return s.outsideFailed(w, r, &visit{Request: form.Get("request"), To: form.Get("to")}, "provider", err)
	}
	v := visit{
		State: randomSecret(), Nonce: randomSecret(), Verifier: oauth2.GenerateVerifier(), Until: s.now().Add(outsideLife),
	}
	options := []oauth2.AuthCodeOption{oidc.Nonce(v.Nonce), oauth2.S256ChallengeOption(v.Verifier)}
	if v.Request = form.Get("request"); v.Request != "" {
		pending, err := s.store.Request(r.Context(), identity.Hash(v.Request))
		if err != nil {
			return err
		}
		var asked url.Values
		if err := json.Unmarshal(pending.Form, &asked); err != nil {
			return err
		}
		if asked.Get("prompt") != "" || asked.Get("max_age") != "" { // the app wants to be sure; so must the provider be
			options = append(options, oauth2.SetAuthURLParam("prompt", "login"))
		}
	} else if _, known := ownPages[form.Get("to")]; known {
		v.To = form.Get("to")
	}
	plain, err := json.Marshal(v)
	if err != nil {
		return err
	}
	s.setCookie(w, "outside", sealedText(s.seal.seal(outsidePurpose, plain)), outsideLife)
	return redirect(w, s.outside.config(provider).AuthCodeURL(v.State, options...))
}

// openVisit reads the cookie of a sign-in that an answer belongs to, and ends it: it takes one answer.
func (s *Server) openVisit(w http.ResponseWriter, r *http.Request) (*visit, bool) {
	cookie, err := r.Cookie(s.cookieName("outside"))
	if err != nil || len(cookie.Value) > maxOutsideCookie {
		return nil, false
	}
	s.setCookie(w, "outside", "", -1)
	plain, err := s.seal.open(outsidePurpose, unsealedText(cookie.Value))
	if err != nil {
		return nil, false
	}
	v := new(visit)
	state := r.URL.Query()["state"]
	if json.Unmarshal(plain, v) != nil || s.now().After(v.Until) || len(state) != 1 ||
		subtle.ConstantTimeCompare([]byte(v.State), []byte(state[0])) != 1 {
		return nil, false
	}
	return v, true
}

// outsideAnswer takes the provider's answer: it finds out who came back, and signs in the account linked to them.
func (s *Server) outsideAnswer(w http.ResponseWriter, r *http.Request) error {
	if s.outside == nil {
		return s.noOutside()
	}
	v, ok := s.openVisit(w, r)
	if !ok {
		return bad("This sign-in has expired", "Start again, in the browser that you started in.")
	}
	query := r.URL.Query()
	if query.Get("error") != "" {
		return s.outsideFailed(w, r, v, "refused", nil)
	}
	if iss := query.Get("iss"); iss != "" && iss != s.outside.Issuer { // RFC 9207
		return s.outsideFailed(w, r, v, "issuer", nil)
	}
	subject, err := s.outsideSubject(r.Context(), v, query.Get("code"))
	if err != nil {
		return s.outsideFailed(w, r, v, "provider", err)
	}
	account, err := s.store.OutsideAccount(r.Context(), identity.Outside{Issuer: s.outside.Issuer, Subject: subject})
	if errors.Is(err, identity.ErrNotFound) || err == nil && account.Disabled {
		if err := s.note(r.Context(), Event{Action: ActLogin, Refused: true, Detail: "ext", Principal: auth.Principal{Name: subject}}); err != nil {
			return err
		}
		return s.showLogin(w, r, http.StatusForbidden, v.Request, v.To, "", "No account here is linked to you at "+s.outside.Name+
			", or it is closed. Ask an administrator to link yours: you are known there as "+subject+". Or sign in with your password.")
	}
	if err != nil {
		return err
	}
	if account.TOTP != nil {
		return s.showCode(w, r, http.StatusOK, account, "ext", v.Request, v.To, fault{})
	}
	if err := s.signIn(w, r, account, "ext"); err != nil {
		return err
	}
	return redirect(w, next(v.Request, v.To))
}

// outsideSubject exchanges a code and verifies the id_token: signature, issuer, audience, times and nonce.
// Spec: OpenID Connect Core 1.0 section 3.1.3.7.
func (s *Server) outsideSubject(ctx context.Context, v *visit, code string) (string, error) {
	ctx = oidc.ClientContext(ctx, s.outside.client)
	provider, err := s.outside.discover(ctx)
	if err != nil {
		return "", err
	}
	token, err := s.outside.config(provider).Exchange(ctx, code, oauth2.VerifierOption(v.Verifier))
	if err != nil {
		return "", err
	}
	raw, _ := token.Extra("id_token").(string)
	verified, err := provider.Verifier(&oidc.Config{ClientID: s.outside.ClientID, Now: s.now}).Verify(ctx, raw)
	if err != nil {
		return "", err
	}
	var claims struct {
		Party string `json:"azp"`
	}
	if err := verified.Claims(&claims); err != nil {
		return "", err
	}
	switch {
	case subtle.ConstantTimeCompare([]byte(verified.Nonce), []byte(v.Nonce)) != 1:
		return "", errors.New("oauth: the id_token has another nonce")
	case len(verified.Audience) > 1 && claims.Party != s.outside.ClientID, claims.Party != "" && claims.Party != s.outside.ClientID:
		return "", errors.New("oauth: the id_token is for another client")
	case verified.Subject == "" || len(verified.Subject) > 255:
		return "", errors.New("oauth: the id_token has no subject, or one that is too long")
	}
	return verified.Subject, nil
}

// outsideFailed goes back to the sign-in page. What the provider said stays in the log, without the answer itself.
func (s *Server) outsideFailed(w http.ResponseWriter, r *http.Request, v *visit, why string, err error) error {
	if fault := s.note(r.Context(), Event{Action: ActLogin, Refused: true, Detail: "ext " + why}); fault != nil {
		return fault
	}
	status := http.StatusUnauthorized
	if err != nil {
		status = http.StatusBadGateway
		var answered *oauth2.RetrieveError // holds the whole answer, tokens too
		if errors.As(err, &answered) {
			err = errors.New("oauth: the provider refused the code: " + strings.ToValidUTF8(answered.ErrorCode, ""))
		}
		s.log.WarnContext(r.Context(), "sign-in with the outside provider failed", "issuer", s.outside.Issuer, "error", err)
	}
	return s.showLogin(w, r, status, v.Request, v.To, "", "Signing in with "+s.outside.Name+" did not work. Try again, or use your password.")
}
