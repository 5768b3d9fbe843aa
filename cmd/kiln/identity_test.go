package main

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// getWith is get with an access token.
func getWith(t *testing.T, url, token string) int {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func TestIdentity_commands_beside_a_running_server(t *testing.T) {
	t.Parallel()
	db := "--database-url=" + startedDB(t)
	dir := t.TempDir()
	origin, stop := serve(t, db, "--auth=smart", "--data-dir="+dir, "--seed")
	defer stop()
	if info, err := os.Stat(filepath.Join(dir, "secret.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("secret.key: %v %v", info, err)
	}
	must := func(want string, args ...string) string {
		t.Helper()
		code, out, errs := command(t, append(args, db, "--log-level=error")...)
		if code != 0 || !strings.Contains(out, want) {
			t.Fatalf("kiln %s: %d %q %s", strings.Join(args, " "), code, out, errs)
		}
		return strings.TrimSpace(out)
	}
	fails := func(want string, args ...string) {
		t.Helper()
		if code, out, errs := command(t, append(args, db, "--log-level=error")...); code == 0 || !strings.Contains(errs, want) || out != "" {
			t.Errorf("kiln %s: %d %q %s", strings.Join(args, " "), code, out, errs)
		}
	}
	code := []string{"--grant", "authorization_code", "--grant", "refresh_token"}

	must("", append([]string{"client", "add", "--id", "pub", "--name", "An app", "--redirect-uri", "https://a.example.org/cb?x=1,2", "--redirect-uri", "http://localhost:4567/cb",
		"--launch-uri", "https://a.example.org/launch", "--scope", "launch/patient openid fhirUser offline_access patient/*.rs", "--public"}, code...)...)
	must("", append([]string{"client", "add", "--id", "conf", "--secret", "s3cret-of-twelve", "--redirect-uri", "https://a.example.org/cb", "--scope", "openid"}, code...)...)
	if made := must("", append([]string{"client", "add", "--id", "made", "--redirect-uri", "https://a.example.org/cb", "--scope", "openid"}, code...)...); len(made) != 43 {
		t.Errorf("the secret that was made: %q", made)
	}
	jwks := filepath.Join(dir, "jwks.json")
	if err := os.WriteFile(jwks, []byte(`{"keys":[{"kty":"EC","crv":"P-384","kid":"k","x":"3QsZLqOqcYBHGPT47wM2wXrzBf0XjVhhN2smvI4mb7Y3yWvR2QzMSUDbZnT7Bxup","y":"1aXn4PYAWKyQZN_0KcQHuYPmrZd0ZKxP5bfkkHfMfBDFcpH8Xn5L3kvV8VqyFPhH"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	fails("--jwks", "client", "add", "--id", "bad", "--jwks", jwks, "--grant", "client_credentials", "--scope", "system/*.rs") // no point of the curve
	must("", "client", "add", "--id", "back", "--jwks-uri", "http://localhost:1/jwks", "--grant", "client_credentials", "--scope", "system/*.rs")
	must("private_key_jwt", "client", "list")
	if rotated := must("", "client", "rotate", "--id", "conf"); len(rotated) != 43 {
		t.Errorf("rotated secret %q", rotated)
	}
	must("", "client", "remove", "--id", "conf")
	fails("there is no client conf", "client", "remove", "--id", "conf")
	fails("already a client pub", append([]string{"client", "add", "--id", "pub", "--public", "--redirect-uri", "https://a.example.org/cb", "--scope", "openid"}, code...)...)
	for want, args := range map[string]string{
		"--redirect-uri":     "client add --id x --public --grant authorization_code --scope openid",
		"fragment":           "client add --id x --public --grant authorization_code --scope openid --redirect-uri https://a/b#c",
		"--grant":            "client add --id x --public --grant password --scope openid",
		"--scope":            "client add --id x --public --grant authorization_code --redirect-uri https://a/b --scope patient/Nonsense.rs",
		"--jwks or":          "client add --id x --secret yyyyyyyyyyyy --grant client_credentials --scope system/*.rs",
		"give one of":        "client add --id x --secret yyyyyyyyyyyy --public --grant authorization_code --redirect-uri https://a/b --scope openid",
		"--id":               "client add --id a:b --public --grant authorization_code --redirect-uri https://a/b --scope openid",
		"patient in context": "token --scope patient/*.rs",
		"--ttl":              "token --scope system/*.rs --ttl 48h",
		"--role":             "user add --username u --password long-enough --role boss",
		"characters":         "user add --username u --password short --role admin",
		"Patient/ID":         "user add --username u --password long-enough --role patient",
		"--fhir-user":        "user add --username u --password long-enough --role practitioner --fhir-user Device/1",
		"there is no user":   "launch --client pub --user nobody --patient demo-tom",
		"without the type":   "launch --client pub --user nobody --patient Patient/demo-tom",
	} {
		fails(want, strings.Fields(args)...)
	}

	must("", "user", "add", "--username", "Tom", "--password", "correct horse", "--role", "patient", "--role", "practitioner", "--fhir-user", "Patient/demo-tom")
	must("patient,practitioner", "user", "list")
	if launch := must("", "launch", "--client", "pub", "--user", "tom", "--patient", "demo-tom"); len(launch) != 43 {
		t.Errorf("launch value %q", launch)
	}
	must("", "user", "link", "--username", "tom", "--issuer", "https://login.example.org", "--subject", "24")
	must("https://login.example.org 24", "user", "list")
	fails("already a user linked", "user", "link", "--username", "tom", "--issuer", "https://login.example.org", "--subject", "24")
	fails("a URL", "user", "link", "--username", "tom", "--issuer", "login.example.org", "--subject", "25")
	fails("there is no user nobody", "user", "link", "--username", "nobody", "--issuer", "https://login.example.org", "--subject", "25")
	must("", "user", "unlink", "--username", "tom")
	fails("there is no user tom that is linked", "user", "unlink", "--username", "tom")
	must("", "user", "password", "--username", "tom", "--password", "another one")
	must("", "user", "disable", "--username", "tom")
	must("closed", "user", "list")

	token := must("kiln_at_", "token", "--scope", "system/*.rs", "--ttl", "5m")
	if got := getWith(t, origin+"/fhir/Patient/demo-tom", token); got != 200 {
		t.Errorf("with the token: %d", got)
	}
	if got, _ := get(t, origin+"/fhir/Patient/demo-tom"); got != 401 {
		t.Errorf("without: %d", got)
	}
	if got := getWith(t, origin+"/fhir/Patient/demo-tom", token+"x"); got != 401 {
		t.Errorf("with another: %d", got)
	}
}

// TestBackendServices_with_a_client_of_another_language has Authlib, a Python library, get a token with a signed
// assertion, and reads with it.
func TestBackendServices_with_a_client_of_another_language(t *testing.T) {
	t.Parallel()
	if out, err := exec.Command("python3", "-c", "import authlib, requests").CombinedOutput(); err != nil {
		t.Skipf("needs Python with authlib and requests (pip install authlib requests): %s", out)
	}
	db := "--database-url=" + startedDB(t)
	dir := t.TempDir()
	origin, stop := serve(t, db, "--auth=smart", "--data-dir="+dir, "--seed")
	defer stop()
	for _, args := range [][]string{{"keys", dir}, nil} {
		if args == nil {
			if code, _, errs := command(t, "client", "add", "--id", "python", "--jwks", filepath.Join(dir, "jwks.json"), "--grant", "client_credentials", "--scope", "system/*.rs", db, "--log-level=error"); code != 0 {
				t.Fatal(errs)
			}
			args = []string{"read", dir, origin + "/fhir"}
		}
		cmd := exec.CommandContext(t.Context(), "python3", append([]string{"testdata/backend_client.py"}, args...)...)
		cmd.WaitDelay = time.Minute
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if args[0] != "read" {
			continue
		}
		var got struct {
			Total  int
			Type   string
			Second int
		}
		if err := json.Unmarshal(out, &got); err != nil || got.Total < 3 || got.Type != "Patient" || got.Second != 200 {
			t.Errorf("%v: %s", err, out)
		}
	}
}

func TestSystemScopes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"": "", "system/Patient.rs system/Observation.rs": "system/Patient.rs system/Observation.rs"} {
		if got, err := systemScopes(text); err != nil || got.String() != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"user/*.rs", "system/Patient.rs openid", "system/Nothing.rs", "system/Patient.x"} {
		if got, err := systemScopes(text); err == nil || got != nil {
			t.Errorf("%q: %q", text, got)
		}
	}
}
