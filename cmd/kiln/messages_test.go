package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/mail"
	"net/url"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"kiln/internal/mail/mailtest"
)

// bookVisits makes a patient with an e-mail address and n visits, and returns what each answered.
func bookVisits(t *testing.T, origin string, n int) {
	t.Helper()
	base := origin + "/fhir"
	for _, body := range []string{`{"resourceType":"Practitioner","id":"doc"}`, `{"resourceType":"Patient","id":"ada","telecom":[{"system":"email","value":"ada@example.org"}]}`,
		`{"resourceType":"Schedule","id":"cal","actor":[{"reference":"Practitioner/doc"}]}`} {
		typ, id := strings.Split(body, `"`)[3], strings.Split(body, `"`)[7]
		if a := send(t.Context(), "PUT", base+"/"+typ+"/"+id, body); a.status != 201 {
			t.Fatalf("%+v", a)
		}
	}
	day := time.Now().UTC().Truncate(24 * time.Hour).Add(240 * time.Hour)
	for i := range n {
		start := day.Add(time.Duration(i) * time.Hour)
		a := send(t.Context(), "POST", base+"/Appointment", fmt.Sprintf(`{"resourceType":"Appointment","status":"booked","start":%q,"end":%q,"participant":[{"actor":{"reference":"Practitioner/doc"},"status":"accepted"},{"actor":{"reference":"Patient/ada"},"status":"accepted"}]}`,
			start.Format(time.RFC3339), start.Add(30*time.Minute).Format(time.RFC3339)))
		if a.status != 201 {
			t.Fatalf("%+v", a)
		}
	}
}

// eventually waits for a condition, as long as the test's own limit allows.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 6000 {
		if ok() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("never: " + what)
}

// TestMessages_survive_the_death_of_the_server: the mail server is away, Kiln is killed right after the last answer, and
// starts again: each message arrives, and none twice under another id.
func TestMessages_survive_the_death_of_the_server(t *testing.T) {
	t.Parallel()
	const visits = 6
	down := true
	server := mailtest.Serve(t, func(s *mailtest.Server) { s.NoTLS = true })
	dead := mailtest.Serve(t, func(s *mailtest.Server) { s.Answers["connect"] = "drop" })
	data := startedFolder(t)
	start := func() *process {
		port := server.Port()
		if down {
			port = dead.Port()
		}
		return launchServe(t, []string{"--data-dir=" + data, "--quiet-hours=off"}, func(c *exec.Cmd) {
			c.Env = append(c.Environ(), "KILN_SMTP_HOST=127.0.0.1", fmt.Sprintf("KILN_SMTP_PORT=%d", port), "KILN_SMTP_TLS=off", "KILN_SMTP_FROM=no-reply@clinic.example")
		})
	}
	p := start()
	bookVisits(t, p.origin, visits)
	p.end(syscall.SIGKILL)
	down = false
	p = start()
	ids := func() map[string]bool {
		found := map[string]bool{}
		for _, text := range server.Mails() {
			m, err := mail.ReadMessage(strings.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			found[m.Header.Get("Message-ID")] = true
		}
		return found
	}
	eventually(t, "every visit is told of", func() bool { return len(ids()) == visits })
	eventually(t, "every message is recorded", func() bool {
		a := send(t.Context(), "GET", p.origin+"/fhir/Communication?status=completed&_summary=count", "")
		return a.body["total"] == float64(visits)
	})
	if n := len(server.Mails()); n != visits {
		t.Errorf("%d mails for %d visits", n, visits)
	}
	p.end(syscall.SIGTERM)
}

var formTokenPattern = regexp.MustCompile(`name="token" value="([^"]*)"`)

// signedIn is a browser in which somebody has signed in.
func signedIn(t *testing.T, origin, name string) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar}
	page := body(t, client, "GET", origin+"/auth/login", nil)
	body(t, client, "POST", origin+"/auth/login", url.Values{"token": {formTokenPattern.FindStringSubmatch(page.text)[1]}, "username": {name}, "password": {demoPassword}, "to": {"messages"}})
	return client
}

