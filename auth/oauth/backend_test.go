package oauth_test

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"kiln/storage/identity"
)

func TestBackend_80_81_87_tokens(t *testing.T) {
	w := newWorld(t)
	for _, alg := range []string{"RS384", "ES384"} {
		r := w.token(backend(w.assertion("backend", alg), "system/Patient.rs system/Organization.rs"))
		m := r.json(t)
		if r.StatusCode != 200 || m["token_type"] != "Bearer" || m["expires_in"].(float64) < 240 || m["expires_in"].(float64) > 300 || m["scope"] != "system/Patient.rs system/Organization.rs" || m["refresh_token"] != nil {
			t.Errorf("%s: %d %s", alg, r.StatusCode, r.body)
		}
	}
	if r := w.token(backend(w.assertion("backend", "RS384"), "system/*.read")); r.StatusCode != 200 || r.json(t)["scope"] != "system/*.read" {
		t.Errorf("version 1: %d %s", r.StatusCode, r.body)
	}
	token := w.token(backend(w.assertion("backend", "RS384"), "system/*.rs")).json(t)["access_token"].(string)
	w.clock.advance(301 * time.Second)
	if r := w.get("/Patient/p1", token); r.StatusCode != 401 {
		t.Errorf("after 301 s: %d", r.StatusCode)
	}
}

