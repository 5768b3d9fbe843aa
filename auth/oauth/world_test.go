package oauth_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"kiln/auth"
	"kiln/auth/oauth"
	"kiln/conformance"
	"kiln/fhir"
	"kiln/internal/kilntest"
	"kiln/resources"
	"kiln/server"
	"kiln/storage"
	"kiln/storage/identity"
)

const password = "correct horse battery"

// world is a whole Kiln with its authorization server, on a database of its own.
type world struct {
	testing.TB
	origin   string
	database string // URL
	identity *identity.Store
	service  *resources.Service
	oauth    *oauth.Server
	log      *safeBuffer
	clock    *clock
	rsa      *rsa.PrivateKey
	ec       *ecdsa.PrivateKey
}

// clock is the time of the server, which a test can stop and move on.
type clock struct {
	mu      sync.Mutex
	ahead   time.Duration
	stopped time.Time // zero: it goes
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.stopped.IsZero() {
		return c.stopped.Add(c.ahead)
	}
	return time.Now().Add(c.ahead)
}

// stop has it move by advance alone.
func (c *clock) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = time.Now()
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// testKeys are made once: RSA keys take a while.
var testKeys = sync.OnceValues(func() (*rsa.PrivateKey, *ecdsa.PrivateKey) {
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	e, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return r, e
})

// passwordHash is made once, as it is made to take a while.
var passwordHash = sync.OnceValue(func() string {
	hash, err := oauth.HashPassword(password)
	if err != nil {
		panic(err)
	}
	return hash
})

const (
	redirectURI = "https://app.example.org/callback?keep=1"
	allScopes   = "launch launch/patient launch/encounter openid fhirUser profile offline_access online_access patient/*.* user/*.* patient/*.cruds user/*.cruds"
)

func newWorld(t *testing.T, change ...func(*oauth.Options)) *world {
	t.Helper()
	t.Parallel()
	return makeWorld(t, change...)
}

