package storage_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/internal/oracle"
	"kiln/storage"
)

// TestPaging_while_others_write follows next and previous on random data, searches and page sizes, with writes between
// the pages that change what matches and what the order is by: every match of the first page's time comes once and in its
// place, unless it is gone when its page is asked for.
func TestPaging_while_others_write(t *testing.T) {
	t.Parallel()
	for i := range setting("KILN_ORACLE_POPULATIONS", 3) {
		seed := setting("KILN_ORACLE_SEED", 1) + i
		t.Run(fmt.Sprintf("population_%d", seed), func(t *testing.T) {
			p := newPager(t, anyPopulation(90).Example(seed))
			rapid.Check(t, p.follow)
		})
	}
}

// pager is a database that changes while it is paged through.
type pager struct {
	store   *storage.Store
	asker   asker
	sources map[string][]string // bodies of a type
	ids     map[string][]string // of a type, in use or not
	made    int
	// alive are the resources that there are, born those that a search in progress cannot have seen on its first page.
	alive, born map[string]bool
}

func newPager(t *testing.T, sources [][]byte) *pager {
	p := &pager{store: open(t), sources: map[string][]string{}, ids: map[string][]string{}, alive: map[string]bool{}}
	var nodes []*fhir.Node
	for _, src := range sources {
		n, err := fhir.ParseJSON(put(t, p.store, string(src)).Content)
		if err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, n)
		typ := n.ResourceType()
		p.sources[typ], p.ids[typ] = append(p.sources[typ], string(src)), append(p.ids[typ], n.ID())
		p.alive[name(n)] = true
	}
	o := oracle.New(p.store.Registry(), nodes...)
	o.Base, o.Now = "http://localhost/fhir", time.Date(2024, 1, 15, 10, 0, 0, 0, time.UTC)
	p.asker = asker{registry: p.store.Registry(), oracle: o, resources: nodes}
	p.asker.survey()
	return p
}

// disturb writes: another content for a resource, a delete, a new or a returning resource.
func (p *pager) disturb(t *rapid.T) {
	for range rapid.IntRange(0, 6).Draw(t, "writes") {
		typ := pick(t, populated...)
		if p.ids[typ] == nil {
			continue
		}
		id := pick(t, p.ids[typ]...)
		how := rapid.IntRange(0, 9).Draw(t, "how")
		if how == 0 && len(p.ids[typ]) < 40 {
			p.made++
			id = fmt.Sprintf("new-%d", p.made)
			p.ids[typ] = append(p.ids[typ], id)
			p.born[typ+"/"+id] = true
		}
		if key := typ + "/" + id; how == 1 && p.alive[key] {
			remove(t, p.store, storage.Key{Type: typ, ID: id})
			p.alive[key] = false
			t.Logf("DELETE %s", key)
			continue
		}
		var body map[string]any
		if err := json.Unmarshal([]byte(pick(t, p.sources[typ]...)), &body); err != nil {
			t.Fatal(err)
		}
		body["id"] = id
		text, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		v := put(t, p.store, string(text))
		p.alive[typ+"/"+id] = true
		t.Logf("PUT %s/%s, version %d", typ, id, v.Number)
	}
}

func (p *pager) follow(t *rapid.T) {
	a := p.asker
	a.t = t
	typ := pick(t, populated...)
	if a.lists[typ] == nil {
		t.Skip("none of the type")
	}
	types, pairs := []string{typ}, a.query(typ)
	if a.chance(8) {
		var codes []string
		codes, types = a.several()
		if pairs = a.queryOf(types[0], codes); pairs == nil {
			t.Skip("none of the type")
		}
	}
	t.Logf("GET %s?%s", strings.Join(types, ","), search.Encode(pairs))
	p.store.SortBounds(rapid.SampledFrom([]int{2000, 2000, 2000, 2000, 2000, 2000, 0}).Draw(t, "read at once"), 1000, 2000)
	q, err := search.Parse(pairs, catalog{p.store.Registry()}, search.Options{Types: types, Now: a.oracle.Now})
	if err != nil {
		t.Fatal(err)
	}
	size := rapid.IntRange(1, 6).Draw(t, "page size")
	whole := p.page(t, q, 1000, nil)
	want := ids(whole.Matches)
	p.born = map[string]bool{}
	var back *storage.SearchMark
	left := want
	shown := map[string]bool{}
	for mark := (*storage.SearchMark)(nil); ; {
		if mark != nil {
			p.disturb(t)
		}
		page := p.page(t, q, size, mark)
		left = p.expect(t, ids(page.Matches), left, shown, page.Next != nil, size)
		if page.Previous != nil {
			back = page.Previous
		}
		if mark = page.Next; mark == nil {
			break
		}
	}
	// And back again, from wherever the last page began.
	var joined []string
	for mark := back; mark != nil; {
		p.disturb(t)
		page := p.page(t, q, size, mark)
		list := ids(page.Matches)
		slices.Reverse(list)
		joined = append(joined, list...)
		if mark = page.Previous; len(joined) > len(want)+len(p.born) {
			t.Fatalf("previous never ends")
		}
	}
	seen := map[string]bool{}
	rest := slices.Clone(want)
	slices.Reverse(rest)
	for _, id := range joined {
		if seen[id] {
			t.Fatalf("%s comes twice on the way back: %v", id, joined)
		}
		if seen[id] = true; p.born[id] {
			continue
		}
		at := slices.Index(rest, id)
		if at < 0 {
			t.Fatalf("%s comes out of order on the way back, or was no match: %v of %v", id, joined, want)
		}
		rest = rest[at+1:]
	}
}

// expect compares a page with what must come: the first of left that are alive.
func (p *pager) expect(t *rapid.T, got, left []string, shown map[string]bool, more bool, size int) []string {
	if len(got) < size && more {
		t.Fatalf("a page of %d with a next one has %v", size, got)
	}
	for _, id := range got {
		if shown[id] {
			t.Fatalf("%s comes twice", id)
		}
		if shown[id] = true; p.born[id] {
			continue
		}
		for len(left) > 0 && left[0] != id && !p.alive[left[0]] {
			left = left[1:]
		}
		if len(left) == 0 || left[0] != id {
			t.Fatalf("the page has %v; what is left begins with %v", got, left[:min(len(left), 5)])
		}
		left = left[1:]
	}
	if !more {
		for _, id := range left {
			if p.alive[id] {
				t.Fatalf("%s never comes", id)
			}
		}
	}
	return left
}

// page fetches one page by a mark that has been through JSON, as in a cursor.
func (p *pager) page(t *rapid.T, q *search.Query, size int, mark *storage.SearchMark) *storage.SearchPage {
	w := world{store: p.store}
	return w.page(t, q, size, mark)
}

func remove(t rapid.TB, s *storage.Store, key storage.Key) {
	t.Helper()
	if err := s.Write(context.Background(), func(tx *storage.Tx) error {
		old, err := tx.Lock(context.Background(), key)
		if err == nil && old[key] != nil && !old[key].Deleted {
			tx.Delete(old[key])
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}
