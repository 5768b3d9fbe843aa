package server_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"kiln/resources"
	"kiln/server"
)

// asked keeps what was asked of it last.
type asked struct{ request resources.Request }

func (a *asked) Do(_ context.Context, r resources.Request) (*resources.Response, error) {
	a.request = r
	return &resources.Response{Version: patient(3)}, nil
}

// TestRoutes_found_directly_are_those_of_the_table asks for the same with a letter escaped, which is found in the table of
// routes alone.
func TestRoutes_found_directly_are_those_of_the_table(t *testing.T) {
	t.Parallel()
	var service asked
	handler := server.New(server.Options{Service: &service, ResourceTypes: types, BaseURL: "http://localhost:8080"})
	ask := func(method, path string) (status int, allow string, r resources.Request, body string) {
		service.request = resources.Request{}
		req := httptest.NewRequest(method, path, strings.NewReader(`{"resourceType":"Patient","id":"p1"}`))
		req.Header.Set("Content-Type", "application/fhir+json")
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, req)
		text, _ := io.ReadAll(answer.Result().Body)
		if r = service.request; r.Body != nil {
			r.Body = nil // parsed anew
		}
		return answer.Code, answer.Header().Get("Allow"), r, string(text)
	}
	for _, rest := range []string{"", "/", "/p1", "/p1/", "/p1?_pretty=true", "?name=x", "/p$1", "/_history", "/_search", "/$x", "/a_b", "/.", "/..", "/p1/_history", "//p1"} {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions, "FETCH"} {
			status, allow, r, body := ask(method, "/fhir/Patient"+rest)
			status2, allow2, r2, body2 := ask(method, "/fhir/%50atient"+rest)
			if r.Interaction != r2.Interaction || r.Type != r2.Type || r.ID != r2.ID || r.Query != r2.Query || status != status2 || allow != allow2 || body != body2 {
				t.Errorf("%s %s: %d %q %+v, by the table %d %q %+v\n%s\n%s", method, rest, status, allow, r, status2, allow2, r2, body, body2)
			}
		}
	}
}
