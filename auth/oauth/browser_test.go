package oauth_test

import (
	"crypto"
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/go-jose/go-jose/v4"

	"kiln/internal/browser"
	"kiln/storage/identity"
)

// fhirclient is the SMART JS client of SMART Health IT, version 2.6.3, as published on npm: a client that nobody here
// wrote. Its licence is beside it.
//
//go:embed testdata/fhirclient/fhir-client.min.js
var fhirclient []byte

// app is a SMART app made of fhirclient and a few lines: it starts at /launch.html and shows what it read at /. It
// refreshes before, unless it signs: fhirclient 2.6.3 sends no assertion with a refresh.
// settings are more arguments of FHIR.oauth2.authorize, such as a secret.
func app(t *testing.T, clientID, scope string, settings ...string) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /fhir-client.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		w.Write(fhirclient)
	})
	page := func(script string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprintf(w, `<!doctype html><title>App</title><script src="/fhir-client.js"></script><div id="wait">waiting</div><script>
function show(text) { var e = document.createElement("pre"); e.id = "result"; e.textContent = text; document.body.appendChild(e); }
%s</script>`, script)
		}
	}
	mux.HandleFunc("GET /launch.html", page(fmt.Sprintf(
		`FHIR.oauth2.authorize({clientId: %q, scope: %q, redirectUri: "index.html", %s}).catch(function (e) { show("error " + e.message); });`,
		clientID, scope, strings.Join(settings, ", "))))
	mux.HandleFunc("GET /index.html", page(`
FHIR.oauth2.ready().then(function (client) {
  return Promise.all([client.patient.read(), client.request("Condition?patient=" + client.patient.id), client.request(client.getFhirUser()),
    client.getState("tokenResponse.refresh_token") && !client.getState("clientPrivateJwk") ? client.refresh() : client.state])
    .then(function (all) {
      return client.patient.read().then(function (again) {
        show("patient " + again.id + " " + all[0].name[0].family + "; conditions " + (all[1].entry || []).length + "; user " + all[2].resourceType + "/" + all[2].id +
          "; encounter " + client.encounter.id + "; banner " + client.getState("tokenResponse.need_patient_banner"));
      });
    });
}).catch(function (e) { show("error " + e.message); });`))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}

// css, keep and picture are short for the browser's; step is one thing that somebody does there.
type step = browser.Step

var css, picture = browser.CSS, browser.Picture

func keep[T any](into *T, a chromedp.Action[T]) step { return browser.Keep(into, a) }

// addBrowserApp registers an app at an origin: a public one, unless change makes another of it.
func (w *world) addBrowserApp(id, origin string, change ...func(*identity.Client)) {
	w.Helper()
	c := &identity.Client{
		ID: id, Name: "Growth Chart", AuthMethod: identity.AuthNone, RedirectURIs: []string{origin + "/index.html"},
		LaunchURI: origin + "/launch.html", GrantTypes: []string{"authorization_code", "refresh_token"}, Scope: allScopes,
	}
	for _, f := range change {
		f(c)
	}
	if err := w.identity.AddClient(w.Context(), c); err != nil {
		w.Fatal(err)
	}
}

func TestBrowser_fhirclient_standalone_launch_of_a_patient(t *testing.T) {
	w := newWorld(t)
	b := browser.Open(t)
	origin := app(t, "growth", "launch/patient openid fhirUser offline_access patient/Patient.rs patient/Condition.rs")
	w.addBrowserApp("growth", origin)
	var result string
	b.Do(
		chromedp.Navigate(origin+"/launch.html?"+url.Values{"iss": {w.origin + "/fhir"}}.Encode()),
		chromedp.WaitVisible(css("#username")), picture("login"),
		chromedp.SendKeys(css("#username"), "ada"), chromedp.SendKeys(css("#password"), "wrong password"), chromedp.Click(css("button.main")),
		chromedp.WaitVisible(css(`[role="alert"]`)), picture("login-wrong"),
		chromedp.SendKeys(css("#password"), password), chromedp.Submit(css("#password")),
		chromedp.WaitVisible(css(`button[value="allow"]`)), picture("consent"),
		chromedp.Click(css(`button[value="allow"]`)),
		chromedp.WaitVisible(css("#result")), keep(&result, chromedp.Text(css("#result"))),
	)
	if result != "patient p1 Okafor; conditions 2; user Patient/p1; encounter null; banner undefined" {
		t.Errorf("the app shows: %s\n%s", result, w.log)
	}
}

