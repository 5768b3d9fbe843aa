package oauth_test

import (
	"context"
	_ "embed"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/jackc/pgx/v5"

	"kiln/auth/oauth"
	"kiln/internal/browser"
	"kiln/storage/identity"
)

// axe is axe-core 4.14.1 of Deque Systems, as published on npm: it looks for what WCAG forbids and a program can see. Its
// licence (MPL-2.0) is beside it.
//
//go:embed testdata/axe/axe.min.js
var axe string

const runAxe = `axe.run({runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}).then(r =>
  r.violations.map(v => v.id + " (" + v.help + "): " + v.nodes.map(n => n.target.join(" ") + " " + (n.any[0] || {message: ""}).message).join("; ")).join("\n"))`

// sound checks the page that is open: for WCAG 2.2 AA, that it is no wider than the window, and that its own policy let all
// of it through. It keeps a picture.
func sound(b *browser.Browser, name string, width int) step {
	return chromedp.Func(func(ctx context.Context, at *chromedp.Target) error {
		if _, err := browser.Loaded()(ctx, at); err != nil { // without its style it would be judged by colours and sizes that it does not have
			return err
		}
		if _, err := chromedp.Evaluate[any](axe+"; null")(ctx, at); err != nil {
			return err
		}
		faults, err := chromedp.Evaluate[string](runAxe, chromedp.EvalAwaitPromise)(ctx, at)
		if err != nil {
			return err
		}
		if faults != "" {
			b.Errorf("%s: %s", name, faults)
		}
		wide, err := chromedp.Evaluate[int](`document.documentElement.scrollWidth`)(ctx, at) // a phone's window grows with what is in it
		if wide > width {
			b.Errorf("%s is wider than the window", name)
		}
		if err != nil {
			return err
		}
		_, err = picture(name)(ctx, at)
		return err
	})
}

// size is how large a window is.
type size struct {
	name   string
	width  int
	screen step
}

func sizes() []size {
	return []size{
		{"desk", 1280, chromedp.EmulateViewport(1280, 900)},
		{"phone", 320, chromedp.EmulateViewport(320, 640, chromedp.EmulateScale(2), chromedp.EmulateMobile)}, // WCAG 1.4.10; a desk at 400 %
	}
}

// signIn fills in the sign-in page.
func signIn(user, secret string) step {
	return chromedp.Steps(chromedp.WaitVisible(css("#username")), chromedp.SetValue(css("#username"), user),
		chromedp.SendKeys(css("#password"), secret), chromedp.Submit(css("#password")))
}

// out signs out.
var out = chromedp.Steps(chromedp.Click(css("header button")), chromedp.WaitVisible(css("#username")))