func makeWorld(t testing.TB, change ...func(*oauth.Options)) *world {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{TB: t, origin: fmt.Sprintf("http://localhost:%d", listener.Addr().(*net.TCPAddr).Port), log: &safeBuffer{}, clock: &clock{}}
	w.rsa, w.ec = testKeys()
	registry, err := conformance.R4()
	if err != nil {
		t.Fatal(err)
	}
	base := w.origin + server.FHIRPath
	w.database = kilntest.DB(t)
	store, err := storage.Open(t.Context(), storage.Options{URL: w.database, Base: base, Registry: registry, PoolSize: 4, Now: w.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	w.identity = store.Identity()
	if w.service, err = resources.New(resources.Options{Store: store, Registry: registry, Base: base, Audit: true}); err != nil {
		t.Fatal(err)
	}
	options := oauth.Options{
		Store: w.identity, Registry: store.Registry, Origin: w.origin, FHIRBase: base, Secret: "a secret for tests only",
		Directory: server.Directory{Service: w.service}, Admissions: server.Admissions{Service: w.service}, Emergencies: server.Emergencies{Service: w.service}, Logger: slog.New(slog.NewTextHandler(w.log, nil)), Now: w.clock.now,
	}
	for _, c := range change {
		c(&options)
	}
	if w.oauth, err = oauth.New(options); err != nil {
		t.Fatal(err)
	}
	handler := server.New(server.Options{
		Service: w.service, ResourceTypes: registry.Schema().Resources, BaseURL: w.origin, OAuth: w.oauth, Outbox: w.service, Advise: w.service.AdviseBooking,
		Logger:       slog.New(slog.NewTextHandler(w.log, nil)),
		Capabilities: server.Capabilities(store.Registry, store.SupportedProfiles, store.Building, w.origin, "test", nil, false, w.oauth.Endpoints(), time.Now),
	})
	ts := &httptest.Server{Listener: listener, Config: server.Listener(handler, nil)}
	ts.Start()
	t.Cleanup(ts.Close)
	w.populate()
	t.Cleanup(func() {
		if log := w.log.String(); strings.Contains(log, "internal error") || strings.Contains(log, "panic") {
			t.Errorf("the log tells of faults:\n%s", log)
		}
	})
	return w
}

// populate makes patients, a doctor, accounts and clients.
func (w *world) populate() {
	w.Helper()
	for _, r := range []struct{ typ, id, body string }{
		{"Practitioner", "dr", `{"resourceType":"Practitioner","id":"dr","name":[{"family":"House","given":["Greta"]}]}`},
		{"Patient", "p1", `{"resourceType":"Patient","id":"p1","name":[{"family":"Okafor","given":["Ada"]}],"birthDate":"1984-07-02","generalPractitioner":[{"reference":"Practitioner/dr"}]}`},
		{"Patient", "p2", `{"resourceType":"Patient","id":"p2","name":[{"family":"Smith","given":["Bo"]}],"generalPractitioner":[{"reference":"Practitioner/dr"}]}`},
		{"Encounter", "e1", `{"resourceType":"Encounter","id":"e1","status":"finished","class":{"code":"AMB"},"subject":{"reference":"Patient/p1"},"participant":[{"individual":{"reference":"Practitioner/dr"}}],"period":{"start":"2026-01-02T10:00:00Z"}}`},
		{"Encounter", "e2", `{"resourceType":"Encounter","id":"e2","status":"finished","class":{"code":"AMB"},"subject":{"reference":"Patient/p2"},"participant":[{"individual":{"reference":"Practitioner/dr"}}],"period":{"start":"2026-01-02T11:00:00Z"}}`},
		{"Appointment", "visit-7", `{"resourceType":"Appointment","id":"visit-7","status":"fulfilled","start":"2026-01-05T10:00:00Z","end":"2026-01-05T10:20:00Z","participant":[{"actor":{"reference":"Patient/p1"},"status":"accepted"},{"actor":{"reference":"Practitioner/dr"},"status":"accepted"}]}`},
		{"Condition", "c1", `{"resourceType":"Condition","id":"c1","subject":{"reference":"Patient/p1"},"category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/condition-category","code":"problem-list-item"}]}]}`},
		{"Condition", "c2", `{"resourceType":"Condition","id":"c2","subject":{"reference":"Patient/p1"},"category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/condition-category","code":"encounter-diagnosis"}]}]}`},
		{"Condition", "c3", `{"resourceType":"Condition","id":"c3","subject":{"reference":"Patient/p2"}}`},
		{"Organization", "o1", `{"resourceType":"Organization","id":"o1","name":"Clinic"}`},
	} {
		body, err := fhir.ParseJSON([]byte(r.body))
		if err != nil {
			w.Fatal(err)
		}
		if _, err := w.service.Do(w.Context(), resources.Request{Interaction: resources.Update, Type: r.typ, ID: r.id, Body: body, Principal: auth.Operator("test")}); err != nil {
			w.Fatalf("%s/%s: %v", r.typ, r.id, err)
		}
	}
	hash := passwordHash()
	for _, a := range []*identity.Account{
		{Username: "ada", Roles: []string{"patient"}, FHIRUser: []string{"Patient/p1"}},
		{Username: "bo", Roles: []string{"patient"}, FHIRUser: []string{"Patient/p2"}},
		{Username: "greta", Roles: []string{"practitioner"}, FHIRUser: []string{"Practitioner/dr"}},
		{Username: "root", Roles: []string{"admin"}},
	} {
		a.Password = hash
		if err := w.identity.AddAccount(w.Context(), a); err != nil {
			w.Fatal(err)
		}
	}
	keys, err := json.Marshal(w.keySet())
	if err != nil {
		w.Fatal(err)
	}
	code := []string{"authorization_code", "refresh_token"}
	for _, c := range []*identity.Client{
		{ID: "public", AuthMethod: identity.AuthNone, GrantTypes: code, Scope: allScopes},
		{ID: "secret", AuthMethod: identity.AuthSecret, Secret: identity.Hash("s3cret-of-the-app"), GrantTypes: code, Scope: allScopes, LaunchURI: "https://app.example.org/launch"},
		{ID: "signer", AuthMethod: identity.AuthPrivateKey, JWKS: keys, GrantTypes: code, Scope: allScopes},
		{ID: "other", AuthMethod: identity.AuthSecret, Secret: identity.Hash("another-secret"), GrantTypes: code, Scope: allScopes},
		{ID: "narrow", AuthMethod: identity.AuthNone, GrantTypes: []string{"authorization_code"}, Scope: "openid launch/patient patient/Patient.rs offline_access"},
		{ID: "backend", AuthMethod: identity.AuthPrivateKey, JWKS: keys, GrantTypes: []string{"client_credentials"}, Scope: "system/*.rs"},
		{ID: "backend2", AuthMethod: identity.AuthPrivateKey, JWKS: keys, GrantTypes: []string{"client_credentials"}, Scope: "system/Patient.rs"},
	} {
		c.Name = "The " + c.ID + " app"
		if len(c.GrantTypes) > 0 && c.GrantTypes[0] == "authorization_code" {
			c.RedirectURIs = []string{redirectURI}
		}
		if err := w.identity.AddClient(w.Context(), c); err != nil {
			w.Fatal(err)
		}
	}
}

func (w *world) keySet() jose.JSONWebKeySet {
	return jose.JSONWebKeySet{Keys: []jose.JSONWebKey{
		{Key: w.rsa.Public(), KeyID: "r", Use: "sig"}, {Key: w.ec.Public(), KeyID: "e", Use: "sig"},
	}}
}

// response is an answer that was read.
type response struct {
	*http.Response
	body string
}

func (r *response) json(t testing.TB) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(r.body), &m); err != nil {
		t.Fatalf("%d %s: %v", r.StatusCode, r.body, err)
	}
	return m
}

