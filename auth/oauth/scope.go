package oauth

import (
	"strings"

	"kiln/auth"
)

// Scopes that are about no resources.
const (
	scopeOpenID          = "openid"
	scopeFHIRUser        = "fhirUser"
	scopeProfile         = "profile"
	scopeLaunch          = "launch"
	scopeLaunchPatient   = "launch/patient"
	scopeLaunchEncounter = "launch/encounter"
	scopeOffline         = "offline_access"
	scopeOnline          = "online_access"
)

// plainScopes are all of those on offer.
var plainScopes = []string{scopeOpenID, scopeFHIRUser, scopeProfile, scopeLaunch, scopeLaunchPatient, scopeLaunchEncounter,
	scopeOffline, scopeOnline}

// onlySignIn says whether scopes ask who somebody is and for nothing else.
func onlySignIn(text string) bool {
	for scope := range strings.FieldsSeq(text) {
		if scope != scopeOpenID && scope != scopeProfile {
			return false
		}
	}
	return text != ""
}

// usable reads the scopes of a request and leaves out what cannot be granted at all: what cannot be read, types and
// parameters that do not exist, and levels other than the given.
func (s *Server) usable(text string, levels ...auth.Level) auth.Scopes {
	asked, _ := auth.ParseScopes(text)
	registry := s.options.Registry()
	var usable auth.Scopes
	for _, scope := range asked {
		fits := false
		for _, level := range levels {
			fits = fits || scope.Level == level
		}
		if fits && scope.Check(registry) == nil && (scope.Level != auth.LevelNone || isPlain(scope.Text)) {
			usable = append(usable, scope)
		}
	}
	return usable
}

func isPlain(text string) bool {
	for _, known := range plainScopes {
		if known == text {
			return true
		}
	}
	return false
}

// registeredScopes are those that a client may ask for.
func (s *Server) registeredScopes(c *client) auth.Scopes {
	list, _ := auth.ParseScopes(c.Scope)
	return list
}

// askable is what of a request's scopes a client could be granted by a person: what it is registered for.
func (s *Server) askable(c *client, text string, ehr bool) auth.Scopes {
	var list auth.Scopes
	for _, scope := range s.registeredScopes(c).Grant(s.usable(text, auth.LevelNone, auth.LevelPatient, auth.LevelUser)) {
		switch scope.Text {
		case scopeLaunch:
			if !ehr {
				continue // without a launch there is no context to give
			}
		case scopeOffline, scopeOnline:
			if !c.May(grantRefresh) {
				continue
			}
		}
		list = append(list, scope)
	}
	return list
}

// wantsPatient says whether scopes need a patient in context: patient scopes always do.
func wantsPatient(list auth.Scopes) bool {
	for _, scope := range list {
		if scope.Level == auth.LevelPatient || scope.Text == scopeLaunchPatient {
			return true
		}
	}
	return false
}
