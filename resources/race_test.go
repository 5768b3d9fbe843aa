package resources

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"kiln/fhir"
	"kiln/storage"
)

func TestParallelConditionalCreatesMakeOne(t *testing.T) {
	t.Parallel()
	s := newService(t)
	var made atomic.Int32
	race(64, func(i int) {
		body := identified("racer", "")
		r := Request{Interaction: Create, Type: "Patient", Body: parse(t, body), IfNoneExist: "identifier=urn:x|racer"}
		if i%2 == 1 { // half of them as transactions, and with the bar escaped
			r = Request{Interaction: Transaction, Body: parse(t, transactionOf(
				entryOf("", "POST", "Patient", body, `"ifNoneExist":"identifier=urn:x%7Cracer"`)))}
		}
		resp, err := s.Do(t.Context(), r)
		if err == nil && resp.Bundle != nil {
			resp = resp.Bundle.Entries[0].Response
		}
		if err != nil {
			t.Error(describe(err))
		} else if resp.Created {
			made.Add(1)
		}
	})
	if made.Load() != 1 || count(t, s, "Patient") != 1 {
		t.Errorf("%d were made, %d are there", made.Load(), count(t, s, "Patient"))
	}
}

func TestParallelConditionalUpdatesMakeOne(t *testing.T) {
	t.Parallel()
	s := newService(t)
	race(32, func(i int) {
		_, err := s.Do(t.Context(), Request{Interaction: Update, Type: "Patient", Query: "identifier=urn:x|u",
			Body: parse(t, identified("u", fmt.Sprintf(`"multipleBirthInteger":%d`, i)))})
		if err != nil {
			t.Error(describe(err))
		}
	})
	b := do(t, s, Request{Interaction: HistoryType, Type: "Patient", Query: "_count=100"}).Bundle
	if count(t, s, "Patient") != 1 || *b.Total != 32 {
		t.Errorf("%d patients, %d versions", count(t, s, "Patient"), *b.Total)
	}
}

func TestParallelIfMatchLetsOneWin(t *testing.T) {
	t.Parallel()
	s := newService(t)
	put(t, s, `{"resourceType":"Patient","id":"m"}`)
	for round := 1; round <= 5; round++ {
		var won, lost atomic.Int32
		race(16, func(i int) {
			_, err := s.Do(t.Context(), Request{Interaction: Update, Type: "Patient", ID: "m", IfMatch: fmt.Sprint(round),
				Body: parse(t, fmt.Sprintf(`{"resourceType":"Patient","id":"m","multipleBirthInteger":%d}`, round*100+i))})
			switch {
			case err == nil:
				won.Add(1)
			case fhir.KindOf(err) == fhir.Precondition:
				lost.Add(1)
			default:
				t.Error(describe(err))
			}
		})
		if won.Load() != 1 || lost.Load() != 15 {
			t.Errorf("round %d: %d won, %d lost", round, won.Load(), lost.Load())
		}
	}
}

func TestParallelUpdatesLoseNoVersion(t *testing.T) {
	t.Parallel()
	s := newService(t)
	const n = 64
	race(n, func(i int) { // from nothing: the first of them makes the resource
		_, err := s.Do(t.Context(), Request{Interaction: Update, Type: "Patient", ID: "v",
			Body: parse(t, fmt.Sprintf(`{"resourceType":"Patient","id":"v","multipleBirthInteger":%d}`, i))})
		if err != nil {
			t.Error(describe(err))
		}
	})
	b := do(t, s, Request{Interaction: HistoryInstance, Type: "Patient", ID: "v", Query: "_count=1000"}).Bundle
	seen := map[string]bool{}
	for i, e := range b.Entries {
		if e.Version.Number != n-i {
			t.Errorf("place %d has version %d", i, e.Version.Number)
		}
		if i > 0 && !e.Version.LastUpdated.Before(b.Entries[i-1].Version.LastUpdated) {
			t.Errorf("version %d is not older than the next", e.Version.Number)
		}
		seen[parse(t, string(e.Version.Content)).Get("multipleBirthInteger").Text] = true
	}
	if len(seen) != n || *b.Total != n {
		t.Errorf("%d contents in %d versions", len(seen), *b.Total)
	}
}

