package main

import (
	"bytes"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestCLI_contract runs the command lines that scripts rely on, each as a process of its own, beside a server that runs on
// a data folder: they find its database by the folder alone. What they print on standard output is the one value, or
// nothing; a mistake is told on standard error, with an exit code other than 0.
func TestCLI_contract(t *testing.T) {
	t.Parallel()
	data := startedFolder(t)
	p := launchServe(t, []string{"--auth=smart", "--data-dir=" + data, "--seed"})
	program, err := plainKiln() // dozens of starts, which are slow with the race detector; the server has it
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	jwks := filepath.Join(dir, "jwks.json")
	if err := os.WriteFile(jwks, []byte(`{"keys":[{"kty":"RSA","kid":"k","use":"sig","e":"AQAB","n":"`+
		"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"+`"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	kiln := func(line, stdin string) (stdout, stderr string, code int) {
		t.Helper()
		var args []string
		for _, quoted := range regexp.MustCompile(`"([^"]*)"|(\S+)`).FindAllStringSubmatch(line, -1) {
			args = append(args, quoted[1]+quoted[2])
		}
		cmd := exec.CommandContext(t.Context(), program, args...)
		cmd.Env = append(os.Environ(), "KILN_DATA_DIR="+data, "KILN_LOG_LEVEL=error")
		cmd.Stdin = strings.NewReader(stdin)
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		_ = cmd.Run()
		return out.String(), errs.String(), cmd.ProcessState.ExitCode()
	}
	if resp, err := http.Get(p.origin + "/auth/jwks"); err != nil { // the first need of a signing key
		t.Fatal(err)
	} else {
		resp.Body.Close()
	}
	operator, _, _ := kiln(`token --scope system/*.cruds`, "")
	for id, body := range map[string]string{
		"Encounter/demo-visit": `{"resourceType":"Encounter","id":"demo-visit","status":"finished","class":{"code":"AMB"},"subject":{"reference":"Patient/demo-tom"}}`,
		"Patient/nobodys":      `{"resourceType":"Patient","id":"nobodys"}`,
	} {
		req, err := http.NewRequest(http.MethodPut, p.origin+"/fhir/"+id, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/fhir+json")
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(operator))
		if resp, err := http.DefaultClient.Do(req); err != nil || resp.StatusCode != http.StatusCreated {
			t.Fatal(id, resp, err)
		} else {
			resp.Body.Close()
		}
	}
	for _, c := range []struct{ line, stdin, want string }{
		{`key list`, "", `(?s)^KEY +SIGNS FROM +PUBLISHED UNTIL +STATE\n[\w-]{16} +\S+Z +- +signs\n$`},
		{`key rotate`, "", `^[\w-]{16}\n$`},
		{`key list`, "", `(?s)^KEY.*\n[\w-]{16} +\S+Z +- +next\n[\w-]{16} +\S+Z +\S+Z +signs\n$`},
		{`key rotate --distrust`, "", `^[\w-]{16}\n$`},
		{`key list`, "", `^KEY.*\n[\w-]{16} +\S+Z +- +signs\n$`},
		{`client add --id app --name "A app" --secret s3cret-s3cret --redirect-uri https://a.example.org/cb --redirect-uri https://b.example.org/cb --launch-uri https://a.example.org/launch --grant authorization_code --grant refresh_token --scope "launch openid fhirUser patient/*.rs"`, "", `^$`},
		{`client add --id public --redirect-uri http://localhost:3000/cb --grant authorization_code --scope openid --public`, "", `^$`},
		{`client add --id signer --jwks ` + jwks + ` --redirect-uri https://a.example.org/cb --grant authorization_code --scope openid`, "", `^$`},
		{`client add --id back --jwks-uri https://back.example.org/jwks.json --grant client_credentials --scope system/*.rs`, "", `^$`},
		{`client add --id made --redirect-uri https://a.example.org/cb --grant authorization_code --scope openid`, "", `^[\w-]{43}\n$`},
		{`client list`, "", `(?s)app +A app +client_secret.*back +back +private_key_jwt.*kiln-swagger.*made.*public +public +none.*signer +signer +private_key_jwt`},
		{`client rotate --id app`, "", `^[\w-]{43}\n$`},
		{`client rotate --id app --secret another-s3cret`, "", `^$`},
		{`client rotate --id back --jwks ` + jwks, "", `^$`},
		{`client rotate --id signer --jwks-uri https://a.example.org/jwks.json`, "", `^$`},
		{`client remove --id made`, "", `^$`},
		{`user add --username "greta house" --password "correct horse" --role practitioner --role admin --fhir-user Practitioner/demo-okafor`, "", `^$`},
		{`user add --username tom --password - --role patient --fhir-user Patient/demo-tom`, "read from here\n", `^$`},
		{`user list`, "", `(?s)demo-admin.*demo-doctor.*demo-patient.*greta house +admin,practitioner +Practitioner/demo-okafor +open.*tom +patient +Patient/demo-tom +open`},
		{`user add --username parent --password "a long password" --role patient --fhir-user RelatedPerson/of-tom`, "", `^$`},
		{`user fhir-user --username parent --fhir-user Patient/demo-ines --fhir-user RelatedPerson/of-tom`, "", `^$`},
		{`user list`, "", `parent +patient +Patient/demo-ines,RelatedPerson/of-tom +open`},
		{`user password --username tom --password "another long one"`, "", `^$`},
		{`user remove-factors --username tom`, "", `^$`},
		{`user disable --username tom`, "", `^$`},
		{`user list`, "", `tom +patient +Patient/demo-tom +closed`},
		{`launch --client app --user "greta house" --patient demo-tom --encounter demo-visit`, "", `^[\w-]{43}\n$`},
		{`launch --client app --user demo-doctor --patient demo-tom`, "", `^[\w-]{43}\n$`},
		{`launch --client app --user parent --patient demo-ines`, "", `^[\w-]{43}\n$`},
		{`token --scope system/*.rs`, "", `^kiln_at_\S+\n$`},
		{`token --scope "system/Patient.rs system/Observation.rs?category=laboratory" --ttl 5m`, "", `^kiln_at_\S+\n$`},
	} {
		stdout, stderr, code := kiln(c.line, c.stdin)
		if code != 0 || !regexp.MustCompile(c.want).MatchString(stdout) {
			t.Errorf("kiln %s: exit code %d, printed %q, said %s", c.line, code, stdout, stderr)
		}
	}
	for line, want := range map[string]string{
		`client add --id app2`: "missing flags",
		`client add --id app --public --redirect-uri https://a/b --grant authorization_code --scope openid`: "already a client app",
		`client rotate --id public`:             "no client public that has a secret",
		`client rotate --id app --jwks ` + jwks: "no client app that signs",
		`client remove --id nobody`:             "no client nobody",
		`client add --id x --jwks /nowhere/jwks.json --grant client_credentials --scope system/*.rs`:                  "--jwks",
		`client add --id x --jwks-uri ftp://x/y --grant client_credentials --scope system/*.rs`:                       "--jwks-uri",
		`user add --username TOM --password "long enough" --role admin`:                                               "already a user TOM",
		`user disable --username nobody`:                                                                              "no user nobody",
		`user remove-factors --username nobody`:                                                                       "no user nobody",
		`user password --username tom --password short`:                                                               "8 to 256 characters",
		`launch --client nobody --user demo-doctor --patient demo-tom`:                                                "no client nobody",
		`launch --client app --user demo-doctor`:                                                                      "--patient",
		`launch --client app --user demo-doctor --patient never`:                                                      "there is no Patient/never",
		`launch --client app --user demo-doctor --patient nobodys`:                                                    "user demo-doctor cannot launch that: The user may not see this patient",
		`launch --client app --user demo-doctor --patient demo-tom --encounter never`:                                 "Patient/demo-tom has no Encounter/never",
		`launch --client app --user demo-doctor --patient demo-ines --encounter demo-visit`:                           "Patient/demo-ines has no Encounter/demo-visit",
		`launch --client app --user parent --patient demo-tom`:                                                        "user parent cannot launch that: The user may not see this patient",
		`launch --client app --user tom --patient demo-tom`:                                                           "user tom is closed",
		`client add --id x --secret elevenchars --redirect-uri https://a/b --grant authorization_code --scope openid`: "--secret: 12 characters at least",
		`client rotate --id app --secret elevenchars`:                                                                 "--secret: 12 characters at least",
		`key rotate --secret-key "of another server"`:                                                                 "is not the one that the server encrypts",
		`token`:                           "--scope",
		`token --scope "system/*.xyz"`:    "--scope",
		`token --scope openid --ttl soon`: "--ttl",
	} {
		stdout, stderr, code := kiln(line, "")
		if code == 0 || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("kiln %s: exit code %d, printed %q, said %s", line, code, stdout, stderr)
		}
	}
	// What a command changed counts at once for the server that runs.
	signIn := func(user, secret string) int {
		client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		page, err := client.Get(p.origin + "/auth/login")
		if err != nil {
			t.Fatal(err)
		}
		var body bytes.Buffer
		_, err = body.ReadFrom(page.Body)
		page.Body.Close()
		token := regexp.MustCompile(`name="token" value="([^"]*)"`).FindStringSubmatch(body.String())
		if err != nil || token == nil {
			t.Fatalf("%v: %s", err, body.String())
		}
		req, err := http.NewRequest(http.MethodPost, p.origin+"/auth/login", strings.NewReader(url.Values{"token": {token[1]}, "username": {user}, "password": {secret}}.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		for _, cookie := range page.Cookies() {
			req.AddCookie(cookie)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if got := signIn("Greta House", "correct horse"); got != http.StatusSeeOther {
		t.Errorf("a new user signs in: %d", got)
	}
	if got := signIn("tom", "another long one"); got != http.StatusUnauthorized {
		t.Errorf("a closed account signs in: %d", got)
	}
}
