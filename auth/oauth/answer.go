package oauth

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"github.com/ory/fosite"

	"kiln/fhir"
	"kiln/storage/identity"
)

// This file writes every answer of the package: JSON of the endpoints, redirects, pages, and what became of errors.

// handler answers one request, or returns why it cannot.
type handler func(http.ResponseWriter, *http.Request) error

// endpoint makes a handler for programs: its errors become those of RFC 6749 section 5.2.
func (s *Server) endpoint(h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		if err := h(w, r); err != nil {
			if fault := s.noteClient(r, err); fault != nil {
				err = fault
			}
			s.writeError(w, r, err)
		}
	}
}

// page makes a handler for people: its errors become pages.
func (s *Server) page(h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		if err := h(w, r); err != nil {
			s.writeErrorPage(w, r, err)
		}
	}
}

// writeJSON answers a program. Nothing that is said here may be kept by a cache, the keys and documents apart.
func writeJSON(w http.ResponseWriter, status int, cache string, content any) error {
	body, err := json.Marshal(content)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", cache)
	if cache == noStore {
		h.Set("Pragma", "no-cache")
	}
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client is gone; nobody is left to tell
	return nil
}

const (
	noStore   = "no-store"
	shortTime = "public, max-age=60"
)

// oauthError is an error as RFC 6749 section 5.2 tells it.
type oauthError struct {
	Code        string `json:"error"`
	Description string `json:"error_description,omitempty"`
	status      int
}

// tell says what a client is told of an error, and whether it is a fault of ours.
func tell(err error) (e oauthError, fault bool) {
	var too *http.MaxBytesError
	var bearer *bearerError
	var registration *registrationError
	var silent *unnoted
	switch {
	case errors.As(err, &registration):
		return oauthError{registration.code, registration.text, http.StatusBadRequest}, false
	case errors.As(err, &too):
		return oauthError{"invalid_request", "The request is too large.", http.StatusRequestEntityTooLarge}, false
	case errors.As(err, &silent):
		return oauthError{"temporarily_unavailable", "The audit log cannot be written now, and nothing is done here that it does not tell of.", http.StatusServiceUnavailable}, false
	case errors.As(err, &bearer):
		return oauthError{bearer.code, bearer.text, bearer.status}, false
	case errors.Is(err, fosite.ErrSerializationFailure), errors.Is(err, fosite.ErrInvalidatedAuthorizeCode):
		return oauthError{"invalid_grant", "It was used by another request at the same time.", http.StatusBadRequest}, false
	case errors.Is(err, fosite.ErrInvalidState): // whose code invalid_state is none of RFC 6749's
		return oauthError{"invalid_request", "The parameter state is missing, or shorter than 8 characters.", http.StatusBadRequest}, false
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return oauthError{"temporarily_unavailable", "The request was given up before it was done.", http.StatusServiceUnavailable}, false
	}
	var known *fosite.RFC6749Error
	if !errors.As(err, &known) || known.CodeField >= 500 && known.CodeField != http.StatusServiceUnavailable {
		return oauthError{"server_error", "", http.StatusInternalServerError}, true
	}
	return oauthError{known.ErrorField, describe(known), known.CodeField}, false
}

// describe gives the sentence that helps, without quotes and backslashes, which error_description may not have.
func describe(e *fosite.RFC6749Error) string {
	text := e.HintField
	if text == "" {
		text = e.DescriptionField
	}
	return strings.Map(func(r rune) rune {
		if r == '"' || r == '\\' || r < 0x20 || r > 0x7e {
			return '\''
		}
		return r
	}, text)
}

func (s *Server) writeError(w http.ResponseWriter, r *http.Request, err error) {
	e, fault := tell(err)
	if fault {
		e.Description = "Something went wrong on our side; tell support the id " + s.logFault(r, err) + "."
	}
	var bearer *bearerError
	var silent *unnoted
	switch {
	case errors.As(err, &silent):
		s.logFault(r, err)
	case errors.As(err, &bearer):
		w.Header().Set("WWW-Authenticate", bearer.challenge(s.urls.fhir))
	case e.status == http.StatusUnauthorized && r.Header.Get("Authorization") != "":
		w.Header().Set("WWW-Authenticate", `Basic realm="`+s.urls.origin+`"`)
	}
	_ = writeJSON(w, e.status, noStore, e)
}

