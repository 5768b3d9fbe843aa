package oauth_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"
	"github.com/jackc/pgx/v5"

	"kiln/internal/browser"
)

// otp is what an authenticator app shows (RFC 6238), written again here so that it checks the server's.
func otp(t testing.TB, seed string, at time.Time) string {
	t.Helper()
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(seed)
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha1.New, key)
	mac.Write(binary.BigEndian.AppendUint64(nil, uint64(at.Unix()/30)))
	sum := mac.Sum(nil)
	offset := sum[19] & 15
	return fmt.Sprintf("%06d", (binary.BigEndian.Uint32(sum[offset:])&0x7fffffff)%1e6)
}

func TestLogin_with_one_time_codes(t *testing.T) {
	w := newWorld(t)
	b := w.browser()
	b.signIn(b.open("/auth/login"), "greta")
	token := form(b.open("/auth/account").body).Get("token")
	change := func(fields ...string) *response {
		f := url.Values{"token": {token}}
		for i := 0; i+1 < len(fields); i += 2 {
			f.Set(fields[i], fields[i+1])
		}
		return b.submit("/auth/account", f)
	}
	if r := change("do", "totp-start", "current", "wrong password"); r.StatusCode != 400 {
		t.Errorf("without the password: %d", r.StatusCode)
	}
	page := change("do", "totp-start", "current", password)
	seed := regexp.MustCompile(`class="seed">([A-Z2-7]+)<`).FindStringSubmatch(page.body)
	if seed == nil {
		t.Fatalf("%s", page.body)
	}
	halfway := form(page.body).Get("halfway")
	if r := change("do", "totp-confirm", "halfway", halfway, "code", "000000"); r.StatusCode != 400 {
		t.Errorf("a wrong code: %d", r.StatusCode)
	}
	first := otp(t, seed[1], w.clock.now())
	if r := change("do", "totp-confirm", "halfway", halfway, "code", first); r.StatusCode != 200 || !strings.Contains(r.body, "On: signing in takes a code") {
		t.Fatalf("%d %s", r.StatusCode, r.body)
	}

	if uri := regexp.MustCompile(`href="(otpauth://totp/Kiln:greta\?[^"]+)"`).FindStringSubmatch(page.body); uri == nil || !strings.Contains(uri[1], seed[1]) {
		t.Errorf("authenticator apps cannot open the key: %q", uri)
	}
	early := w.browser()
	f := form(early.signIn(early.open("/auth/login"), "greta").body)
	f.Set("code", first) // by now the time may be that of the next code
	if r := early.submit("/auth/login/code", f); r.StatusCode != http.StatusUnauthorized {
		t.Errorf("the code that turned codes on signs in as well: %d", r.StatusCode)
	}

	w.clock.advance(time.Minute)
	c := w.browser()
	page = c.signIn(c.open("/auth/authorize?"+w.request("public", "openid user/Patient.rs").Encode()), "greta")
	if !strings.Contains(page.body, `name="code"`) || strings.Contains(page.body, "Sign out") {
		t.Fatalf("no code is asked for: %s", page.body)
	}
	enter := func(code string) *response {
		f := form(page.body)
		f.Set("code", code)
		return c.submit("/auth/login/code", f)
	}
	if r := enter("123456"); r.StatusCode != http.StatusUnauthorized {
		t.Errorf("a wrong code: %d", r.StatusCode)
	}
	code := otp(t, seed[1], w.clock.now())
	q := w.outcome(c.consent(enter(code), "greta", ""))
	claims := w.verify(w.token(exchange(q.Get("code"), "client_id", "public")).json(t)["id_token"].(string))
	if fmt.Sprint(claims["amr"]) != "[pwd otp]" {
		t.Errorf("amr %v", claims["amr"])
	}
	c = w.browser()
	page = c.signIn(c.open("/auth/login"), "greta")
	if r := enter(code); r.StatusCode != http.StatusUnauthorized {
		t.Errorf("the same code again: %d", r.StatusCode)
	}
	f = form(page.body)
	f.Set("halfway", "made-up")
	f.Set("code", code)
	if r := c.submit("/auth/login/code", f); r.StatusCode != 400 {
		t.Errorf("a made-up step: %d", r.StatusCode)
	}

	greta, err := w.identity.AccountNamed(t.Context(), "greta")
	if err == nil {
		err = w.identity.RemoveFactors(t.Context(), greta.ID) // as kiln user remove-factors does
	}
	if err != nil {
		t.Fatal(err)
	}
	if r := b.open("/auth/account"); !strings.Contains(r.body, "Sign in") {
		t.Error("a browser stays signed in")
	}
	if r := b.signIn(b.open("/auth/login"), "greta"); !strings.Contains(r.body, "Sign out") {
		t.Errorf("the password alone does not sign in: %s", r.body)
	}
}

