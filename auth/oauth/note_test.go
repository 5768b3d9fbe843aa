package oauth_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"kiln/auth/oauth"
)

// TestAudit_what_cannot_be_noted_does_not_happen: sign-ins, grants, tokens and acts of administrators stand in the
// transaction of their entry. With a log that cannot be written each is refused with 503, and nothing of it stays.
func TestAudit_what_cannot_be_noted_does_not_happen(t *testing.T) {
	w := newWorld(t, func(o *oauth.Options) {
		store := o.Store
		o.Audit = func(ctx context.Context, e oauth.Event) error {
			return store.Note(ctx, o.Now(), fmt.Sprintf(`{"a":%q,"x":"%t"}`, e.Action, e.Refused))
		}
		o.Registration.Mode = oauth.RegistrationOpen
	})
	conn, err := pgx.Connect(t.Context(), w.database)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	sql := func(text string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
	count := func(table string) (n int) {
		t.Helper()
		if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM "+table).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	// While the log can be written: what is needed to try everything without it.
	ada := w.browser()
	consent := ada.signIn(ada.open("/auth/authorize?"+w.request("public", "launch/patient offline_access patient/Patient.rs").Encode()), "ada")
	admin := w.browser()
	manage := form(admin.signIn(admin.open("/auth/manage"), "root").body).Get("token")
	staff := w.browser()
	staff.signIn(staff.open("/auth/launch"), "greta")
	launch := form(staff.open("/auth/launch?patient=p1").body)
	code := w.code("ada", "", w.request("public", "launch/patient offline_access patient/Patient.rs"))
	granted := w.tokens("bo", "", "launch/patient offline_access patient/Patient.rs")
	join := w.browser()
	newcomer := form(join.open("/auth/join").body)
	for name, value := range map[string]string{"given": "New", "family": "Comer", "born": "1990-01-02", "email": "n@example.org", "username": "newcomer", "password": password, "again": password} {
		newcomer.Set(name, value)
	}
	account, err := w.identity.AccountNamed(t.Context(), "bo")
	if err != nil {
		t.Fatal(err)
	}
	tables := []string{"login_session", "oauth_grant", "oauth_launch", "client", "account", "oauth_token WHERE used", "account WHERE disabled", "oauth_token WHERE kind <> 'P'"}
	before := map[string]int{}
	for _, table := range tables {
		before[table] = count(table)
	}

	sql(`CREATE FUNCTION closed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'closed' USING ERRCODE = 'disk_full'; END $$`)
	sql(`CREATE TRIGGER closed BEFORE INSERT ON audit_entry FOR EACH STATEMENT EXECUTE FUNCTION closed()`)
	allow := form(consent.body)
	allow.Set("decision", "allow")
	deny := form(consent.body)
	deny.Set("decision", "deny")
	refresh := refreshing(granted["refresh_token"])
	stranger := w.browser()
	right := form(stranger.open("/auth/login").body)
	right.Set("username", "ada")
	right.Set("password", password)
	wrong := form(stranger.open("/auth/login").body)
	wrong.Set("username", "ada")
	wrong.Set("password", "not the password")
	launch.Set("client", "secret")
	for name, try := range map[string]func() *response{
		"sign-in":        func() *response { return stranger.submit("/auth/login", right) },
		"failed sign-in": func() *response { return stranger.submit("/auth/login", wrong) },
		"consent":        func() *response { return ada.submit("/auth/consent", allow) },
		"no consent":     func() *response { return ada.submit("/auth/consent", deny) },
		"sign-out":       func() *response { return staff.submit("/auth/logout", launch) },
		"launch":         func() *response { return staff.submit("/auth/launch", launch) },
		"closing": func() *response {
			return admin.submit("/auth/manage", url.Values{"token": {manage}, "do": {"close-user"}, "account": {account.ID}})
		},
		"removing": func() *response {
			return admin.submit("/auth/manage", url.Values{"token": {manage}, "do": {"remove-client"}, "client": {"other"}})
		},
		"code":    func() *response { return w.token(exchange(code, "client_id", "public")) },
		"refresh": func() *response { return w.token(refresh) },
		"revocation": func() *response {
			return w.send(nil, http.MethodPost, "/auth/revoke", url.Values{"token": {granted["access_token"].(string)}, "client_id": {"public"}})
		},
		"backend": func() *response { return w.token(backend(w.assertion("backend", "RS384"), "system/Patient.rs")) },
		"registering": func() *response {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.origin+"/auth/register", strings.NewReader(`{"redirect_uris":["https://new.example.org/cb"],"client_name":"New"}`))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/json")
			return w.do(req, nil)
		},
		"joining": func() *response { return join.submit("/auth/join", newcomer) },
	} {
		if r := try(); r.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%s: %d %.300s", name, r.StatusCode, r.body)
		}
	}
	for _, table := range tables {
		if n := count(table); n != before[table] {
			t.Errorf("%s: %d rows, there were %d", table, n, before[table])
		}
	}

	// With the log back, everything is as if nobody had tried; but for the code, which a try spends whatever comes of it.
	sql(`DROP TRIGGER closed ON audit_entry`)
	if r := w.token(refresh); r.StatusCode != http.StatusOK {
		t.Errorf("the refresh token afterwards: %d %s", r.StatusCode, r.body)
	}
	if got := w.get("/Patient/p2", granted["access_token"].(string)).StatusCode; got != http.StatusOK {
		t.Errorf("the access token afterwards: %d", got)
	}
	if r := w.outcome(ada.submit("/auth/consent", allow)); r.Get("code") == "" {
		t.Errorf("the consent afterwards: %v", r)
	}
	for _, act := range []string{oauth.ActLogin, oauth.ActToken, oauth.ActGrant} {
		if count(`audit_entry WHERE entry LIKE '%"`+act+`"%'`) == 0 {
			t.Errorf("no entry of %s", act)
		}
	}
	forgive(w, "closed")
}

