package oauth_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// The names of the tests and subtests begin with the number of the requirement in the project's list of what
// certification kits demand.

func TestAuthorize_20_code_and_state(t *testing.T) {
	w := newWorld(t)
	request := w.request("public", "launch/patient openid fhirUser offline_access patient/*.rs", "nobody_knows_this", "x")
	for _, user := range []string{"ada", "greta"} {
		b := w.browser()
		q := w.outcome(b.consent(b.open("/auth/authorize?"+request.Encode()), user, "p1"))
		if q.Get("code") == "" || q.Has("error") || q.Get("state") != request.Get("state") {
			t.Errorf("%s: %v", user, q)
		}
	}
}

func TestAuthorize_19_post_without_cookies(t *testing.T) {
	w := newWorld(t)
	request := w.request("public", "launch/patient openid patient/Patient.rs")
	b := w.browser()
	r := b.send(b.client, http.MethodPost, "/auth/authorize", request, "Origin: https://app.example.org", "Sec-Fetch-Site: cross-site")
	q := w.outcome(b.consent(b.follow(r), "ada", ""))
	if q.Get("code") == "" {
		t.Errorf("%v", q)
	}
	// The browser is signed in now: the next request needs no password.
	r = b.follow(b.send(b.client, http.MethodPost, "/auth/authorize", request, "Origin: https://app.example.org"))
	if !strings.Contains(r.body, `value="allow"`) {
		t.Errorf("the second time: %d %s", r.StatusCode, r.body)
	}
}

func TestAuthorize_18_query_of_its_own(t *testing.T) {
	w := newWorld(t)
	request := w.request("public", "launch/patient patient/Patient.rs")
	b := w.browser()
	r := b.follow(b.send(b.client, http.MethodPost, "/auth/authorize?keep=me", request))
	if !strings.Contains(r.body, `name="password"`) {
		t.Errorf("%d %s", r.StatusCode, r.body)
	}
}