// TestBrowser_every_page opens every page that there is, on a desk and on a phone.
func TestBrowser_every_page(t *testing.T) {
	w := newWorld(t, func(o *oauth.Options) {
		o.Outside = oauth.Outside{Issuer: "https://login.example.org", Name: "Harbour Hospital", ClientID: "kiln"}
	})
	visit := w.clock.now().UTC().AddDate(0, 3, 0).Truncate(time.Hour)
	w.put(fmt.Sprintf(`{"resourceType":"Appointment","id":"a1","status":"proposed","start":%q,"end":%q,"description":"Check-up","participant":[{"actor":{"reference":"Patient/p1"},"status":"needs-action"},{"actor":{"reference":"Practitioner/dr"},"status":"accepted"}]}`,
		visit.Format(time.RFC3339), visit.Add(30*time.Minute).Format(time.RFC3339)))
	w.tokens("ada", "", "launch/patient offline_access patient/Condition.rs?category="+category+"problem-list-item patient/Patient.rs patient/Observation.cruds")
	recovery := w.coded()[0]
	ask := func(scope string) string { return w.origin + "/auth/authorize?" + w.request("public", scope).Encode() }
	for _, size := range sizes() {
		t.Run(size.name, func(t *testing.T) {
			b := browser.Open(t)
			var codes string
			page := func(name string) step { return sound(b, size.name+"-"+name, size.width) }
			b.Do(size.screen,
				// A patient: sign-in, consent, apps, account.
				chromedp.Navigate(ask("launch/patient openid fhirUser offline_access patient/Patient.rs patient/Condition.rs patient/Observation.rs patient/MedicationRequest.cruds patient/*.rs")),
				chromedp.WaitVisible(css("#username")), page("login"),
				signIn("ada", "wrong password"), chromedp.WaitVisible(css(`[role="alert"]`)), page("login-wrong"),
				signIn("ada", password), chromedp.WaitVisible(css(`button[value="allow"]`)), page("consent"),
				chromedp.Evaluate[chromedp.Void](`document.querySelectorAll("details").forEach(d => d.open = true)`), page("consent-open"),
				chromedp.Evaluate[chromedp.Void](`document.querySelectorAll("input[type=checkbox]").forEach(c => c.checked = false)`),
				chromedp.Click(css(`button[value="allow"]`)), chromedp.WaitVisible(css(`[role="alert"]`)), page("consent-nothing"),
				chromedp.Navigate(w.origin+"/auth/apps"), chromedp.WaitVisible(css("button.danger")), page("apps"),
				chromedp.Navigate(w.origin+"/auth/account"), chromedp.WaitVisible(css("#current")), page("account-patient"),
				chromedp.Navigate(w.origin+"/auth/launch"), chromedp.WaitVisible(css("h1")), page("problem-patient"),
				chromedp.Navigate(w.origin+"/auth/authorize?client_id=nobody&redirect_uri=x"), chromedp.WaitVisible(css("h1")), page("problem"),
				chromedp.Navigate(w.origin+"/auth/apps"), chromedp.WaitVisible(css("header button")), out,
				// A practitioner: choice of a patient, launcher, account with second factors.
				chromedp.Navigate(ask("launch/patient patient/Patient.rs user/Observation.rs")), signIn("greta", password),
				chromedp.WaitVisible(css("#q")), page("picker"),
				chromedp.SendKeys(css("#q"), "nobody"), chromedp.Submit(css("#q")), chromedp.WaitVisible(css(`main [role="status"]`)), page("picker-none"),
				chromedp.Navigate(w.origin+"/auth/launch"), chromedp.WaitVisible(css("#q")), page("launcher"),
				chromedp.Navigate(w.origin+"/auth/launch?patient=p1"), chromedp.WaitVisible(css("#visit")), page("launcher-patient"),
				chromedp.Navigate(w.origin+"/auth/account"), chromedp.WaitVisible(css("#current2")), page("account-staff"),
				chromedp.SendKeys(css("#current3"), password), chromedp.Click(css(`button[value="passkey-start"]`)), chromedp.WaitVisible(css("#newkey")), page("account-passkey"),
				chromedp.Navigate(w.origin+"/auth/account"), chromedp.WaitVisible(css("#current2")),
				chromedp.SendKeys(css("#current2"), password), chromedp.Submit(css("#current2")), chromedp.WaitVisible(css(".seed")), page("account-codes"),
				chromedp.Navigate(w.origin+"/auth/apps"), chromedp.WaitVisible(css("header button")), page("apps-none"), out,
				signIn("coded", password), chromedp.WaitVisible(css("#code")), page("code"),
				chromedp.SendKeys(css("#recovery"), "lost"), chromedp.Submit(css("#recovery")), chromedp.WaitVisible(css(`#recovery[aria-invalid]`)), page("code-wrong"),
				chromedp.SendKeys(css("#recovery"), recovery), chromedp.Submit(css("#recovery")), chromedp.WaitVisible(css("header button")),
				chromedp.Navigate(w.origin+"/auth/account"), chromedp.WaitVisible(css("#current2")),
				chromedp.SendKeys(css("#current2"), password), chromedp.Click(css(`button[value="recovery"]`)), chromedp.WaitVisible(css(".codes")), page("account-recovery"),
				keep(&codes, chromedp.Text(css(".codes"))), out,
				// An administrator, and somebody new.
				chromedp.Navigate(w.origin+"/auth/join"), chromedp.WaitVisible(css("h1")), page("join"),
				chromedp.Navigate(w.origin+"/auth/newcomers"), signIn("root", password), chromedp.WaitVisible(css("header button")), page("newcomers"),
				chromedp.Navigate(w.origin+"/auth/manage"), chromedp.WaitVisible(css("#q")), page("manage"),
			)
			recovery, _, _ = strings.Cut(codes, "\n") // the earlier ones are void
			for _, line := range b.Complaints() {     // statuses that were meant
				if !strings.Contains(line, "status of 4") {
					t.Errorf("the console says %q", line)
				}
			}
		})
	}
}

