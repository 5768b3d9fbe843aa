package oauth

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/ory/fosite"

	"kiln/storage/identity"
)

// authorize takes an authorization request, by GET or POST, and keeps it until the user has decided. It looks at no
// cookie: a request from another site's page carries none.
//
// Where it is not certain that a request comes from a registered app (unknown client or redirect_uri), the answer is a
// page and never a redirect.
func (s *Server) authorize(w http.ResponseWriter, r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return s.refuseAuthorize(w, r, nil, bad("This request cannot be read", "The app that sent you here made a mistake."))
	}
	request, err := s.readAuthorize(r, r.Form)
	if err != nil {
		return s.refuseAuthorize(w, r, request, err)
	}
	form, err := json.Marshal(r.Form)
	if err != nil {
		return err
	}
	handle, now := randomSecret(), s.now()
	if err := s.store.AddRequest(r.Context(), &identity.Request{
		ID: identity.Hash(handle), Form: form, Created: now, Expires: now.Add(requestLife),
	}); err != nil {
		return err
	}
	return redirect(w, pathContinue+"?request="+handle)
}

// readAuthorize checks a request. Beside an error it returns the request if that may be told to the app.
func (s *Server) readAuthorize(r *http.Request, form url.Values) (*fosite.AuthorizeRequest, error) {
	for _, name := range []string{"client_id", "redirect_uri"} {
		if len(form[name]) != 1 || form.Get(name) == "" {
			return nil, bad("This request is not complete", "The app that sent you here did not say "+name+", or said it twice.")
		}
	}
	c, err := s.store.Client(r.Context(), form.Get("client_id"))
	if errors.Is(err, identity.ErrNotFound) {
		return nil, bad("This app is not known here", "Nobody has registered it with this server.")
	}
	if err != nil {
		return nil, err
	}
	// As an exact string: fosite would let the port of a loopback address differ.
	if !slices.Contains(c.RedirectURIs, form.Get("redirect_uri")) {
		return nil, bad("This app wants to be answered at an unknown address", "The redirect_uri is not one that the app is registered with.")
	}
	asked := *r
	asked.Form, asked.PostForm = form, url.Values{}
	parsed, err := s.provider.NewAuthorizeRequest(r.Context(), &asked)
	request, ok := parsed.(*fosite.AuthorizeRequest)
	if !ok {
		return nil, fosite.ErrServerError.WithDebug("not an AuthorizeRequest")
	}
	if request.RedirectURI == nil {
		if request.RedirectURI, _ = url.Parse(form.Get("redirect_uri")); request.RedirectURI == nil {
			return nil, err
		}
	}
	if err == nil {
		err = s.checkAuthorize(request, form, &client{c})
	}
	return request, err
}

