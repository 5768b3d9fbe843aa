package oauth_test

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestToken_28_29_33_answer_to_a_public_app(t *testing.T) {
	w := newWorld(t)
	code := w.code("ada", "", w.request("public", "launch/patient openid fhirUser offline_access patient/*.rs"))
	r := w.token(exchange(code, "client_id", "public"), "Origin: https://app.example.org")
	m := r.json(t)
	if r.StatusCode != 200 || m["access_token"] == "" || !strings.EqualFold(m["token_type"].(string), "bearer") || m["expires_in"].(float64) < 3598 ||
		m["refresh_token"] == nil || m["id_token"] == nil || m["patient"] != "p1" {
		t.Errorf("%d %s", r.StatusCode, r.body)
	}
	if m["scope"] != "launch/patient openid fhirUser offline_access patient/*.rs" {
		t.Errorf("scope %v", m["scope"])
	}
	if r.Header.Get("Cache-Control") != "no-store" || r.Header.Get("Pragma") != "no-cache" || r.Header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("headers %v", r.Header)
	}
	if _, there := m["need_patient_banner"]; there {
		t.Error("a banner is asked for where Kiln did not launch the app")
	}
}

func TestToken_30_pkce(t *testing.T) {
	w := newWorld(t)
	for name, v := range map[string]string{
		"missing": "-", "blank": "", "wrong": strings.Repeat("x", 50), "the_challenge_itself": challenge(verifier),
	} {
		for _, client := range []string{"public", "secret"} {
			t.Run(name+"_"+client, func(t *testing.T) {
				code := w.code("ada", "", w.request(client, "patient/Patient.rs"))
				f, headers := exchange(code, "code_verifier", v, "client_id", client), []string(nil)
				if client == "secret" {
					f.Del("client_id")
					headers = []string{basicSecret}
				}
				r := w.token(f, headers...)
				if r.StatusCode != 400 || r.json(t)["access_token"] != nil {
					t.Errorf("%d %s", r.StatusCode, r.body)
				}
				f.Set("code_verifier", verifier)
				if r := w.token(f, headers...); r.StatusCode != 400 {
					t.Errorf("a second guess: %d %s", r.StatusCode, r.body)
				}
			})
		}
	}
}

func TestToken_31_32_36_37_38_refusals(t *testing.T) {
	w := newWorld(t)
	basic := func(pair string) string {
		return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(pair))
	}
	for _, c := range []struct {
		name    string
		client  string
		more    []string
		headers []string
		status  int
		code    string
	}{
		{"31_unknown_code", "secret", []string{"code", "made-up"}, []string{basicSecret}, 400, "invalid_grant"},
		{"31_blank_code", "secret", []string{"code", ""}, []string{basicSecret}, 400, "invalid_grant"},
		{"32_unknown_client", "secret", nil, []string{basic("nobody:x")}, 401, "invalid_client"},
		{"36_wrong_secret", "secret", nil, []string{basic("secret:wrong")}, 401, "invalid_client"},
		{"36_no_credential", "secret", []string{"client_id", "secret"}, nil, 401, "invalid_client"},
		{"36_blank_secret", "secret", []string{"client_id", "secret", "client_secret", ""}, nil, 401, "invalid_client"},
		{"36_secret_of_a_signer", "signer", []string{"client_id", "signer", "client_secret", "x"}, nil, 401, "invalid_client"},
		{"36_public_with_a_secret", "public", []string{"client_id", "public", "client_secret", "x"}, nil, 401, "invalid_client"},
		{"36_no_client", "public", nil, nil, 401, "invalid_client"},
		{"37_two_ways", "secret", []string{"client_id", "secret", "client_secret", "s3cret-of-the-app"}, []string{basicSecret}, 400, "invalid_request"},
		{"37_two_clients", "secret", []string{"client_id", "other"}, []string{basicSecret}, 400, "invalid_request"},
		{"37_header_unreadable", "secret", nil, []string{"Authorization: Basic %%%"}, 401, "invalid_client"},
		{"37_no_grant_type", "public", []string{"client_id", "public", "grant_type", "-"}, nil, 400, "invalid_request"},
		{"37_password_grant", "public", []string{"client_id", "public", "grant_type", "password"}, nil, 400, "unsupported_grant_type"},
		{"38_redirect_missing", "public", []string{"client_id", "public", "redirect_uri", "-"}, nil, 400, "invalid_grant"},
		{"38_redirect_other", "public", []string{"client_id", "public", "redirect_uri", "https://app.example.org/callback"}, nil, 400, "invalid_grant"},
		{"25_code_of_another_client", "public", nil, []string{basicSecret}, 400, "invalid_grant"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code := w.code("ada", "", w.request(c.client, "patient/Patient.rs"))
			r := w.token(exchange(code, c.more...), c.headers...)
			if r.StatusCode != c.status || r.json(t)["error"] != c.code || r.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("%d %s %v", r.StatusCode, r.body, r.Header)
			}
			if c.status == 401 && len(c.headers) > 0 && !strings.HasPrefix(r.Header.Get("WWW-Authenticate"), "Basic") {
				t.Errorf("WWW-Authenticate %q", r.Header.Get("WWW-Authenticate"))
			}
		})
	}
	t.Run("37_repeated_parameter", func(t *testing.T) {
		f := exchange(w.code("ada", "", w.request("public", "patient/Patient.rs")), "client_id", "public")
		f.Add("code_verifier", verifier)
		if r := w.token(f); r.StatusCode != 400 || r.json(t)["error"] != "invalid_request" {
			t.Errorf("%d %s", r.StatusCode, r.body)
		}
	})
	t.Run("37_get", func(t *testing.T) {
		r := w.send(nil, http.MethodGet, "/auth/token?grant_type=authorization_code", nil)
		if r.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("%d %s", r.StatusCode, r.body)
		}
	})
	t.Run("37_json", func(t *testing.T) {
		r := w.send(nil, http.MethodPost, "/auth/token", url.Values{}, "Content-Type: application/json")
		if r.StatusCode != 400 || r.json(t)["error"] != "invalid_request" {
			t.Errorf("%d %s", r.StatusCode, r.body)
		}
	})
	t.Run("37_too_large", func(t *testing.T) {
		r := w.token(url.Values{"grant_type": {strings.Repeat("x", 100_000)}})
		if r.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("%d %s", r.StatusCode, r.body)
		}
	})
}

