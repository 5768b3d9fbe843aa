package server_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"kiln/resources"
	"kiln/server"
)

func TestPublication(t *testing.T) {
	t.Parallel()
	changed := time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC)
	p := &resources.Publication{Made: changed.Add(time.Hour), Changed: changed, Tag: "abc", Files: []resources.PublishedFile{
		{Type: "Slot", Content: []byte("{\"resourceType\":\"Slot\",\"id\":\"1\"}\n"), Count: 1}, {Type: "Schedule"}}}
	h := start(t, func(o *server.Options) {
		o.Published = func(context.Context) (*resources.Publication, error) { return p, nil }
	})
	m := h.send(t, "GET", "/fhir/$bulk-publish", "")
	m.wantStatus(t, 200)
	if m.Header.Get("Content-Type") != "application/json; charset=utf-8" || m.Header.Get("Cache-Control") != "public, max-age=60" || m.Header.Get("ETag") != `W/"abc"` {
		t.Errorf("%v", m.Header)
	}
	const want = `{"transactionTime":"2026-11-01T11:00:00.000Z","request":"BASE/$bulk-publish","output":[{"type":"Slot","url":"BASE/$bulk-publish/Slot.ndjson","count":1}],"error":[]}`
	if got := strings.ReplaceAll(m.body, "https://ehr.example.org/fhir", "BASE"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if r := h.send(t, "GET", "/fhir/$bulk-publish?_since=2026-11-01T10:00:00Z", ""); !strings.Contains(r.body, `"output":[]`) {
		t.Errorf("nothing is new: %s", r.body)
	}
	h.send(t, "GET", "/fhir/$bulk-publish", "", `If-None-Match: W/"abc"`).wantStatus(t, 304)
	bad := h.send(t, "GET", "/fhir/$bulk-publish?_since=soon", "")
	if bad.wantStatus(t, 400); bad.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("a refusal is kept: %v", bad.Header)
	}
	file := h.send(t, "GET", "/fhir/$bulk-publish/Slot.ndjson", "")
	if file.wantStatus(t, 200); !strings.HasPrefix(file.Header.Get("Content-Type"), "application/fhir+ndjson") || !strings.HasSuffix(file.body, "}\n") {
		t.Errorf("%v %s", file.Header, file.body)
	}
	h.send(t, "GET", "/fhir/$bulk-publish/Patient.ndjson", "").wantStatus(t, 404)
	h.send(t, "POST", "/fhir/$bulk-publish", "").wantStatus(t, 405)

	start(t).send(t, "GET", "/fhir/$bulk-publish", "").wantStatus(t, 404)
	down := start(t, func(o *server.Options) {
		o.Published = func(context.Context) (*resources.Publication, error) { return nil, errors.New("no database") }
	})
	down.send(t, "GET", "/fhir/$bulk-publish", "").wantStatus(t, 500)
}
