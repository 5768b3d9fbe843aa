package resources

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kiln/auth"
	"kiln/fhir"
	"kiln/storage"
)

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	var later atomic.Int64 // how far the service's clock is ahead
	s := newService(t, func(o *Options, _ *storage.Options) {
		o.Now = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	})

	t.Run("create", func(t *testing.T) {
		request := func(value string) Request {
			return Request{Interaction: Create, Type: "Patient", Body: parse(t, identified(value, "")), IdempotencyKey: "k1"}
		}
		first := do(t, s, request("a"))
		put(t, s, `{"resourceType":"Patient","id":"`+first.Version.ID+`","active":true}`)
		again := do(t, s, request("a"))
		if again.Version.ID != first.Version.ID || again.Version.Number != 1 || !again.Created || !parse(t, string(again.Version.Content)).Equal(parse(t, string(first.Version.Content))) {
			t.Errorf("first %+v, again %+v", first.Version, again.Version)
		}
		e := refused(t, s, fhir.BusinessRule, request("b"))
		if e.Issues[0].Code != fhir.CodeDuplicate {
			t.Error(describe(e))
		}
		others := request("b")
		others.Principal = auth.Operator("somebody")
		other, err := s.Do(t.Context(), others)
		if err != nil || !other.Created {
			t.Errorf("another caller: %v", err)
		}
	})
	t.Run("a_failed_request_may_be_repeated", func(t *testing.T) {
		r := Request{Interaction: Create, Type: "Patient", Body: parse(t, identified("c", "")), IfNoneExist: "nonsense=1", IdempotencyKey: "k2"}
		refused(t, s, fhir.Invalid, r)
		r.Body, r.IfNoneExist = parse(t, identified("c", "")), ""
		do(t, s, r)
	})
	t.Run("parallel", func(t *testing.T) {
		var mu sync.Mutex
		made := map[string]int{}
		race(16, func(int) {
			resp, err := s.Do(t.Context(), Request{Interaction: Create, Type: "Group", IdempotencyKey: "k3",
				Body: parse(t, `{"resourceType":"Group","type":"person","actual":true}`)})
			if err != nil {
				t.Error(describe(err))
				return
			}
			mu.Lock()
			made[resp.Version.ID]++
			mu.Unlock()
		})
		if len(made) != 1 || count(t, s, "Group") != 1 {
			t.Errorf("made %v", made)
		}
	})
	t.Run("an_answer_is_forgotten_after_its_time", func(t *testing.T) {
		request := func() Request {
			return Request{Interaction: Create, Type: "Basic", IdempotencyKey: "old", Body: parse(t, `{"resourceType":"Basic","code":{"text":"x"}}`)}
		}
		first := do(t, s, request())
		for _, c := range []struct {
			later time.Duration
			same  bool
		}{{AnswersKept - time.Hour, true}, {AnswersKept + time.Hour, false}} {
			later.Store(int64(c.later))
			if err := s.Upkeep(t.Context()); err != nil {
				t.Fatal(err)
			}
			if again := do(t, s, request()); (again.Version.ID == first.Version.ID) != c.same {
				t.Errorf("%v later: %s, first %s", c.later, again.Version.ID, first.Version.ID)
			}
		}
		later.Store(0)
	})
	t.Run("transaction", func(t *testing.T) {
		request := func() Request {
			return Request{Interaction: Transaction, IdempotencyKey: "k4", Body: parse(t, transactionOf(
				entryOf("urn:uuid:1", "POST", "Device", `{"resourceType":"Device"}`),
				entryOf("", "PUT", "Device/x", `{"resourceType":"Device","id":"x","parent":{"reference":"urn:uuid:1"}}`),
				entryOf("", "DELETE", "Device/nobody", ""),
				entryOf("", "GET", "Device/x", "")))}
		}
		first, again := do(t, s, request()).Bundle, do(t, s, request()).Bundle
		for i := range first.Entries {
			a, b := first.Entries[i], again.Entries[i]
			av, bv := a.Response.Version, b.Response.Version
			if a.Interaction != b.Interaction || a.Response.Created != b.Response.Created || (av == nil) != (bv == nil) ||
				av != nil && (av.ID != bv.ID || av.Number != bv.Number) {
				t.Errorf("entry %d: first %+v, again %+v", i, a.Response, b.Response)
			}
		}
		if again.Type != "transaction-response" || count(t, s, "Device") != 2 || len(versions(t, s, "Device", "x")) != 1 {
			t.Error("done twice")
		}
	})
	t.Run("batch_does_what_was_left", func(t *testing.T) {
		request := func(more string) Request {
			return Request{Interaction: Batch, IdempotencyKey: "k5", Body: parse(t, `{"resourceType":"Bundle","type":"batch","entry":[`+
				entryOf("", "POST", "Location", `{"resourceType":"Location"}`)+`,`+
				entryOf("", "POST", "Location", `{"resourceType":"Location"}`, `"ifNoneExist":"nonsense=1"`)+more+`]}`)}
		}
		first, again := do(t, s, request("")).Bundle, do(t, s, request("")).Bundle
		if first.Entries[0].Response.Version.ID != again.Entries[0].Response.Version.ID || again.Entries[1].Err == nil || count(t, s, "Location") != 1 {
			t.Errorf("first %+v again %+v", first.Entries, again.Entries)
		}
		refused(t, s, fhir.BusinessRule, request(","+entryOf("", "GET", "Location", "")))
	})
}
