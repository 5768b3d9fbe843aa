package main

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
)

// What is promised for clients at the same time, with clients that really are: over HTTP, more of them than the server
// has database connections.
func TestRacing_clients(t *testing.T) {
	t.Parallel()
	origin, stop := serve(t, "--database-url="+startedDB(t), "--pool-size=2")
	base := origin + "/fhir"
	const clients = 64
	patient := func(mark, more string) string {
		return `{"resourceType":"Patient","identifier":[{"system":"urn:race","value":"` + mark + `"}]` + more + `}`
	}
	total := func(query string) any {
		return send(t.Context(), "GET", base+"/Patient?_summary=count&"+query, "").body["total"]
	}
	t.Run("conditional_creates_make_one", func(t *testing.T) {
		var made, found atomic.Int32
		together(clients, func(i int) {
			a := send(t.Context(), "POST", base+"/Patient", patient("one", ""), "If-None-Exist: identifier=urn:race|one")
			switch {
			case a.err == nil && a.status == 201:
				made.Add(1)
			case a.err == nil && a.status == 200:
				found.Add(1)
			default:
				t.Errorf("%+v", a)
			}
		})
		if made.Load() != 1 || found.Load() != clients-1 || total("identifier=urn:race|one") != 1.0 {
			t.Errorf("%d made, %d found, %v there", made.Load(), found.Load(), total("identifier=urn:race|one"))
		}
	})
	t.Run("one_If-Match_wins", func(t *testing.T) {
		send(t.Context(), "PUT", base+"/Patient/m", `{"resourceType":"Patient","id":"m"}`)
		var won, lost atomic.Int32
		together(clients, func(i int) {
			a := send(t.Context(), "PUT", base+"/Patient/m", fmt.Sprintf(`{"resourceType":"Patient","id":"m","multipleBirthInteger":%d}`, i+1), `If-Match: W/"1"`)
			switch {
			case a.err == nil && a.status == 200 && a.header.Get("ETag") == `W/"2"`:
				won.Add(1)
			case a.err == nil && a.status == 412:
				lost.Add(1)
			default:
				t.Errorf("%+v", a)
			}
		})
		if won.Load() != 1 || lost.Load() != clients-1 {
			t.Errorf("%d won, %d lost", won.Load(), lost.Load())
		}
	})
	t.Run("updates_lose_no_version", func(t *testing.T) {
		var seen [clients + 2]atomic.Int32
		together(clients, func(i int) {
			a := send(t.Context(), "PUT", base+"/Patient/u", fmt.Sprintf(`{"resourceType":"Patient","id":"u","multipleBirthInteger":%d}`, i+1))
			var version int
			if _, err := fmt.Sscanf(a.header.Get("ETag"), `W/"%d"`, &version); a.err != nil || a.status >= 300 || err != nil || version > clients {
				t.Errorf("%+v", a)
				return
			}
			seen[version].Add(1)
		})
		for version := 1; version <= clients; version++ {
			if n := seen[version].Load(); n != 1 {
				t.Errorf("version %d was given to %d clients", version, n)
			}
		}
		if h := send(t.Context(), "GET", base+"/Patient/u/_history?_count=1", ""); h.body["total"] != float64(clients) {
			t.Errorf("%v versions", h.body["total"])
		}
	})
	t.Run("similar_bundles_do_not_deadlock", func(t *testing.T) {
		together(clients/2, func(c int) {
			var entries []string
			for i := range 8 {
				i = (i*3 + c) % 8 // each client in an order of its own
				entries = append(entries, fmt.Sprintf(`{"request":{"method":"PUT","url":"Patient/b%d"},"resource":{"resourceType":"Patient","id":"b%[1]d","multipleBirthInteger":%d}}`, i, c+1),
					fmt.Sprintf(`{"request":{"method":"POST","url":"Patient","ifNoneExist":"identifier=urn:race|b%d"},"resource":%s}`, i, patient(fmt.Sprint("b", i), "")))
			}
			a := send(t.Context(), "POST", base, `{"resourceType":"Bundle","type":"transaction","entry":[`+strings.Join(entries, ",")+`]}`)
			if a.err != nil || a.status != 200 {
				t.Errorf("%+v", a)
			}
		})
		for i := range 8 {
			if n := total(fmt.Sprintf("identifier=urn:race|b%d", i)); n != 1.0 {
				t.Errorf("b%d was made %v times", i, n)
			}
			if h := send(t.Context(), "GET", fmt.Sprintf("%s/Patient/b%d/_history?_count=1", base, i), ""); h.body["total"] != float64(clients/2) {
				t.Errorf("b%d has %v versions", i, h.body["total"])
			}
		}
	})
	t.Run("one_Idempotency-Key_is_one_create", func(t *testing.T) {
		var id atomic.Value
		together(clients/2, func(i int) {
			a := send(t.Context(), "POST", base+"/Patient", patient("key", ""), "Idempotency-Key: race-1")
			if first := a.id(); a.err != nil || a.status != 201 || !id.CompareAndSwap(nil, first) && id.Load() != first {
				t.Errorf("%+v, another got %v", a, id.Load())
			}
		})
		if n := total("identifier=urn:race|key"); n != 1.0 {
			t.Errorf("%v there", n)
		}
		if a := send(t.Context(), "POST", base+"/Patient", patient("other", ""), "Idempotency-Key: race-1"); a.status != 422 {
			t.Errorf("the same key with another body: %+v", a)
		}
	})
	if code := stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