func TestAuthorize_21_22_23_24_refusals(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		name string
		more []string
		want string // the error that the app is told; "" for a page and no redirect
	}{
		{"22_aud_of_another_server", []string{"aud", "https://other.example.org/fhir"}, "invalid_request"},
		{"22_aud_that_begins_alike", []string{"aud", w.origin + "/fhirr"}, "invalid_request"},
		{"23_aud_missing", []string{"aud", "-"}, "invalid_request"},
		{"23_response_type_token", []string{"response_type", "token"}, "unsupported_response_type"},
		{"23_response_type_missing", []string{"response_type", "-"}, "unsupported_response_type"},
		{"23_unknown_client", []string{"client_id", "nobody"}, ""},
		{"23_client_missing", []string{"client_id", "-"}, ""},
		{"23_client_with_a_null", []string{"client_id", "pub\x00lic"}, ""},
		{"23_redirect_missing", []string{"redirect_uri", "-"}, ""},
		{"23_redirect_unregistered", []string{"redirect_uri", "https://evil.example.org/"}, ""},
		{"23_redirect_longer", []string{"redirect_uri", redirectURI + "&x=1"}, ""},
		{"23_redirect_shorter", []string{"redirect_uri", "https://app.example.org/callback"}, ""},
		{"23_redirect_with_user", []string{"redirect_uri", "https://app.example.org@evil.example.org/callback?keep=1"}, ""},
		{"23_redirect_other_case", []string{"redirect_uri", "https://APP.example.org/callback?keep=1"}, ""},
		{"24_state_missing", []string{"state", "-"}, "invalid_request"},
		{"24_state_with_a_null", []string{"state", "abcdefgh\x00"}, "invalid_request"},
		{"24_unknown_parameter_with_a_null", []string{"theme", "dark\x00"}, "invalid_request"},
		{"24_state_that_is_no_text", []string{"state", "abcdefgh\xff"}, "invalid_request"},
		{"24_scope_missing", []string{"scope", "-"}, "invalid_scope"},
		{"24_scopes_unknown", []string{"scope", "patient/Nonsense.rs patient/Patient.sr banana system/*.rs"}, "invalid_scope"},
		{"26_challenge_missing", []string{"code_challenge", "-"}, "invalid_request"},
		{"26_challenge_plain", []string{"code_challenge_method", "plain", "code_challenge", verifier}, "invalid_request"},
		{"26_method_missing", []string{"code_challenge_method", "-"}, "invalid_request"},
		{"26_challenge_not_a_hash", []string{"code_challenge", "abc"}, "invalid_request"},
		{"47_unknown_launch", []string{"scope", "launch patient/Patient.rs", "launch", "made-up"}, "after sign-in invalid_request"},
		{"request_object", []string{"request", "eyJhbGciOiJub25lIn0.e30."}, "request_not_supported"},
		{"request_uri", []string{"request_uri", "http://169.254.169.254/"}, "request_uri_not_supported"},
		{"response_mode_fragment", []string{"response_mode", "fragment"}, "unsupported_response_mode"},
		{"prompt_none", []string{"prompt", "none"}, "interaction_required"},
		{"prompt_unknown", []string{"prompt", "dance"}, "invalid_request"},
		{"max_age_unreadable", []string{"max_age", "-1"}, "invalid_request"},
		{"short_nonce", []string{"nonce", "abc"}, "invalid_request"},
	} {
		t.Run(c.name, func(t *testing.T) {
			request := w.request("public", "launch/patient openid patient/Patient.rs", c.more...)
			for _, method := range []string{http.MethodGet, http.MethodPost} {
				b := w.browser()
				var r *response
				if method == http.MethodGet {
					r = b.open("/auth/authorize?" + request.Encode())
				} else {
					r = b.follow(b.send(b.client, method, "/auth/authorize", request))
				}
				if c.want == "" {
					if r.StatusCode != http.StatusBadRequest || r.Header.Get("Location") != "" || !strings.Contains(r.body, "<h1>") {
						t.Errorf("%s: %d %s %s", method, r.StatusCode, r.Header.Get("Location"), r.body)
					}
					continue
				}
				want, signIn := strings.CutPrefix(c.want, "after sign-in ")
				if signIn {
					r = b.signIn(r, "ada")
				}
				q := w.outcome(r)
				if q.Get("error") != want || q.Has("code") || q.Get("state") != request.Get("state") {
					t.Errorf("%s: %v", method, q)
				}
			}
		})
	}
	t.Run("21_aud_with_slash", func(t *testing.T) {
		r := w.browser().open("/auth/authorize?" + w.request("public", "patient/Patient.rs", "aud", w.origin+"/fhir/").Encode())
		if !strings.Contains(r.body, `name="password"`) {
			t.Errorf("%d %s", r.StatusCode, r.body)
		}
	})
	for _, name := range []string{"scope", "state", "aud", "code_challenge", "response_type"} {
		t.Run("37_repeated_"+name, func(t *testing.T) {
			request := w.request("public", "patient/Patient.rs")
			request.Add(name, request.Get(name))
			if q := w.outcome(w.browser().open("/auth/authorize?" + request.Encode())); q.Get("error") != "invalid_request" {
				t.Errorf("%v", q)
			}
		})
	}
	for _, name := range []string{"client_id", "redirect_uri"} {
		t.Run("37_repeated_"+name, func(t *testing.T) {
			request := w.request("public", "patient/Patient.rs")
			request.Add(name, "https://evil.example.org/")
			if r := w.browser().open("/auth/authorize?" + request.Encode()); r.StatusCode != http.StatusBadRequest {
				t.Errorf("%d %s", r.StatusCode, r.Header.Get("Location"))
			}
		})
	}
}

func TestAuthorize_24_user_says_no(t *testing.T) {
	w := newWorld(t)
	b := w.browser()
	r := b.consent(b.open("/auth/authorize?"+w.request("public", "patient/Patient.rs").Encode()), "ada", "", func(f url.Values) { f.Set("decision", "deny") })
	if q := w.outcome(r); q.Get("error") != "access_denied" || q.Has("code") {
		t.Errorf("%v", q)
	}
}

func TestAuthorize_50_who_picks_whom(t *testing.T) {
	w := newWorld(t)
	if got := w.tokens("ada", "", "launch/patient patient/Patient.rs")["patient"]; got != "p1" {
		t.Errorf("ada got %v", got)
	}
	if got := w.tokens("greta", "p2", "launch/patient patient/Patient.rs")["patient"]; got != "p2" {
		t.Errorf("greta got %v", got)
	}
	// A patient who sends the picker's form all the same gets nowhere.
	b := w.browser()
	page := b.signIn(b.open("/auth/authorize?"+w.request("public", "launch/patient patient/Patient.rs").Encode()), "ada")
	fields := form(page.body)
	fields.Set("patient", "p2")
	if r := b.submit("/auth/patient", fields); r.StatusCode != http.StatusBadRequest {
		t.Errorf("%d %s", r.StatusCode, r.body)
	}
}

