package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// TestSubscription_over_the_wire: an endpoint gets its handshake and its events, also those that it first had no time for.
func TestSubscription_over_the_wire(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var bodies []string
	busy := 1
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		if strings.Contains(string(body), "event-notification") && busy > 0 {
			busy--
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		if err == nil && r.Header.Get("Authorization") == "Bearer of news" && r.Header.Get("Content-Type") == "application/fhir+json" {
			bodies = append(bodies, string(body))
		}
	}))
	defer endpoint.Close()
	got := func(what string) bool {
		mu.Lock()
		defer mu.Unlock()
		return strings.Contains(strings.Join(bodies, ""), what)
	}
	origin, stop := serve(t, "--database-url="+startedDB(t), "--webhooks="+endpoint.URL)
	defer stop()
	base := origin + "/fhir"
	a := send(t.Context(), "POST", base+"/Subscription", `{"resourceType":"Subscription","status":"requested","reason":"test","criteria":"Patient?family=Okafor",
		"channel":{"type":"rest-hook","endpoint":"`+endpoint.URL+`/in","payload":"application/fhir+json","header":["Authorization: Bearer of news"]}}`)
	if a.status != 201 {
		t.Fatalf("%+v", a)
	}
	eventually(t, "the handshake", func() bool { return got("handshake") })
	eventually(t, "it is active", func() bool {
		return send(t.Context(), "GET", base+"/Subscription/"+a.id(), "").body["status"] == "active"
	})
	patient := send(t.Context(), "POST", base+"/Patient", `{"resourceType":"Patient","name":[{"family":"Okafor"}]}`)
	eventually(t, "the event", func() bool { return got("Patient/" + patient.id()) })
	if got("Okafor") {
		t.Error("the notification holds the resource")
	}
	eventually(t, "it is active again", func() bool {
		return send(t.Context(), "GET", base+"/Subscription/"+a.id(), "").body["status"] == "active"
	})
	if other := send(t.Context(), "POST", base+"/Subscription", `{"resourceType":"Subscription","status":"requested","reason":"test","criteria":"Patient?family=Okafor",
		"channel":{"type":"rest-hook","endpoint":"http://169.254.169.254/latest"}}`); other.status != 422 {
		t.Errorf("an endpoint that nobody allowed: %+v", other)
	}
}