func TestToken_34_35_ways_to_authenticate(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		name, client string
		more         func() []string
		headers      []string
	}{
		{"34_basic", "secret", func() []string { return nil }, []string{basicSecret}},
		{"34_post", "secret", func() []string { return []string{"client_id", "secret", "client_secret", "s3cret-of-the-app"} }, nil},
		{"35_rs384", "signer", func() []string {
			return []string{"client_assertion_type", assertionType, "client_assertion", w.assertion("signer", "RS384")}
		}, nil},
		{"35_es384", "signer", func() []string {
			return []string{"client_assertion_type", assertionType, "client_assertion", w.assertion("signer", "ES384")}
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			code := w.code("ada", "", w.request(c.client, "offline_access patient/Patient.rs"))
			r := w.token(exchange(code, c.more()...), c.headers...)
			if r.StatusCode != 200 {
				t.Fatalf("%d %s", r.StatusCode, r.body)
			}
			f := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {r.json(t)["refresh_token"].(string)}}
			for more := c.more(); len(more) > 0; more = more[2:] {
				f.Set(more[0], more[1])
			}
			if r := w.token(f, c.headers...); r.StatusCode != 200 {
				t.Errorf("refresh: %d %s", r.StatusCode, r.body)
			}
		})
	}
}

func TestToken_25_codes_work_once_and_for_a_minute(t *testing.T) {
	w := newWorld(t)
	f := exchange(w.code("ada", "", w.request("public", "offline_access patient/Patient.rs")), "client_id", "public")
	first := w.token(f).json(t)
	if r := w.token(f); r.StatusCode != 400 || r.json(t)["error"] != "invalid_grant" {
		t.Errorf("second use: %d %s", r.StatusCode, r.body)
	}
	if r := w.get("/Patient/p1", first["access_token"].(string)); r.StatusCode != 401 {
		t.Errorf("the token of the first use still works: %d", r.StatusCode)
	}
	refresh := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {first["refresh_token"].(string)}, "client_id": {"public"}}
	if r := w.token(refresh); r.StatusCode != 400 {
		t.Errorf("the refresh token of the first use still works: %d", r.StatusCode)
	}
	f = exchange(w.code("ada", "", w.request("public", "patient/Patient.rs")), "client_id", "public")
	w.clock.advance(61 * time.Second)
	if r := w.token(f); r.StatusCode != 400 || r.json(t)["error"] != "invalid_grant" {
		t.Errorf("after a minute: %d %s", r.StatusCode, r.body)
	}
}

func TestToken_25_of_exchanges_at_once_one_wins_at_most(t *testing.T) {
	w := newWorld(t)
	for range 8 {
		f := exchange(w.code("ada", "", w.request("public", "offline_access patient/Patient.rs")), "client_id", "public")
		var mu sync.Mutex
		var wg sync.WaitGroup
		got, tokens := map[int]int{}, []string{}
		for range 6 {
			wg.Go(func() {
				r := w.token(f)
				mu.Lock()
				defer mu.Unlock()
				got[r.StatusCode]++
				if r.StatusCode == 200 {
					tokens = append(tokens, r.json(t)["access_token"].(string))
				} else if code := r.json(t)["error"]; code != "invalid_grant" {
					t.Errorf("%d %v", r.StatusCode, code)
				}
			})
		}
		wg.Wait()
		if got[200] > 1 || got[200]+got[400] != 6 {
			t.Errorf("%v", got)
		}
		for _, token := range tokens { // five others showed the code: one of them may be the app
			if r := w.get("/Patient/p1", token); r.StatusCode != 401 {
				t.Errorf("the winner's token still works: %d", r.StatusCode)
			}
		}
	}
}