// forgive takes faults that a test provoked out of the log that the end of the test looks through.
func forgive(w *world, text string) {
	w.Helper()
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	var kept []string
	for line := range strings.Lines(w.log.b.String()) {
		if !strings.Contains(line, "internal error") || !strings.Contains(line, text) {
			kept = append(kept, line)
		}
	}
	w.log.b.Reset()
	w.log.b.WriteString(strings.Join(kept, ""))
}

// TestAudit_what_is_refused: whoever fails to prove who they are, or to get what they ask for, is told of.
func TestAudit_what_is_refused(t *testing.T) {
	var mu sync.Mutex
	var events []oauth.Event
	w := newWorld(t, func(o *oauth.Options) {
		o.Audit = func(_ context.Context, e oauth.Event) error {
			mu.Lock()
			defer mu.Unlock()
			events = append(events, e)
			return nil
		}
		o.Registration.Mode = oauth.RegistrationToken
		o.Registration.Token = "s3cret-initial-token"
	})
	basic := func(text string) string {
		return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(text))
	}
	spent := refreshing(w.tokens("ada", "", "offline_access patient/Patient.rs")["refresh_token"])
	w.token(spent)
	plain := w.tokens("ada", "", "launch/patient patient/Patient.rs")["access_token"].(string)
	page := func(user, path string) func() {
		return func() { b := w.browser(); b.signIn(b.open(path), user) }
	}
	asked := func(client string, more ...string) func() {
		return func() { w.browser().open("/auth/authorize?" + w.request(client, "openid", more...).Encode()) }
	}
	registering := func(body string, headers ...string) func() { return func() { w.register(body, headers...) } }
	holding := func(path, token string) func() {
		return func() {
			w.send(nil, http.MethodPost, path, url.Values{"token": {"s3cret"}}, "Authorization: Bearer "+token)
		}
	}
	const held, closed = "Authorization: Bearer s3cret-initial-token", "The access token is not known, has expired or was revoked"
	for name, c := range map[string]struct {
		do                     func()
		action, client, detail string
	}{
		"wrong_secret":     {func() { w.token(exchange("kiln_ac_x"), basic("secret:wrong")) }, oauth.ActClient, "secret", "secret is missing or wrong"},
		"secret_for_an_id": {func() { w.token(exchange("kiln_ac_x"), basic("s3cret-of-the-app:secret")) }, oauth.ActClient, "", "no such client"},
		"no_assertion":     {func() { w.token(exchange("kiln_ac_x", "client_id", "signer")) }, oauth.ActClient, "signer", "private_key_jwt"},
		"stale_assertion": {func() {
			w.token(backend(w.assertion("backend", "RS384", func(claims, _ map[string]any) { claims["exp"] = 1 }), "system/Patient.rs"))
		}, oauth.ActClient, "backend", "expired"},
		"looking_at_a_token":  {func() { w.send(nil, http.MethodPost, "/auth/introspect", url.Values{"token": {"x"}}) }, oauth.ActClient, "", "no such client"},
		"made_up_code":        {func() { w.token(exchange("kiln_ac_x", "client_id", "public")) }, oauth.ActUnfit, "public", "authorization_code"},
		"refresh_token_again": {func() { w.token(spent) }, oauth.ActUnfit, "public", "already used"},
		"launch_of_another": {func() {
			b := w.browser()
			b.signIn(b.open("/auth/authorize?"+w.request("secret", "launch patient/Patient.rs", "launch", w.launchValue("secret", "greta", "p1", "")).Encode()), "root")
		}, oauth.ActGrant, "", "another app or user"},
		"apps_and_users_by_a_patient":        {page("ada", "/auth/manage"), oauth.ActAdminister, "", "GET manage"},
		"emergencies_by_a_practitioner":      {page("greta", "/auth/emergencies"), oauth.ActAdminister, "", "GET emergencies"},
		"newcomers_by_a_practitioner":        {page("greta", "/auth/newcomers"), oauth.ActAdminister, "", "GET newcomers"},
		"launcher_by_a_patient":              {page("ada", "/auth/launch"), oauth.ActLaunch, "", "GET launch"},
		"authorize_unknown_client":           {asked("s3cret"), oauth.ActAuthorize, "", "not known"},
		"authorize_client_that_is_no_text":   {asked("s3cret\x00\xff"), oauth.ActAuthorize, "", "not known"},
		"authorize_unknown_redirect_uri":     {asked("public", "redirect_uri", "https://evil.example.org/s3cret"), oauth.ActAuthorize, "public", "unknown address"},
		"authorize_incomplete":               {asked("public", "redirect_uri", ""), oauth.ActAuthorize, "public", "not complete"},
		"authorize_for_another_server":       {asked("public", "aud", "https://s3cret.example.org"), oauth.ActAuthorize, "public", "invalid_request"},
		"register_without_a_token":           {registering(`{}`), oauth.ActRegister, "", "An access token is needed"},
		"register_with_a_wrong_token":        {registering(`{}`, "Authorization: Bearer s3cret"), oauth.ActRegister, "", closed},
		"register_what_is_not_right":         {registering(`{"redirect_uris":["s3cret"]}`, held), oauth.ActRegister, "", "invalid_redirect_uri"},
		"register_what_is_no_JSON":           {registering("s3cret\x00\xff", held), oauth.ActRegister, "", "invalid_client_metadata"},
		"userinfo_with_an_unknown_token":     {holding("/auth/userinfo", "s3cret"), oauth.ActUnfit, "", closed},
		"userinfo_with_a_token_without_it":   {holding("/auth/userinfo", plain), oauth.ActUnfit, "public", "was not granted openid"},
		"looking_at_a_token_with_an_unknown": {holding("/auth/introspect", "s3cret"), oauth.ActUnfit, "", closed},
	} {
		t.Run(name, func(t *testing.T) {
			events = nil
			c.do()
			for _, e := range events {
				if strings.Contains(e.Detail+e.Principal.Name, "s3cret") {
					t.Errorf("a secret stands in %+v", e)
				}
				if e.Action == oauth.ActAdminister && e.Principal.User == "" {
					t.Errorf("nobody is named by %+v", e)
				}
				if e.Refused && e.Action == c.action && e.Principal.Client == c.client && strings.Contains(e.Detail, c.detail) {
					return
				}
			}
			t.Errorf("%+v", events)
		})
	}
	t.Run("introspection_is_noted_too", func(t *testing.T) {
		for token, detail := range map[string]string{plain: "a token of the grant ", "s3cret": "a token that is not active"} {
			events = nil
			w.send(nil, http.MethodPost, "/auth/introspect", url.Values{"token": {token}}, basicSecret)
			if len(events) != 1 || events[0].Refused || events[0].Action != oauth.ActIntrospect || events[0].Principal.Client != "secret" ||
				!strings.HasPrefix(events[0].Detail, detail) || strings.Contains(events[0].Detail, token) {
				t.Errorf("%+v", events)
			}
		}
	})
	t.Run("userinfo_is_noted_too", func(t *testing.T) {
		for scope, told := range map[string]string{"openid": "sub", "openid fhirUser profile patient/Patient.rs": "fhirUser preferred_username sub"} {
			token := w.tokens("ada", "", scope)["access_token"].(string)
			events = nil
			w.send(nil, http.MethodGet, "/auth/userinfo", nil, "Authorization: Bearer "+token)
			if len(events) != 1 || events[0].Refused || events[0].Action != oauth.ActUserInfo || events[0].Principal.Client != "public" || events[0].Detail != told || events[0].Patient != "p1" {
				t.Errorf("%s: %+v", scope, events)
			}
		}
	})
}

