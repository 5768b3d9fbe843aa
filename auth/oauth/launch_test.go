package oauth_test

import (
	"math"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kiln/auth/oauth"
)

// launchValue makes a launch as kiln launch does.
func (w *world) launchValue(client, user, patient, encounter string) string {
	w.Helper()
	account, err := w.identity.AccountNamed(w.Context(), user)
	if err != nil {
		w.Fatal(err)
	}
	value, err := oauth.AddLaunch(w.Context(), w.identity, oauth.Launch{Client: client, Account: account.ID, Patient: patient, Encounter: encounter}, w.clock.now())
	if err != nil {
		w.Fatal(err)
	}
	return value
}

func TestLaunch_42_43_44_45_context_of_an_ehr_launch(t *testing.T) {
	w := newWorld(t)
	for _, scope := range []string{
		"launch openid fhirUser offline_access user/Patient.rs user/Encounter.rs",
		"launch openid fhirUser offline_access patient/Patient.rs patient/Encounter.rs",
	} {
		request := w.request("secret", scope, "launch", w.launchValue("secret", "greta", "p1", "e1"))
		r := w.token(exchange(w.code("greta", "", request)), basicSecret)
		m := r.json(t)
		if m["patient"] != "p1" || m["encounter"] != "e1" || m["need_patient_banner"] != true || m["scope"] != scope {
			t.Fatalf("%d %s", r.StatusCode, r.body)
		}
		style := w.send(nil, http.MethodGet, m["smart_style_url"].(string), nil, "Origin: https://app.example.org")
		if style.StatusCode != 200 || style.json(t)["color_text"] == nil || style.Header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("style: %d %s", style.StatusCode, style.body)
		}
		f := refreshing(m["refresh_token"])
		f.Del("client_id")
		again := w.token(f, basicSecret).json(t)
		if again["patient"] != "p1" || again["encounter"] != "e1" || again["need_patient_banner"] != true {
			t.Errorf("after refresh %v", again)
		}
	}
}

func TestLaunch_49_encounter_is_granted_with_an_encounter_only(t *testing.T) {
	w := newWorld(t)
	const scope = "launch launch/encounter patient/Patient.rs"
	for encounter, want := range map[string]string{"e1": scope, "": "launch patient/Patient.rs"} {
		m := w.token(exchange(w.code("greta", "", w.request("secret", scope, "launch", w.launchValue("secret", "greta", "p1", encounter)))), basicSecret).json(t)
		if m["scope"] != want || m["encounter"] != nil && m["encounter"] != encounter {
			t.Errorf("launched with %q: %v, encounter %v", encounter, m["scope"], m["encounter"])
		}
	}
	if m := w.tokens("ada", "", "launch/patient launch/encounter patient/Patient.rs"); m["scope"] != "launch/patient patient/Patient.rs" {
		t.Errorf("standalone: %v", m["scope"])
	}
	b := w.browser()
	if q := w.outcome(b.signIn(b.open("/auth/authorize?"+w.request("public", "launch/encounter").Encode()), "ada")); q.Get("error") != "invalid_scope" {
		t.Errorf("nothing else asked: %v", q)
	}
}

// TestLaunch_42_visit_is_one_of_the_patient: kiln launch makes a launch value with whatever ids a script gives it.
func TestLaunch_42_visit_is_one_of_the_patient(t *testing.T) {
	w := newWorld(t)
	greta, err := w.identity.AccountNamed(t.Context(), "greta")
	if err != nil {
		t.Fatal(err)
	}
	for name, l := range map[string]oauth.Launch{
		"encounter_of_another":   {Patient: "p1", Encounter: "e2"},
		"encounter_that_is_none": {Patient: "p1", Encounter: "e9"},
		"appointment_of_another": {Patient: "p2", Appointment: "visit-7"},
		"patient_who_is_none":    {Patient: "p9"},
	} {
		t.Run(name, func(t *testing.T) {
			l.Client, l.Account = "secret", greta.ID
			request := func() string {
				value, err := oauth.AddLaunch(t.Context(), w.identity, l, w.clock.now())
				if err != nil {
					t.Fatal(err)
				}
				return "/auth/authorize?" + w.request("secret", "launch launch/encounter user/Patient.rs", "launch", value).Encode()
			}
			b := w.browser()
			if q := w.outcome(b.signIn(b.open(request()), "greta")); q.Get("error") != "access_denied" {
				t.Errorf("the page: %v", q)
			}
			b = w.browser() // the form alone, without the page
			token := form(b.signIn(b.open("/auth/login?to=account"), "greta").body).Get("token")
			_, handle, _ := strings.Cut(b.send(b.client, http.MethodGet, request(), nil).Header.Get("Location"), "request=")
			if q := w.outcome(b.submit("/auth/consent", url.Values{"token": {token}, "request": {handle}, "decision": {"allow"}, "scope": {"2"}})); q.Get("error") != "access_denied" {
				t.Errorf("the form: %v", q)
			}
		})
	}
}