// TestBrowser_family_and_emergencies: somebody chooses in whose name an app acts, and an administrator reviews an emergency.
func TestBrowser_family_and_emergencies(t *testing.T) {
	w := newWorld(t)
	family(w)
	emergencyWard(w)
	if r := w.get("/Patient/stray", w.tokens("greta", "", "user/*.rs")["access_token"].(string), glass); r.StatusCode != 200 {
		t.Fatal(r.body)
	}
	w.told()
	for _, size := range sizes() {
		t.Run(size.name, func(t *testing.T) {
			w.reviewed(false)
			b := browser.Open(t)
			page := func(name string) step { return sound(b, size.name+"-"+name, size.width) }
			b.Do(size.screen,
				chromedp.Navigate(w.origin+"/auth/authorize?"+w.request("public", "launch/patient patient/Patient.rs").Encode()), signIn("mother", password), chromedp.WaitVisible(css(`button[value="RelatedPerson/of-kim"]`)), page("picker-family"),
				chromedp.Click(css(`button[value="RelatedPerson/of-kim"]`)), chromedp.WaitVisible(css(`button[value="allow"]`)), page("consent-for-another"),
				chromedp.Navigate(w.origin+"/auth/apps"), chromedp.WaitVisible(css("header button")), out,
				chromedp.Navigate(w.origin+"/auth/manage"), signIn("root", password), chromedp.WaitVisible(css("#q")),
				chromedp.Click(css(`nav a[href="/auth/emergencies"]`)), chromedp.WaitVisible(css("a.pick")), page("emergencies"),
				chromedp.Click(css("a.pick")), chromedp.WaitVisible(css("#verdict")), page("emergency"),
				chromedp.SendKeys(css("#verdict"), "reviewed on a "+size.name), chromedp.Click(css("main button.main")), chromedp.WaitVisible(css(".done")), page("emergency-reviewed"),
				chromedp.Navigate(w.origin+"/auth/emergencies?all"), chromedp.WaitVisible(css("a.pick")), chromedp.Click(css("a.pick")), chromedp.WaitVisible(css("#review")), page("emergency-verdict"),
				chromedp.Click(css(`nav a[href="/admin/messages"]`)), chromedp.WaitVisible(css(`nav[aria-label="States"]`)), page("messages"), // the page before has a link to manage, too
				chromedp.Click(css(`nav a[href="/auth/manage"]`)), chromedp.WaitVisible(css("#q")),
			)
			for _, line := range b.Complaints() { // a browser asks for an icon
				if !strings.Contains(line, "status of 404") {
					t.Errorf("the console says %q", line)
				}
			}
			if !w.reviewed(true) {
				t.Error("nothing was reviewed")
			}
		})
	}
}