// TestClients_wrong_secrets_lock_an_address: no secret of a client is guessed, and nobody locks a client out elsewhere.
func TestClients_wrong_secrets_lock_an_address(t *testing.T) {
	w := newWorld(t, func(o *oauth.Options) { o.Limits.LoginAttempts = 1 })
	routes := w.oauth.Routes()
	at := slices.IndexFunc(routes, func(r oauth.Route) bool { return r.Pattern == "/auth/token" })
	ask := func(address, client, secret string) string {
		form := exchange("kiln_ac_x", "client_id", client, "client_secret", secret)
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/auth/token", strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.RemoteAddr = address + ":4711"
		answer := httptest.NewRecorder()
		routes[at].Methods[http.MethodPost](answer, r)
		return answer.Body.String()
	}
	const here, there, right = "203.0.113.7", "203.0.113.8", "s3cret-of-the-app"
	for i := range 10 {
		if got := ask(here, "secret", "guess"); !strings.Contains(got, "missing or wrong") {
			t.Fatalf("guess %d: %s", i, got)
		}
	}
	if got := ask(here, "secret", right); !strings.Contains(got, "Too many wrong secrets") {
		t.Errorf("the right one after ten guesses: %s", got)
	}
	for name, got := range map[string]string{"elsewhere": ask(there, "secret", right), "another client": ask(here, "other", "another-secret"), "this machine": ask("127.0.0.1", "secret", right)} {
		if !strings.Contains(got, "invalid_grant") {
			t.Errorf("%s: %s", name, got)
		}
	}
	w.clock.advance(16 * time.Minute)
	if got := ask(here, "secret", right); !strings.Contains(got, "invalid_grant") {
		t.Errorf("later: %s", got)
	}
}
