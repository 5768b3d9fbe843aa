package main

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"kiln/internal/browser"
)

// TestSwagger_sign_in: a newcomer signs in at /swagger/ as one of the demo users, in the window that the page opens, and
// calls something with the token.
func TestSwagger_sign_in(t *testing.T) {
	t.Parallel()
	b := browser.Open(t)
	origin, stop := serve(t, "--auth=smart", "--database-url="+startedDB(t), "--data-dir="+t.TempDir(), "--seed")
	defer stop()
	var answer string
	const call = "#operations-Patient-searchPatient "
	b.Do(
		chromedp.Navigate(strings.Replace(origin, "localhost", "127.0.0.1", 1)+"/swagger/?urls.primaryName=Patient"), // it moves to its public name
		chromedp.WaitVisible(browser.CSS(".auth-wrapper .authorize")),
		chromedp.Click(browser.CSS(".auth-wrapper .authorize")),
		chromedp.WaitVisible(browser.CSS(".auth-btn-wrapper .authorize")), browser.Picture("swagger-authorize"),
	)
	window := b.Window(func() { b.Do(chromedp.Click(browser.CSS(".auth-btn-wrapper .authorize"))) })
	window.Do(
		chromedp.WaitVisible(browser.CSS("#username")), browser.Picture("swagger-login"),
		chromedp.SendKeys(browser.CSS("#username"), "demo-doctor"), chromedp.SendKeys(browser.CSS("#password"), demoPassword), chromedp.Submit(browser.CSS("#password")),
		chromedp.WaitVisible(browser.CSS(`button[value="allow"]`)), browser.Picture("swagger-consent"),
		chromedp.Click(browser.CSS(`button[value="allow"]`)),
	)
	b.Do(
		chromedp.WaitReady(browser.CSS(".auth-wrapper .authorize.locked")), browser.Picture("swagger-authorized"),
		chromedp.Click(browser.CSS(".auth-container .btn-done")),
		chromedp.Click(browser.CSS(call+".opblock-summary-control")),
		chromedp.WaitVisible(browser.CSS(call+".try-out__btn")),
		chromedp.Click(browser.CSS(call+".try-out__btn")),
		chromedp.WaitVisible(browser.CSS(call+"button.execute")),
		chromedp.Click(browser.CSS(call+"button.execute")),
		chromedp.WaitVisible(browser.CSS(call+".live-responses-table .response-col_status")),
		browser.Keep(&answer, chromedp.Text(browser.CSS(call+".live-responses-table"))), browser.Picture("swagger-answer"),
	)
	if !strings.Contains(answer, "200") || !strings.Contains(answer, "Brandt") || strings.Contains(answer, "Nwosu") {
		t.Errorf("the doctor sees %.600q, and has Brandt as a patient but not Nwosu", answer)
	}
	if said := b.Complaints(); len(said) > 0 {
		t.Errorf("the console says %q", said)
	}
}

// TestSwagger_launched_with_a_patient: staff launch the page from /auth/launch, and its token is for the patient that they
// chose there.
func TestSwagger_launched_with_a_patient(t *testing.T) {
	t.Parallel()
	origin, stop := serve(t, "--auth=smart", "--database-url="+startedDB(t), "--data-dir="+t.TempDir(), "--seed")
	defer stop()
	b := browser.Open(t)
	var answer string
	b.Do(
		chromedp.Navigate(origin+"/auth/"), chromedp.WaitVisible(browser.CSS("#username")),
		chromedp.SendKeys(browser.CSS("#username"), "demo-doctor"), chromedp.SendKeys(browser.CSS("#password"), demoPassword), chromedp.Submit(browser.CSS("#password")),
		chromedp.WaitVisible(browser.CSS("#q")), chromedp.SendKeys(browser.CSS("#q"), "brandt"), chromedp.Submit(browser.CSS("#q")),
		chromedp.WaitVisible(browser.CSS(`a.pick[href$="demo-tom"]`)), chromedp.Click(browser.CSS(`a.pick[href$="demo-tom"]`)),
		chromedp.WaitVisible(browser.CSS(`button[value="kiln-swagger"]`)), chromedp.Click(browser.CSS(`button[value="kiln-swagger"]`)),
		chromedp.WaitVisible(browser.CSS(".auth-wrapper .authorize")), chromedp.Click(browser.CSS(".auth-wrapper .authorize")),
		chromedp.WaitVisible(browser.CSS(".auth-btn-wrapper .authorize")), browser.Picture("swagger-launched"),
	)
	var consent string
	window := b.Window(func() { b.Do(chromedp.Click(browser.CSS(".auth-btn-wrapper .authorize"))) })
	window.Do(
		chromedp.WaitVisible(browser.CSS(`button[value="allow"]`)), browser.Keep(&consent, chromedp.Text(browser.CSS("main"))),
		chromedp.Click(browser.CSS(`button[value="allow"]`)),
	)
	if !strings.Contains(consent, "Brandt") {
		t.Errorf("the consent page says %q", consent)
	}
	b.Do(
		chromedp.WaitReady(browser.CSS(".auth-wrapper .authorize.locked")),
		chromedp.Click(browser.CSS(".auth-container .btn-done")),
		browser.Keep(&answer, chromedp.Evaluate[string](`(async () => {
			const token = ui.authSelectors.authorized().toJS().smart.token;
			const get = async (path) => (await fetch("/fhir/" + path, {headers: {Authorization: "Bearer " + token.access_token}})).status;
			return token.patient + " " + await get("Patient/demo-tom") + " " + await get("Patient/demo-ines");
		})()`, chromedp.EvalAwaitPromise)),
	)
	if answer != "demo-tom 200 404" {
		t.Errorf("the token: %s", answer)
	}
}

// TestDemo_users_are_closed_where_others_reach_the_server: their password is in the documents.
func TestDemo_users_are_closed_where_others_reach_the_server(t *testing.T) {
	t.Parallel()
	db, dir := "--database-url="+startedDB(t), "--data-dir="+t.TempDir()
	users := func() string {
		t.Helper()
		code, out, errs := command(t, "user", "list", db)
		if code != 0 {
			t.Fatal(errs)
		}
		return out
	}
	start := func(args ...string) {
		t.Helper()
		_, stop := serve(t, append([]string{"--auth=smart", db, dir}, args...)...)
		stop()
	}
	start()
	if got := users(); strings.Contains(got, "demo") {
		t.Errorf("without --seed: %s", got)
	}
	start("--seed", "--base-url=https://ehr.example.org")
	if got := users(); strings.Contains(got, "demo") {
		t.Errorf("under a public name: %s", got)
	}
	start("--seed")
	if got := users(); strings.Count(got, "open") != 3 {
		t.Errorf("at home: %s", got)
	}
	if code, _, errs := command(t, "user", "password", "--username=demo-doctor", "--password=another one", db); code != 0 {
		t.Fatal(errs)
	}
	start("--base-url=https://ehr.example.org")
	if got := users(); strings.Count(got, "closed") != 2 || strings.Count(got, "open") != 1 {
		t.Errorf("reached by others: %s", got)
	}
}
