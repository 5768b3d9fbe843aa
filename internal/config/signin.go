package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"
)

// SignIn are the settings of the authorization server: who gets tokens, and for how long.
type SignIn struct {
	SecretKey         Secret        `name:"secret-key" env:"KILN_SECRET_KEY" placeholder:"TEXT" help:"Encrypts signing keys and one-time code seeds in the database; the same on every node. Empty: made once and kept in secret.key in the data folder."`
	AccessTokenLife   time.Duration `name:"access-token-life" env:"KILN_ACCESS_TOKEN_LIFE" default:"1h" placeholder:"TIME" help:"How long an access token of an app lives. Backend systems get 300 s at most."`
	RefreshTokenLife  time.Duration `name:"refresh-token-life" env:"KILN_REFRESH_TOKEN_LIFE" default:"4320h" placeholder:"TIME" help:"How long offline access lasts after its last use."`
	SessionLife       time.Duration `name:"session-life" env:"KILN_SESSION_LIFE" default:"12h" placeholder:"TIME" help:"How long a browser stays signed in."`
	SessionIdle       time.Duration `name:"session-idle" env:"KILN_SESSION_IDLE" default:"1h" placeholder:"TIME" help:"How long a browser stays signed in without being used."`
	LoginAttempts     int           `name:"login-attempts" env:"KILN_LOGIN_ATTEMPTS" default:"10" placeholder:"N" help:"Failed sign-ins of one name within login-window that lock it; ten times as many of one address lock that, and ten times as many wrong secrets of a client from one address the client there."`
	LoginWindow       time.Duration `name:"login-window" env:"KILN_LOGIN_WINDOW" default:"15m" placeholder:"TIME" help:"How far back failed sign-ins count."`
	OutsideIssuer     string        `name:"outside-issuer" env:"KILN_OUTSIDE_ISSUER" placeholder:"URL" help:"An OpenID provider that people may sign in with too, by its issuer. Each is linked to a user with kiln user link."`
	OutsideName       string        `name:"outside-name" env:"KILN_OUTSIDE_NAME" placeholder:"TEXT" help:"What the sign-in page calls it. Empty: its host."`
	OutsideClientID   string        `name:"outside-client-id" env:"KILN_OUTSIDE_CLIENT_ID" placeholder:"ID" help:"What Kiln is registered as there, with the redirect URI <base-url>/auth/login/outside/answer."`
	OutsideSecret     Secret        `name:"outside-client-secret" env:"KILN_OUTSIDE_CLIENT_SECRET" placeholder:"TEXT" help:"Its secret there. Empty: a public client."`
	Registration      string        `name:"registration" env:"KILN_REGISTRATION" default:"off" enum:"off,token,open" help:"Who may register an app by itself (RFC 7591): off, those with the initial access token, or open."`
	PatientsRegister  bool          `name:"patients-register" env:"KILN_PATIENTS_REGISTER" default:"false" help:"Let people register as patients at /auth/join. They begin with an empty record; administrators verify them at /auth/newcomers."`
	RegistrationToken Secret        `name:"registration-token" env:"KILN_REGISTRATION_TOKEN" placeholder:"TEXT" help:"The initial access token for registration=token."`
	RegistrationScope string        `name:"registration-scope" env:"KILN_REGISTRATION_SCOPE" placeholder:"SCOPES" help:"The system scopes that holders of the initial access token may register backend systems for, such as \"system/Patient.rs\". Empty: they register apps alone."`
}

// Validate checks that the times are above zero and that what belongs together is there. kong calls it.
func (s *SignIn) Validate() error {
	if s.Registration == "token" && len(s.RegistrationToken) < 16 {
		return errors.New("KILN_REGISTRATION=token needs KILN_REGISTRATION_TOKEN, 16 characters at least")
	}
	if s.RegistrationScope != "" && s.Registration != "token" {
		return errors.New("KILN_REGISTRATION_SCOPE is for KILN_REGISTRATION=token")
	}
	if s.SecretKey != "" && len(s.SecretKey) < 16 {
		return errors.New("KILN_SECRET_KEY: 16 characters at least, such as the output of openssl rand -base64 32")
	}
	if s.OutsideIssuer != "" {
		if u, err := url.Parse(s.OutsideIssuer); err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && !(u.Scheme == "http" && IsLoopback(u.Hostname())) {
			return errors.New("KILN_OUTSIDE_ISSUER: want an https URL")
		}
		if s.OutsideClientID == "" {
			return errors.New("KILN_OUTSIDE_ISSUER needs KILN_OUTSIDE_CLIENT_ID")
		}
	}
	return errors.Join(
		positive("KILN_ACCESS_TOKEN_LIFE", s.AccessTokenLife), positive("KILN_REFRESH_TOKEN_LIFE", s.RefreshTokenLife),
		positive("KILN_SESSION_LIFE", s.SessionLife), positive("KILN_SESSION_IDLE", s.SessionIdle),
		positive("KILN_LOGIN_ATTEMPTS", s.LoginAttempts), positive("KILN_LOGIN_WINDOW", s.LoginWindow))
}

// Secret is a text that every way of printing leaves out; convert it to string where it is used.
type Secret string

// String says only whether there is one.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "(hidden)"
}

// GoString is the same for %#v, LogValue for slog, MarshalText for JSON.
func (s Secret) GoString() string             { return fmt.Sprintf("%q", s.String()) }
func (s Secret) LogValue() slog.Value         { return slog.StringValue(s.String()) }
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
