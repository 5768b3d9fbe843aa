package oauth

import "net/http"

// Registration says who may register a client by itself (RFC 7591).
type Registration struct {
	Mode RegistrationMode
	// Token is the initial access token for RegistrationToken.
	Token string
}

// RegistrationMode is who may register clients.
type RegistrationMode string

// The modes.
const (
	RegistrationOff   RegistrationMode = ""
	RegistrationToken RegistrationMode = "token"
	RegistrationOpen  RegistrationMode = "open"
)

func (s *Server) register(w http.ResponseWriter, r *http.Request) error { return errNoToken }