// A ring of waiting transactions takes a second to be noticed, so the bound on the time shows deadlocks even where a
// retry hides them.
func TestSimilarTransactionsDoNotDeadlock(t *testing.T) {
	t.Parallel()
	s := newService(t)
	const clients, rounds, size = 8, 6, 12
	var slowest atomic.Int64
	race(clients, func(c int) {
		random := rand.New(rand.NewPCG(1, uint64(c)))
		for round := range rounds {
			var entries []string
			for i := range size {
				body := fmt.Sprintf(`{"resourceType":"Patient","id":"d%d","multipleBirthInteger":%d}`, i, c*100+round)
				entries = append(entries, entryOf("", "PUT", fmt.Sprintf("Patient/d%d", i), body))
				value := fmt.Sprintf("k%d", i)
				entries = append(entries, entryOf("", "POST", "Patient", identified(value, ""), `"ifNoneExist":"identifier=urn:x|`+value+`"`))
				if i%3 == 0 {
					value = fmt.Sprintf("w%d", i)
					entries = append(entries, entryOf("", "PUT", "Patient?identifier=urn:x|"+value, identified(value, fmt.Sprintf(`"multipleBirthInteger":%d`, c*100+round))))
				}
			}
			random.Shuffle(len(entries), func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
			begin := time.Now()
			if _, err := s.Do(t.Context(), Request{Interaction: Transaction, Body: parse(t, transactionOf(entries...))}); err != nil {
				t.Error(describe(err))
			}
			for took := int64(time.Since(begin)); ; {
				old := slowest.Load()
				if took <= old || slowest.CompareAndSwap(old, took) {
					break
				}
			}
		}
	})
	if got := count(t, s, "Patient"); got != size*2+size/3 {
		t.Errorf("%d patients", got)
	}
	for i := range size {
		list := versions(t, s, "Patient", fmt.Sprintf("d%d", i))
		if len(list) != clients*rounds || !slices.IsSortedFunc(list, func(a, b int) int { return b - a }) {
			t.Errorf("d%d has %d versions", i, len(list))
		}
	}
	t.Logf("slowest transaction: %v", time.Duration(slowest.Load()).Round(time.Millisecond))
}

// What an import brings goes out many at a time, and keeps the order of all writes: imports of the same, whole and in parts,
// make each resource once and do not wait for each other in a ring.
func TestParallel_imports_of_the_same(t *testing.T) {
	t.Parallel()
	s := newService(t)
	const clients, each = 6, minBulk
	race(clients, func(c int) {
		random := rand.New(rand.NewPCG(2, uint64(c)))
		var entries []string
		for i := range each {
			bodies := []string{`"resourceType":"Basic","code":{"text":"x"}`, `"resourceType":"Observation","status":"final","code":{"text":"x"}`, `"resourceType":"Patient","active":true`}
			for j, typ := range []string{"Basic", "Observation", "Patient"} {
				if c%2 == 0 || i%2 == 0 { // too few of each for a run, or enough
					entries = append(entries, entryOf("", "PUT", fmt.Sprintf("%s/i%d", typ, i), fmt.Sprintf(`{"id":"i%d",%s}`, i, bodies[j])))
				}
			}
		}
		random.Shuffle(len(entries), func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
		resp, err := s.Do(t.Context(), Request{Interaction: Transaction, Body: parse(t, transactionOf(entries...))})
		if err != nil {
			t.Error(describe(err))
			return
		}
		for i, e := range resp.Bundle.Entries {
			if v := e.Response.Version; v == nil || v.Number != 1 || v.Method != storage.MethodUpdate {
				t.Errorf("entry %d: %+v", i, e.Response)
			}
		}
	})
	for _, typ := range []string{"Basic", "Observation", "Patient"} {
		b := do(t, s, Request{Interaction: HistoryType, Type: typ, Query: "_count=1"}).Bundle
		if *b.Total != each || count(t, s, typ) != each {
			t.Errorf("%d of %s in %d versions", count(t, s, typ), typ, *b.Total)
		}
	}
}

// No request holds one connection while it waits for another: even one is enough for all.
func TestSmallPoolNeverWedges(t *testing.T) {
	t.Parallel()
	for size := range 2 {
		t.Run(fmt.Sprint(size+1), func(t *testing.T) {
			t.Parallel()
			smallPool(t, size+1)
		})
	}
}

func smallPool(t *testing.T, size int) {
	s := newService(t, func(_ *Options, so *storage.Options) { so.PoolSize = size })
	race(64, func(c int) {
		for i := range 6 {
			id := fmt.Sprintf("w%d", (c+i)%5)
			body := fmt.Sprintf(`{"resourceType":"Patient","id":"%s","multipleBirthInteger":%d}`, id, c*100+i)
			requests := []Request{
				{Interaction: Update, Type: "Patient", ID: id, Body: parse(t, body)},
				{Interaction: Create, Type: "Patient", Body: parse(t, identified(id, "")), IfNoneExist: "identifier=urn:x|" + id, IdempotencyKey: fmt.Sprintf("w-%d-%d", c, i)},
				{Interaction: Transaction, IdempotencyKey: fmt.Sprintf("t-%d-%d", c, i), Body: parse(t, transactionOf(
					entryOf("", "PUT", "Patient/"+id, body), entryOf("", "GET", "Patient?_id="+id, ""), entryOf("", "GET", "Patient/_history", ""),
					entryOf("", "POST", "Observation", `{"resourceType":"Observation","status":"final","code":{"text":"x"},"subject":{"reference":"Patient?_id=`+id+`"}}`)))},
				{Interaction: Batch, Body: parse(t, strings.Replace(transactionOf(
					entryOf("", "PUT", "Patient/"+id, body), entryOf("", "GET", "Patient/"+id, "")), `"transaction"`, `"batch"`, 1))},
				{Interaction: HistorySystem}, {Interaction: SearchType, Type: "Patient", Query: "_include=*&_revinclude=*"},
				{Interaction: SearchType, Type: "Observation", Query: "subject:Patient.identifier=urn:x|" + id + "&code:text=x&_total=accurate"},
				{Interaction: Delete, Type: "Patient", Query: "identifier=urn:x|" + id},
				{Interaction: Patch, Type: "Patient", ID: id, JSONPatch: []byte(`[{"op":"add","path":"/active","value":true}]`)},
				{Interaction: Update, Type: "SearchParameter", ID: "s" + id, Body: parse(t, fmt.Sprintf(`{"resourceType":"SearchParameter","id":"s%[1]s",
"url":"http://example.org/%[1]s","name":"x%[1]s","description":"%[2]d","status":"active","code":"x%[1]s","base":["Patient"],"type":"token","expression":"Patient.active"}`, id, c))},
			}
			r := requests[(c+i)%len(requests)]
			switch _, err := s.Do(t.Context(), r); {
			case err == nil, fhir.KindOf(err) == fhir.Precondition:
			case r.Interaction == Patch && (fhir.KindOf(err) == fhir.NotFound || fhir.KindOf(err) == fhir.Gone):
			default:
				t.Errorf("%s: %s", r.Interaction, describe(err))
			}
		}
	})
}

// PostgreSQL has room for some thousand locks. A Bundle may have more criteria, and still excludes others.
func TestVeryManyCriteria(t *testing.T) {
	t.Parallel()
	s := newService(t)
	many := make([]string, 25_000)
	for i := range many {
		many[i] = fmt.Sprintf("Patient?identifier=%d", i)
	}
	var inside atomic.Int32
	alone := func(criteria ...string) {
		err := s.store.Write(t.Context(), func(tx *storage.Tx) error {
			if err := tx.LockCriteria(t.Context(), criteria...); err != nil {
				return err
			}
			if inside.Add(1) != 1 {
				t.Error("two hold the same criteria")
			}
			time.Sleep(2 * time.Millisecond)
			inside.Add(-1)
			return nil
		})
		if err != nil {
			t.Error(describe(err))
		}
	}
	race(8, func(i int) {
		for range 5 {
			if i < 2 {
				alone(many...)
			} else {
				alone(many[77], many[78])
			}
		}
	})
}
