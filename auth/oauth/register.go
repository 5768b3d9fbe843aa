package oauth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/ory/fosite"

	"kiln/auth"
	"kiln/storage/identity"
)

// Registration says who may register a client by itself (RFC 7591).
type Registration struct {
	Mode RegistrationMode
	// Token is the initial access token for RegistrationToken.
	Token string
	// System are the system scopes that its holders may register backend systems for; none: they register no backend systems.
	System auth.Scopes
}

// RegistrationMode is who may register clients.
type RegistrationMode string

// The modes. Who holds the initial access token was looked at by somebody, and not what they ask for: system scopes reach everybody's record, so
// the operator says beforehand which of them there are to have.
const (
	RegistrationOff   RegistrationMode = ""
	RegistrationToken RegistrationMode = "token"
	RegistrationOpen  RegistrationMode = "open"
)

const (
	registeredDynamically = "dynamic"
	// registrationsPerWindow is how many clients one address may register within the window of failed sign-ins.
	registrationsPerWindow = 20
	maxRedirectURIs        = 20
	// defaultScope is what a client gets that does not say what it wants to ask for.
	defaultScope = "openid fhirUser launch launch/patient offline_access patient/*.rs"
)

// clientMetadata is what a registration says about a client (RFC 7591 section 2).
type clientMetadata struct {
	RedirectURIs  []string        `json:"redirect_uris,omitempty"`
	AuthMethod    string          `json:"token_endpoint_auth_method,omitempty"`
	GrantTypes    []string        `json:"grant_types,omitempty"`
	ResponseTypes []string        `json:"response_types,omitempty"`
	Name          string          `json:"client_name,omitempty"`
	URI           string          `json:"client_uri,omitempty"`
	LogoURI       string          `json:"logo_uri,omitempty"`
	PolicyURI     string          `json:"policy_uri,omitempty"`
	TermsURI      string          `json:"tos_uri,omitempty"`
	LaunchURI     string          `json:"initiate_login_uri,omitempty"`
	Contacts      []string        `json:"contacts,omitempty"`
	Scope         string          `json:"scope,omitempty"`
	JWKS          json.RawMessage `json:"jwks,omitempty"`
	JWKSURI       string          `json:"jwks_uri,omitempty"`
	SoftwareID    string          `json:"software_id,omitempty"`
	SoftwareVer   string          `json:"software_version,omitempty"`
}

func badMetadata(text string) error {
	return &registrationError{"invalid_client_metadata", text}
}

func badRedirect(text string) error { return &registrationError{"invalid_redirect_uri", text} }

// registrationError is an error of RFC 7591 section 3.2.2, which fosite does not know.
type registrationError struct{ code, text string }

func (e *registrationError) Error() string { return e.code + ": " + e.text }

// register makes a client, or has the audit log tell why it does not.
func (s *Server) register(w http.ResponseWriter, r *http.Request) error {
	err := s.makeClient(w, r)
	if err == nil {
		return nil
	}
	if reason := reasonOf(err); reason != "" {
		event := Event{Principal: auth.Principal{Name: "an app that wants to register"}, Action: ActRegister, Refused: true, Detail: reason}
		if fault := s.note(r.Context(), event); fault != nil {
			return fault
		}
	}
	return err
}