// send makes a request that follows no redirect. headers are "Name: value".
func (w *world) send(client *http.Client, method, target string, form url.Values, headers ...string) *response {
	w.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	if strings.HasPrefix(target, "/") {
		target = w.origin + target
	}
	req, err := http.NewRequestWithContext(context.Background(), method, target, body)
	if err != nil {
		w.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	return w.do(req, client)
}

// do sends a request, follows no redirect, and reads the answer.
func (w *world) do(req *http.Request, client *http.Client) *response {
	w.Helper()
	if client == nil {
		client = http.DefaultClient
	}
	c := *client
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := c.Do(req)
	if err != nil {
		w.Fatal(err)
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		w.Fatal(err)
	}
	return &response{resp, string(content)}
}

// get reads from the FHIR API with a token, "" for none.
func (w *world) get(path, token string, headers ...string) *response {
	w.Helper()
	if token != "" {
		headers = append(headers, "Authorization: Bearer "+token)
	}
	return w.send(nil, http.MethodGet, server.FHIRPath+path, nil, headers...)
}

// person is somebody with a browser that runs no scripts.
type person struct {
	*world
	client *http.Client
}

func (w *world) browser() *person {
	jar, err := cookiejar.New(nil)
	if err != nil {
		w.Fatal(err)
	}
	return &person{w, &http.Client{Jar: jar}}
}

var (
	inputs  = regexp.MustCompile(`<input[^>]*>`)
	naming  = regexp.MustCompile(` name="([^"]*)"`)
	valuing = regexp.MustCompile(` value="([^"]*)"`)
)

// form reads the fields of a page: hidden ones, and ticked checkboxes.
func form(page string) url.Values {
	fields := url.Values{}
	for _, input := range inputs.FindAllString(page, -1) {
		name, value := naming.FindStringSubmatch(input), valuing.FindStringSubmatch(input)
		if name == nil || value == nil {
			continue
		}
		if strings.Contains(input, `type="checkbox"`) && !strings.Contains(input, " checked") {
			continue
		}
		if !strings.Contains(input, `type="checkbox"`) && fields.Has(name[1]) {
			continue
		}
		fields.Add(html.UnescapeString(name[1]), html.UnescapeString(value[1]))
	}
	return fields
}

// open follows redirects within Kiln and returns the last answer: a page, or the redirect that leads out.
func (b *person) open(target string) *response {
	b.Helper()
	r := b.send(b.client, http.MethodGet, target, nil)
	return b.follow(r)
}

func (b *person) follow(r *response) *response {
	b.Helper()
	for range 10 {
		if r.StatusCode != http.StatusSeeOther {
			return r
		}
		to := r.Header.Get("Location")
		if strings.HasPrefix(to, "/") {
			to = b.origin + to
		}
		if !strings.HasPrefix(to, b.origin+"/") {
			return r
		}
		r = b.send(b.client, http.MethodGet, to, nil)
	}
	b.Fatal("redirects without end")
	return nil
}

func (b *person) submit(path string, fields url.Values) *response {
	b.Helper()
	return b.follow(b.send(b.client, http.MethodPost, path, fields, "Origin: "+b.origin))
}

// signIn fills in the sign-in page that r is.
func (b *person) signIn(r *response, user string) *response {
	b.Helper()
	if !strings.Contains(r.body, `name="password"`) {
		b.Fatalf("not the sign-in page: %d %s", r.StatusCode, r.body)
	}
	fields := form(r.body)
	fields.Set("username", user)
	fields.Set("password", password)
	return b.submit("/auth/login", fields)
}

const verifier = "a-verifier-that-is-long-enough-for-the-rules-of-pkce-0123456789"

func challenge(v string) string {
	sum := sha256.Sum256([]byte(v))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// request is an authorization request of a client.
func (w *world) request(client, scope string, more ...string) url.Values {
	v := url.Values{
		"response_type": {"code"}, "client_id": {client}, "redirect_uri": {redirectURI}, "scope": {scope},
		"state": {"b1946ac9-2497-4af9-a9a1-0c1d2e3f4a5b"}, "aud": {w.origin + server.FHIRPath},
		"code_challenge": {challenge(verifier)}, "code_challenge_method": {"S256"},
	}
	for i := 0; i+1 < len(more); i += 2 {
		if more[i+1] == "-" {
			v.Del(more[i])
		} else {
			v.Set(more[i], more[i+1])
		}
	}
	return v
}

// outcome is what the app is told in the redirect that r is.
func (w *world) outcome(r *response) url.Values {
	w.Helper()
	to, err := url.Parse(r.Header.Get("Location"))
	if r.StatusCode != http.StatusSeeOther || err != nil || !strings.HasPrefix(to.String(), "https://app.example.org/callback?") {
		w.Fatalf("not a redirect to the app: %d %s %s", r.StatusCode, r.Header.Get("Location"), r.body)
	}
	q := to.Query()
	if q.Get("keep") != "1" {
		w.Errorf("the redirect lost the query that was registered: %s", to)
	}
	return q
}

// consent goes through sign-in (as user, if asked), picker (of patient, if asked) and consent, changed by the functions.
func (b *person) consent(r *response, user, patient string, change ...func(url.Values)) *response {
	b.Helper()
	if strings.Contains(r.body, `name="password"`) {
		r = b.signIn(r, user)
	}
	if strings.Contains(r.body, "Choose a patient") {
		fields := form(r.body)
		fields.Set("patient", patient)
		fields.Del("q")
		r = b.submit("/auth/patient", fields)
	}
	if !strings.Contains(r.body, `value="allow"`) {
		return r
	}
	fields := form(r.body)
	fields.Set("decision", "allow")
	for _, c := range change {
		c(fields)
	}
	return b.submit("/auth/consent", fields)
}

// code gets a code for a request.
func (w *world) code(user, patient string, request url.Values, change ...func(url.Values)) string {
	w.Helper()
	b := w.browser()
	q := w.outcome(b.consent(b.open("/auth/authorize?"+request.Encode()), user, patient, change...))
	if q.Get("code") == "" || q.Get("error") != "" || q.Get("state") != request.Get("state") {
		w.Fatalf("no code: %v", q)
	}
	return q.Get("code")
}

// exchange is the request that turns a code into tokens.
func exchange(code string, more ...string) url.Values {
	v := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {redirectURI}, "code_verifier": {verifier}}
	for i := 0; i+1 < len(more); i += 2 {
		if more[i+1] == "-" {
			v.Del(more[i])
		} else {
			v.Set(more[i], more[i+1])
		}
	}
	return v
}

var basicSecret = "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("secret:s3cret-of-the-app"))

func (w *world) token(form url.Values, headers ...string) *response {
	w.Helper()
	return w.send(nil, http.MethodPost, "/auth/token", form, headers...)
}

// tokens is the answer to a whole standalone launch of the public app.
func (w *world) tokens(user, patient, scope string, change ...func(url.Values)) map[string]any {
	w.Helper()
	code := w.code(user, patient, w.request("public", scope), change...)
	r := w.token(exchange(code, "client_id", "public"))
	if r.StatusCode != http.StatusOK {
		w.Fatalf("token: %d %s", r.StatusCode, r.body)
	}
	return r.json(w)
}

// assert makes a client assertion; change adjusts claims and header.
func (w *world) assertion(client, alg string, change ...func(claims, header map[string]any)) string {
	w.Helper()
	claims := map[string]any{
		"iss": client, "sub": client, "aud": w.origin + "/auth/token", "exp": time.Now().Add(300 * time.Second).Unix(),
		"jti": fmt.Sprint(time.Now().UnixNano(), rand.Text()),
	}
	kid, key := "r", crypto.PrivateKey(w.rsa)
	if strings.HasPrefix(alg, "ES") {
		kid, key = "e", w.ec
	}
	header := map[string]any{"typ": "JWT", "kid": kid}
	for _, c := range change {
		c(claims, header)
	}
	options := &jose.SignerOptions{}
	for name, value := range header {
		options.WithHeader(jose.HeaderKey(name), value)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(alg), Key: key}, options)
	if err != nil {
		w.Fatal(err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		w.Fatal(err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		w.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		w.Fatal(err)
	}
	return text
}

const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

func backend(assertion, scope string) url.Values {
	return url.Values{"grant_type": {"client_credentials"}, "scope": {scope}, "client_assertion_type": {assertionType}, "client_assertion": {assertion}}
}