// TestBrowser_axe_sees_faults: a page is not sound because nothing looks.
func TestBrowser_axe_sees_faults(t *testing.T) {
	w := newWorld(t)
	b := browser.Open(t)
	var faults string
	b.Do(
		chromedp.Navigate(w.origin+"/auth/login"), chromedp.WaitVisible(css("#username")), chromedp.Evaluate[chromedp.Void](axe+"; null"),
		chromedp.Evaluate[chromedp.Void](`document.querySelector("label").remove(); const p = document.createElement("p"); p.className = "visually"; p.textContent = "pale";
			p.style.color = "#bbb"; document.querySelector("main").append(p); null`),
		keep(&faults, chromedp.Evaluate[string](runAxe, chromedp.EvalAwaitPromise)),
	)
	if !strings.Contains(faults, "label") || !strings.Contains(faults, "color-contrast") {
		t.Errorf("found: %s", faults)
	}
}

// TestBrowser_by_keyboard signs in, chooses a patient and consents with nothing but the keyboard.
func TestBrowser_by_keyboard(t *testing.T) {
	w := newWorld(t)
	b := browser.Open(t)
	b.Do(
		chromedp.Navigate(w.origin+"/auth/authorize?"+w.request("public", "launch/patient openid fhirUser offline_access patient/*.rs patient/Observation.cruds").Encode()),
		chromedp.WaitVisible(css("#username")), browser.Focused("username"), chromedp.KeyEvent("greta\t"+password+"\r"),
		chromedp.WaitVisible(css("#q")), browser.Focused("q"), chromedp.KeyEvent("okafor\r"),
		chromedp.WaitReady(css(`#q[value="okafor"]`)), chromedp.WaitVisible(css(`button.pick`)), chromedp.Focus(css("#q")), chromedp.KeyEvent("\t\t\r"), // past the button to the first patient
		chromedp.WaitVisible(css(`button[value="allow"]`)),
	)
	reached := false
	for range 40 {
		var value string
		b.Do(chromedp.KeyEvent("\t"), keep(&value, chromedp.Evaluate[string](`document.activeElement.value || ""`)))
		if reached = value == "allow"; reached {
			break
		}
	}
	if !reached {
		t.Fatal("Allow cannot be reached by the keyboard")
	}
	b.Do(chromedp.KeyEvent("\r"), chromedp.WaitNotPresent(css(`button[value="allow"]`)))
	if strings.Contains(w.log.String(), "internal error") {
		t.Errorf("%s", w.log)
	}
}

// reviewed says whether an emergency was reviewed; not keep takes that back.
func (w *world) reviewed(keep bool) (is bool) {
	w.Helper()
	conn, err := pgx.Connect(w.Context(), w.database)
	if err != nil {
		w.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err = conn.QueryRow(w.Context(), "SELECT coalesce(bool_or(verdict LIKE 'reviewed on a %'), false) FROM break_glass").Scan(&is); err == nil && !keep {
		_, err = conn.Exec(w.Context(), "UPDATE break_glass SET reviewed = NULL, reviewer = NULL, verdict = NULL")
	}
	if err != nil {
		w.Fatal(err)
	}
	return is
}

// coded makes an account whose sign-in takes a one-time code as well, and returns its recovery codes.
func (w *world) coded() (recovery []string) {
	w.Helper()
	if err := w.identity.AddAccount(w.Context(), &identity.Account{Username: "coded", Roles: []string{"admin"}, Password: passwordHash()}); err != nil {
		w.Fatal(err)
	}
	b := w.browser()
	b.signIn(b.open("/auth/login"), "coded")
	f := form(b.open("/auth/account").body)
	page := b.submit("/auth/account", url.Values{"token": f["token"], "do": {"totp-start"}, "current": {password}})
	seed := regexp.MustCompile(`class="seed">([A-Z2-7]+)<`).FindStringSubmatch(page.body)
	if seed == nil {
		w.Fatal(page.body)
	}
	return recoveryCodes(b.submit("/auth/account", url.Values{"token": f["token"], "do": {"totp-confirm"}, "halfway": {form(page.body).Get("halfway")},
		"code": {otp(w.TB, seed[1], w.clock.now())}}).body)
}
