package oauth_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"kiln/auth"
	"kiln/auth/oauth"
)

func (w *world) register(body string, headers ...string) *response {
	w.Helper()
	req, err := http.NewRequest(http.MethodPost, w.origin+"/auth/register", strings.NewReader(body))
	if err != nil {
		w.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.Fatal(err)
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		w.Fatal(err)
	}
	return &response{resp, string(content)}
}

func TestRegistration_142_is_closed_by_default(t *testing.T) {
	w := newWorld(t)
	if r := w.register(`{"redirect_uris":["https://a.example.org/cb"]}`); r.StatusCode != http.StatusNotFound {
		t.Errorf("%d %s", r.StatusCode, r.body)
	}
	if m := w.send(nil, http.MethodGet, "/.well-known/smart-configuration", nil).json(t); m["registration_endpoint"] != nil {
		t.Error("it is declared all the same")
	}
}

func TestRegistration_142_open(t *testing.T) {
	w := newWorld(t, func(o *oauth.Options) { o.Registration.Mode = oauth.RegistrationOpen })
	r := w.register(`{"client_name":"New app","redirect_uris":["` + redirectURI + `"],"grant_types":["authorization_code","refresh_token"],
		"scope":"openid launch/patient offline_access patient/*.rs system/*.rs nonsense","contacts":["a@example.org"],"unknown_member":1}`)
	m := r.json(t)
	if r.StatusCode != 201 || m["client_id"] == "" || m["client_secret"] == nil || m["client_secret_expires_at"] != 0.0 || m["client_name"] != "New app" ||
		m["scope"] != "openid launch/patient offline_access patient/*.rs" || r.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %s", r.StatusCode, r.body)
	}
	id, secret := m["client_id"].(string), m["client_secret"].(string)
	code := w.code("ada", "", w.request(id, "openid launch/patient patient/Patient.rs"))
	if r := w.token(exchange(code, "client_id", id, "client_secret", secret)); r.StatusCode != 200 {
		t.Errorf("%d %s", r.StatusCode, r.body)
	}
	for client, told := range map[string]bool{id: true, "public": false} {
		b := w.browser()
		if page := b.signIn(b.open("/auth/authorize?"+w.request(client, "patient/Patient.rs").Encode()), "ada"); strings.Contains(page.body, "registered itself") != told {
			t.Errorf("the consent page for %s: %s", client, page.body)
		}
	}
	for name, c := range map[string]struct{ body, code string }{
		"fragment":          {`{"redirect_uris":["https://a.example.org/cb#x"]}`, "invalid_redirect_uri"},
		"javascript":        {`{"redirect_uris":["javascript:alert(1)"]}`, "invalid_redirect_uri"},
		"data":              {`{"redirect_uris":["data:text/html,x"]}`, "invalid_redirect_uri"},
		"plain_http":        {`{"redirect_uris":["http://a.example.org/cb"]}`, "invalid_redirect_uri"},
		"relative":          {`{"redirect_uris":["/cb"]}`, "invalid_redirect_uri"},
		"user":              {`{"redirect_uris":["https://kiln@evil.example.org/cb"]}`, "invalid_redirect_uri"},
		"none":              {`{}`, "invalid_redirect_uri"},
		"not_json":          {`redirect`, "invalid_client_metadata"},
		"trailing":          {`{"redirect_uris":["https://a.example.org/cb"]} {}`, "invalid_client_metadata"},
		"an_array":          {`[]`, "invalid_client_metadata"},
		"too_many_keys":     {`{"redirect_uris":["https://a.example.org/cb"],"jwks":{"keys":[` + strings.Repeat(`{"kty":"RSA"},`, 20) + `{"kty":"RSA"}]}}`, "invalid_client_metadata"},
		"wrong_type":        {`{"redirect_uris":"https://a.example.org/cb"}`, "invalid_client_metadata"},
		"implicit":          {`{"redirect_uris":["https://a.example.org/cb"],"grant_types":["implicit"]}`, "invalid_client_metadata"},
		"backend":           {`{"grant_types":["client_credentials"],"token_endpoint_auth_method":"private_key_jwt","jwks_uri":"https://a.example.org/jwks","scope":"system/*.rs"}`, "invalid_client_metadata"},
		"system_scope_only": {`{"redirect_uris":["https://a.example.org/cb"],"scope":"system/*.rs"}`, "invalid_client_metadata"},
		"jwks_missing":      {`{"redirect_uris":["https://a.example.org/cb"],"token_endpoint_auth_method":"private_key_jwt"}`, "invalid_client_metadata"},
		"jwks_uri_http":     {`{"redirect_uris":["https://a.example.org/cb"],"token_endpoint_auth_method":"private_key_jwt","jwks_uri":"http://169.254.169.254/"}`, "invalid_client_metadata"},
		"jwks_symmetric":    {`{"redirect_uris":["https://a.example.org/cb"],"token_endpoint_auth_method":"private_key_jwt","jwks":{"keys":[{"kty":"oct","k":"AAAA"}]}}`, "invalid_client_metadata"},
		"logo_script":       {`{"redirect_uris":["https://a.example.org/cb"],"logo_uri":"javascript:alert(1)"}`, "invalid_client_metadata"},
	} {
		t.Run(name, func(t *testing.T) {
			if r := w.register(c.body); r.StatusCode != 400 || r.json(t)["error"] != c.code {
				t.Errorf("%d %s", r.StatusCode, r.body)
			}
		})
	}
	if r := w.register(`{"redirect_uris":["org.example.app:/cb","http://localhost/cb"],"token_endpoint_auth_method":"none"}`); r.StatusCode != 201 || r.json(t)["client_secret"] != nil {
		t.Errorf("a native app: %d %s", r.StatusCode, r.body)
	}
}

