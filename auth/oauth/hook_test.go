package oauth_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"kiln/storage/identity"
)

// TestCDSHooks_trust_clients_that_sign: a call of the CDS service shows an access token of ours, or a JWT that a registered client
// has signed for the address of the service (CDS Hooks 2.0, "Trusting CDS Clients").
func TestCDSHooks_trust_clients_that_sign(t *testing.T) {
	w := newWorld(t)
	keys, err := json.Marshal(w.keySet())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.identity.AddClient(w.Context(), &identity.Client{ID: "https://ehr.example.org/", Name: "EHR", AuthMethod: identity.AuthPrivateKey, JWKS: keys,
		GrantTypes: []string{"client_credentials"}, Scope: "system/Appointment.cruds system/Patient.rs"}); err != nil {
		t.Fatal(err)
	}
	address := w.origin + "/cds-services/appointment-book"
	body := fmt.Sprintf(`{"hook":"appointment-book","hookInstance":"d1577c69-dfbe-44ad-ba6d-3e05e953b2ea","context":{"userId":"Practitioner/dr","patientId":"p1","appointments":{"resourceType":"Bundle","type":"collection","entry":[
		{"resource":{"resourceType":"Appointment","status":"proposed","start":%q,"end":%q,"participant":[{"actor":{"reference":"Patient/p1"},"status":"accepted"}]}}]}}}`,
		time.Now().Add(24*time.Hour).UTC().Format(time.RFC3339), time.Now().Add(25*time.Hour).UTC().Format(time.RFC3339))
	call := func(token, contentType string) *response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", contentType)
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		return w.do(req, nil)
	}
	sign := func(client, alg string, change func(claims, header map[string]any)) string {
		return w.assertion(client, alg, func(claims, header map[string]any) {
			delete(claims, "sub")
			claims["aud"], claims["iat"] = address, time.Now().Unix()
			if change != nil {
				change(claims, header)
			}
		})
	}
	if r := w.send(nil, http.MethodGet, "/cds-services", nil); r.StatusCode != 200 || !strings.Contains(r.body, `"id":"appointment-book"`) || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		t.Errorf("discovery: %d %s", r.StatusCode, r.body)
	}
	for _, alg := range []string{"ES384", "RS384"} {
		if r := call(sign("https://ehr.example.org/", alg, nil), "application/json"); r.StatusCode != 200 || !strings.Contains(r.body, "coverage-missing") {
			t.Errorf("%s: %d %s", alg, r.StatusCode, r.body)
		}
	}
	token, _ := w.tokens("ada", "p1", "launch/patient patient/Appointment.cruds")["access_token"].(string)
	if r := call(token, "application/json"); r.StatusCode != 200 || !strings.Contains(r.body, `"cards"`) {
		t.Errorf("an access token: %d %s", r.StatusCode, r.body)
	}
	other, _ := w.tokens("bo", "p2", "launch/patient patient/Appointment.cruds")["access_token"].(string)
	if r := call(other, "application/json"); r.StatusCode != 404 || !strings.Contains(r.body, "OperationOutcome") {
		t.Errorf("the token of another patient: %d %s", r.StatusCode, r.body)
	}
	if r := call(sign("backend", "ES384", nil), "application/json"); r.StatusCode != 403 {
		t.Errorf("a client without the right to book: %d %s", r.StatusCode, r.body)
	}
	if r := call(token, "text/plain"); r.StatusCode != 415 {
		t.Errorf("text: %d %s", r.StatusCode, r.body)
	}
	used := sign("https://ehr.example.org/", "ES384", nil)
	call(used, "application/json")
	now := time.Now()
	for name, jwt := range map[string]string{
		"none":         "",
		"used_before":  used,
		"for_tokens":   sign("https://ehr.example.org/", "ES384", func(c, _ map[string]any) { c["aud"] = w.origin + "/auth/token" }),
		"for_another":  sign("https://ehr.example.org/", "ES384", func(c, _ map[string]any) { c["aud"] = w.origin + "/cds-services" }),
		"no_aud":       sign("https://ehr.example.org/", "ES384", func(c, _ map[string]any) { delete(c, "aud") }),
		"unknown_iss":  sign("https://evil.example.org/", "ES384", nil),
		"no_iss":       sign("https://ehr.example.org/", "ES384", func(c, _ map[string]any) { delete(c, "iss") }),
		"iss_has_none": sign("secret", "ES384", nil),
		"not_backend":  sign("signer", "ES384", nil),
		"expired":      sign("https://ehr.example.org/", "ES384", func(c, _ map[string]any) { c["exp"] = now.Add(-time.Minute).Unix() }),
		"an_hour":      sign("https://ehr.example.org/", "ES384", func(c, _ map[string]any) { c["exp"] = now.Add(time.Hour).Unix() }),
		"no_exp":       sign("https://ehr.example.org/", "ES384", func(c, _ map[string]any) { delete(c, "exp") }),
		"no_iat":       sign("https://ehr.example.org/", "ES384", func(c, _ map[string]any) { delete(c, "iat") }),
		"no_jti":       sign("https://ehr.example.org/", "ES384", func(c, _ map[string]any) { delete(c, "jti") }),
		"weak":         sign("https://ehr.example.org/", "RS256", nil),
		"foreign_jku":  sign("https://ehr.example.org/", "ES384", func(_, h map[string]any) { h["jku"] = "https://evil.example.org/jwks" }),
		"other_kid":    sign("https://ehr.example.org/", "ES384", func(_, h map[string]any) { h["kid"] = "r" }),
		"garbage":      "a.b.c",
	} {
		if r := call(jwt, "application/json"); r.StatusCode != 401 || !strings.Contains(r.body, "OperationOutcome") || r.Header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: %d %s", name, r.StatusCode, r.body)
		}
	}
	if r := w.get("/Appointment", sign("https://ehr.example.org/", "ES384", nil)); r.StatusCode != 401 {
		t.Errorf("the JWT opens the FHIR API: %d %s", r.StatusCode, r.body)
	}
	if r := w.send(nil, http.MethodPost, "/cds-services/appointment-book/feedback", nil); r.StatusCode != 404 {
		t.Errorf("feedback: %d", r.StatusCode)
	}
}