func TestLaunch_41_page_sends_the_browser_to_the_app(t *testing.T) {
	w := newWorld(t)
	b := w.browser()
	b.signIn(b.open("/auth/login?to=launch"), "greta")
	page := b.open("/auth/launch?patient=p1")
	if !strings.Contains(page.body, "Launch The secret app") || !strings.Contains(page.body, "Encounter/e1") {
		t.Fatalf("%d %s", page.StatusCode, page.body)
	}
	fields := form(page.body[strings.Index(page.body, `action="/auth/launch"`):])
	fields.Set("client", "secret")
	fields.Set("visit", "Encounter/e1")
	r := b.submit("/auth/launch", fields)
	to, err := url.Parse(r.Header.Get("Location"))
	if err != nil || to.Host != "app.example.org" || to.Path != "/launch" || to.Query().Get("iss") != w.origin+"/fhir" || to.Query().Get("launch") == "" {
		t.Fatalf("%d %v", r.StatusCode, to)
	}
	request := w.request("secret", "launch openid patient/Patient.rs", "launch", to.Query().Get("launch"))
	q := w.outcome(b.consent(b.open("/auth/authorize?"+request.Encode()), "greta", ""))
	if m := w.token(exchange(q.Get("code")), basicSecret).json(t); m["patient"] != "p1" || m["encounter"] != "e1" {
		t.Errorf("%v", m)
	}
	for _, change := range []url.Values{{"visit": {"Encounter/nobody"}}, {"client": {"public"}}, {"client": {"nobody"}}, {"patient": {"nobody"}}} {
		wrong := url.Values{}
		for name, values := range fields {
			wrong[name] = values
		}
		for name, values := range change {
			wrong[name] = values
		}
		if r := b.submit("/auth/launch", wrong); r.StatusCode/100 != 4 {
			t.Errorf("%v: %d", change, r.StatusCode)
		}
	}
	patient := w.browser()
	patient.signIn(patient.open("/auth/login"), "ada")
	if r := patient.open("/auth/launch"); r.StatusCode != http.StatusForbidden {
		t.Errorf("a patient: %d", r.StatusCode)
	}
}

func TestLaunch_47_works_once_for_one_app_and_user(t *testing.T) {
	w := newWorld(t)
	refusedAs := func(name, user string, request url.Values) {
		t.Helper()
		b := w.browser()
		if q := w.outcome(b.consent(b.open("/auth/authorize?"+request.Encode()), user, "p1")); q.Get("error") != "invalid_request" {
			t.Errorf("%s: %v", name, q)
		}
	}
	const scope = "launch patient/Patient.rs"
	refusedAs("another user", "root", w.request("secret", scope, "launch", w.launchValue("secret", "greta", "p1", "")))
	refusedAs("another app", "greta", w.request("public", scope, "launch", w.launchValue("secret", "greta", "p1", "")))
	value := w.launchValue("secret", "greta", "p1", "")
	w.code("greta", "", w.request("secret", scope, "launch", value))
	refusedAs("a second time", "greta", w.request("secret", scope, "launch", value))
	value = w.launchValue("secret", "greta", "p1", "")
	w.clock.advance(6 * time.Minute)
	refusedAs("late", "greta", w.request("secret", scope, "launch", value))

	// The scope launch without the parameter gives no context.
	m := w.token(exchange(w.code("greta", "", w.request("secret", "launch openid user/Patient.rs"))), basicSecret).json(t)
	if m["patient"] != nil || m["need_patient_banner"] != nil || strings.Contains(m["scope"].(string), "launch") {
		t.Errorf("%v", m)
	}
}