// logFault logs a fault of ours under an id that the client is told too. Errors of fosite are unwrapped to their cause.
func (s *Server) logFault(r *http.Request, err error) string {
	id := "e" + strings.ToLower(rand.Text()[:11])
	var chain []string
	for e := err; e != nil && len(chain) < 10; e = errors.Unwrap(e) {
		chain = append(chain, fmt.Sprintf("%T: %s", e, e.Error()))
	}
	s.log.LogAttrs(r.Context(), slog.LevelError, "internal error", slog.String("error_id", id),
		slog.String("request_id", w3cID(r)), slog.Any("causes", chain))
	return id
}

func w3cID(r *http.Request) string { return r.Header.Get("X-Request-Id") }

// problem is an error that a person is told on a page.
type problem struct {
	status      int
	title, text string
}

func (p *problem) Error() string { return p.title + ": " + p.text }

func bad(title, text string) error { return &problem{http.StatusBadRequest, title, text} }

func (s *Server) writeErrorPage(w http.ResponseWriter, r *http.Request, err error) {
	var p *problem
	var too *http.MaxBytesError
	var silent *unnoted
	switch {
	case errors.As(err, &silent):
		p = &problem{http.StatusServiceUnavailable, "That is not possible now", "What is done here is noted in the audit log, and that cannot be written. Nothing was changed. Tell support the id " + s.logFault(r, err) + "."}
	case errors.As(err, &p):
	case errors.As(err, &too):
		p = &problem{http.StatusRequestEntityTooLarge, "That is too much", "The form is larger than this page takes."}
	case errors.Is(err, identity.ErrNotFound), errors.Is(err, identity.ErrUsed):
		p = &problem{http.StatusBadRequest, "This page has expired", "Go back to the app and start again."}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		p = &problem{http.StatusServiceUnavailable, "That took too long", "The request was given up before it was done. Try again."}
	case fhir.KindOf(err) == fhir.Transient: // of the records: what they are asked for is noted too
		p = &problem{http.StatusServiceUnavailable, "That is not possible now", "Try again in a while. If it stays like this, tell support the id " + s.logFault(r, err) + "."}
	default:
		p = &problem{http.StatusInternalServerError, "Something went wrong",
			"It is a fault of ours. Tell support the id " + s.logFault(r, err) + "."}
	}
	view := s.view(r, "problem")
	view.Title, view.Text = p.title, p.text
	if err := s.write(w, p.status, view); err != nil {
		http.Error(w, "Something went wrong", http.StatusInternalServerError)
	}
}

// redirect sends the browser on. 303 makes it use GET, so that no form is sent again elsewhere.
func redirect(w http.ResponseWriter, to string) error {
	w.Header().Set("Cache-Control", noStore)
	w.Header().Set("Referrer-Policy", "same-origin")
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusSeeOther)
	return nil
}

// backToApp sends the browser to the app with the outcome of its request in the query.
func backToApp(w http.ResponseWriter, redirectURI, state string, outcome url.Values) error {
	to, err := url.Parse(redirectURI)
	if err != nil {
		return err
	}
	query := to.Query()
	for name, values := range outcome {
		query[name] = values
	}
	if state != "" {
		query.Set("state", state)
	}
	to.RawQuery = query.Encode()
	return redirect(w, to.String())
}

// write renders a page. Its policy lets it load the one stylesheet, send forms to us, and nothing else; sending a form
// may end at the app of the request, so that one is named too.
func (s *Server) write(w http.ResponseWriter, status int, v *view) error {
	var body bytes.Buffer
	if err := s.views.render(&body, v); err != nil {
		return err
	}
	policy := "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'" + v.formAction +
		"; frame-ancestors 'none'; base-uri 'none'"
	if v.Script != "" {
		policy += "; script-src 'self'; connect-src 'self'"
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", noStore)
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin") // no-referrer would make browsers send Origin: null with our own forms
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes()) // the browser is gone; nobody is left to tell
	return nil
}

// formActionOf is what a page's policy says so that the browser follows the redirect of a form to an app. Browsers hold it
// against every further redirect too, and an app may well go on to another host: so it names the scheme, not the host.
func formActionOf(uri string) string {
	u, err := url.Parse(uri)
	if err != nil || u.Scheme == "" {
		return ""
	}
	if u.Scheme == "http" {
		return " http: https:"
	}
	return " " + u.Scheme + ":"
}

// style serves the stylesheet of the pages.
func (s *Server) style(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	w.Header().Set("Cache-Control", "public, max-age=300")
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(styleSheet)
	return nil
}
