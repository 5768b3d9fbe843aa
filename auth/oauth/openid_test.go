package oauth_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"kiln/auth/oauth"
)

// verify checks an id_token against the published keys and returns its claims.
func (w *world) verify(token string) map[string]any {
	w.Helper()
	signed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		w.Fatal(err)
	}
	discovered := w.send(nil, http.MethodGet, "/.well-known/openid-configuration", nil).json(w)
	var set jose.JSONWebKeySet
	r := w.send(nil, http.MethodGet, discovered["jwks_uri"].(string), nil)
	if err := json.Unmarshal([]byte(r.body), &set); err != nil {
		w.Fatal(err)
	}
	for _, private := range []string{`"d"`, `"p"`, `"q"`, `"dp"`, `"k"`} {
		if strings.Contains(r.body, private) {
			w.Errorf("the published keys have the member %s", private)
		}
	}
	keys := set.Key(signed.Signatures[0].Protected.KeyID)
	if len(keys) != 1 || keys[0].Algorithm != "RS256" {
		w.Fatalf("%d keys with the kid %q", len(keys), signed.Signatures[0].Protected.KeyID)
	}
	payload, err := signed.Verify(keys[0])
	if err != nil {
		w.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(payload, &claims); err != nil {
		w.Fatal(err)
	}
	return claims
}

func TestOpenID_64_67_68_69_claims(t *testing.T) {
	w := newWorld(t)
	for user, fhirUser := range map[string]string{"ada": "Patient/p1", "greta": "Practitioner/dr"} {
		code := w.code(user, "p1", w.request("public", "openid fhirUser profile offline_access patient/Patient.rs", "nonce", "n-0S6_WzA2Mj"))
		m := w.token(exchange(code, "client_id", "public")).json(t)
		claims := w.verify(m["id_token"].(string))
		now := float64(time.Now().Unix())
		if claims["iss"] != w.origin || claims["nonce"] != "n-0S6_WzA2Mj" || claims["fhirUser"] != w.origin+"/fhir/"+fhirUser ||
			!slices.Equal(claims["aud"].([]any), []any{"public"}) || claims["exp"].(float64) <= now || claims["iat"].(float64) > now+5 ||
			claims["sub"] == "" || len(claims["sub"].(string)) > 255 || claims["preferred_username"] != user {
			t.Errorf("%v", claims)
		}
		again := w.verify(w.token(refreshing(m["refresh_token"])).json(t)["id_token"].(string))
		if again["sub"] != claims["sub"] || again["fhirUser"] != claims["fhirUser"] || again["iss"] != claims["iss"] {
			t.Errorf("after refresh %v", again)
		}
		info := w.send(nil, http.MethodGet, "/auth/userinfo", nil, "Authorization: Bearer "+m["access_token"].(string)).json(t)
		if info["sub"] != claims["sub"] || info["fhirUser"] != claims["fhirUser"] {
			t.Errorf("userinfo %v", info)
		}
	}
}

func TestOpenID_69_fhirUser_is_readable_whatever_the_other_scopes(t *testing.T) {
	w := newWorld(t)
	w.put(`{"resourceType":"Practitioner","id":"another"}`)
	for user, own := range map[string]string{"ada": "/Patient/p1", "greta": "/Practitioner/dr"} {
		for _, scope := range []string{"openid fhirUser", "openid fhirUser launch/patient", "openid fhirUser patient/Condition.rs", "openid fhirUser user/Observation.rs"} {
			token := w.tokens(user, "p1", scope)["access_token"].(string)
			if r := w.get(own, token); r.StatusCode != 200 {
				t.Errorf("%s of %s: %d %s", scope, user, r.StatusCode, r.body)
			}
			for _, path := range []string{"/Patient/p2", "/Practitioner/another"} {
				if r := w.get(path, token); r.StatusCode == 200 {
					t.Errorf("%s of %s opens %s", scope, user, path)
				}
			}
			if r := w.get("/Patient", token); r.StatusCode != 403 {
				t.Errorf("%s of %s: searching is %d", scope, user, r.StatusCode)
			}
		}
		without := w.tokens(user, "p1", "openid patient/Condition.rs")["access_token"].(string)
		if r := w.get(own, without); user == "ada" && r.StatusCode != 403 {
			t.Errorf("without fhirUser: %d", r.StatusCode)
		}
	}
}