const category = "http://terminology.hl7.org/CodeSystem/condition-category|"

// without unticks the boxes of some scopes.
func without(page string, labels ...string) func(url.Values) {
	return func(f url.Values) {
		for _, label := range labels {
			f["scope"] = remove(f["scope"], label)
		}
	}
}

func remove(list []string, one string) (kept []string) {
	for _, s := range list {
		if s != one {
			kept = append(kept, s)
		}
	}
	return kept
}

func TestConsent_55_61_63_choices(t *testing.T) {
	w := newWorld(t)
	const asked = "launch/patient openid patient/Patient.rs patient/Condition.rs patient/Observation.read offline_access"
	// The boxes are numbered by the place of the scope in the request.
	for name, c := range map[string]struct {
		change func(url.Values)
		want   string
	}{
		"all":           {func(url.Values) {}, asked},
		"55_limited":    {without("", "4"), "launch/patient openid patient/Patient.rs patient/Condition.rs offline_access"},
		"63_no_offline": {without("", "offline_access"), "launch/patient openid patient/Patient.rs patient/Condition.rs patient/Observation.read"},
		"61_kinds": {func(f url.Values) {
			f["kind-3"] = []string{"problem-list-item", "health-concern"}
			f["kind-4"] = []string{"laboratory"}
		}, "launch/patient openid patient/Patient.rs patient/Condition.rs?category=" + category + "problem-list-item " +
			"patient/Condition.rs?category=http://hl7.org/fhir/us/core/CodeSystem/condition-category|health-concern " +
			"patient/Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|laboratory offline_access"},
		"more_than_was_asked": {func(f url.Values) {
			f["scope"] = append(f["scope"], "9", "patient/*.cruds", "system/*.rs", "online_access", "3.Patient")
			f["kind-3"] = []string{"nonsense"}
		}, asked},
	} {
		t.Run(name, func(t *testing.T) {
			m := w.tokens("ada", "", asked, c.change)
			if m["scope"] != c.want {
				t.Errorf("granted %v\nwant    %v", m["scope"], c.want)
			}
			answer := w.send(nil, http.MethodPost, "/auth/introspect", url.Values{"token": {m["access_token"].(string)}}, basicSecret).json(t)
			if answer["scope"] != c.want {
				t.Errorf("introspection says %v", answer["scope"])
			}
		})
	}
	t.Run("wildcard_by_type", func(t *testing.T) {
		m := w.tokens("ada", "", "patient/*.read", func(f url.Values) {
			f["scope"] = []string{"0.Patient", "0.Condition", "0.Immunization"}
			f["kind-0.Condition"] = []string{"problem-list-item"}
		})
		if m["scope"] != "patient/Condition.rs?category="+category+"problem-list-item patient/Immunization.read patient/Patient.read" {
			t.Errorf("granted %v", m["scope"])
		}
	})
	t.Run("types_and_no_others_though_everything_is_ticked", func(t *testing.T) {
		if m := w.tokens("ada", "", "patient/*.rs", func(f url.Values) { f["scope"] = append(f["scope"], "0.Condition", "0.Device") }); m["scope"] != "patient/Condition.rs patient/Device.rs" {
			t.Errorf("granted %v", m["scope"])
		}
	})
	t.Run("nothing_ticked_asks_again", func(t *testing.T) {
		b := w.browser()
		r := b.consent(b.open("/auth/authorize?"+w.request("public", asked).Encode()), "ada", "", func(f url.Values) { delete(f, "scope") })
		if r.StatusCode != 200 || !strings.Contains(r.body, `role="alert"`) {
			t.Errorf("%d %s", r.StatusCode, r.body)
		}
	})
}