func TestBackend_82_83_84_assertions_refused(t *testing.T) {
	w := newWorld(t)
	set := func(name string, value any) func(claims, header map[string]any) {
		return func(claims, _ map[string]any) { claims[name] = value }
	}
	without := func(name string) func(claims, header map[string]any) {
		return func(claims, _ map[string]any) { delete(claims, name) }
	}
	head := func(name string, value any) func(claims, header map[string]any) {
		return func(_, header map[string]any) {
			if value == nil {
				delete(header, name)
				return
			}
			header[name] = value
		}
	}
	expiring := func(in time.Duration) func(claims, header map[string]any) {
		return func(claims, _ map[string]any) { claims["exp"] = time.Now().Add(in).Unix() }
	}
	for _, c := range []struct {
		name   string
		alg    string
		change func(claims, header map[string]any)
	}{
		{"wrong_aud", "RS384", set("aud", w.origin)},
		{"aud_of_another_server", "RS384", set("aud", "https://other.example.org/auth/token")},
		{"aud_missing", "RS384", without("aud")},
		{"aud_a_number", "RS384", set("aud", 7)},
		{"iss_is_not_sub", "RS384", set("sub", "backend2")},
		{"iss_missing", "RS384", without("iss")},
		{"unknown_iss", "RS384", func(c, _ map[string]any) { c["iss"], c["sub"] = "nobody", "nobody" }},
		{"iss_of_a_client_with_a_secret", "RS384", func(c, _ map[string]any) { c["iss"], c["sub"] = "secret", "secret" }},
		{"expired", "RS384", expiring(-time.Minute)},
		{"exp_an_hour_ahead", "RS384", expiring(time.Hour)},
		{"exp_six_minutes_ahead", "RS384", expiring(6 * time.Minute)},
		{"exp_missing", "RS384", without("exp")},
		{"exp_a_text", "RS384", set("exp", "soon")},
		{"jti_missing", "RS384", without("jti")},
		{"jti_empty", "RS384", set("jti", "")},
		{"nbf_ahead", "RS384", set("nbf", time.Now().Add(time.Hour).Unix())},
		{"iat_ahead", "RS384", set("iat", time.Now().Add(time.Hour).Unix())},
		{"alg_rs256", "RS256", func(_, _ map[string]any) {}},
		{"alg_es256_key_mismatch", "PS384", func(_, _ map[string]any) {}},
		{"unknown_kid", "RS384", head("kid", "nobody")},
		{"kid_missing", "RS384", head("kid", nil)},
		{"kid_of_another_key", "RS384", head("kid", "e")},
		{"jku_not_registered", "RS384", head("jku", "https://evil.example.org/jwks")},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := w.token(backend(w.assertion("backend", c.alg, c.change), "system/Patient.rs"))
			if r.StatusCode != 401 || r.json(t)["error"] != "invalid_client" {
				t.Errorf("%d %s", r.StatusCode, r.body)
			}
		})
	}
	encode := func(v any) string {
		b, _ := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(b)
	}
	claims := map[string]any{"iss": "backend", "sub": "backend", "aud": w.origin + "/auth/token", "exp": time.Now().Add(4 * time.Minute).Unix(), "jti": "n1"}
	der, err := x509.MarshalPKIXPublicKey(w.rsa.Public())
	if err != nil {
		t.Fatal(err)
	}
	hmacOf := func(alg jose.SignatureAlgorithm, key []byte) string {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", "r"))
		if err != nil {
			t.Fatal(err)
		}
		payload, _ := json.Marshal(claims)
		signed, err := signer.Sign(payload)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := signed.CompactSerialize()
		return text
	}
	good := w.assertion("backend", "RS384")
	parts := strings.Split(good, ".")
	for name, assertion := range map[string]string{
		"alg_none":                  encode(map[string]any{"alg": "none", "kid": "r"}) + "." + encode(claims) + ".",
		"alg_None":                  encode(map[string]any{"alg": "None", "kid": "r"}) + "." + encode(claims) + ".",
		"alg_none_with_signature":   encode(map[string]any{"alg": "none", "kid": "r"}) + "." + parts[1] + "." + parts[2],
		"hs256_with_the_public_key": hmacOf(jose.HS256, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})),
		"hs384_with_the_public_key": hmacOf(jose.HS384, der),
		"signature_of_another":      strings.Join([]string{parts[0], encode(claims), parts[2]}, "."),
		"signature_cut":             good[:len(good)-6],
		"no_jwt":                    "banana",
		"empty":                     "",
	} {
		t.Run(name, func(t *testing.T) {
			r := w.token(backend(assertion, "system/Patient.rs"))
			if r.StatusCode != 401 || r.json(t)["error"] != "invalid_client" {
				t.Errorf("%d %s", r.StatusCode, r.body)
			}
		})
	}
	t.Run("replayed_jti", func(t *testing.T) {
		assertion := w.assertion("backend", "ES384")
		if r := w.token(backend(assertion, "system/Patient.rs")); r.StatusCode != 200 {
			t.Fatalf("%d %s", r.StatusCode, r.body)
		}
		if r := w.token(backend(assertion, "system/Patient.rs")); r.StatusCode != 401 || r.json(t)["error"] != "invalid_client" {
			t.Errorf("%d %s", r.StatusCode, r.body)
		}
	})
	t.Run("82_unknown_grant_type_is_400", func(t *testing.T) {
		f := backend(w.assertion("backend", "RS384"), "system/Patient.rs")
		f.Set("grant_type", "not_a_grant_type")
		if r := w.token(f); r.StatusCode != 400 || r.json(t)["error"] != "unsupported_grant_type" {
			t.Errorf("%d %s", r.StatusCode, r.body)
		}
	})
	t.Run("83_unknown_assertion_type", func(t *testing.T) {
		f := backend(w.assertion("backend", "RS384"), "system/Patient.rs")
		f.Set("client_assertion_type", "not_an_assertion_type")
		if r := w.token(f); r.StatusCode != 401 {
			t.Errorf("%d %s", r.StatusCode, r.body)
		}
	})
}