func TestToken_39_lives_an_hour(t *testing.T) {
	w := newWorld(t)
	token := w.tokens("ada", "", "patient/Patient.rs")["access_token"].(string)
	w.clock.advance(61 * time.Minute)
	if r := w.get("/Patient/p1", token); r.StatusCode != 401 || !strings.Contains(r.Header.Get("WWW-Authenticate"), `error="invalid_token"`) {
		t.Errorf("%d %v", r.StatusCode, r.Header)
	}
}

func refreshing(token any, more ...string) url.Values {
	text, _ := token.(string)
	v := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {text}, "client_id": {"public"}}
	for i := 0; i+1 < len(more); i += 2 {
		v.Set(more[i], more[i+1])
	}
	return v
}

func TestRefresh_72_73_74_75(t *testing.T) {
	w := newWorld(t)
	const scope = "launch/patient openid fhirUser offline_access patient/Condition.rs?category=http://terminology.hl7.org/CodeSystem/condition-category|problem-list-item patient/Patient.rs"
	m := w.tokens("ada", "", scope)
	if m["scope"] != scope {
		t.Fatalf("granted %v", m["scope"])
	}
	for _, more := range [][]string{nil, {"scope", scope}} {
		r := w.token(refreshing(m["refresh_token"], more...))
		next := r.json(t)
		if r.StatusCode != 200 || next["access_token"] == m["access_token"] || next["token_type"] == nil || next["expires_in"].(float64) <= 0 ||
			next["scope"] != scope || next["patient"] != "p1" || next["id_token"] == nil || next["refresh_token"] == m["refresh_token"] {
			t.Fatalf("%d %s", r.StatusCode, r.body)
		}
		if r.Header.Get("Cache-Control") != "no-store" || r.Header.Get("Pragma") != "no-cache" {
			t.Errorf("headers %v", r.Header)
		}
		m = next
	}
}

func TestRefresh_76_77_refusals(t *testing.T) {
	w := newWorld(t)
	if r := w.token(refreshing("made-up")); r.StatusCode != 400 || r.json(t)["error"] != "invalid_grant" {
		t.Errorf("made up: %d %s", r.StatusCode, r.body)
	}
	m := w.tokens("ada", "", "offline_access patient/Patient.rs patient/Observation.rs")
	f := refreshing(m["refresh_token"])
	f.Del("client_id")
	if r := w.token(f, basicSecret); r.StatusCode != 400 || r.json(t)["error"] != "invalid_grant" {
		t.Errorf("another client: %d %s", r.StatusCode, r.body)
	}
	for _, wider := range []string{"offline_access patient/Patient.rs patient/Condition.rs", "patient/*.rs", "patient/Patient.cruds", " "} {
		if r := w.token(refreshing(m["refresh_token"], "scope", wider)); r.StatusCode != 400 || r.json(t)["error"] != "invalid_scope" {
			t.Errorf("%q: %d %s", wider, r.StatusCode, r.body)
		}
	}
	narrow := w.token(refreshing(m["refresh_token"], "scope", "patient/Patient.rs")).json(t)
	if narrow["scope"] != "patient/Patient.rs" {
		t.Errorf("narrowed to %v", narrow["scope"])
	}
	if again := w.token(refreshing(narrow["refresh_token"])).json(t); again["scope"] != "offline_access patient/Patient.rs patient/Observation.rs" {
		t.Errorf("the refresh token was narrowed too: %v", again["scope"])
	}
}

func TestRefresh_77_reuse_revokes_the_family(t *testing.T) {
	w := newWorld(t)
	first := w.tokens("ada", "", "offline_access patient/Patient.rs")
	second := w.token(refreshing(first["refresh_token"])).json(t)
	if r := w.token(refreshing(first["refresh_token"])); r.StatusCode != 400 || r.json(t)["error"] != "invalid_grant" {
		t.Errorf("reuse: %d %s", r.StatusCode, r.body)
	}
	if r := w.token(refreshing(second["refresh_token"])); r.StatusCode != 400 {
		t.Errorf("the new refresh token still works: %d", r.StatusCode)
	}
	for _, m := range []map[string]any{first, second} {
		if r := w.get("/Patient/p1", m["access_token"].(string)); r.StatusCode != 401 {
			t.Errorf("an access token still works: %d", r.StatusCode)
		}
	}
}

