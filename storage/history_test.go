package storage_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kiln/conformance"
	"kiln/fhir"
	"kiln/internal/kilntest"
	"kiln/storage"
)

// servers opens several stores on one database, as several Kilns would, each with a clock of its own.
func servers(t *testing.T, clocks ...func() time.Time) []*storage.Store {
	t.Helper()
	registry, err := conformance.R4()
	if err != nil {
		t.Fatal(err)
	}
	url := kilntest.DB(t)
	var list []*storage.Store
	for _, now := range clocks {
		s, err := storage.Open(t.Context(), storage.Options{URL: url, Base: "http://localhost/fhir", Registry: registry, PoolSize: 6, Now: now, Unrestricted: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		list = append(list, s)
	}
	return list
}

func prepare(t *testing.T, s *storage.Store, src string) *storage.Prepared {
	t.Helper()
	n, err := fhir.ParseJSON([]byte(src))
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Prepare(n)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func shownIDs(t *testing.T, s *storage.Store, q storage.HistoryQuery) []string {
	t.Helper()
	q.Limit = 1000
	page, err := s.History(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	ids := []string{}
	for _, v := range page.Versions {
		ids = append(ids, v.ID)
	}
	if int(page.Total) != len(ids) {
		t.Errorf("total %d, %d versions", page.Total, len(ids))
	}
	return ids
}

func TestHistory_ends_where_an_open_transaction_began(t *testing.T) {
	t.Parallel()
	s := open(t)
	put(t, s, `{"resourceType":"Patient","id":"before"}`)
	late := prepare(t, s, `{"resourceType":"Patient","id":"late"}`)
	written, proceed, ended := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		ended <- s.Write(context.Background(), func(tx *storage.Tx) error {
			tx.Insert(late, storage.MethodUpdate)
			if err := tx.Flush(context.Background()); err != nil {
				return err
			}
			close(written)
			<-proceed
			return nil
		})
	}()
	<-written
	time.Sleep(2 * time.Millisecond) // so that it is later by the clock too
	put(t, s, `{"resourceType":"Patient","id":"after"}`)
	for _, q := range []storage.HistoryQuery{{}, {Type: "Patient"}} {
		if got := fmt.Sprint(shownIDs(t, s, q)); got != "[before]" {
			t.Errorf("%+v during: %s", q, got)
		}
	}
	if got := fmt.Sprint(shownIDs(t, s, storage.HistoryQuery{Type: "Patient", ID: "after"})); got != "[after]" {
		t.Errorf("of the resource itself: %s", got)
	}
	close(proceed)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	for _, q := range []storage.HistoryQuery{{}, {Type: "Patient"}} {
		if got := fmt.Sprint(shownIDs(t, s, q)); got != "[after late before]" {
			t.Errorf("%+v afterwards: %s", q, got)
		}
	}
}

// A server whose clock is behind writes below what another one has shown, unless it is told.
func TestHistory_never_grows_below_what_was_shown(t *testing.T) {
	t.Parallel()
	slow := func() time.Time { return time.Now().Add(-time.Hour) }
	list := servers(t, time.Now, slow)
	put(t, list[0], `{"resourceType":"Patient","id":"a"}`)
	shownIDs(t, list[0], storage.HistoryQuery{})
	put(t, list[1], `{"resourceType":"Patient","id":"b"}`)
	if got := fmt.Sprint(shownIDs(t, list[0], storage.HistoryQuery{})); got != "[b a]" {
		t.Error(got)
	}
}

// A writer that histories overtake again and again is let through, with its version in its place.
func TestHistory_overtakes_a_writer_twice_at_most(t *testing.T) {
	t.Parallel()
	list := servers(t, time.Now, func() time.Time { return time.Now().Add(-time.Hour) })
	late, tries := prepare(t, list[1], `{"resourceType":"Patient","id":"late"}`), 0
	err := list[1].Write(t.Context(), func(tx *storage.Tx) error {
		tx.Insert(late, storage.MethodUpdate) // as of a moment below the next one
		tries++
		time.Sleep(2 * time.Millisecond)
		put(t, list[0], fmt.Sprintf(`{"resourceType":"Patient","id":"p%d"}`, tries))
		want := []string{"[p1]", "[p2 p1]", "[p1]"}[min(tries, 3)-1] // then it ends where the writer began
		if got := fmt.Sprint(shownIDs(t, list[0], storage.HistoryQuery{})); got != want {
			t.Errorf("try %d: %s, want %s", tries, got, want)
		}
		return nil
	})
	if err != nil || tries != 3 {
		t.Fatalf("%d tries: %v", tries, err)
	}
	got := shownIDs(t, list[0], storage.HistoryQuery{})
	if slices.Sort(got); fmt.Sprint(got) != "[late p1 p2 p3]" {
		t.Error(got)
	}
}

// A client that asks again and again for what is new since the newest version that it has seen gets every version,
// however long the transactions take that make them and whichever server it asks.
func TestHistory_pollers_miss_nothing(t *testing.T) {
	t.Parallel()
	list := servers(t, time.Now, time.Now, func() time.Time { return time.Now().Add(-30 * time.Millisecond) })
	const writers, each, pollers = 6, 25, 3
	var working, polling sync.WaitGroup
	var ended atomic.Bool
	for w := range writers {
		working.Go(func() {
			random := rand.New(rand.NewPCG(7, uint64(w)))
			for i := range each {
				s := list[random.IntN(len(list))]
				p := prepare(t, s, fmt.Sprintf(`{"resourceType":"Patient","id":"w%d-%d"}`, w, i))
				pause := time.Duration(random.IntN(3)) * 10 * time.Millisecond * time.Duration(random.IntN(2))
				err := s.Write(t.Context(), func(tx *storage.Tx) error {
					tx.Insert(p, storage.MethodUpdate)
					if pause == 0 {
						return nil
					}
					err := tx.Flush(t.Context())
					time.Sleep(pause)
					return err
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	seen := make([]map[string]bool, pollers)
	for p := range pollers {
		seen[p] = map[string]bool{}
		polling.Go(func() {
			since := time.Time{}
			for last := false; ; last = ended.Load() {
				for _, q := range []storage.HistoryQuery{{Since: since, Limit: 1000, Type: []string{"", "Patient"}[p%2]}} {
					page, err := list[p%len(list)].History(t.Context(), q)
					if err != nil {
						t.Error(err)
						return
					}
					for i, v := range page.Versions {
						seen[p][v.ID] = true
						if i == 0 {
							since = v.LastUpdated
						}
					}
				}
				if last {
					return
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	working.Wait()
	ended.Store(true)
	polling.Wait()
	for p := range pollers {
		if len(seen[p]) != writers*each {
			t.Errorf("poller %d saw %d of %d versions", p, len(seen[p]), writers*each)
		}
	}
}

// The pages of one history show what there was at the first.
func TestHistory_pages_hold_still(t *testing.T) {
	t.Parallel()
	s := open(t)
	for i := range 6 {
		put(t, s, fmt.Sprintf(`{"resourceType":"Patient","id":"p%d"}`, i))
	}
	q := storage.HistoryQuery{Limit: 4}
	first, err := s.History(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, `{"resourceType":"Patient","id":"new"}`)
	q.After = first.Next
	second, err := s.History(t.Context(), q)
	if err != nil || len(second.Versions) != 2 || second.Total != 6 || first.Total != 6 {
		t.Errorf("%v: %d versions of %d and %d", err, len(second.Versions), first.Total, second.Total)
	}
}
