package oauth_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"kiln/auth"
	"kiln/auth/oauth"
	"kiln/resources"
)

// joining fills in the form of somebody who registers.
func (b *person) joining(change ...string) *response {
	b.Helper()
	page := b.open("/auth/join")
	if page.StatusCode != http.StatusOK {
		b.Fatalf("%d %s", page.StatusCode, page.body)
	}
	fields := form(page.body)
	for name, value := range map[string]string{"given": "Nia", "family": "Okafor", "born": "1991-04-05", "gender": "female",
		"email": "nia@example.org", "username": "nia", "password": password, "again": password} {
		fields.Set(name, value)
	}
	for i := 0; i+1 < len(change); i += 2 {
		fields.Set(change[i], change[i+1])
	}
	return b.submit("/auth/join", fields)
}

// patients are the ids that a search finds, as the operator.
func (w *world) patients(query string) []string {
	w.Helper()
	resp, err := w.service.Do(w.Context(), resources.Request{Interaction: resources.SearchType, Type: "Patient", Query: query, Principal: auth.Operator("test")})
	if err != nil {
		w.Fatal(err)
	}
	var ids []string
	for _, e := range resp.Bundle.Entries {
		ids = append(ids, e.Version.ID)
	}
	return ids
}

const waiting = "_tag=https://kiln.example/fhir/CodeSystem/registration|unverified"

func TestJoin_makes_a_record_of_what_was_said_and_nothing_else(t *testing.T) {
	w := newWorld(t)
	b := w.browser()
	if r := b.joining(); r.StatusCode != http.StatusOK || !strings.Contains(r.body, "Sign out") {
		t.Fatalf("registering does not sign in: %d %s", r.StatusCode, r.body)
	}
	ids := w.patients(waiting + "&family=Okafor&birthdate=1991-04-05&email=nia@example.org")
	if len(ids) != 1 {
		t.Fatalf("made %v", ids)
	}
	account, err := w.identity.AccountNamed(t.Context(), "nia")
	if err != nil || strings.Join(account.Roles, " ") != "patient" || account.Linked("Patient") != "Patient/"+ids[0] {
		t.Fatalf("%+v %v", account, err)
	}
	// She books for herself and reads her own record, and no other Okafor's.
	p := auth.Principal{User: account.ID, Roles: []auth.Role{auth.RolePatient}, FHIRUser: "Patient/" + ids[0], Patient: ids[0]}
	p.Scopes, _ = auth.ParseScopes("patient/*.cruds")
	resp, err := w.service.Do(t.Context(), resources.Request{Interaction: resources.SearchType, Type: "Patient", Query: "family=Okafor", Principal: p})
	if err != nil || len(resp.Bundle.Entries) != 1 || resp.Bundle.Entries[0].Version.ID != ids[0] {
		t.Errorf("she sees %v (%v)", resp, err)
	}
}

func TestJoin_says_what_is_wrong_and_makes_nothing(t *testing.T) {
	w := newWorld(t)
	before := len(w.patients("_count=1000"))
	for name, c := range map[string]struct {
		change []string
		status int
		says   string
	}{
		"no_name":             {[]string{"given", " "}, 422, "given name"},
		"born_tomorrow":       {[]string{"born", time.Now().AddDate(0, 0, 2).Format(time.DateOnly)}, 422, "date of birth"},
		"born_never":          {[]string{"born", "1984-02-31"}, 422, "date of birth"},
		"another_gender":      {[]string{"gender", "x"}, 422, "genders"},
		"nowhere_to_reach":    {[]string{"email", ""}, 422, "e-mail address or a telephone"},
		"no_e-mail_address":   {[]string{"email", "nia"}, 422, "e-mail"},
		"a_number_of_letters": {[]string{"phone", "call me"}, 422, "letters"},
		"too_long":            {[]string{"family", strings.Repeat("x", 101)}, 422, "longer than 100"},
		"control_characters":  {[]string{"family", "a\x00b"}, 422, "cannot be kept"},
		"short_password":      {[]string{"password", "short", "again", "short"}, 422, "password"},
		"two_passwords":       {[]string{"again", "another one"}, 422, "not the same"},
		"a_name_that_is_had":  {[]string{"username", "ADA"}, 409, "already"},
		"blanks_in_the_name":  {[]string{"username", "n i a"}, 422, "user name"},
		"script":              {[]string{"born", "x", "family", `"><script>alert(1)</script>`}, 422, "date of birth"},
	} {
		r := w.browser().joining(c.change...)
		if r.StatusCode != c.status || !strings.Contains(r.body, c.says) || strings.Contains(r.body, "<script>alert") {
			t.Errorf("%s: %d %s", name, r.StatusCode, r.body)
		}
		if strings.Contains(r.body, password) {
			t.Errorf("%s: the password is sent back", name)
		}
	}
	if after := len(w.patients("_count=1000")); after != before {
		t.Errorf("%d Patients became %d", before, after)
	}
	if r := w.send(nil, http.MethodPost, "/auth/join", url.Values{"given": {"x"}}); r.StatusCode != http.StatusForbidden {
		t.Errorf("a form of another site: %d", r.StatusCode)
	}
}

