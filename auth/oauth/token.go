package oauth

import (
	"context"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ory/fosite"

	"kiln/auth"
	"kiln/storage/identity"
)

const (
	grantCode    = "authorization_code"
	grantRefresh = "refresh_token"
	grantClient  = "client_credentials"
)

// GrantTypes are the grants on offer.
func GrantTypes() []string { return []string{grantCode, grantRefresh, grantClient} }

// postForm reads the body of a POST to an endpoint. Parameters in the URL count for nothing, and one that is repeated is
// refused (RFC 6749 section 3.2).
func postForm(r *http.Request) (url.Values, error) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/x-www-form-urlencoded" {
		return nil, fosite.ErrInvalidRequest.WithHint("The body must be application/x-www-form-urlencoded.")
	}
	if err := r.ParseForm(); err != nil {
		if strings.Contains(err.Error(), "request body too large") {
			return nil, &http.MaxBytesError{Limit: maxForm}
		}
		return nil, fosite.ErrInvalidRequest.WithHint("The form cannot be read.")
	}
	if name := repeated(r.PostForm); name != "" {
		return nil, fosite.ErrInvalidRequest.WithHintf("The parameter %.40s was sent more than once.", name)
	}
	return r.PostForm, nil
}

func repeated(form url.Values) string {
	for name, values := range form {
		if len(values) > 1 {
			return name
		}
	}
	return ""
}

// token is the token endpoint.
func (s *Server) token(w http.ResponseWriter, r *http.Request) error {
	form, err := postForm(r)
	if err != nil {
		return err
	}
	// Before the client is looked at: an unknown grant type is 400 whoever asks.
	switch form.Get("grant_type") {
	case grantCode, grantRefresh, grantClient:
	case "":
		return fosite.ErrInvalidRequest.WithHint("The parameter grant_type is missing.")
	default:
		return fosite.ErrUnsupportedGrantType.WithHint("The grant types are authorization_code, refresh_token and client_credentials.")
	}
	ctx := r.Context()
	fresh := newSession(s.options.Now)
	request, err := s.provider.NewAccessRequest(ctx, r, fresh)
	if err != nil {
		if form.Get("grant_type") == grantCode {
			s.revokeRaced(ctx, request, err)
		}
		if fault := s.noteUnfit(ctx, form.Get("grant_type"), err, request); fault != nil {
			return fault
		}
		return err
	}
	c := request.GetClient().(*client)
	switch form.Get("grant_type") {
	case grantClient:
		err = s.grantBackend(c, request)
	case grantRefresh:
		err = s.narrowRefresh(form, request)
	}
	if err != nil {
		return err
	}
	granted := request.GetSession().(*session)
	holder := auth.Principal{Client: c.ID, Name: c.Name}
	if granted.account != "" {
		about := &granted.context
		holder.User, holder.Name, holder.FHIRUser, holder.Roles, holder.Patient = granted.account, about.Username, about.FHIRUser, roles(about.Roles), about.Patient
		holder.Represents = about.Represents
	}
	var response fosite.AccessResponder
	event := Event{Principal: holder, Action: ActToken, Detail: form.Get("grant_type"), Patient: granted.context.Patient}
	if err := s.noted(ctx, &event, func(ctx context.Context) (err error) {
		response, err = s.provider.NewAccessResponse(ctx, request)
		if errors.Is(err, fosite.ErrNotFound) { // the grant was revoked since the request was looked at
			err = fosite.ErrInvalidGrant.WithWrap(err).WithHint("It was revoked or used by another request at the same time.")
		}
		return err
	}); err != nil {
		if form.Get("grant_type") == grantCode {
			s.revokeRaced(ctx, request, err)
		}
		return err
	}
	for name, value := range granted.context.launch(s.urls.style) {
		response.SetExtra(name, value)
	}
	response.SetTokenType("Bearer")
	response.SetExpiresIn(granted.GetExpiresAt(fosite.AccessToken).Sub(s.now()).Round(time.Second))
	return writeJSON(w, http.StatusOK, noStore, response.ToMap())
}

// grantBackend decides what a backend system gets: system scopes that it is registered for, to those that sign only.
func (s *Server) grantBackend(c *client, request fosite.AccessRequester) error {
	if c.AuthMethod != identity.AuthPrivateKey {
		return fosite.ErrUnauthorizedClient.WithHint("client_credentials is for clients that authenticate with private_key_jwt.")
	}
	if !c.May(grantClient) {
		return fosite.ErrUnauthorizedClient.WithHint("The client is not registered for client_credentials.")
	}
	granted := s.registeredScopes(c).Grant(s.usable(strings.Join(request.GetRequestedScopes(), " "), auth.LevelSystem))
	if len(granted) == 0 {
		return fosite.ErrInvalidScope.WithHint("None of the scopes asked for is a system scope that this client is registered for.")
	}
	for _, scope := range granted {
		request.GrantScope(scope.Text)
	}
	return nil
}

// narrowRefresh lets a refresh ask for less than was granted (RFC 6749 section 6), for the new access token alone.
func (s *Server) narrowRefresh(form url.Values, request fosite.AccessRequester) error {
	if !form.Has("scope") {
		return nil
	}
	granted := request.GetGrantedScopes()
	asked := splitScopes(form.Get("scope"))
	for _, scope := range asked {
		if !granted.Has(scope) {
			return fosite.ErrInvalidScope.WithHint("A refresh cannot ask for a scope that was not granted.")
		}
	}
	if len(asked) == 0 {
		return fosite.ErrInvalidScope.WithHint("The parameter scope is empty.")
	}
	access, ok := request.(*fosite.AccessRequest)
	if !ok {
		return fosite.ErrServerError.WithDebug("not an AccessRequest")
	}
	access.GrantedScope = nil
	for _, scope := range asked {
		access.GrantScope(scope)
	}
	access.GetSession().(*session).claim(s.urls.fhir, asked)
	return nil
}

// revokeRaced revokes a code that its client showed in vain. Where two exchanges ran at the same time one of them was not
// the app; and the challenge of a code that was shown with a wrong verifier is gone, so no other exchange can end well.
func (s *Server) revokeRaced(ctx context.Context, request fosite.AccessRequester, err error) {
	if e, _ := tell(err); e.Code != "invalid_grant" || request == nil || request.GetClient() == nil {
		return
	}
	code := identity.Hash(request.GetRequestForm().Get("code"))
	_, grant, err := s.store.Token(ctx, identity.Code, code)
	if err != nil || grant.Client != request.GetClient().GetID() { // none of another client's business
		return
	}
	if err := s.store.Revoke(ctx, grant.ID); err != nil {
		s.log.Error("oauth: revoke a code that was taken twice", "error", err)
	}
}

// noteUnfit records that a code or refresh token was refused, and why: one that is used a second time ends its grant.
func (s *Server) noteUnfit(ctx context.Context, kind string, err error, request fosite.AccessRequester) error {
	if kind == grantClient || request == nil || request.GetClient() == nil {
		return nil
	}
	e, _ := tell(err)
	if e.Code != "invalid_grant" {
		return nil
	}
	return s.note(ctx, Event{Principal: auth.Principal{Client: request.GetClient().GetID()}, Action: ActUnfit, Refused: true, Detail: kind + ": " + e.Description})
}
