package oauth_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"kiln/auth/oauth"
	"kiln/storage/identity"
)

// outsideButton presses "Sign in with …" on the sign-in page and returns where the browser is sent.
func (b *person) outsideButton(page *response) *url.URL {
	b.Helper()
	fields := form(page.body)
	r := b.send(b.client, http.MethodPost, "/auth/login/outside", url.Values{
		"token": fields["token"], "request": fields["request"], "to": fields["to"],
	}, "Origin: "+b.origin)
	to, err := url.Parse(r.Header.Get("Location"))
	if err != nil || r.StatusCode != http.StatusSeeOther {
		b.Fatalf("the button: %d %s", r.StatusCode, r.body)
	}
	return to
}

// TestOutside_another_Kiln_as_the_provider: a Kiln whose people sign in at another Kiln, to consent to an app.
func TestOutside_another_Kiln_as_the_provider(t *testing.T) {
	there := newWorld(t)
	here := makeWorld(t, func(o *oauth.Options) {
		o.Outside = oauth.Outside{Issuer: there.origin, Name: "the hospital", ClientID: "kiln-here", ClientSecret: "a secret between two Kilns"}
	})
	if err := there.identity.AddClient(t.Context(), &identity.Client{
		ID: "kiln-here", Name: "Kiln here", AuthMethod: identity.AuthSecret, Secret: identity.Hash("a secret between two Kilns"),
		GrantTypes: []string{"authorization_code"}, Scope: "openid", RedirectURIs: []string{here.origin + "/auth/login/outside/answer"},
	}); err != nil {
		t.Fatal(err)
	}
	ada, err := there.identity.AccountNamed(t.Context(), "ada")
	if err != nil {
		t.Fatal(err)
	}
	// come goes to the provider and back as ada, with the same browser.
	come := func(b *person, page *response) *response {
		t.Helper()
		if !strings.Contains(page.body, "Sign in with the hospital") {
			t.Fatalf("no button: %s", page.body)
		}
		to := b.outsideButton(page)
		if q := to.Query(); q.Get("code_challenge_method") != "S256" || q.Get("state") == "" || q.Get("nonce") == "" || q.Get("scope") != "openid" {
			t.Errorf("the request to the provider: %s", to)
		}
		atProvider := &person{there, b.client}
		back := atProvider.consent(atProvider.open(to.String()), "ada", "")
		return b.open(back.Header.Get("Location"))
	}
	b := here.browser()
	authorize := "/auth/authorize?" + here.request("public", "launch/patient openid fhirUser patient/*.rs").Encode()
	r := come(b, b.open(authorize))
	if r.StatusCode != http.StatusForbidden || !strings.Contains(r.body, ada.ID) {
		t.Errorf("somebody whom nobody has linked: %d %s", r.StatusCode, r.body)
	}
	bo, err := here.identity.AccountNamed(t.Context(), "bo") // another name than there: only the link counts
	if err != nil {
		t.Fatal(err)
	}
	if err := here.identity.LinkOutside(t.Context(), bo.ID, identity.Outside{Issuer: there.origin, Subject: ada.ID}); err != nil {
		t.Fatal(err)
	}
	r = come(b, b.open(authorize))
	if !strings.Contains(r.body, "signed in as bo") {
		t.Fatalf("after the link: %d %s", r.StatusCode, r.body)
	}
	if got := here.outcome(b.consent(r, "", "")); got.Get("code") == "" {
		t.Errorf("no code: %v", got)
	}

	t.Run("closed_account", func(t *testing.T) {
		if err := here.identity.DisableAccount(t.Context(), bo.ID, true); err != nil {
			t.Fatal(err)
		}
		b := here.browser()
		if r := come(b, b.open("/auth/apps")); r.StatusCode != http.StatusForbidden {
			t.Errorf("%d %s", r.StatusCode, r.body)
		}
		if err := here.identity.DisableAccount(t.Context(), bo.ID, false); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("answer_in_another_browser", func(t *testing.T) {
		b := here.browser()
		to := b.outsideButton(b.open("/auth/apps"))
		atProvider := &person{there, b.client}
		back := atProvider.consent(atProvider.open(to.String()), "ada", "").Header.Get("Location")
		victim := here.browser()
		victim.open("/auth/apps")
		if r := victim.open(back); r.StatusCode != http.StatusBadRequest || !strings.Contains(r.body, "expired") {
			t.Errorf("somebody else's answer: %d %s", r.StatusCode, r.body)
		}
		if r := b.open(strings.Replace(back, "state=", "state=x", 1)); r.StatusCode != http.StatusBadRequest {
			t.Errorf("another state: %d", r.StatusCode)
		}
		if r := b.open(back); r.StatusCode != http.StatusBadRequest {
			t.Errorf("a second answer to one question: %d", r.StatusCode)
		}
	})
	t.Run("user_says_no_there", func(t *testing.T) {
		b := here.browser()
		to := b.outsideButton(b.open("/auth/apps"))
		atProvider := &person{there, b.client}
		back := atProvider.consent(atProvider.open(to.String()), "ada", "", func(v url.Values) { v.Set("decision", "deny") })
		if r := b.open(back.Header.Get("Location")); r.StatusCode != http.StatusUnauthorized || !strings.Contains(r.body, "did not work") {
			t.Errorf("%d %s", r.StatusCode, r.body)
		}
	})
	t.Run("unlinked_ends_sessions", func(t *testing.T) {
		b := here.browser()
		if r := come(b, b.open("/auth/apps")); r.StatusCode != http.StatusOK {
			t.Fatalf("%d %s", r.StatusCode, r.body)
		}
		if err := here.identity.UnlinkOutside(t.Context(), bo.ID); err != nil {
			t.Fatal(err)
		}
		if r := b.open("/auth/apps"); !strings.Contains(r.body, `name="password"`) {
			t.Errorf("%d %s", r.StatusCode, r.body)
		}
	})
}

// liar is a provider that answers what a test wants.
type liar struct {
	*httptest.Server
	mu     sync.Mutex
	change func(claims map[string]any) (alg jose.SignatureAlgorithm, key any)
	nonce  string
}

func newLiar(t *testing.T, w *world) *liar {
	l := new(liar)
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, content any) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(content)
	}
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"issuer": l.URL, "authorization_endpoint": l.URL + "/authorize", "token_endpoint": l.URL + "/token",
			"jwks_uri": l.URL + "/jwks", "id_token_signing_alg_values_supported": []string{"RS256", "HS256", "none"}})
	})
	mux.HandleFunc("/jwks", func(rw http.ResponseWriter, _ *http.Request) {
		answer(rw, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: w.rsa.Public(), KeyID: "r", Use: "sig", Algorithm: "RS256"}}})
	})
	mux.HandleFunc("/token", func(rw http.ResponseWriter, _ *http.Request) {
		l.mu.Lock()
		defer l.mu.Unlock()
		claims := map[string]any{"iss": l.URL, "sub": "somebody", "aud": "kiln", "exp": time.Now().Add(time.Minute).Unix(), "iat": time.Now().Unix(), "nonce": l.nonce}
		alg, key := l.change(claims)
		payload, _ := json.Marshal(claims)
		token := ""
		if alg == "none" {
			token = "eyJhbGciOiJub25lIn0." + base64.RawURLEncoding.EncodeToString(payload) + "."
		} else {
			signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", "r"))
			if err != nil {
				t.Error(err)
				return
			}
			signed, err := signer.Sign(payload)
			if err != nil {
				t.Error(err)
				return
			}
			token, _ = signed.CompactSerialize()
		}
		answer(rw, map[string]any{"access_token": "x", "token_type": "Bearer", "id_token": token})
	})
	l.Server = httptest.NewServer(mux)
	t.Cleanup(l.Close)
	return l
}

