package oauth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"kiln/auth"
	"kiln/storage/identity"
)

// visitor is a person at a browser that is signed in.
type visitor struct {
	login   *identity.Session
	account *identity.Account
}

// cookieName gives a cookie the prefix that keeps other hosts from setting it, where the connection allows that.
func (s *Server) cookieName(name string) string {
	if s.secure() {
		return "__Host-kiln-" + name
	}
	return "kiln-" + name
}

func (s *Server) secure() bool { return strings.HasPrefix(s.urls.origin, "https://") }

func (s *Server) setCookie(w http.ResponseWriter, name, value string, life time.Duration) {
	cookie := &http.Cookie{
		Name: s.cookieName(name), Value: value, Path: "/", HttpOnly: true, Secure: s.secure(), SameSite: http.SameSiteLaxMode,
		MaxAge: int(life / time.Second),
	}
	if life < 0 {
		cookie.MaxAge = -1
	}
	http.SetCookie(w, cookie)
}

func (s *Server) cookie(r *http.Request, name string) string {
	cookie, err := r.Cookie(s.cookieName(name))
	if err != nil || len(cookie.Value) > 100 {
		return ""
	}
	return cookie.Value
}

// visitorOf says who is signed in; nil for nobody.
func (s *Server) visitorOf(r *http.Request) *visitor {
	value := s.cookie(r, "session")
	if value == "" {
		return nil
	}
	login, account, err := s.store.Session(r.Context(), identity.Hash(value), s.limits.SessionIdle)
	if err != nil {
		if !errors.Is(err, identity.ErrNotFound) {
			s.logFault(r, err)
		}
		return nil
	}
	return &visitor{login, account}
}

// formToken is what a form of ours must bring back. It hangs on two cookies that no other site can read: one that every
// browser gets, and the session's, so that a form from before a sign-in is of no use after it.
func (s *Server) formToken(browser, session string) string {
	sum := sha256.Sum256([]byte("form\x00" + browser + "\x00" + session))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// guarded lets through forms of our own pages only.
func (s *Server) guarded(h handler) handler {
	var crossOrigin http.CrossOriginProtection
	return func(w http.ResponseWriter, r *http.Request) error {
		if err := r.ParseForm(); err != nil {
			return err
		}
		browser := s.cookie(r, "browser")
		want := s.formToken(browser, s.cookie(r, "session"))
		if browser == "" || subtle.ConstantTimeCompare([]byte(want), []byte(r.PostForm.Get("token"))) != 1 || s.foreign(&crossOrigin, r) {
			return &problem{http.StatusForbidden, "This form is out of date",
				"Open the page again and repeat what you did. If it stays like this, allow cookies for this site."}
		}
		return h(w, r)
	}
}

// foreign says whether the browser itself tells that another site sent the form. Behind a proxy the host that we see
// may not be the public one, so Origin is held against the latter.
func (s *Server) foreign(c *http.CrossOriginProtection, r *http.Request) bool {
	if origin := r.Header.Get("Origin"); origin != "" {
		return origin != s.urls.origin && c.Check(r) != nil
	}
	return c.Check(r) != nil
}

// signIn starts a session for an account and gives the browser its cookie. A session that the browser had before ends.
func (s *Server) signIn(w http.ResponseWriter, r *http.Request, account *identity.Account, methods ...string) error {
	value, err := s.startSession(r.Context(), s.cookie(r, "session"), account, methods)
	if err == nil {
		s.setCookie(w, "session", value, s.limits.SessionLife)
	}
	return err
}

// startSession ends the session that the cookie old stands for, if any, starts one, and returns its cookie.
func (s *Server) startSession(ctx context.Context, old string, account *identity.Account, methods []string) (value string, err error) {
	value = randomSecret()
	now := s.now()
	return value, s.noted(ctx, &Event{Principal: s.self(account), Action: ActLogin, Detail: strings.Join(methods, " ")}, func(ctx context.Context) error {
		if old != "" {
			if err := s.store.EndSession(ctx, identity.Hash(old)); err != nil {
				return err
			}
		}
		if err := s.store.AddSession(ctx, &identity.Session{
			ID: identity.Hash(value), Account: account.ID, Methods: methods, Created: now, Expires: now.Add(s.limits.SessionLife),
		}); err != nil {
			return err
		}
		return s.store.LoginSucceeded(ctx, nameSubject(account.Username))
	})
}

func nameSubject(username string) string { return "name:" + strings.ToLower(username) }

// addressSubject is "" for this machine: there a proxy stands for everybody.
func addressSubject(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if ip := net.ParseIP(host); err != nil || ip == nil || ip.IsLoopback() {
		return ""
	}
	return "address:" + host
}

// limited is something that is counted within the window of failed sign-ins, and how often it may be.
type limited struct {
	subject string
	limit   int
}

// counted counts one more of each, and says whether one was at its limit already. It is asked before what it stands for is
// done, and looks again after it has counted: of many requests at the same time no more go on than one after the other.
func (s *Server) counted(ctx context.Context, of ...limited) (beyond bool, err error) {
	since := s.now().Add(-s.limits.LoginWindow)
	full := func(mine int) (bool, error) {
		for _, l := range of {
			if n, err := s.store.FailedLogins(ctx, l.subject, since); err != nil || n-mine >= l.limit {
				return true, err
			}
		}
		return false, nil
	}
	if beyond, err = full(0); beyond {
		return true, err
	}
	subjects := make([]string, len(of))
	for i, l := range of {
		subjects[i] = l.subject
	}
	if err := s.store.LoginFailed(ctx, subjects...); err != nil {
		return true, err
	}
	return full(1)
}

// attempts are what a try to sign in counts for: the name and the address.
func (s *Server) attempts(r *http.Request, username string) []limited {
	list := []limited{{nameSubject(username), s.limits.LoginAttempts}}
	if address := addressSubject(r); address != "" {
		list = append(list, limited{address, 10 * s.limits.LoginAttempts})
	}
	return list
}

// attempt counts a try to sign in as failed, before the password or code is looked at; locked says that too many have failed,
// of this name or from this address, and that nothing may be looked at. Who turns out to be right takes it back (fitted).
func (s *Server) attempt(r *http.Request, username string) (locked bool, err error) {
	return s.counted(r.Context(), s.attempts(r, username)...)
}

// fitted takes an attempt back.
func (s *Server) fitted(r *http.Request, username string) error {
	for _, l := range s.attempts(r, username) {
		if err := s.store.TakeBackFailure(r.Context(), l.subject); err != nil {
			return err
		}
	}
	return nil
}

// SignedIn is who is signed in at the browser that sends a request, for pages outside of this package: somebody who sees
// there what their roles let them see of what such pages show. ok is false for nobody.
func (s *Server) SignedIn(r *http.Request) (p auth.Principal, ok bool) {
	v := s.visitorOf(r)
	if v == nil {
		return auth.Principal{}, false
	}
	p = s.self(v.account)
	p.Scopes, _ = auth.ParseScopes("user/Patient.rs user/Practitioner.rs user/RelatedPerson.rs user/Appointment.rs user/DiagnosticReport.rs user/Subscription.rs")
	return p, true
}

// SignInPage is where a browser signs in to go on to one of our own pages, by its name.
func (s *Server) SignInPage(to string) string {
	return pathLogin + "?to=" + url.QueryEscape(to)
}
