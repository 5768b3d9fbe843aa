package oauth_test

import (
	"context"
	_ "embed"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"kiln/storage/identity"
)

// fhirclient is the SMART JS client of SMART Health IT, version 2.6.3, as published on npm: a client that nobody here
// wrote. Its licence is beside it.
//
//go:embed testdata/fhirclient/fhir-client.min.js
var fhirclient []byte

// app is a SMART app made of fhirclient and a few lines: it starts at /launch.html and shows what it read at /.
func app(t *testing.T, clientID, scope string) string {
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
		`FHIR.oauth2.authorize({clientId: %q, scope: %q, redirectUri: "index.html"}).catch(function (e) { show("error " + e.message); });`, clientID, scope)))
	mux.HandleFunc("GET /index.html", page(`
FHIR.oauth2.ready().then(function (client) {
  return Promise.all([client.patient.read(), client.request("Condition?patient=" + client.patient.id), client.request(client.getFhirUser()),
    client.getState("tokenResponse.refresh_token") ? client.refresh() : client.state])
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

// chrome is a headless Chromium with nothing in it. Without one the test is skipped.
func chrome(t *testing.T) context.Context {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		t.Skip("needs Chromium (apt-get install chromium)")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.WindowSize(1100, 900))
	if os.Getuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil { // starts it, and must not be under the time limit
		t.Fatal(err)
	}
	ctx, cancel = context.WithTimeout(ctx, 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// picture keeps a screenshot for a person, in the folder that KILN_SCREENSHOTS names.
func picture(name string) step {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		dir := os.Getenv("KILN_SCREENSHOTS")
		if dir == "" {
			return nil
		}
		png, err := chromedp.FullScreenshot(100)(ctx, target)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600)
	})
}

// step is one thing that somebody does in a browser.
type step = chromedp.Action[chromedp.Void]

func css(selector string) chromedp.CSS { return chromedp.CSS(selector) }

// keep has an action's value for later.
func keep[T any](into *T, a chromedp.Action[T]) step {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) (err error) {
		*into, err = a(ctx, target)
		return err
	})
}

func (w *world) addBrowserApp(id, origin string, launch bool) {
	w.Helper()
	c := &identity.Client{
		ID: id, Name: "Growth Chart", AuthMethod: identity.AuthNone, RedirectURIs: []string{origin + "/index.html"},
		GrantTypes: []string{"authorization_code", "refresh_token"}, Scope: allScopes,
	}
	if launch {
		c.LaunchURI = origin + "/launch.html"
	}
	if err := w.identity.AddClient(w.Context(), c); err != nil {
		w.Fatal(err)
	}
}

func run(t *testing.T, ctx context.Context, actions ...step) {
	t.Helper()
	if err := chromedp.Do(ctx, actions...); err != nil {
		where, _ := chromedp.Run(ctx, chromedp.Location())
		body, _ := chromedp.Run(ctx, chromedp.Text(css("body")))
		t.Fatalf("%v\nat %s:\n%s", err, where, body)
	}
}

func TestBrowser_fhirclient_standalone_launch_of_a_patient(t *testing.T) {
	ctx := chrome(t)
	w := newWorld(t)
	origin := app(t, "growth", "launch/patient openid fhirUser offline_access patient/Patient.rs patient/Condition.rs")
	w.addBrowserApp("growth", origin, false)
	var result string
	run(t, ctx,
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
	ctx := chrome(t)
	w := newWorld(t)
	origin := app(t, "growth", "launch openid fhirUser offline_access user/Patient.rs user/Condition.rs user/Practitioner.rs")
	w.addBrowserApp("growth", origin, true)
	var result string
	run(t, ctx,
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

func TestBrowser_pages_on_a_phone_and_by_keyboard(t *testing.T) {
	ctx := chrome(t)
	w := newWorld(t)
	request := w.request("public", "launch/patient openid fhirUser offline_access patient/*.rs patient/Observation.cruds")
	var wide bool
	noScroll := func(page string) step {
		return chromedp.Steps(
			keep(&wide, chromedp.Evaluate[bool](`document.documentElement.scrollWidth > window.innerWidth`)),
			chromedp.Func(func(context.Context, *chromedp.Target) error {
				if wide {
					t.Errorf("%s is wider than a phone", page)
				}
				return nil
			}),
			picture("phone-"+page))
	}
	labelled := func(page string) step {
		return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
			const script = `[...document.querySelectorAll("input:not([type=hidden]):not([hidden]), select")].filter(e => e.labels.length == 0).length`
			unlabelled, err := chromedp.Evaluate[int](script)(ctx, target)
			if unlabelled > 0 {
				t.Errorf("%d fields without a label on %s", unlabelled, page)
			}
			return err
		})
	}
	run(t, ctx,
		chromedp.EmulateViewport(375, 667, chromedp.EmulateScale(2), chromedp.EmulateMobile),
		chromedp.Navigate(w.origin+"/auth/authorize?"+request.Encode()),
		chromedp.WaitVisible(css("#username")), labelled("login"), noScroll("login"),
		// Nothing but the keyboard from here on.
		chromedp.KeyEvent("greta\t"+password+"\r"),
		chromedp.WaitVisible(css("#q")), labelled("picker"), noScroll("picker"),
		chromedp.KeyEvent("okafor\r"),
		chromedp.WaitVisible(css(`button.pick`)), chromedp.Focus(css(`button.pick`)), chromedp.KeyEvent("\r"),
		chromedp.WaitVisible(css(`button[value="allow"]`)), labelled("consent"), noScroll("consent"),
		chromedp.Click(css("summary")), noScroll("consent-open"),
		chromedp.Navigate(w.origin+"/auth/account"), chromedp.WaitVisible(css("#current")), labelled("account"), noScroll("account"),
		chromedp.Navigate(w.origin+"/auth/launch"), chromedp.WaitVisible(css("#q")), labelled("launcher"), noScroll("launcher"),
	)
	w.tokens("greta", "p1", "launch/patient offline_access patient/Condition.rs?category="+category+"problem-list-item patient/Patient.rs")
	run(t, ctx, chromedp.Navigate(w.origin+"/auth/apps"), chromedp.WaitVisible(css("button.danger")), noScroll("apps"))
	if strings.Contains(w.log.String(), "internal error") {
		t.Errorf("%s", w.log)
	}
}
