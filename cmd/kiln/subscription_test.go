package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
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

// TestSubscription_topic_over_the_wire: an endpoint hears of each visit whose status changes, with the whole of it, and of nothing else.
func TestSubscription_topic_over_the_wire(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var bodies []string
	endpoint := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		bodies = append(bodies, string(body))
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
	const topic = "https://kiln.example/fhir/SubscriptionTopic/appointment-status"
	statement := send(t.Context(), "GET", base+"/metadata", "")
	if !strings.Contains(fmt.Sprint(statement.body), topic) {
		t.Error("the CapabilityStatement does not say so")
	}
	const backport = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/"
	a := send(t.Context(), "POST", base+"/Subscription", `{"resourceType":"Subscription","status":"requested","reason":"test","criteria":"`+topic+`",
		"_criteria":{"extension":[{"url":"`+backport+`backport-filter-criteria","valueString":"Appointment?status=cancelled"}]},
		"channel":{"type":"rest-hook","endpoint":"`+endpoint.URL+`/in","payload":"application/fhir+json","_payload":{"extension":[{"url":"`+backport+`backport-payload-content","valueCode":"full-resource"}]}}}`)
	if a.status != 201 {
		t.Fatalf("%+v", a)
	}
	eventually(t, "it is active", func() bool {
		return send(t.Context(), "GET", base+"/Subscription/"+a.id(), "").body["status"] == "active"
	})
	send(t.Context(), "PUT", base+"/Patient/p", `{"resourceType":"Patient","id":"p"}`)
	send(t.Context(), "PUT", base+"/Practitioner/doc", `{"resourceType":"Practitioner","id":"doc"}`)
	day := time.Now().UTC().Truncate(24 * time.Hour).Add(10 * 24 * time.Hour)
	var ids []string
	for i := range 2 {
		start := day.Add(time.Duration(9+i) * time.Hour)
		v := send(t.Context(), "POST", base+"/Appointment", fmt.Sprintf(`{"resourceType":"Appointment","status":"booked","comment":"visit %d","start":%q,"end":%q,"participant":[{"actor":{"reference":"Practitioner/doc"},"status":"accepted"},
			{"actor":{"reference":"Patient/p"},"status":"accepted"}]}`, i, start.Format(time.RFC3339), start.Add(30*time.Minute).Format(time.RFC3339)))
		if v.status != 201 {
			t.Fatalf("%+v", v)
		}
		ids = append(ids, v.id())
	}
	if c := send(t.Context(), "POST", base+"/Appointment/"+ids[1]+"/$cancel", `{"resourceType":"Parameters","parameter":[{"name":"reason","valueCodeableConcept":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/appointment-cancellation-reason","code":"pat"}]}}]}`); c.status != 200 {
		t.Fatalf("%+v", c)
	}
	eventually(t, "the event", func() bool { return got("visit 1") && got(`"topic","valueCanonical":"`+topic) })
	if got("visit 0") {
		t.Error("told of a visit that stays booked")
	}
	if s := send(t.Context(), "GET", base+"/Subscription/"+a.id()+"/$events?content=id-only", ""); !strings.Contains(fmt.Sprint(s.body), ids[1]) || strings.Contains(fmt.Sprint(s.body), "visit 1") || strings.Contains(fmt.Sprint(s.body), ids[0]) {
		t.Errorf("%+v", s)
	}
}