// makeClient makes a client. Nobody but the operator decides who may do that, and a stranger gets no system scopes.
func (s *Server) makeClient(w http.ResponseWriter, r *http.Request) error {
	if err := s.mayRegister(r); err != nil {
		return err
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return badMetadata("The body must be application/json.")
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	m, err := s.readMetadata(body)
	if err != nil {
		return err
	}
	c, err := s.clientOf(m)
	if err != nil {
		return err
	}
	answer := map[string]any{}
	secret := ""
	if c.AuthMethod == identity.AuthSecret {
		secret = randomSecret()
		c.Secret = identity.Hash(secret)
		answer["client_secret"], answer["client_secret_expires_at"] = secret, 0
	}
	if c.Metadata, err = json.Marshal(m); err != nil {
		return err
	}
	event := Event{Principal: auth.Principal{Client: c.ID, Name: c.Name}, Action: ActRegister, Detail: c.ID}
	if err := s.noted(r.Context(), &event, func(ctx context.Context) error { return s.store.AddClient(ctx, c) }); err != nil {
		return err
	}
	if err := json.Unmarshal(c.Metadata, &answer); err != nil {
		return err
	}
	answer["client_id"], answer["client_id_issued_at"] = c.ID, c.Created.Unix()
	return writeJSON(w, http.StatusCreated, noStore, answer)
}

func (s *Server) mayRegister(r *http.Request) error {
	if s.options.Registration.Mode == RegistrationToken {
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if token == "" {
			return errNoToken
		}
		if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare([]byte(token), []byte(s.options.Registration.Token)) != 1 {
			return errInvalidToken
		}
		return nil
	}
	address := addressSubject(r)
	if address == "" {
		return nil
	}
	beyond, err := s.counted(r.Context(), limited{"register:" + address, registrationsPerWindow})
	if err == nil && beyond {
		err = fosite.ErrTemporarilyUnavailable.WithHint("Too many clients were registered from this address; try again later.")
	}
	return err
}

// clientOf checks metadata and makes the client; m becomes what was registered.
func (s *Server) clientOf(m *clientMetadata) (*identity.Client, error) {
	backends := s.options.Registration.Mode == RegistrationToken && len(s.options.Registration.System) > 0
	if len(m.GrantTypes) == 0 {
		m.GrantTypes = []string{grantCode}
	}
	for _, grant := range m.GrantTypes {
		if !slices.Contains(GrantTypes(), grant) || grant == grantClient && !backends {
			return nil, badMetadata("A grant type is not on offer for clients that register themselves.")
		}
	}
	byCode := slices.Contains(m.GrantTypes, grantCode)
	m.ResponseTypes = nil
	if byCode {
		m.ResponseTypes = []string{"code"}
	}
	if len(m.Name) > 100 || strings.ContainsFunc(m.Name, func(r rune) bool { return r < ' ' }) {
		return nil, badMetadata("client_name has 100 characters at most.")
	}
	if byCode && len(m.RedirectURIs) == 0 || len(m.RedirectURIs) > maxRedirectURIs {
		return nil, badRedirect("1 to 20 redirect_uris are needed.")
	}
	for _, uri := range m.RedirectURIs {
		if err := CheckRedirectURI(uri); err != nil {
			return nil, badRedirect(err.Error() + ".")
		}
	}
	for _, uri := range []string{m.URI, m.LogoURI, m.PolicyURI, m.TermsURI, m.LaunchURI} {
		if u, err := url.Parse(uri); uri != "" && (err != nil || u.Scheme != "https" && !(u.Scheme == "http" && fosite.IsLocalhost(u)) || u.Host == "") {
			return nil, badMetadata("A URI of the metadata is not an https URL.")
		}
	}
	c := &identity.Client{
		ID: "app-" + strings.ToLower(rand.Text()[:20]), Name: m.Name, RedirectURIs: m.RedirectURIs,
		LaunchURI: m.LaunchURI, GrantTypes: m.GrantTypes, RegisteredBy: registeredDynamically,
	}
	if c.Name == "" {
		c.Name = c.ID
	}
	if err := credentialOf(m, c); err != nil {
		return nil, err
	}
	if c.May(grantClient) && c.AuthMethod != identity.AuthPrivateKey {
		return nil, badMetadata("client_credentials is for clients that authenticate with private_key_jwt.")
	}
	if m.Scope == "" {
		m.Scope = defaultScope
	}
	scopes := s.usable(m.Scope, auth.LevelNone, auth.LevelPatient, auth.LevelUser)
	if c.May(grantClient) {
		scopes = append(scopes, s.options.Registration.System.Grant(s.usable(m.Scope, auth.LevelSystem))...)
	}
	if c.Scope = scopes.String(); c.Scope == "" {
		return nil, badMetadata("None of the scopes can be granted to this client.")
	}
	m.Scope = c.Scope
	return c, nil
}

// credentialOf settles how the client will authenticate.
func credentialOf(m *clientMetadata, c *identity.Client) error {
	if m.AuthMethod == "" {
		m.AuthMethod = "client_secret_basic"
	}
	switch m.AuthMethod {
	case "none":
		c.AuthMethod = identity.AuthNone
	case "client_secret_basic", "client_secret_post":
		c.AuthMethod = identity.AuthSecret
	case "private_key_jwt":
		c.AuthMethod = identity.AuthPrivateKey
		if (len(m.JWKS) == 0) == (m.JWKSURI == "") {
			return badMetadata("private_key_jwt needs jwks or jwks_uri, one of them.")
		}
		if len(m.JWKS) > 0 {
			if _, err := ParseJWKS(m.JWKS); err != nil {
				return badMetadata("jwks: " + err.Error() + ".")
			}
		} else if u, err := url.Parse(m.JWKSURI); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
			return badMetadata("jwks_uri is an https URL.")
		}
		c.JWKS, c.JWKSURI = m.JWKS, m.JWKSURI
		return nil
	default:
		return badMetadata("The token_endpoint_auth_method is not on offer.")
	}
	if len(m.JWKS) > 0 || m.JWKSURI != "" {
		return badMetadata("Keys are for private_key_jwt.")
	}
	return nil
}