func TestBackend_85_scopes(t *testing.T) {
	w := newWorld(t)
	for scope, want := range map[string]string{
		"system/Patient.rs system/Observation.rs": "system/Patient.rs", // narrowed to what is registered
		"system/Patient.cruds":                    "system/Patient.rs",
		"system/*.rs":                             "system/Patient.rs",
		"system/Patient.rs patient/Patient.rs":    "system/Patient.rs",
		"system/Observation.rs":                   "",
		"user/Patient.rs":                         "",
		"patient/Patient.rs":                      "",
		"openid fhirUser":                         "",
		"system/Patient.sr":                       "",
		"":                                        "",
		"system/Patient.rs?name:not=x":            "",
		"system/Patient.rs?general-practitioner=Practitioner/dr": "system/Patient.rs?general-practitioner=Practitioner/dr",
	} {
		r := w.token(backend(w.assertion("backend2", "RS384"), scope))
		if want == "" {
			if r.StatusCode != 400 || r.json(t)["error"] != "invalid_scope" {
				t.Errorf("%q: %d %s", scope, r.StatusCode, r.body)
			}
			continue
		}
		if r.StatusCode != 200 || r.json(t)["scope"] != want {
			t.Errorf("%q: %d %s", scope, r.StatusCode, r.body)
		}
	}
	for _, client := range []string{"secret", "signer"} { // not registered for the grant, or not allowed to have it
		f := backend(w.assertion("signer", "RS384"), "system/Patient.rs")
		headers := []string(nil)
		if client == "secret" {
			f.Del("client_assertion")
			f.Del("client_assertion_type")
			headers = []string{basicSecret}
		}
		if r := w.token(f, headers...); r.StatusCode != 400 || r.json(t)["error"] != "unauthorized_client" {
			t.Errorf("%s: %d %s", client, r.StatusCode, r.body)
		}
	}
}

func TestBackend_86_keys_by_url_rotate(t *testing.T) {
	w := newWorld(t)
	var fetches atomic.Int32
	var kid atomic.Value
	kid.Store("old")
	keys := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		fetches.Add(1)
		rw.Header().Set("Cache-Control", "max-age=3600")
		json.NewEncoder(rw).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: w.rsa.Public(), KeyID: kid.Load().(string), Use: "sig"}}})
	}))
	defer keys.Close()
	for _, c := range []*identity.Client{
		{ID: "byurl", RegisteredBy: "operator"}, {ID: "stranger", RegisteredBy: "dynamic"},
	} {
		c.Name, c.AuthMethod, c.JWKSURI, c.GrantTypes, c.Scope = c.ID, identity.AuthPrivateKey, keys.URL, []string{"client_credentials"}, "system/*.rs"
		if err := w.identity.AddClient(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	w.clock.stop() // so that no request comes later than another by the time after which keys are asked for again
	ask := func(client, kid string) int {
		return w.token(backend(w.assertion(client, "RS384", func(claims, header map[string]any) {
			header["kid"], header["jku"], claims["exp"] = kid, keys.URL, w.clock.now().Add(4*time.Minute).Unix()
		}), "system/Patient.rs")).StatusCode
	}
	for range 3 {
		if got := ask("byurl", "old"); got != 200 {
			t.Fatalf("%d", got)
		}
	}
	if n := fetches.Load(); n != 1 {
		t.Errorf("%d fetches for three assertions", n)
	}
	kid.Store("new")
	if got := ask("byurl", "new"); got != 200 {
		t.Errorf("after rotation: %d", got)
	}
	if n := fetches.Load(); n != 2 {
		t.Errorf("%d fetches after rotation", n)
	}
	// Who makes up kids does not have Kiln ask for each.
	for range 3 {
		if got := ask("byurl", "made up"); got != 401 {
			t.Errorf("a kid that is not there: %d", got)
		}
	}
	if n := fetches.Load(); n != 2 {
		t.Errorf("%d fetches after unknown kids", n)
	}
	w.clock.advance(6 * time.Second)
	ask("byurl", "made up")
	if n := fetches.Load(); n != 3 {
		t.Errorf("%d fetches a while later", n)
	}
	// A stranger's URL may not lead into the server's own network.
	before := fetches.Load()
	if got := ask("stranger", "new"); got != 401 || fetches.Load() != before {
		t.Errorf("a stranger had Kiln fetch from this machine: %d, %d fetches", got, fetches.Load()-before)
	}
}