func TestConsent_57_58_granular_as_asked(t *testing.T) {
	w := newWorld(t)
	const asked = "launch/patient patient/Patient.rs patient/Condition.rs?category=" + category + "problem-list-item " +
		"patient/Observation.rs?category=http://hl7.org/fhir/us/core/CodeSystem/us-core-category|sdoh"
	if got := w.tokens("ada", "", asked)["scope"]; got != asked {
		t.Errorf("%v", got)
	}
	if got := w.tokens("ada", "", asked, without("", "2"))["scope"]; got != strings.Replace(asked, "patient/Condition.rs?category="+category+"problem-list-item ", "", 1) {
		t.Errorf("one unticked: %v", got)
	}
}

func TestConsent_53_62_what_the_client_is_registered_for(t *testing.T) {
	w := newWorld(t)
	grant := func(scope string) any {
		code := w.code("ada", "", w.request("narrow", scope))
		return w.token(exchange(code, "client_id", "narrow")).json(t)["scope"]
	}
	for asked, want := range map[string]string{
		"launch/patient openid patient/*.rs offline_access":          "launch/patient openid patient/Patient.rs",
		"patient/Patient.cruds user/Patient.rs":                      "patient/Patient.rs",
		"patient/Patient.read":                                       "patient/Patient.read",
		"patient/Patient.rs patient/Patient.sr patient/Condition.rs": "patient/Patient.rs",
	} {
		if got := grant(asked); got != want {
			t.Errorf("%s: granted %v, want %s", asked, got, want)
		}
	}
}

func TestPages_94_96_revoking_an_app(t *testing.T) {
	w := newWorld(t)
	m := w.tokens("ada", "", "offline_access launch/patient patient/Patient.rs")
	b := w.browser()
	b.signIn(b.open("/auth/login"), "ada")
	page := b.open("/auth/apps")
	if !strings.Contains(page.body, "The public app") {
		t.Fatalf("%s", page.body)
	}
	fields := form(page.body[strings.Index(page.body, "<section"):])
	if r := b.submit("/auth/apps", fields); r.StatusCode != 200 || strings.Contains(r.body, "The public app") {
		t.Errorf("%d %s", r.StatusCode, r.body)
	}
	if r := w.get("/Patient/p1", m["access_token"].(string)); r.StatusCode != 401 {
		t.Errorf("the access token still works: %d", r.StatusCode)
	}
	if r := w.token(refreshing(m["refresh_token"])); r.StatusCode != 400 {
		t.Errorf("the refresh token still works: %d", r.StatusCode)
	}
}

func TestPages_forms_from_elsewhere_are_refused(t *testing.T) {
	w := newWorld(t)
	b := w.browser()
	page := b.signIn(b.open("/auth/authorize?"+w.request("public", "patient/Patient.rs").Encode()), "ada")
	fields := form(page.body)
	fields.Set("decision", "allow")
	elsewhere := w.browser()
	elsewhere.open("/auth/login")
	for name, c := range map[string]struct {
		b      *person
		token  string
		origin string
		site   string
	}{
		"no_token":             {b, "", w.origin, ""},
		"token_of_another":     {b, form(elsewhere.open("/auth/login").body).Get("token"), w.origin, ""},
		"other_origin":         {b, fields.Get("token"), "https://evil.example.org", "cross-site"},
		"cross_site_by_header": {b, fields.Get("token"), "", "cross-site"},
	} {
		t.Run(name, func(t *testing.T) {
			f := url.Values{}
			for k, v := range fields {
				f[k] = v
			}
			f.Set("token", c.token)
			headers := []string{}
			if c.origin != "" {
				headers = append(headers, "Origin: "+c.origin)
			}
			if c.site != "" {
				headers = append(headers, "Sec-Fetch-Site: "+c.site)
			}
			for _, path := range []string{"/auth/consent", "/auth/login", "/auth/apps", "/auth/account", "/auth/launch", "/auth/patient", "/auth/logout"} {
				if r := c.b.send(c.b.client, http.MethodPost, path, f, headers...); r.StatusCode != http.StatusForbidden {
					t.Errorf("%s: %d", path, r.StatusCode)
				}
			}
		})
	}
}

