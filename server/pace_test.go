package server_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"

	"kiln/auth"
	"kiln/server"
)

// Who asks too often is refused, and nobody else is; and probes do not count.
func TestPace_refuses_with_429(t *testing.T) {
	t.Parallel()
	h := start(t, func(o *server.Options) {
		o.Limits.RequestsPerMinute = 8
		o.Authenticate = func(r *http.Request) (auth.Principal, error) {
			return auth.Principal{User: r.Header.Get("X-User")}, nil
		}
	})
	for i := 0; ; i++ {
		a := h.send(t, "GET", []string{"/fhir/Patient/1", "/fhir/Observation/1"}[i%2], "", "X-User: ada")
		if a.StatusCode != http.StatusTooManyRequests {
			if i == 20 { // there is room for another each 7.5 s, which a busy machine may take for one
				t.Fatalf("request %d: %d %s", i+1, a.StatusCode, a.body)
			}
			continue
		}
		wait, err := strconv.Atoi(a.Header.Get("Retry-After"))
		if i < 2 || err != nil || wait < 1 || wait > 8 || !strings.Contains(a.body, `"code":"throttled"`) {
			t.Errorf("request %d: Retry-After %q: %s", i+1, a.Header.Get("Retry-After"), a.body)
		}
		break
	}
	if a := h.send(t, "GET", "/fhir/Patient/1", "", "X-User: ben"); a.StatusCode == http.StatusTooManyRequests {
		t.Errorf("another caller: %d", a.StatusCode)
	}
	for range 3 {
		if a := h.send(t, "GET", "/healthz", ""); a.StatusCode != 200 {
			t.Errorf("/healthz: %d", a.StatusCode)
		}
	}
}