func TestConsent_says_what_fhirUser_opens(t *testing.T) {
	w := newWorld(t)
	for scope, want := range map[string]string{
		"openid fhirUser patient/Condition.rs": "It also learns who you are, and may read the entry that stands for you here: Patient/p1.",
		"openid patient/Condition.rs":          "It also learns who you are.",
	} {
		b := w.browser()
		if page := b.signIn(b.open("/auth/authorize?"+w.request("public", scope).Encode()), "ada").body; !strings.Contains(page, want) {
			t.Errorf("%s: no %q in %s", scope, want, page)
		}
	}
}

func TestOpenID_71_only_what_was_granted(t *testing.T) {
	w := newWorld(t)
	if m := w.tokens("ada", "", "fhirUser patient/Patient.rs"); m["id_token"] != nil {
		t.Error("an id_token without openid")
	}
	m := w.tokens("ada", "", "openid patient/Patient.rs")
	if claims := w.verify(m["id_token"].(string)); claims["fhirUser"] != nil || claims["preferred_username"] != nil {
		t.Errorf("%v", claims)
	}
	token := w.tokens("ada", "", "patient/Patient.rs")["access_token"].(string)
	if r := w.send(nil, http.MethodGet, "/auth/userinfo", nil, "Authorization: Bearer "+token); r.StatusCode != 403 {
		t.Errorf("userinfo without openid: %d", r.StatusCode)
	}
}

func TestOpenID_65_66_discovery(t *testing.T) {
	w := newWorld(t)
	for _, prefix := range []string{"", "/fhir"} {
		r := w.send(nil, http.MethodGet, prefix+"/.well-known/openid-configuration", nil)
		m := r.json(t)
		if r.StatusCode != 200 || r.Header.Get("Content-Type") != "application/json" || m["issuer"] != w.origin ||
			!slices.Contains(m["id_token_signing_alg_values_supported"].([]any), any("RS256")) || m["subject_types_supported"] == nil {
			t.Errorf("%d %s", r.StatusCode, r.body)
		}
	}
}

func TestOpenID_rotation_keeps_old_keys_published(t *testing.T) {
	w := newWorld(t)
	old := w.tokens("ada", "", "openid patient/Patient.rs")["id_token"].(string)
	w.clock.advance(91 * 24 * time.Hour)
	w.send(nil, http.MethodGet, "/auth/jwks", nil) // a new key is made when it is due
	w.verify(old)
	w.clock.advance(3 * 24 * time.Hour)
	if r := w.send(nil, http.MethodGet, "/auth/jwks", nil); strings.Count(r.body, `"kid"`) != 1 {
		t.Errorf("the old key is still published: %s", r.body)
	}
	if r := w.send(nil, http.MethodGet, "/auth/jwks", nil); !strings.Contains(r.body, `"kty":"RSA"`) {
		t.Errorf("%s", r.body)
	}
}