// TestRefresh_77_at_once: of refreshes that come at the same time one wins at most, whether the others come as it runs or
// after it, when they end the family. None waits for another in a ring.
func TestRefresh_77_at_once(t *testing.T) {
	w := newWorld(t)
	for range 12 {
		first := w.tokens("ada", "", "offline_access patient/Patient.rs")
		var mu sync.Mutex
		var wg sync.WaitGroup
		got := map[int]int{}
		var tokens []string
		for range 8 {
			wg.Go(func() {
				r := w.token(refreshing(first["refresh_token"]))
				mu.Lock()
				defer mu.Unlock()
				got[r.StatusCode]++
				if r.StatusCode == 200 {
					tokens = append(tokens, r.json(t)["access_token"].(string))
				}
			})
		}
		wg.Wait()
		if got[200] > 1 || got[200]+got[400] != 8 {
			t.Errorf("%v", got)
		}
		if r := w.token(refreshing(first["refresh_token"])); r.StatusCode != 400 {
			t.Errorf("used up: %d %s", r.StatusCode, r.body)
		}
		for _, token := range tokens {
			if r := w.get("/Patient/p1", token); r.StatusCode != 401 {
				t.Errorf("the winner's token still works: %d", r.StatusCode)
			}
		}
	}
}

func TestRefresh_78_offline_access_lasts(t *testing.T) {
	w := newWorld(t)
	m := w.tokens("ada", "", "offline_access patient/Patient.rs")
	for range 3 { // each refresh gives another three months at least
		w.clock.advance(92 * 24 * time.Hour)
		r := w.token(refreshing(m["refresh_token"]))
		if r.StatusCode != 200 {
			t.Fatalf("%d %s", r.StatusCode, r.body)
		}
		m = r.json(t)
	}
	w.clock.advance(181 * 24 * time.Hour)
	if r := w.token(refreshing(m["refresh_token"])); r.StatusCode != 400 {
		t.Errorf("unused for half a year: %d", r.StatusCode)
	}
}

func TestRefresh_79_online_access_ends_with_the_session(t *testing.T) {
	w := newWorld(t)
	b := w.browser()
	q := w.outcome(b.consent(b.open("/auth/authorize?"+w.request("public", "online_access patient/Patient.rs").Encode()), "ada", ""))
	m := w.token(exchange(q.Get("code"), "client_id", "public")).json(t)
	next := w.token(refreshing(m["refresh_token"])).json(t)
	b.submit("/auth/logout", form(b.open("/auth/apps").body))
	if r := w.token(refreshing(next["refresh_token"])); r.StatusCode != 400 {
		t.Errorf("%d %s", r.StatusCode, r.body)
	}
	if m := w.tokens("ada", "", "patient/Patient.rs"); m["refresh_token"] != nil {
		t.Error("a refresh token without being asked for one")
	}
	// The user may say no to it, and a client may not be registered for it.
	if m := w.tokens("ada", "", "offline_access patient/Patient.rs", func(f url.Values) {
		kept := f["scope"][:0]
		for _, s := range f["scope"] {
			if s != "offline_access" {
				kept = append(kept, s)
			}
		}
		f["scope"] = kept
	}); m["refresh_token"] != nil || strings.Contains(m["scope"].(string), "offline") {
		t.Errorf("unticked, and still: %v", m)
	}
}

func TestToken_known_to_a_node_ends_at_once(t *testing.T) {
	w := newWorld(t)
	paths := []string{"/Patient/p1", "/Patient?name=oka", "/Patient/p1/_history", "/Patient/p1/Condition", "/Patient/nobody", "/Patient?no=such", "/Condition?_summary=count", "/Practitioner/dr"}
	for _, end := range []string{"revoked", "expired"} {
		token := w.tokens("ada", "", "openid fhirUser patient/Patient.rs patient/Condition.rs")["access_token"].(string)
		for range 2 { // from the second time on the node knows who holds it
			for _, path := range paths {
				if r := w.get(path, token); r.StatusCode == 401 || r.StatusCode >= 500 {
					t.Fatalf("%s: %d %s", path, r.StatusCode, r.body)
				}
			}
		}
		if end == "revoked" {
			w.send(nil, http.MethodPost, "/auth/revoke", url.Values{"token": {token}, "client_id": {"public"}})
		} else {
			w.clock.advance(61 * time.Minute)
		}
		for _, path := range paths {
			r := w.get(path, token)
			if r.StatusCode != 401 || !strings.Contains(r.Header.Get("WWW-Authenticate"), "invalid_token") || strings.Contains(r.body, "Okafor") {
				t.Errorf("%s, %s: %d %s", end, path, r.StatusCode, r.body)
			}
		}
	}
}