func TestRegistration_tells_all_faults_of_form_and_no_value(t *testing.T) {
	w := newWorld(t, func(o *oauth.Options) { o.Registration.Mode = oauth.RegistrationOpen })
	r := w.register(`{"redirect_uris":["https://a.example.org/cb",7],"client_name":"` + strings.Repeat("secret", 500) + `","jwks":{}}`)
	text, _ := r.json(t)["error_description"].(string)
	for _, want := range []string{"redirect_uris.1", "client_name", "jwks", "keys is required"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %q", want, text)
		}
	}
	if strings.Contains(text, "secret") {
		t.Errorf("it repeats the value: %.200q", text)
	}
}

func TestRegistration_142_with_an_initial_access_token(t *testing.T) {
	some, _ := auth.ParseScopes("system/Patient.rs system/Observation.rs?category=laboratory")
	w := newWorld(t, func(o *oauth.Options) {
		o.Registration = oauth.Registration{Mode: oauth.RegistrationToken, Token: "initial-access-token", System: some}
	})
	keys, err := json.Marshal(w.keySet())
	if err != nil {
		t.Fatal(err)
	}
	body := `{"grant_types":["client_credentials"],"token_endpoint_auth_method":"private_key_jwt","scope":"system/Patient.rs","jwks":` + string(keys) + `}`
	for _, headers := range [][]string{nil, {"Authorization: Bearer wrong"}, {"Authorization: Basic initial-access-token"}} {
		if r := w.register(body, headers...); r.StatusCode != 401 {
			t.Errorf("%v: %d %s", headers, r.StatusCode, r.body)
		}
	}
	r := w.register(body, "Authorization: Bearer initial-access-token")
	if r.StatusCode != 201 {
		t.Fatalf("%d %s", r.StatusCode, r.body)
	}
	id := r.json(t)["client_id"].(string)
	if r := w.token(backend(w.assertion(id, "ES384"), "system/Patient.rs")); r.StatusCode != 200 {
		t.Errorf("%d %s", r.StatusCode, r.body)
	}
	t.Run("no_more_than_the_operator_lets_them", func(t *testing.T) {
		for asked, want := range map[string]string{
			"system/*.cruds": "system/Patient.rs system/Observation.rs?category=laboratory", "system/Patient.cruds": "system/Patient.rs", "system/Observation.r": "system/Observation.r?category=laboratory",
			"system/Condition.rs": "", "system/Patient.rs user/*.rs": "user/*.rs system/Patient.rs",
		} {
			r := w.register(strings.Replace(body, "system/Patient.rs", asked, 1), "Authorization: Bearer initial-access-token")
			if got, _ := r.json(t)["scope"].(string); got != want || want == "" && r.StatusCode != 400 {
				t.Errorf("%s: %d %s", asked, r.StatusCode, r.body)
			}
		}
	})
	t.Run("by_default_no_backend_system", func(t *testing.T) {
		w := newWorld(t, func(o *oauth.Options) {
			o.Registration = oauth.Registration{Mode: oauth.RegistrationToken, Token: "initial-access-token"}
		})
		if r := w.register(body, "Authorization: Bearer initial-access-token"); r.StatusCode != 400 || r.json(t)["error"] != "invalid_client_metadata" {
			t.Errorf("%d %s", r.StatusCode, r.body)
		}
		r := w.register(`{"redirect_uris":["https://a.example.org/cb"],"scope":"patient/*.rs system/*.rs"}`, "Authorization: Bearer initial-access-token")
		if r.StatusCode != 201 || r.json(t)["scope"] != "patient/*.rs" {
			t.Errorf("%d %s", r.StatusCode, r.body)
		}
	})
}
