package oauth_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"kiln/storage/identity"
)

// TestManage_administrators_look_after_apps_and_users: what is done on the page counts at the next request.
func TestManage_administrators_look_after_apps_and_users(t *testing.T) {
	w := newWorld(t)
	if err := w.identity.KeepClient(t.Context(), &identity.Client{ID: "kept", Name: "Kept", AuthMethod: identity.AuthNone, RedirectURIs: []string{"https://x.org/"}, GrantTypes: []string{"authorization_code"}, Scope: "openid"}); err != nil {
		t.Fatal(err)
	}
	ada := w.tokens("ada", "", "launch/patient offline_access patient/Patient.rs")
	bo := w.tokens("bo", "", "launch/patient patient/Patient.rs")
	reads := func(m map[string]any, path string) int { return w.get(path, m["access_token"].(string)).StatusCode }
	admin := w.browser()
	page := admin.signIn(admin.open("/auth/manage"), "root")
	for _, want := range []string{"The public app", "2 grants", "The backend app", "backend system", "ada", "Patient/p1", "greta"} {
		if !strings.Contains(page.body, want) {
			t.Errorf("the page does not show %q", want)
		}
	}
	account := func(name string) string {
		a, err := w.identity.AccountNamed(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		return a.ID
	}
	do := func(b *person, do string, more ...string) *response {
		f := url.Values{"token": {form(b.open("/auth/manage").body).Get("token")}, "do": {do}}
		f.Set(more[0], more[1])
		return b.submit("/auth/manage", f)
	}

	b := w.browser()
	b.signIn(b.open("/auth/login"), "bo")
	if r := do(admin, "sign-out-user", "account", account("bo")); r.StatusCode != 200 || reads(bo, "/Patient/p2") != 401 || !strings.Contains(b.open("/auth/apps").body, `name="password"`) {
		t.Errorf("signing somebody out: %d", r.StatusCode)
	}
	if got := reads(ada, "/Patient/p1"); got != 200 {
		t.Errorf("somebody else's token: %d", got)
	}
	if r := do(admin, "revoke-client", "client", "public"); r.StatusCode != 200 || reads(ada, "/Patient/p1") != 401 || w.token(refreshing(ada["refresh_token"])).StatusCode == 200 {
		t.Errorf("revoking an app: %d", r.StatusCode)
	}
	if r := do(admin, "close-user", "account", account("bo")); r.StatusCode != 200 || !strings.Contains(b.signIn(b.open("/auth/login"), "bo").body, "is closed") {
		t.Errorf("closing: %d", r.StatusCode)
	}
	if r := do(admin, "open-user", "account", account("bo")); r.StatusCode != 200 || w.tokens("bo", "", "launch/patient patient/Patient.rs")["patient"] != "p2" {
		t.Errorf("opening: %d", r.StatusCode)
	}
	if r := do(admin, "remove-client", "client", "other"); r.StatusCode != 200 {
		t.Errorf("removing: %d", r.StatusCode)
	} else if _, err := w.identity.Client(t.Context(), "other"); err == nil {
		t.Error("it is still there")
	}
	if got := admin.open("/auth/manage?q=Patient/p1").body; !strings.Contains(got, "ada") || strings.Contains(got, "greta") {
		t.Errorf("found: %s", got)
	}
	for _, c := range []struct {
		do, name, value string
		want            int
	}{
		{"close-user", "account", account("root"), 400}, {"remove-client", "client", "kept", 400}, {"remove-client", "client", "other", 404},
		{"close-user", "account", "x", 404}, {"close-user", "account", "00000000-0000-0000-0000-000000000000", 404}, {"dance", "client", "public", 400},
	} {
		if r := do(admin, c.do, c.name, c.value); r.StatusCode != c.want {
			t.Errorf("%s %s: %d, want %d", c.do, c.value, r.StatusCode, c.want)
		}
	}
	for _, user := range []string{"ada", "greta"} { // patients and practitioners
		b := w.browser()
		if r := b.signIn(b.open("/auth/manage"), user); r.StatusCode != http.StatusForbidden || strings.Contains(r.body, "backend system") {
			t.Errorf("%s sees the page: %d", user, r.StatusCode)
		}
		f := url.Values{"token": {form(b.open("/auth/apps").body).Get("token")}, "do": {"remove-client"}, "client": {"public"}}
		if r := b.submit("/auth/manage", f); r.StatusCode != http.StatusForbidden {
			t.Errorf("%s removes an app: %d", user, r.StatusCode)
		}
	}
	if r := admin.send(admin.client, http.MethodPost, "/auth/manage", url.Values{"do": {"remove-client"}, "client": {"public"}}, "Origin: https://evil.example.org"); r.StatusCode != http.StatusForbidden {
		t.Errorf("a form from elsewhere: %d", r.StatusCode)
	}
	if _, err := w.identity.Client(t.Context(), "public"); err != nil {
		t.Error("the app is gone")
	}
}