func TestPages_have_a_strict_policy(t *testing.T) {
	w := newWorld(t)
	b := w.browser()
	login := b.open("/auth/authorize?" + w.request("public", "launch/patient patient/*.rs").Encode())
	pages := []*response{login, b.signIn(login, "greta"), b.open("/auth/apps"), b.open("/auth/account"), b.open("/auth/launch"), b.open("/auth/continue?request=x")}
	for _, r := range pages {
		policy := r.Header.Get("Content-Security-Policy")
		if !strings.Contains(policy, "default-src 'none'") || !strings.Contains(policy, "frame-ancestors 'none'") || strings.Contains(policy, "unsafe") ||
			r.Header.Get("X-Frame-Options") != "DENY" || r.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%v", r.Header)
		}
		for _, inline := range []string{"style=", "onclick", "onload", "<style", "javascript:"} {
			if strings.Contains(r.body, inline) {
				t.Errorf("%s in %s", inline, r.body)
			}
		}
	}
	for _, c := range b.client.Jar.Cookies(mustParse(t, w.origin)) {
		if c.Value == "" {
			t.Errorf("cookie %s is empty", c.Name)
		}
	}
	r := w.send(nil, http.MethodGet, "/auth/login", nil)
	if cookie := r.Header.Get("Set-Cookie"); !strings.Contains(cookie, "HttpOnly") || !strings.Contains(cookie, "SameSite=Lax") {
		t.Errorf("cookie %q", cookie)
	}
}

