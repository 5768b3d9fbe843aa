package oauth

import (
	"maps"
	"net/http"

	"kiln/auth"
)

// capabilities are what SMART calls the features of this server.
// Spec: SMART App Launch 2.2, conformance.html#capabilities.
var capabilities = []string{
	"launch-ehr", "launch-standalone", "authorize-post", "client-public", "client-confidential-symmetric",
	"client-confidential-asymmetric", "sso-openid-connect", "context-banner", "context-style", "context-ehr-patient",
	"context-ehr-encounter", "context-standalone-patient", "permission-offline", "permission-online", "permission-patient",
	"permission-user", "permission-v1", "permission-v2",
}

// Endpoints are the absolute URLs that the CapabilityStatement names too (the oauth-uris extension), by the names that
// the extension has for them.
func (s *Server) Endpoints() map[string]string {
	list := map[string]string{
		"authorize": s.urls.authorize, "token": s.urls.token, "introspect": s.urls.introspect,
		"revoke": s.urls.revoke, "manage": s.urls.manage,
	}
	if s.urls.register != "" {
		list["register"] = s.urls.register
	}
	return list
}

// metadata is what both documents say.
func (s *Server) metadata() map[string]any {
	m := map[string]any{
		"issuer":                                           s.urls.origin,
		"jwks_uri":                                         s.urls.jwks,
		"authorization_endpoint":                           s.urls.authorize,
		"token_endpoint":                                   s.urls.token,
		"introspection_endpoint":                           s.urls.introspect,
		"revocation_endpoint":                              s.urls.revoke,
		"scopes_supported":                                 s.scopesSupported(),
		"response_types_supported":                         []string{"code"},
		"response_modes_supported":                         []string{"query"},
		"grant_types_supported":                            GrantTypes(),
		"code_challenge_methods_supported":                 []string{"S256"},
		"token_endpoint_auth_methods_supported":            []string{"client_secret_basic", "client_secret_post", "private_key_jwt", "none"},
		"token_endpoint_auth_signing_alg_values_supported": assertionAlgorithms,
	}
	if s.urls.register != "" {
		m["registration_endpoint"] = s.urls.register
	}
	return m
}

// scopesSupported lists the scopes by form: the wildcards of each level in both versions, and the types of a patient's
// record one by one.
func (s *Server) scopesSupported() []string {
	list := append([]string(nil), plainScopes...)
	for _, level := range []auth.Level{auth.LevelPatient, auth.LevelUser, auth.LevelSystem} {
		for _, letters := range []string{"cruds", "rs", "read", "write", "*"} {
			list = append(list, string(level)+"/*."+letters)
		}
	}
	for _, typ := range auth.RecordTypes(s.options.Registry()) {
		list = append(list, "patient/"+typ+".rs")
	}
	return list
}

// smartConfiguration is GET [base]/.well-known/smart-configuration. It is the same whatever the client accepts.
func (s *Server) smartConfiguration(w http.ResponseWriter, _ *http.Request) error {
	m := s.metadata()
	m["management_endpoint"] = s.urls.manage
	m["capabilities"] = capabilities
	return writeJSON(w, http.StatusOK, shortTime, m)
}

// openIDConfiguration is the document of OpenID Connect Discovery and, since all of that is in it, of RFC 8414.
func (s *Server) openIDConfiguration(w http.ResponseWriter, _ *http.Request) error {
	m := maps.Clone(s.metadata())
	m["userinfo_endpoint"] = s.urls.userinfo
	m["subject_types_supported"] = []string{"public"}
	m["id_token_signing_alg_values_supported"] = []string{"RS256"}
	m["claims_supported"] = []string{"iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "amr", "fhirUser", "preferred_username"}
	m["request_parameter_supported"] = false
	m["request_uri_parameter_supported"] = false
	return writeJSON(w, http.StatusOK, shortTime, m)
}

func (s *Server) jwks(w http.ResponseWriter, r *http.Request) error {
	set, err := s.keyring.jwks(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, shortTime, set)
}

// smartStyle says how an app may look to fit in. Spec: SMART App Launch 2.2, "smart_style_url".
func (s *Server) smartStyle(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, http.StatusOK, shortTime, map[string]string{
		"color_background": "#ffffff", "color_error": "#a4262c", "color_highlight": "#0b5cab", "color_modal_backdrop": "#00000080",
		"color_success": "#1b6e3c", "color_text": "#1d2329", "dim_border_radius": "6px", "dim_font_size": "16px",
		"dim_spacing_size": "16px", "font_family_body": "system-ui, sans-serif", "font_family_heading": "system-ui, sans-serif",
	})
}
