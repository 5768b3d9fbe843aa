package oauth_test

import (
	"testing"
)

// lessons.md A.1, 13: whom an assertion is from and for is checked, each on its own and however it is missing. The others
// of the 14 are in resources/leak_test.go. (Access tokens are no JWTs here: what was not made here is in no table.)
func TestLeak_13_iss_and_aud(t *testing.T) {
	w := newWorld(t)
	for name, change := range map[string]func(claims, header map[string]any){
		"another_audience":  func(c, _ map[string]any) { c["aud"] = "https://other.example.org/auth/token" },
		"no_audience":       func(c, _ map[string]any) { delete(c, "aud") },
		"an_empty_audience": func(c, _ map[string]any) { c["aud"] = []string{} },
		"another_issuer":    func(c, _ map[string]any) { c["iss"] = "https://other.example.org" },
		"no_issuer":         func(c, _ map[string]any) { delete(c, "iss") },
		"another_subject":   func(c, _ map[string]any) { c["sub"] = "somebody" },
	} {
		if r := w.token(backend(w.assertion("backend", "RS384", change), "system/Patient.rs")); r.StatusCode != 401 {
			t.Errorf("%s: %d %s", name, r.StatusCode, r.body)
		}
	}
	if r := w.token(backend(w.assertion("backend", "RS384", func(_, _ map[string]any) {}), "system/Patient.rs")); r.StatusCode != 200 {
		t.Errorf("a good one: %d %s", r.StatusCode, r.body)
	}
}