// checkAuthorize is what SMART asks for beyond OAuth.
func (s *Server) checkAuthorize(request *fosite.AuthorizeRequest, form url.Values, c *client) error {
	if name := repeated(form); name != "" {
		return fosite.ErrInvalidRequest.WithHintf("The parameter %.40s was sent more than once.", name)
	}
	for name, values := range form { // of which state comes back to the letter
		if text := name + values[0]; !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
			return fosite.ErrInvalidRequest.WithHint("A parameter has a character that is no text.")
		}
	}
	for _, name := range []string{"request", "request_uri"} {
		if form.Has(name) {
			return fosite.ErrRequestNotSupported.WithHint("Request objects are not supported.")
		}
	}
	if !c.May(grantCode) {
		return fosite.ErrUnauthorizedClient.WithHint("The client is not registered for authorization_code.")
	}
	if aud := strings.TrimSuffix(form.Get("aud"), "/"); aud == "" && onlySignIn(form.Get("scope")) {
		// OpenID Connect by itself knows no aud, and the token will open nothing of the FHIR server.
	} else if aud == "" {
		return fosite.ErrInvalidRequest.WithHint("The parameter aud is missing: it names the FHIR server that the token is for.")
	} else if aud != s.urls.fhir {
		return fosite.ErrInvalidRequest.WithHint("The aud is not this server, which is " + s.urls.fhir + ".")
	}
	if form.Get("code_challenge_method") != "S256" {
		return fosite.ErrInvalidRequest.WithHint("PKCE is needed: code_challenge_method must be S256.")
	}
	if challenge, err := base64.RawURLEncoding.DecodeString(form.Get("code_challenge")); err != nil || len(challenge) != 32 {
		return fosite.ErrInvalidRequest.WithHint("The code_challenge is not the base64url-encoded SHA-256 of a verifier.")
	}
	if nonce := form.Get("nonce"); nonce != "" && len(nonce) < fosite.MinParameterEntropy {
		return fosite.ErrInvalidRequest.WithHint("The nonce is too short.")
	}
	prompts := strings.Fields(form.Get("prompt"))
	for _, prompt := range prompts {
		switch prompt {
		case "none":
			return fosite.ErrInteractionRequired.WithHint("The user is always asked here: prompt=none cannot succeed.")
		case "login", "consent", "select_account":
		default:
			return fosite.ErrInvalidRequest.WithHint("The prompt is not known.")
		}
	}
	if age := form.Get("max_age"); age != "" {
		if n, err := strconv.Atoi(age); err != nil || n < 0 {
			return fosite.ErrInvalidRequest.WithHint("The max_age is not a number of seconds.")
		}
	}
	if len(s.askable(c, form.Get("scope"), form.Get("launch") != "")) == 0 {
		return fosite.ErrInvalidScope.WithHint("None of the scopes can be granted to this client.")
	}
	return nil
}

// refuseAuthorize tells the app what was wrong, or the user where the app is not certain; and the audit log, which keeps
// nothing of what the request said but the client, where that is a registered one.
func (s *Server) refuseAuthorize(w http.ResponseWriter, r *http.Request, request *fosite.AuthorizeRequest, err error) error {
	if reason := reasonOf(err); reason != "" {
		named, fault := s.named(r.Context(), r.Form.Get("client_id"))
		if fault == nil {
			fault = s.note(r.Context(), Event{Principal: named, Action: ActAuthorize, Refused: true, Detail: reason})
		}
		if fault != nil {
			return fault
		}
	}
	if request == nil || request.RedirectURI == nil {
		return err
	}
	e, fault := tell(err)
	if fault {
		return err
	}
	return backToApp(w, request.RedirectURI.String(), request.Form.Get("state"), url.Values{"error": {e.Code}, "error_description": {e.Description}})
}

// secureRedirect says whether a code may be sent to a URI: over https, to this machine, or to an app on the device
// through a scheme of its own (RFC 8252 section 7.1 wants one with a dot).
func secureRedirect(u *url.URL) bool {
	switch u.Scheme {
	case "https":
		return u.Host != ""
	case "http":
		return fosite.IsLocalhost(u)
	case "":
		return false
	}
	return strings.Contains(u.Scheme, ".")
}

// CheckRedirectURI says what is wrong with a redirect URI that somebody wants to register; nil for nothing.
func CheckRedirectURI(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || !u.IsAbs() || strings.ContainsAny(text, " \t\r\n\\"):
		return errors.New("a redirect URI is an absolute URL")
	case strings.Contains(text, "#"):
		return errors.New("a redirect URI has no fragment")
	case u.User != nil:
		return errors.New("a redirect URI has no user")
	case !secureRedirect(u):
		return errors.New("a redirect URI begins with https://, with http://localhost, or with a scheme of the app's own, such as org.example.app:/callback")
	}
	return nil
}

// loginNeeded says whether the user must sign in anew for a request that asks for it (OpenID Connect Core 3.1.2.1).
func (s *Server) loginNeeded(form url.Values, asked time.Time, login *identity.Session) bool {
	for _, prompt := range strings.Fields(form.Get("prompt")) {
		if (prompt == "login" || prompt == "select_account") && login.Created.Before(asked) {
			return true
		}
	}
	if age, err := strconv.Atoi(form.Get("max_age")); err == nil && login.Created.Add(time.Duration(min(age, 1<<30))*time.Second).Before(asked) {
		return true
	}
	return false
}