type pageAnswer struct {
	status int
	text   string
	header http.Header
	url    string
}

func body(t *testing.T, client *http.Client, method, at string, form url.Values, headers ...string) pageAnswer {
	t.Helper()
	req, err := http.NewRequest(method, at, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return pageAnswer{resp.StatusCode, string(text), resp.Header, resp.Request.URL.Path}
}

// TestMessages_page_of_a_trial: a newcomer without a mail server sees what would have been sent.
func TestMessages_page_of_a_trial(t *testing.T) {
	t.Parallel()
	origin, stop := serve(t, "--database-url="+startedDB(t))
	defer stop()
	bookVisits(t, origin, 1)
	client := &http.Client{}
	var page pageAnswer
	eventually(t, "the message is on the page", func() bool {
		page = body(t, client, "GET", origin+"/admin/messages", nil)
		return strings.Contains(page.text, "ada@example.org")
	})
	if !strings.Contains(page.text, "Appointment booked") || !strings.Contains(page.header.Get("Content-Security-Policy"), "default-src 'none'") || page.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%v %s", page.header, page.text)
	}
	if style := body(t, client, "GET", origin+"/admin/style.css", nil); style.status != 200 {
		t.Error(style.status)
	}
	if page := body(t, client, "GET", origin+"/admin/messages?state=scheduled", nil); strings.Count(page.text, "Try again") != 3 {
		t.Errorf("the reminders: %s", page.text)
	}
	if page := body(t, client, "GET", origin+"/admin/messages?state=%3Cscript%3E&below=x", nil); page.status != 200 || strings.Contains(page.text, "<script>") {
		t.Errorf("%d %s", page.status, page.text)
	}
	if foreign := body(t, client, "POST", origin+"/admin/messages", url.Values{"id": {"1"}}, "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"); foreign.status != 403 {
		t.Errorf("a form of another site: %d", foreign.status)
	}
	for id, want := range map[string]int{"999999": 404, "x": 400, "": 400} {
		if got := body(t, client, "POST", origin+"/admin/messages", url.Values{"id": {id}}); got.status != want {
			t.Errorf("retry of %q: %d", id, got.status)
		}
	}
}

// TestMessages_page_is_for_administrators: others see nothing of it.
func TestMessages_page_is_for_administrators(t *testing.T) {
	t.Parallel()
	db := "--database-url=" + startedDB(t)
	origin, stop := serve(t, "--auth=smart", db, "--data-dir="+t.TempDir(), "--seed")
	defer stop()
	if page := body(t, &http.Client{}, "GET", origin+"/admin/messages", nil); page.url != "/auth/login" {
		t.Errorf("nobody sees %s", page.url)
	}
	for name, want := range map[string]int{"demo-patient": 403, "demo-doctor": 403, "demo-admin": 200} {
		client := signedIn(t, origin, name)
		page := body(t, client, "GET", origin+"/admin/messages", nil)
		if page.status != want || page.url != "/admin/messages" || (want == 200) != strings.Contains(page.text, "Given up") {
			t.Errorf("%s: %d %s", name, page.status, page.text)
		}
		if got := body(t, client, "POST", origin+"/admin/messages", url.Values{"id": {"1"}}).status; (got == 403) != (want == 403) {
			t.Errorf("%s tries again: %d", name, got)
		}
	}
	// Signing in led each of them there once more.
	_, token, _ := command(t, "token", "--scope", "system/AuditEvent.rs", db, "--log-level=error")
	for query, want := range map[string]string{"outcome=4": `"total":6`, "outcome=0": `"total":1`} {
		log := ""
		eventually(t, "the log can tell of all", func() bool {
			log = body(t, &http.Client{}, "GET", origin+"/fhir/AuditEvent?_summary=count&subtype=administration&"+query, nil, "Authorization", "Bearer "+strings.TrimSpace(token)).text
			return !strings.Contains(log, `"incomplete"`)
		})
		if !strings.Contains(log, want) {
			t.Errorf("the log has of administration, %s: %s", query, log)
		}
	}
}