func TestAuthorize_48_patient_scopes_bring_a_patient(t *testing.T) {
	w := newWorld(t)
	if got := w.tokens("ada", "", "patient/Patient.rs")["patient"]; got != "p1" {
		t.Errorf("got %v", got)
	}
	if got, there := w.tokens("ada", "", "openid user/Patient.rs")["patient"]; there {
		t.Errorf("user scopes alone brought a patient: %v", got)
	}
}

func TestAuthorize_requests_belong_to_one_session_and_end(t *testing.T) {
	w := newWorld(t)
	b := w.browser()
	page := b.signIn(b.open("/auth/authorize?"+w.request("public", "patient/Patient.rs").Encode()), "ada")
	handle := form(page.body).Get("request")

	thief := w.browser()
	thief.signIn(thief.open("/auth/login"), "bo")
	if r := thief.open("/auth/continue?request=" + handle); r.StatusCode != http.StatusBadRequest || strings.Contains(r.body, "allow") {
		t.Errorf("another session: %d %s", r.StatusCode, r.body)
	}
	fields := form(page.body)
	fields.Set("decision", "allow")
	if q := w.outcome(b.submit("/auth/consent", fields)); q.Get("code") == "" {
		t.Errorf("%v", q)
	}
	if r := b.submit("/auth/consent", fields); r.StatusCode != http.StatusBadRequest {
		t.Errorf("the same form again: %d %s", r.StatusCode, r.body)
	}
	late := b.open("/auth/authorize?" + w.request("public", "patient/Patient.rs").Encode())
	w.clock.advance(16 * time.Minute)
	fields = form(late.body)
	fields.Set("decision", "allow")
	if r := b.submit("/auth/consent", fields); r.StatusCode != http.StatusBadRequest {
		t.Errorf("after a quarter of an hour: %d %s", r.StatusCode, r.body)
	}
}

func TestAuthorize_prompt_login_and_max_age(t *testing.T) {
	w := newWorld(t)
	b := w.browser()
	b.signIn(b.open("/auth/login"), "ada")
	for _, more := range [][]string{{"prompt", "login"}, {"max_age", "0"}} {
		request := w.request("public", "openid patient/Patient.rs", more...)
		page := b.open("/auth/authorize?" + request.Encode())
		if !strings.Contains(page.body, `name="password"`) {
			t.Fatalf("%v: not asked to sign in: %s", more, page.body)
		}
		q := w.outcome(b.consent(page, "ada", ""))
		if r := w.token(exchange(q.Get("code"), "client_id", "public")); r.StatusCode != 200 {
			t.Errorf("%v: %d %s", more, r.StatusCode, r.body)
		}
	}
}

// TestAuthorize_23_sign_in_alone_needs_no_aud: OpenID Connect knows none, and the token opens no record. With any other
// scope aud is needed.
func TestAuthorize_23_sign_in_alone_needs_no_aud(t *testing.T) {
	w := newWorld(t)
	for scope, fine := range map[string]bool{
		"openid": true, "openid profile": true, "openid fhirUser": false, "openid launch/patient": false, "openid patient/*.rs": false, "openid nonsense": false, "": false,
	} {
		r := w.browser().open("/auth/authorize?" + w.request("public", scope, "aud", "-").Encode())
		if fine != strings.Contains(r.body, `name="password"`) {
			t.Errorf("%q: %d %s", scope, r.StatusCode, r.Header.Get("Location"))
		}
	}
	answer := w.token(exchange(w.code("ada", "", w.request("public", "openid", "aud", "-")), "client_id", "public")).json(t)
	token, _ := answer["access_token"].(string)
	for path, want := range map[string]int{"/Patient/p1": 403, "/Patient": 403, "/Observation": 403, "/Organization/o1": 403} {
		if r := w.get(path, token); r.StatusCode != want {
			t.Errorf("%s: %d", path, r.StatusCode)
		}
	}
}