// recoveryCodes are those that a page shows.
func recoveryCodes(page string) (codes []string) {
	for _, m := range regexp.MustCompile(`<li><code>([A-Z2-7-]+)</code></li>`).FindAllStringSubmatch(page, -1) {
		codes = append(codes, m[1])
	}
	return codes
}

func TestLogin_with_recovery_codes(t *testing.T) {
	w := newWorld(t)
	first := w.coded()
	if len(first) != 10 || len(first[0]) != 19 {
		t.Fatalf("codes %v", first)
	}
	conn, err := pgx.Connect(t.Context(), w.database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	stored := func() (n int) {
		t.Helper()
		if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM recovery_code`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	enter := func(code string) (*person, *response) {
		t.Helper()
		b := w.browser()
		f := form(b.signIn(b.open("/auth/login"), "coded").body)
		f.Set("recovery", code)
		f.Del("code")
		return b, b.submit("/auth/login/code", f)
	}
	for _, wrong := range []string{"", "AAAA-BBBB-CCCC-DDDD", first[0][:18], strings.Repeat("A", 1000)} {
		if _, r := enter(wrong); r.StatusCode != http.StatusUnauthorized || !strings.Contains(r.body, `id="recovery" aria-invalid="true"`) {
			t.Errorf("%q: %d %s", wrong, r.StatusCode, r.body)
		}
	}
	b, r := enter(" " + strings.ToLower(strings.ReplaceAll(first[0], "-", " ")))
	if r.StatusCode != 200 || !strings.Contains(r.body, "Sign out") || stored() != 9 {
		t.Fatalf("%d, %d codes are left: %s", r.StatusCode, stored(), r.body)
	}
	if _, r := enter(first[0]); r.StatusCode != http.StatusUnauthorized {
		t.Errorf("a code signs in twice: %d", r.StatusCode)
	}

	page := b.open("/auth/account").body
	if len(recoveryCodes(page)) != 0 {
		t.Error("codes are shown again")
	}
	renew := func(current string) *response {
		return b.submit("/auth/account", url.Values{"token": {form(page).Get("token")}, "do": {"recovery"}, "current": {current}})
	}
	if r := renew("wrong password"); r.StatusCode != 400 || stored() != 9 {
		t.Errorf("new codes without the password: %d", r.StatusCode)
	}
	again := recoveryCodes(renew(password).body)
	if len(again) != 10 || stored() != 10 {
		t.Fatalf("new codes: %v", again)
	}
	if _, r := enter(first[1]); r.StatusCode != http.StatusUnauthorized {
		t.Errorf("a code from before new ones were made: %d", r.StatusCode)
	}
	if _, r := enter(again[9]); r.StatusCode != 200 {
		t.Errorf("a new code: %d", r.StatusCode)
	}
	var hashes [][]byte
	if err := conn.QueryRow(t.Context(), `SELECT array_agg(hash) FROM recovery_code`).Scan(&hashes); err != nil {
		t.Fatal(err)
	}
	for _, h := range hashes {
		if len(h) != 32 || strings.Contains(string(h), strings.ReplaceAll(again[0], "-", "")) {
			t.Errorf("stored as %q", h)
		}
	}
	if r := b.submit("/auth/account", url.Values{"token": {form(page).Get("token")}, "do": {"totp-remove"}, "current": {password}}); r.StatusCode != 200 || stored() != 0 {
		t.Errorf("turned off: %d, %d codes are left", r.StatusCode, stored())
	}
	if r := renew(password); r.StatusCode != 400 || stored() != 0 {
		t.Errorf("codes for nothing: %d", r.StatusCode)
	}
}

func TestAccount_password_change(t *testing.T) {
	w := newWorld(t)
	token := w.tokens("ada", "", "offline_access patient/Patient.rs")["access_token"].(string)
	b, other := w.browser(), w.browser()
	b.signIn(b.open("/auth/login"), "ada")
	other.signIn(other.open("/auth/login"), "ada")
	f := form(b.open("/auth/account").body)
	f.Set("do", "password")
	f.Set("current", password)
	f.Set("new", "a new long password")
	f.Set("again", "another")
	if r := b.submit("/auth/account", f); r.StatusCode != 400 {
		t.Errorf("two that differ: %d", r.StatusCode)
	}
	f.Set("again", "a new long password")
	if r := b.submit("/auth/account", f); r.StatusCode != 200 || !strings.Contains(r.body, "Done.") {
		t.Errorf("%d %s", r.StatusCode, r.body)
	}
	if r := other.open("/auth/account"); !strings.Contains(r.body, "Sign in") {
		t.Error("another browser stays signed in")
	}
	if r := w.get("/Patient/p1", token); r.StatusCode != 401 {
		t.Errorf("a token from before still works: %d", r.StatusCode)
	}
}

func TestBrowser_passkey(t *testing.T) {
	w := newWorld(t)
	b := browser.Open(t)
	const yes = true
	device := chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		if _, err := cdp.Call(ctx, target, webauthn.Enable, webauthn.EnableParams{}); err != nil {
			return err
		}
		_, err := cdp.Call(ctx, target, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{
			Options: &webauthn.VirtualAuthenticatorOptions{
				Protocol: webauthn.AuthenticatorProtocolCtap2, Transport: webauthn.AuthenticatorTransportInternal,
				HasResidentKey: yes, HasUserVerification: yes, IsUserVerified: yes, AutomaticPresenceSimulation: yes,
			},
		})
		return err
	})
	var who, again string
	b.Do(device,
		chromedp.Navigate(w.origin+"/auth/login?to=account"), chromedp.WaitVisible(css("#username")),
		chromedp.SendKeys(css("#username"), "greta"), chromedp.SendKeys(css("#password"), password), chromedp.Submit(css("#password")),
		chromedp.WaitVisible(css("#current3")), chromedp.SendKeys(css("#current3"), password),
		chromedp.Click(css(`button[value="passkey-start"]`)),
		chromedp.WaitVisible(css("#make-passkey")), picture("passkey-add"), chromedp.Click(css("#make-passkey")),
		chromedp.WaitVisible(css("#passkey")), picture("passkey-added"),
		chromedp.SendKeys(css("#current3"), password), chromedp.Click(css(`button[value="passkey-start"]`)), // a second one, on the same device
		chromedp.WaitVisible(css("#make-passkey")), chromedp.Click(css("#make-passkey")),
		chromedp.WaitVisible(css(`[role="status"]:not(:empty)`)), keep(&again, chromedp.Text(css(`[role="status"]`))), picture("passkey-again"),
		out, // the page before has such a form, too
		chromedp.WaitVisible(css(`form[data-passkey] button`)), picture("passkey-login"), chromedp.Click(css(`form[data-passkey] button`)),
		chromedp.WaitVisible(css(".who")), keep(&who, chromedp.Text(css(".who"))),
	)
	if who != "greta" {
		t.Errorf("signed in as %q", who)
	}
	if again != "This device has a passkey for your account already." {
		t.Errorf("a second passkey on one device: %q", again)
	}
}