func mustParse(t *testing.T, s string) *url.URL {
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestPages_no_open_redirects(t *testing.T) {
	w := newWorld(t)
	for _, to := range []string{"https://evil.example.org/", "//evil.example.org", "/\\evil.example.org", "apps/../..//evil.example.org", "javascript:alert(1)"} {
		b := w.browser()
		page := b.open("/auth/login?" + url.Values{"to": {to}}.Encode())
		fields := form(page.body)
		fields.Set("username", "ada")
		fields.Set("password", password)
		r := b.send(b.client, http.MethodPost, "/auth/login", fields)
		if r.Header.Get("Location") != "/auth/" {
			t.Errorf("%s leads to %s", to, r.Header.Get("Location"))
		}
	}
}

func TestLogin_lockout(t *testing.T) {
	w := newWorld(t, func(o *oauth.Options) { o.Limits.LoginAttempts = 3 })
	try := func(pass string) *response {
		b := w.browser()
		fields := form(b.open("/auth/login").body)
		fields.Set("username", "Ada") // names are the same in every case
		fields.Set("password", pass)
		return b.submit("/auth/login", fields)
	}
	for range 3 {
		if r := try("wrong password"); r.StatusCode != http.StatusUnauthorized {
			t.Fatalf("%d", r.StatusCode)
		}
	}
	if r := try(password); r.StatusCode != http.StatusTooManyRequests {
		t.Errorf("locked, and still: %d", r.StatusCode)
	}
	w.clock.advance(16 * time.Minute)
	if r := try(password); r.StatusCode != 200 {
		t.Errorf("after the window: %d", r.StatusCode)
	}
}

// Guesses at the same time are as many as those one after the other, of passwords and of codes.
func TestLogin_lockout_holds_for_guesses_at_once(t *testing.T) {
	const limit = 3
	w := newWorld(t, func(o *oauth.Options) { o.Limits.LoginAttempts = limit })
	w.coded()
	b := w.browser()
	passwords := form(b.open("/auth/login").body)
	passwords.Set("username", "ada")
	passwords.Set("password", "wrong password")
	c := w.browser()
	codes := form(c.signIn(c.open("/auth/login"), "coded").body)
	codes.Set("code", "000000")
	for name, guess := range map[string]func() *response{
		"passwords": func() *response { return b.submit("/auth/login", passwords) },
		"codes":     func() *response { return c.submit("/auth/login/code", codes) },
	} {
		t.Run(name, func(t *testing.T) {
			var looked atomic.Int32
			var wait sync.WaitGroup
			for range 5 * limit {
				wait.Go(func() {
					switch r := guess(); r.StatusCode {
					case http.StatusUnauthorized:
						looked.Add(1)
					case http.StatusTooManyRequests:
					default:
						t.Errorf("%d", r.StatusCode)
					}
				})
			}
			wait.Wait()
			if n := looked.Load(); n > limit {
				t.Errorf("%d guesses were looked at", n)
			}
		})
	}
	// Who is right all the time is never locked out.
	for range 2 * limit {
		b := w.browser()
		if r := b.signIn(b.open("/auth/login"), "greta"); r.StatusCode != 200 {
			t.Fatalf("%d", r.StatusCode)
		}
	}
}

func TestLogin_tells_no_names(t *testing.T) {
	w := newWorld(t)
	pages := map[string]bool{}
	for _, name := range []string{"ada", "nobody"} {
		b := w.browser()
		fields := form(b.open("/auth/login").body)
		fields.Set("username", name)
		fields.Set("password", "wrong password")
		body := b.submit("/auth/login", fields).body
		body = strings.NewReplacer(name, "NAME").Replace(body)
		pages[body[strings.Index(body, "<h1>"):strings.Index(body, "<form")]] = true
	}
	if len(pages) != 1 {
		t.Errorf("a known and an unknown name are answered differently: %v", pages)
	}
}

// TestSessions_last_while_they_are_used: a short idle time ends none that is in use.
func TestSessions_last_while_they_are_used(t *testing.T) {
	w := newWorld(t, func(o *oauth.Options) { o.Limits.SessionIdle = time.Minute })
	b := w.browser()
	b.signIn(b.open("/auth/account"), "ada")
	for range 3 {
		w.clock.advance(40 * time.Second)
		if r := b.send(b.client, http.MethodGet, "/auth/account", nil); r.StatusCode != 200 {
			t.Fatalf("in use: %d %s", r.StatusCode, r.Header.Get("Location"))
		}
	}
	w.clock.advance(61 * time.Second)
	if r := b.send(b.client, http.MethodGet, "/auth/account", nil); r.StatusCode != 303 {
		t.Errorf("idle: %d", r.StatusCode)
	}
}

func TestSessions_end(t *testing.T) {
	w := newWorld(t)
	b, other := w.browser(), w.browser()
	b.signIn(b.open("/auth/login"), "ada")
	other.signIn(other.open("/auth/login"), "ada")
	fields := form(b.open("/auth/account").body)
	fields.Set("do", "sign-out-others")
	b.submit("/auth/account", fields)
	if r := other.open("/auth/account"); !strings.Contains(r.body, `name="password"`) {
		t.Error("the other browser is still signed in")
	}
	if r := b.open("/auth/account"); strings.Contains(r.body, `name="username" value=""`) {
		t.Error("this browser was signed out too")
	}
	w.clock.advance(61 * time.Minute)
	if r := b.open("/auth/account"); !strings.Contains(r.body, "Sign in") {
		t.Error("an idle session lives on")
	}
	b.signIn(b.open("/auth/login"), "ada")
	account, err := w.identity.AccountNamed(t.Context(), "ada")
	if err != nil {
		t.Fatal(err)
	}
	token := w.tokens("ada", "", "patient/Patient.rs")["access_token"].(string)
	if err := w.identity.DisableAccount(t.Context(), account.ID, true); err != nil {
		t.Fatal(err)
	}
	if r := b.open("/auth/account"); !strings.Contains(r.body, "Sign in") {
		t.Error("a closed account is still signed in")
	}
	if r := w.get("/Patient/p1", token); r.StatusCode != 401 {
		t.Errorf("a closed account's token still works: %d", r.StatusCode)
	}
}

func TestIntrospection_89_90_91_92_93(t *testing.T) {
	w := newWorld(t)
	request := w.request("secret", "launch openid fhirUser offline_access user/Patient.rs", "launch", w.launchValue("secret", "greta", "p1", "e1"))
	m := w.token(exchange(w.code("greta", "", request)), basicSecret).json(t)
	claims := w.verify(m["id_token"].(string))
	otherBasic := "Authorization: Basic b3RoZXI6YW5vdGhlci1zZWNyZXQ=" // another client may look too
	for _, headers := range [][]string{{basicSecret}, {otherBasic}, {"Authorization: Bearer " + m["access_token"].(string)}} {
		r := w.send(nil, http.MethodPost, "/auth/introspect", url.Values{"token": {m["access_token"].(string)}}, headers...)
		a := r.json(t)
		if r.StatusCode != 200 || a["active"] != true || a["client_id"] != "secret" || a["scope"] != m["scope"] || a["patient"] != "p1" || a["encounter"] != "e1" ||
			a["iss"] != claims["iss"] || a["sub"] != claims["sub"] || a["fhirUser"] != claims["fhirUser"] || a["need_patient_banner"] != true ||
			a["exp"].(float64) < float64(time.Now().Unix()+3500) {
			t.Errorf("%d %s", r.StatusCode, r.body)
		}
	}
	for _, token := range []string{"invalid_token_value", m["access_token"].(string) + "x", m["id_token"].(string)} {
		if r := w.send(nil, http.MethodPost, "/auth/introspect", url.Values{"token": {token}}, basicSecret); r.StatusCode != 200 || r.body != `{"active":false}` {
			t.Errorf("%d %s", r.StatusCode, r.body)
		}
	}
	for name, headers := range map[string][]string{"nothing": nil, "wrong_secret": {"Authorization: Basic c2VjcmV0Ongx"}, "made_up_token": {"Authorization: Bearer x"}} {
		if r := w.send(nil, http.MethodPost, "/auth/introspect", url.Values{"token": {m["access_token"].(string)}}, headers...); r.StatusCode != 401 {
			t.Errorf("%s: %d %s", name, r.StatusCode, r.body)
		}
	}
	if r := w.send(nil, http.MethodPost, "/auth/introspect", url.Values{"token": {m["access_token"].(string)}, "client_id": {"public"}}); r.StatusCode != 401 {
		t.Errorf("a public client: %d", r.StatusCode)
	}
}

// TestIntrospection_93_repeats_the_token_response: whatever an app was told with its token, introspection of that token says
// in the same words, of a refreshed one and of one with fewer scopes too.
func TestIntrospection_93_repeats_the_token_response(t *testing.T) {
	w := newWorld(t)
	greta, err := w.identity.AccountNamed(t.Context(), "greta")
	if err != nil {
		t.Fatal(err)
	}
	value, err := oauth.AddLaunch(t.Context(), w.identity, oauth.Launch{Client: "secret", Account: greta.ID, Patient: "p1", Encounter: "e1", Appointment: "visit-7"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	const asked, fewer = "launch openid fhirUser offline_access user/Patient.cruds patient/Condition.rs?category=" + category + "problem-list-item", "openid user/Patient.cruds"
	code := w.code("greta", "", w.request("secret", asked, "launch", value), without("", "5"))
	first := w.token(exchange(code), basicSecret).json(t)
	refresh := func(more ...string) map[string]any {
		f := refreshing(first["refresh_token"], more...)
		f.Del("client_id")
		m := w.token(f, basicSecret).json(t)
		first["refresh_token"] = m["refresh_token"]
		return m
	}
	for name, m := range map[string]map[string]any{"first": first, "refreshed": refresh(), "with_fewer_scopes": refresh("scope", fewer)} {
		said := w.send(nil, http.MethodPost, "/auth/introspect", url.Values{"token": {m["access_token"].(string)}}, basicSecret).json(t)
		for member, want := range m {
			switch member {
			case "access_token", "refresh_token":
				continue
			case "expires_in":
				if math.Abs(said["exp"].(float64)-want.(float64)-float64(w.clock.now().Unix())) > 60 {
					t.Errorf("%s: exp is %v", name, said["exp"])
				}
				continue
			case "id_token":
				claims := w.verify(want.(string))
				if said["iss"] != claims["iss"] || said["sub"] != claims["sub"] || said["fhirUser"] != claims["fhirUser"] {
					t.Errorf("%s: introspection says %v, the id_token %v", name, said, claims)
				}
				continue
			}
			if !reflect.DeepEqual(said[member], want) {
				t.Errorf("%s: %s is %v, the token response said %v", name, member, said[member], want)
			}
		}
		for _, member := range []string{"patient", "encounter", "fhirContext", "need_patient_banner", "smart_style_url"} {
			if m[member] == nil {
				t.Errorf("%s: the token response lacks %s", name, member)
			}
		}
	}
}

func TestRevocation_95(t *testing.T) {
	w := newWorld(t)
	m := w.tokens("ada", "", "offline_access patient/Patient.rs")
	revoke := func(token any, form url.Values, headers ...string) *response {
		form.Set("token", token.(string))
		return w.send(nil, http.MethodPost, "/auth/revoke", form, headers...)
	}
	if r := revoke(m["refresh_token"], url.Values{}, basicSecret); r.StatusCode != 200 {
		t.Errorf("another client: %d %s", r.StatusCode, r.body)
	}
	if r := w.token(refreshing(m["refresh_token"])); r.StatusCode != 200 {
		t.Fatalf("another client revoked it: %s", r.body)
	} else {
		m = r.json(t)
	}
	if r := revoke("made-up", url.Values{"client_id": {"public"}}); r.StatusCode != 200 {
		t.Errorf("unknown: %d %s", r.StatusCode, r.body)
	}
	if r := revoke(m["refresh_token"], url.Values{"client_id": {"nobody"}}); r.StatusCode != 401 {
		t.Errorf("unknown client: %d %s", r.StatusCode, r.body)
	}
	if r := revoke(m["refresh_token"], url.Values{"client_id": {"public"}}); r.StatusCode != 200 {
		t.Errorf("%d %s", r.StatusCode, r.body)
	}
	if r := w.get("/Patient/p1", m["access_token"].(string)); r.StatusCode != 401 {
		t.Errorf("the access token still works: %d", r.StatusCode)
	}
}

func TestResource_97_98_who_gets_in(t *testing.T) {
	w := newWorld(t)
	m := w.tokens("ada", "", "openid offline_access patient/Patient.rs")
	code := w.code("ada", "", w.request("public", "patient/Patient.rs"))
	token := m["access_token"].(string)
	if r := w.get("/Patient/p1", ""); r.StatusCode != 401 || !strings.HasPrefix(r.Header.Get("WWW-Authenticate"), "Bearer") ||
		strings.Contains(r.Header.Get("WWW-Authenticate"), "error") || r.json(t)["resourceType"] != "OperationOutcome" {
		t.Errorf("no token: %d %v", r.StatusCode, r.Header)
	}
	tampered := token[:len(token)-1] + "A"
	if tampered == token {
		tampered = token[:len(token)-1] + "B"
	}
	for name, bad := range map[string]string{
		"malformed": "not~a~token", "tampered": tampered, "id_token": m["id_token"].(string), "refresh_token": m["refresh_token"].(string), "code": code,
		"long": strings.Repeat("x", 5000), "upper": strings.ToUpper(token),
	} {
		r := w.get("/Patient/p1", bad)
		if r.StatusCode != 401 || !strings.Contains(r.Header.Get("WWW-Authenticate"), `error="invalid_token"`) {
			t.Errorf("%s: %d %v", name, r.StatusCode, r.Header.Get("WWW-Authenticate"))
		}
		if strings.Contains(r.body, bad) {
			t.Errorf("%s: the token is repeated", name)
		}
	}
	if r := w.send(nil, http.MethodGet, "/fhir/Patient/p1?access_token="+token, nil); r.StatusCode != 401 {
		t.Errorf("in the query: %d", r.StatusCode)
	}
	if r := w.send(nil, http.MethodGet, "/fhir/Patient/p1", nil, "Authorization: Basic "+token); r.StatusCode != 401 {
		t.Errorf("as Basic: %d", r.StatusCode)
	}
	if log := w.log.String(); strings.Contains(log, token) || strings.Contains(log, code) {
		t.Error("the log has a token")
	}
}

// TestPages_a_form_opened_from_the_address_line: the answer to a form stays there, and GET of it is no fault.
func TestPages_a_form_opened_from_the_address_line(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"/auth/login/passkey", "/auth/login/code", "/auth/consent", "/auth/patient", "/auth/logout"} {
		if r := w.send(nil, http.MethodGet, path, nil); r.StatusCode != http.StatusSeeOther || r.Header.Get("Location") != "/auth/" {
			t.Errorf("%s: %d %s", path, r.StatusCode, r.Header.Get("Location"))
		}
	}
}
