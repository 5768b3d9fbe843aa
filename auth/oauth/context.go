package oauth

import (
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"github.com/ory/fosite"
	"github.com/ory/fosite/token/jwt"

	"kiln/auth"
	"kiln/storage/identity"
)

// Context is what was settled when a grant was made, and holds for as long as it lives: who granted it, and which
// patient it is about. It is kept as JSON beside the grant.
type Context struct {
	// Patient and Encounter are ids: the launch context.
	Patient   string `json:"patient,omitempty"`
	Encounter string `json:"encounter,omitempty"`
	// Appointment is the id of the appointment that an app was launched from; the app is told of it in fhirContext.
	Appointment string `json:"appointment,omitempty"`
	// EHR says that Kiln launched the app, which is then told about banner and style.
	EHR bool `json:"ehr,omitempty"`
	// FHIRUser is the resource that the account stands for, such as Practitioner/7, Linked all of them.
	FHIRUser string `json:"fhirUser,omitempty"`
	// Represents is the id of the patient whom FHIRUser, a RelatedPerson, acts for; "" for none.
	Represents string `json:"represents,omitempty"`
	// Others are the further records that the user may open, where no patient was asked for.
	Others   []auth.Record `json:"others,omitempty"`
	Linked   []string      `json:"linked,omitempty"`
	Username string        `json:"username,omitempty"`
	Roles    []string      `json:"roles,omitempty"`
	// AuthTime and Methods say when and how the person signed in.
	AuthTime time.Time `json:"authTime,omitzero"`
	Methods  []string  `json:"methods,omitempty"`
}

// launch is what an app is told of its launch, in token responses and by introspection alike. style is where the style is.
// Spec: SMART App Launch 2.2, scopes-and-launch-context.html#launch-context-arrives-with-your-access_token and
// token-introspection.html#conditional-fields-in-the-introspection-response.
func (c *Context) launch(style string) map[string]any {
	told := map[string]any{}
	for name, value := range map[string]string{"patient": c.Patient, "encounter": c.Encounter} {
		if value != "" {
			told[name] = value
		}
	}
	if c.Appointment != "" {
		told["fhirContext"] = []map[string]string{{"reference": "Appointment/" + c.Appointment}}
	}
	if c.EHR {
		told["need_patient_banner"] = true
		told["smart_style_url"] = style
	}
	return told
}

// session is what fosite carries from one step to the next. It is filled from the Grant and writes itself back there.
type session struct {
	account string // "" for a backend system
	login   []byte // the login session that the grant ends with, or nil
	context Context
	// scope is what the grant was for: a refreshed token may have less.
	scope   fosite.Arguments
	expires map[fosite.TokenType]time.Time
	claims  *jwt.IDTokenClaims
	headers *jwt.Headers
	now     func() time.Time
}

func newSession(now func() time.Time) *session {
	return &session{expires: map[fosite.TokenType]time.Time{}, claims: &jwt.IDTokenClaims{}, headers: &jwt.Headers{}, now: now}
}

// SetExpiresAt takes a time that fosite counted from time.Now, and counts it from the server's clock.
func (s *session) SetExpiresAt(key fosite.TokenType, at time.Time) {
	s.expires[key] = s.now().Add(time.Until(at)).Round(time.Second)
}

func (s *session) GetExpiresAt(key fosite.TokenType) time.Time { return s.expires[key] }
func (s *session) GetUsername() string                         { return s.context.Username }
func (s *session) GetSubject() string                          { return s.account }
func (s *session) IDTokenClaims() *jwt.IDTokenClaims           { return s.claims }
func (s *session) IDTokenHeaders() *jwt.Headers                { return s.headers }

// Clone copies what may be changed.
func (s *session) Clone() fosite.Session {
	c := *s
	c.expires = maps.Clone(s.expires)
	claims := *s.claims
	claims.Extra = maps.Clone(claims.Extra)
	c.claims = &claims
	c.headers = &jwt.Headers{Extra: maps.Clone(s.headers.Extra)}
	return &c
}

// fill takes over a grant and the request that was kept with one of its tokens.
func (s *session) fill(g *identity.Grant, base string) error {
	s.account, s.login, s.scope = g.Account, g.Session, splitScopes(g.Scope)
	if err := json.Unmarshal(g.Context, &s.context); err != nil {
		return fmt.Errorf("oauth: read grant: %w", err)
	}
	s.claim(base, s.scope)
	return nil
}

// claim sets what the id_token will say to an app that has a scope.
func (s *session) claim(base string, scope fosite.Arguments) {
	s.claims.Subject = s.account
	s.claims.AuthTime = s.context.AuthTime.Truncate(time.Second)
	if now := time.Now(); s.claims.AuthTime.After(now) { // by another node's clock, and fosite would call it a fault
		s.claims.AuthTime = now.Truncate(time.Second)
	}
	s.claims.AuthenticationMethodsReferences = s.context.Methods
	s.claims.Extra = map[string]any{}
	if scope.Has(scopeFHIRUser) && s.context.FHIRUser != "" {
		s.claims.Extra["fhirUser"] = base + "/" + s.context.FHIRUser
	}
	if scope.Has(scopeProfile) {
		s.claims.Extra["preferred_username"] = s.context.Username
	}
}

// keptRequest is the part of a request that is kept with a code or token.
type keptRequest struct {
	Form        map[string][]string `json:"form,omitempty"`
	RequestedAt time.Time           `json:"at"`
}