func TestJoin_is_off_unless_it_is_turned_on(t *testing.T) {
	w := newWorld(t, func(o *oauth.Options) { o.Admissions = nil })
	for _, path := range []string{"/auth/join", "/auth/newcomers"} {
		if r := w.browser().open(path); r.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %d", path, r.StatusCode)
		}
	}
	if r := w.browser().open("/auth/login"); strings.Contains(r.body, "/auth/join") {
		t.Error("the page of sign-in leads there")
	}
}

func TestNewcomers(t *testing.T) {
	w := newWorld(t)
	for i, name := range []string{"verified", "unified", "rejected"} {
		born := fmt.Sprintf("1991-04-0%d", i+1)
		family := "Newcomer"
		given := name
		if name == "unified" { // is p1, whom the practice knows
			family, given, born = "Okafor", "Ada", "1984-07-02"
		}
		if r := w.browser().joining("username", name, "given", given, "family", family, "born", born, "email", name+"@example.org"); r.StatusCode != http.StatusOK {
			t.Fatalf("%d %s", r.StatusCode, r.body)
		}
	}
	idOf := func(name string) string {
		account, err := w.identity.AccountNamed(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimPrefix(account.Linked("Patient"), "Patient/")
	}
	ids := map[string]string{"verified": idOf("verified"), "unified": idOf("unified"), "rejected": idOf("rejected")}

	for _, user := range []string{"ada", "greta"} {
		b := w.browser()
		b.signIn(b.open("/auth/login"), user)
		if r := b.open("/auth/newcomers"); r.StatusCode != http.StatusForbidden || strings.Contains(r.body, "Newcomer") {
			t.Errorf("%s sees %d %s", user, r.StatusCode, r.body)
		}
	}
	root := w.browser()
	root.signIn(root.open("/auth/login"), "root")
	list := root.open("/auth/newcomers")
	if !strings.Contains(list.body, "3 waiting") {
		t.Fatalf("%s", list.body)
	}
	decide := func(id, do, other string) *response {
		page := root.open("/auth/newcomers?patient=" + id)
		fields := form(page.body)
		fields.Set("do", do)
		fields.Set("other", other)
		return root.submit("/auth/newcomers", fields)
	}
	t.Run("shows_who_looks_the_same", func(t *testing.T) {
		page := root.open("/auth/newcomers?patient=" + ids["unified"])
		if !strings.Contains(page.body, `value="p1"`) || !strings.Contains(page.body, "certain") {
			t.Errorf("%s", page.body)
		}
	})
	t.Run("verify", func(t *testing.T) {
		if r := decide(ids["verified"], "verify", ""); r.StatusCode != http.StatusOK {
			t.Fatalf("%d %s", r.StatusCode, r.body)
		}
		if got := strings.Join(w.patients(waiting), " "); strings.Contains(got, ids["verified"]) {
			t.Errorf("still waiting: %s", got)
		}
	})
	t.Run("unify", func(t *testing.T) {
		if r := decide(ids["unified"], "unify", "p1"); r.StatusCode != http.StatusOK {
			t.Fatalf("%d %s", r.StatusCode, r.body)
		}
		if got := idOf("unified"); got != "p1" {
			t.Errorf("the account stands for %s", got)
		}
	})
	t.Run("reject", func(t *testing.T) {
		if r := decide(ids["rejected"], "reject", ""); r.StatusCode != http.StatusOK {
			t.Fatalf("%d %s", r.StatusCode, r.body)
		}
		b := w.browser()
		if r := b.signIn(b.open("/auth/login"), "rejected"); r.StatusCode != http.StatusUnauthorized {
			t.Errorf("can still sign in: %d", r.StatusCode)
		}
		if got := w.patients("active=false&family=Newcomer"); len(got) != 1 || got[0] != ids["rejected"] {
			t.Errorf("out of use: %v", got)
		}
	})
	t.Run("decided_once", func(t *testing.T) {
		fields := form(root.open("/auth/newcomers?patient=" + ids["verified"]).body)
		fields.Set("token", form(root.open("/auth/account").body).Get("token"))
		fields.Set("patient", "p2") // no newcomer at all
		fields.Set("do", "reject")
		if r := root.submit("/auth/newcomers", fields); r.StatusCode != http.StatusNotFound {
			t.Errorf("%d %s", r.StatusCode, r.body)
		}
		if len(w.patients("_id=p2&active=false")) != 0 {
			t.Error("a known patient was rejected")
		}
	})
}