func TestBrowser_fhirclient_ehr_launch_of_a_practitioner(t *testing.T) {
	w := newWorld(t)
	b := browser.Open(t)
	origin := app(t, "growth", "launch openid fhirUser offline_access user/Patient.rs user/Condition.rs user/Practitioner.rs")
	w.addBrowserApp("growth", origin)
	var result string
	b.Do(
		chromedp.Navigate(w.origin+"/auth/"), chromedp.WaitVisible(css("#username")),
		chromedp.SendKeys(css("#username"), "greta"), chromedp.SendKeys(css("#password"), password), chromedp.Submit(css("#password")),
		chromedp.WaitVisible(css("#q")), picture("launcher"),
		chromedp.SendKeys(css("#q"), "oka"), chromedp.Submit(css("#q")),
		chromedp.WaitVisible(css(`a.pick`)), chromedp.Click(css(`a.pick`)),
		chromedp.WaitVisible(css("#visit")), chromedp.SetValue(css("#visit"), "Encounter/e1"), picture("launcher-patient"),
		chromedp.Click(css(`button[name="client"]`)),
		chromedp.WaitVisible(css(`button[value="allow"]`)), picture("consent-ehr"),
		chromedp.Click(css(`button[value="allow"]`)),
		chromedp.WaitVisible(css("#result")), keep(&result, chromedp.Text(css("#result"))),
	)
	if result != "patient p1 Okafor; conditions 2; user Practitioner/dr; encounter e1; banner true" {
		t.Errorf("the app shows: %s\n%s", result, w.log)
	}
}

// TestBrowser_fhirclient_confidential_apps: apps with a secret and apps that sign complete an EHR launch and a standalone
// launch, and read.
func TestBrowser_fhirclient_confidential_apps(t *testing.T) {
	w := newWorld(t)
	signs := func(key any, alg string) (setting string, change func(*identity.Client)) {
		private, err := json.Marshal(jose.JSONWebKey{Key: key, KeyID: alg, Algorithm: alg})
		if err != nil {
			t.Fatal(err)
		}
		var members map[string]any
		if err := json.Unmarshal(private, &members); err != nil {
			t.Fatal(err)
		}
		members["key_ops"] = []string{"sign"}
		if private, err = json.Marshal(members); err != nil {
			t.Fatal(err)
		}
		public, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.(interface{ Public() crypto.PublicKey }).Public(), KeyID: alg, Use: "sig"}}})
		if err != nil {
			t.Fatal(err)
		}
		return "clientPrivateJwk: " + string(private), func(c *identity.Client) { c.AuthMethod, c.JWKS = identity.AuthPrivateKey, public }
	}
	rs, withRS := signs(w.rsa, "RS384")
	es, withES := signs(w.ec, "ES384")
	for _, c := range []struct {
		name, setting string
		change        func(*identity.Client)
	}{
		{"symmetric", `clientSecret: "a-secret-of-plain-characters"`, func(c *identity.Client) {
			c.AuthMethod, c.Secret = identity.AuthSecret, identity.Hash("a-secret-of-plain-characters")
		}},
		{"RS384", rs, withRS},
		{"ES384", es, withES},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := browser.Open(t)
			origin := app(t, c.name, "launch launch/patient openid fhirUser offline_access user/Patient.rs user/Condition.rs user/Practitioner.rs", c.setting)
			w.addBrowserApp(c.name, origin, c.change, func(c *identity.Client) { c.Name = "App " + c.ID })
			var launched, alone string
			b.Do(
				chromedp.Navigate(w.origin+"/auth/launch"), chromedp.WaitVisible(css("#username")),
				chromedp.SendKeys(css("#username"), "greta"), chromedp.SendKeys(css("#password"), password), chromedp.Submit(css("#password")),
				chromedp.WaitVisible(css("#q")), chromedp.Navigate(w.origin+"/auth/launch?patient=p1"),
				chromedp.WaitVisible(css("#visit")), chromedp.SetValue(css("#visit"), "Encounter/e1"),
				chromedp.Click(css(`button[value="`+c.name+`"]`)),
				chromedp.WaitVisible(css(`button[value="allow"]`)), chromedp.Click(css(`button[value="allow"]`)),
				chromedp.WaitVisible(css("#result")), keep(&launched, chromedp.Text(css("#result"))),
				chromedp.Navigate(origin+"/launch.html?"+url.Values{"iss": {w.origin + "/fhir"}}.Encode()),
				chromedp.WaitVisible(css(`button[value="p1"]`)), chromedp.Click(css(`button[value="p1"]`)),
				chromedp.WaitVisible(css(`button[value="allow"]`)), chromedp.Click(css(`button[value="allow"]`)),
				chromedp.WaitVisible(css("#result")), keep(&alone, chromedp.Text(css("#result"))),
			)
			if launched != "patient p1 Okafor; conditions 2; user Practitioner/dr; encounter e1; banner true" {
				t.Errorf("launched, the app shows: %s", launched)
			}
			if alone != "patient p1 Okafor; conditions 2; user Practitioner/dr; encounter null; banner undefined" {
				t.Errorf("by itself, the app shows: %s", alone)
			}
		})
	}
}
