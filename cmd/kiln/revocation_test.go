package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// backendSystem gets tokens from a Kiln with signed assertions.
type backendSystem struct {
	testing.TB
	key      *ecdsa.PrivateKey
	audience string
}

// add registers the system under an id, in the database of a running server.
func (b *backendSystem) add(id, db string) {
	b.Helper()
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: b.key.Public(), KeyID: "k", Use: "sig"}}})
	if err != nil {
		b.Fatal(err)
	}
	file := filepath.Join(b.TempDir(), "jwks.json")
	if err := os.WriteFile(file, set, 0o600); err != nil {
		b.Fatal(err)
	}
	var out, errs strings.Builder
	if code := run(b.Context(), []string{"client", "add", "--id", id, "--jwks", file, "--grant", "client_credentials", "--scope", "system/*.rs", db, "--log-level=error"}, &out, &errs); code != 0 {
		b.Fatal(errs.String())
	}
}

// post sends a form that a fresh assertion of the client stands in.
func (b *backendSystem) post(endpoint, client string, form url.Values) (int, string) {
	b.Helper()
	claims, err := json.Marshal(map[string]any{"iss": client, "sub": client, "aud": b.audience, "exp": time.Now().Add(5 * time.Minute).Unix(), "jti": rand.Text()})
	if err != nil {
		b.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES384, Key: b.key}, (&jose.SignerOptions{}).WithType("JWT").WithHeader("kid", "k"))
	if err != nil {
		b.Fatal(err)
	}
	signed, err := signer.Sign(claims)
	if err != nil {
		b.Fatal(err)
	}
	assertion, err := signed.CompactSerialize()
	if err != nil {
		b.Fatal(err)
	}
	form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
	form.Set("client_assertion", assertion)
	resp, err := http.PostForm(endpoint, form)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// TestRevocation_counts_from_the_next_request_on_every_node: two processes on one database; both know a token, and it is
// revoked at one of them, or by a command.
func TestRevocation_counts_from_the_next_request_on_every_node(t *testing.T) {
	t.Parallel()
	url1 := startedDB(t)
	db, dir := "--database-url="+url1, "--data-dir="+t.TempDir()
	const public = "https://ehr.example.org"
	var nodes []string
	for range 2 {
		addr := fixedAddr(t)
		p := launchServe(t, []string{"--auth=smart", db, dir, "--addr=" + addr, "--base-url=" + public, "--pool-size=4"})
		defer p.end(syscall.SIGTERM)
		nodes = append(nodes, "http://"+addr)
	}
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	system := &backendSystem{t, key, public + "/auth/token"}
	token := func(client string) string {
		status, body := system.post(nodes[0]+"/auth/token", client, url.Values{"grant_type": {"client_credentials"}, "scope": {"system/*.rs"}})
		var answer struct {
			Access string `json:"access_token"`
		}
		if err := json.Unmarshal([]byte(body), &answer); status != 200 || err != nil {
			t.Fatalf("token: %d %s", status, body)
		}
		return answer.Access
	}
	reads := func(when, token string, want int) {
		t.Helper()
		for _, node := range nodes {
			for _, path := range []string{"/fhir/Organization?_count=1", "/fhir/StructureDefinition/Patient", "/fhir/Patient/nobody"} {
				got := getWith(t, node+path, token)
				if want == 200 && path == "/fhir/Patient/nobody" {
					if got != 404 {
						t.Errorf("%s: %s is %d", when, path, got)
					}
				} else if got != want {
					t.Errorf("%s: %s is %d", when, path, got)
				}
			}
		}
	}
	for i := range 10 {
		client := "warehouse-" + string(rune('a'+i))
		system.add(client, db)
		mine := token(client)
		for range 3 { // both nodes have seen it
			reads("before", mine, 200)
		}
		if i%2 == 0 {
			if status, body := system.post(nodes[1]+"/auth/revoke", client, url.Values{"token": {mine}}); status != 200 {
				t.Fatalf("revoke: %d %s", status, body)
			}
		} else if code, _, errs := command(t, "client", "remove", "--id", client, db, "--log-level=error"); code != 0 {
			t.Fatal(errs)
		}
		reads("after", mine, 401)
	}
}