// TestOpenID_key_rotate: a key that an operator replaces signs on until every node shows the new one, and what it signed
// verifies for two days more; one that is distrusted is out at once. Every node reads the keys anew within a minute.
func TestOpenID_key_rotate(t *testing.T) {
	w := newWorld(t)
	const secret, minute = "a secret for tests only", time.Minute
	kidOf := func(token string) string {
		parsed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.RS256})
		if err != nil {
			t.Fatal(err)
		}
		return parsed.Signatures[0].Header.KeyID
	}
	token := func() string { return w.tokens("ada", "", "openid patient/Patient.rs")["id_token"].(string) }
	published := func() string { return w.send(nil, http.MethodGet, "/auth/jwks", nil).body }
	rotate := func(why oauth.Rotation) string {
		t.Helper()
		kid, err := oauth.RotateKey(t.Context(), w.identity, secret, why, w.clock.now())
		if err != nil {
			t.Fatal(err)
		}
		w.clock.advance(minute + time.Second) // how long a node remembers
		return kid
	}
	if _, err := oauth.RotateKey(t.Context(), w.identity, secret, oauth.RotateInTime, w.clock.now()); !errors.Is(err, oauth.ErrNoKey) {
		t.Errorf("before there is a key: %v", err)
	}
	first := token()
	if _, err := oauth.RotateKey(t.Context(), w.identity, "another secret than the server's", oauth.RotateInTime, w.clock.now()); !errors.Is(err, oauth.ErrOtherSecret) {
		t.Errorf("with another secret: %v", err)
	}
	second := rotate(oauth.RotateInTime)
	if between := token(); kidOf(between) != kidOf(first) || !strings.Contains(published(), second) {
		t.Errorf("the new key signs before every node can show it, or is not shown: %s", published())
	}
	w.clock.advance(minute)
	if now := token(); kidOf(now) != second {
		t.Errorf("signed with %s", kidOf(now))
	}
	w.verify(first)
	keys, err := oauth.SigningKeys(t.Context(), w.identity, w.clock.now())
	if err != nil || len(keys) != 2 || keys[0].KID != second || !keys[0].Signs || keys[1].Signs || keys[1].Until.IsZero() {
		t.Errorf("%+v %v", keys, err)
	}
	third := rotate(oauth.RotateDistrusted)
	if body := published(); strings.Contains(body, kidOf(first)) || strings.Contains(body, second) || !strings.Contains(body, third) {
		t.Errorf("distrusted keys are published: %s", body)
	}
	if now := token(); kidOf(now) != third {
		t.Errorf("signed with %s", kidOf(now))
	}
	if err := w.oauth.SecretFits(t.Context()); err != nil {
		t.Error(err)
	}

	// The secret key is lost: the same database, and a server with another one.
	lost := "a secret of after the fire"
	other, err := oauth.New(oauth.Options{Store: w.identity, Origin: w.origin, FHIRBase: w.origin + "/fhir", Secret: lost, Now: w.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	if err := other.SecretFits(t.Context()); !errors.Is(err, oauth.ErrOtherSecret) {
		t.Errorf("with another secret: %v", err)
	}
	if _, err := oauth.RotateKey(t.Context(), w.identity, lost, oauth.RotateLost, w.clock.now()); err != nil {
		t.Error(err)
	}
	if err := other.SecretFits(t.Context()); err != nil {
		t.Errorf("after the rotation: %v", err)
	}
}

func TestDiscovery_1_to_13(t *testing.T) {
	w := newWorld(t)
	discovery(t, w)
}

func TestDiscovery_13_with_registration(t *testing.T) {
	w := newWorld(t, func(o *oauth.Options) { o.Registration.Mode = oauth.RegistrationOpen })
	discovery(t, w)
	if m := w.send(nil, http.MethodGet, "/fhir/.well-known/smart-configuration", nil).json(t); m["registration_endpoint"] != w.origin+"/auth/register" {
		t.Errorf("registration_endpoint %v", m["registration_endpoint"])
	}
}

// discovery checks the documents, and that the CapabilityStatement names the same endpoints.
func discovery(t *testing.T, w *world) {
	t.Helper()
	for _, accept := range []string{"application/fhir+json", "text/html", ""} {
		r := w.send(nil, http.MethodGet, "/fhir/.well-known/smart-configuration", nil, "Accept: "+accept, "Origin: https://app.example.org")
		if r.StatusCode != 200 || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") || r.Header.Get("Access-Control-Allow-Origin") != "*" {
			t.Fatalf("%s: %d %v", accept, r.StatusCode, r.Header)
		}
		m := r.json(t)
		for _, name := range []string{"issuer", "jwks_uri", "authorization_endpoint", "token_endpoint", "introspection_endpoint", "revocation_endpoint", "management_endpoint"} {
			if text, _ := m[name].(string); !strings.HasPrefix(text, w.origin) {
				t.Errorf("%s: %v", name, m[name])
			}
		}
		for name, want := range map[string][]string{
			"grant_types_supported":            {"authorization_code", "client_credentials", "refresh_token"},
			"code_challenge_methods_supported": {"S256"},
			"capabilities": {"launch-standalone", "client-public", "client-confidential-symmetric", "client-confidential-asymmetric",
				"sso-openid-connect", "context-standalone-patient", "permission-offline", "permission-patient", "authorize-post", "permission-v1",
				"permission-v2", "launch-ehr", "context-banner", "context-style", "context-ehr-patient", "context-ehr-encounter", "permission-user"},
			"token_endpoint_auth_methods_supported":            {"private_key_jwt", "client_secret_basic", "client_secret_post"},
			"token_endpoint_auth_signing_alg_values_supported": {"RS384", "ES384"},
			"scopes_supported":                                 {"openid", "fhirUser", "launch", "launch/patient", "offline_access", "patient/*.rs", "patient/Condition.rs"},
		} {
			list, _ := m[name].([]any)
			for _, one := range want {
				if !slices.Contains(list, any(one)) {
					t.Errorf("%s lacks %s", name, one)
				}
			}
		}
		if slices.Contains(m["code_challenge_methods_supported"].([]any), any("plain")) {
			t.Error("plain is on offer")
		}
	}
	smart := w.send(nil, http.MethodGet, "/fhir/.well-known/smart-configuration", nil).json(t)
	metadata := w.get("/metadata", "")
	if metadata.StatusCode != 200 {
		t.Fatalf("metadata: %d %s", metadata.StatusCode, metadata.body)
	}
	var statement struct {
		Rest []struct {
			Security struct {
				Extension []struct {
					URL       string
					Extension []struct{ URL, ValueURI string }
				}
				Service []struct{ Coding []struct{ Code string } }
			}
		}
	}
	if err := json.Unmarshal([]byte(metadata.body), &statement); err != nil {
		t.Fatal(err)
	}
	security := statement.Rest[0].Security
	if len(security.Service) == 0 || security.Service[0].Coding[0].Code != "SMART-on-FHIR" || len(security.Extension) != 1 {
		t.Fatalf("%+v", security)
	}
	pairs := map[string]string{"authorize": "authorization_endpoint", "token": "token_endpoint", "introspect": "introspection_endpoint",
		"manage": "management_endpoint", "register": "registration_endpoint", "revoke": "revocation_endpoint"}
	stated := map[string]string{}
	for _, e := range security.Extension[0].Extension {
		stated[e.URL] = e.ValueURI
	}
	for short, long := range pairs {
		discovered, _ := smart[long].(string)
		if stated[short] != discovered {
			t.Errorf("%s: %q in the CapabilityStatement, %q in smart-configuration", short, stated[short], discovered)
		}
	}
}

func TestCORS_16_105_106(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"/fhir/Patient/p1", "/auth/token", "/auth/introspect", "/fhir/.well-known/smart-configuration", "/auth/jwks"} {
		r := w.send(nil, http.MethodOptions, path, nil, "Origin: https://app.example.org", "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization,content-type")
		headers := strings.ToLower(r.Header.Get("Access-Control-Allow-Headers"))
		if r.StatusCode/100 != 2 || !strings.Contains(headers, "authorization") || !strings.Contains(headers, "content-type") ||
			!strings.Contains(r.Header.Get("Access-Control-Allow-Methods"), "POST") || r.Header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s: %d %v", path, r.StatusCode, r.Header)
		}
	}
	for _, path := range []string{"/auth/authorize", "/auth/login", "/auth/apps", "/auth/consent"} {
		r := w.send(nil, http.MethodGet, path, nil, "Origin: https://app.example.org")
		if r.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s may be read by other origins", path)
		}
	}
}