// TestOutside_id_tokens_refused: what a provider, or somebody in its place, must not get through.
func TestOutside_id_tokens_refused(t *testing.T) {
	var l *liar
	w := newWorld(t, func(o *oauth.Options) {
		l = newLiar(t, &world{rsa: first(testKeys())})
		o.Outside = oauth.Outside{Issuer: l.URL, ClientID: "kiln"}
	})
	root, err := w.identity.AccountNamed(t.Context(), "root")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.identity.LinkOutside(t.Context(), root.ID, identity.Outside{Issuer: l.URL, Subject: "somebody"}); err != nil {
		t.Fatal(err)
	}
	set := func(name string, value any) func(map[string]any) (jose.SignatureAlgorithm, any) {
		return func(c map[string]any) (jose.SignatureAlgorithm, any) {
			if c[name] = value; value == nil {
				delete(c, name)
			}
			return jose.RS256, w.rsa
		}
	}
	for name, c := range map[string]struct {
		change func(map[string]any) (jose.SignatureAlgorithm, any)
		more   string
		in     bool
	}{
		"good":          {set("x", "y"), "", true},
		"good_with_iss": {set("x", "y"), "&iss=" + url.QueryEscape(l.URL), true},
		"several_audiences": {func(c map[string]any) (jose.SignatureAlgorithm, any) {
			c["aud"], c["azp"] = []string{"kiln", "b"}, "kiln"
			return jose.RS256, w.rsa
		}, "", true},
		"other_iss":      {set("x", "y"), "&iss=https%3A%2F%2Felsewhere.example", false},
		"wrong_nonce":    {set("nonce", "another"), "", false},
		"no_nonce":       {set("nonce", nil), "", false},
		"wrong_issuer":   {set("iss", "https://elsewhere.example"), "", false},
		"wrong_audience": {set("aud", "another-app"), "", false},
		"other_party": {func(c map[string]any) (jose.SignatureAlgorithm, any) {
			c["aud"], c["azp"] = []string{"kiln", "b"}, "b"
			return jose.RS256, w.rsa
		}, "", false},
		"expired":    {set("exp", time.Now().Add(-time.Minute).Unix()), "", false},
		"no_subject": {set("sub", nil), "", false},
		"wrong_key":  {func(map[string]any) (jose.SignatureAlgorithm, any) { return jose.ES384, w.ec }, "", false},
		"alg_none":   {func(map[string]any) (jose.SignatureAlgorithm, any) { return "none", nil }, "", false},
		"hs256_with_secret": {func(map[string]any) (jose.SignatureAlgorithm, any) {
			return jose.HS256, []byte("0123456789abcdef0123456789abcdef")
		}, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			b := w.browser()
			to := b.outsideButton(b.open("/auth/launch"))
			l.mu.Lock()
			l.change, l.nonce = c.change, to.Query().Get("nonce")
			l.mu.Unlock()
			r := b.open("/auth/login/outside/answer?code=x&state=" + to.Query().Get("state") + c.more)
			if in := strings.Contains(r.body, "Launch an app"); in != c.in {
				t.Errorf("%d %s", r.StatusCode, r.body)
			}
			if !c.in && b.open("/auth/launch").StatusCode == http.StatusOK && !strings.Contains(b.open("/auth/launch").body, `name="password"`) {
				t.Error("a session began all the same")
			}
		})
	}
	if log := w.log.String(); strings.Contains(log, "eyJ") || strings.Contains(log, "internal error") {
		t.Errorf("the log: %s", log)
	}
}

func first[A, B any](a A, _ B) A { return a }

// TestOutside_none: without a provider there is no button, and its paths lead nowhere.
func TestOutside_none(t *testing.T) {
	w := newWorld(t)
	b := w.browser()
	page := b.open("/auth/launch")
	if strings.Contains(page.body, "Sign in with") && !strings.Contains(page.body, "passkey") {
		t.Error(page.body)
	}
	if r := b.submit("/auth/login/outside", form(page.body)); r.StatusCode != http.StatusBadRequest {
		t.Errorf("%d", r.StatusCode)
	}
	if r := b.open("/auth/login/outside/answer?code=x&state=y"); r.StatusCode != http.StatusBadRequest {
		t.Errorf("%d", r.StatusCode)
	}
}
