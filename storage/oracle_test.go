package storage_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/internal/oracle"
	"kiln/storage"
)

// TestSearch_is_what_the_oracle_says compares storage with the specification, as internal/oracle has it, on random
// resources and random queries, with the pages joined. By default it takes seconds; KILN_ORACLE_POPULATIONS asks for
// more populations (each of 60 resources), KILN_ORACLE_SEED for other ones, and -rapid.checks for more queries on each.
func TestSearch_is_what_the_oracle_says(t *testing.T) {
	t.Parallel()
	populations, seed := setting("KILN_ORACLE_POPULATIONS", 3), setting("KILN_ORACLE_SEED", 1)
	for i := range populations {
		t.Run(fmt.Sprintf("population_%d", seed+i), func(t *testing.T) {
			w := newWorld(t, anyPopulation(60).Example(seed+i))
			for range 3 {
				rapid.Check(t, w.compare)
			}
		})
	}
}

// TestSearch_sorts_by_references_that_are_local: random ones are seldom to a contained Patient and sorted by at once.
func TestSearch_sorts_by_references_that_are_local(t *testing.T) {
	t.Parallel()
	observation := func(id, more string) []byte {
		return fmt.Appendf(nil, `{"resourceType":"Observation","id":"%s","status":"final","code":{"text":"x"}%s}`, id, more)
	}
	w := newWorld(t, [][]byte{
		[]byte(`{"resourceType":"Patient","id":"a"}`),
		observation("whole", `,"subject":{"reference":"Patient/a"}`),
		observation("local", `,"subject":{"reference":"#a"},"contained":[{"resourceType":"Patient","id":"a"}]`),
		observation("group", `,"subject":{"reference":"Group/1"}`),
		observation("elsewhere", `,"subject":{"reference":"http://example.org/Patient/1"}`),
		observation("none", ``),
	})
	for _, sort := range []string{"patient", "-patient", "subject", "-subject", "patient,-_id", "subject,-_id"} {
		w.check(t, w.parse(t, []string{"Observation"}, []search.Pair{{Name: "_sort", Value: sort}}), 2)
	}
}

func setting(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

// world is one set of resources, stored and in the oracle.
type world struct {
	store  *storage.Store
	oracle *oracle.Oracle
	asker  asker
	now    time.Time
}

func newWorld(t *testing.T, sources [][]byte) *world {
	w := &world{store: open(t), now: time.Date(2024, 1, 15, 10, 0, 0, 0, time.UTC)}
	var nodes []*fhir.Node
	for _, src := range sources {
		n, err := fhir.ParseJSON(put(t, w.store, string(src)).Content)
		if err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, n)
	}
	w.oracle = oracle.New(w.store.Registry(), nodes...)
	w.oracle.Base, w.oracle.Now = "http://localhost/fhir", w.now
	w.asker = asker{registry: w.store.Registry(), oracle: w.oracle, resources: nodes}
	w.asker.survey()
	return w
}

func (w *world) compare(t *rapid.T) {
	a := w.asker
	a.t = t
	types := []string{rapid.SampledFrom(slices.Sorted(maps.Keys(a.lists))).Draw(t, "type")}
	pairs := a.query(types[0])
	if a.chance(10) { // several types, or all
		var codes []string
		codes, types = a.several()
		from := types[0]
		if a.chance(10) {
			types, codes = nil, []string{"_tag", "_profile", "_source", "_id", "_lastUpdated"}
		}
		pairs = a.queryOf(from, codes)
	}
	if len(types) == 1 && a.chance(25) {
		pairs = append(pairs, search.Pair{Name: "_contained", Value: pick(t, "true", "both")})
		if a.chance(50) {
			pairs = append(pairs, search.Pair{Name: "_containedType", Value: pick(t, "container", "contained")})
		}
	}
	t.Logf("GET %s?%s", strings.Join(types, ","), search.Encode(pairs))
	q := w.parse(t, types, pairs)
	switch { // what no parameter can say, but policies and _filter do
	case a.chance(7):
		q.Where = []search.Expr{search.Not{Expr: search.And(q.Where)}}
		t.Logf("as Not")
	case a.chance(7) && len(types) == 1:
		in := rapid.SampledFrom([]string{"Patient", "Practitioner", "Encounter"}).Draw(t, "compartment")
		if params := w.store.Registry().Compartment(in).Params(types[0]); params != nil || in == types[0] {
			members, id := search.Or{}, pick(t, poolIDs...)
			for _, typ := range append([]string{types[0]}, w.store.Registry().Schema().Resources...) { // in many types, those of a patient are found by the compartment
				if params := w.store.Registry().Compartment(in).Params(typ); typ == types[0] || params != nil && a.chance(50) {
					members = append(members, &search.Member{Compartment: in, ID: id, Type: typ, Params: params})
				}
			}
			if a.chance(50) {
				members = members[:1]
			}
			q.Where = []search.Expr{search.Or{search.And(q.Where), members}}
			t.Logf("or of the compartment %s/%s, %d types", in, id, len(members))
		}
	}
	w.store.SortBounds(1000, 1000, 1000)
	if a.chance(20) { // TestSearch_in_any_order goes these ways more often
		w.store.SortBounds(0, 1000, 1000)
	}
	size := rapid.IntRange(1, 9).Draw(t, "page size")
	if types == nil {
		size = 20 // a condition on each of 146 types takes its time
	}
	if q.Contained != "" {
		w.checkContained(t, q, size)
		return
	}
	w.check(t, q, size)
}

// checkContained is check for a search that looks inside of resources.
func (w *world) checkContained(t rapid.TB, q *search.Query, size int) {
	want := map[string]oracle.Found{}
	for _, f := range w.oracle.Contained(q) {
		key := name(f.Whole)
		if q.ContainedType == "contained" && f.Match != f.Whole {
			key += "#" + name(f.Match)
		}
		want[key] = f
	}
	ctx := context.Background()
	whole, err := w.store.Search(ctx, nil, q, 1000, nil)
	if err != nil {
		t.Fatalf("%v", err)
	}
	keys := ids(whole.Matches)
	for i, key := range keys {
		if want[key].Match == nil {
			t.Fatalf("storage finds what the oracle does not, or twice: %s\n%s", key, whole.Matches[i].Content)
		}
		if i > 0 && w.oracle.Compare(q, want[keys[i-1]].Match, want[key].Match) > 0 {
			t.Fatalf("%s must not be before %s", keys[i-1], key)
		}
	}
	for key, f := range want {
		if !slices.Contains(keys, key) {
			t.Fatalf("storage does not find what the oracle does: %s, in\n%s", key, f.Whole.JSON())
		}
	}
	if n, err := w.store.Count(ctx, nil, q, 0); err != nil || n != int64(len(keys)) {
		t.Fatalf("Count gives %d, %v; there are %d", n, err, len(keys))
	}
	w.checkPages(t, q, whole, size)
}

// parse reads a query as it comes over the wire.
func (w *world) parse(t rapid.TB, types []string, pairs []search.Pair) *search.Query {
	encoded, err := search.ParsePairs(search.Encode(pairs))
	if err != nil || !slices.Equal(encoded, pairs) {
		t.Fatalf("the query is not the same after encoding: %v %q", err, encoded)
	}
	q, err := search.Parse(encoded, catalog{w.store.Registry()}, search.Options{Types: types, Now: w.now})
	if err != nil {
		t.Fatalf("%v", err)
	}
	return q
}

// check compares one query: the matches, their order, their number, and the pages joined, forward and backward.
func (w *world) check(t rapid.TB, q *search.Query, size int) {
	want := map[string]*fhir.Node{}
	for _, n := range w.oracle.Search(q) {
		want[name(n)] = n
	}
	ctx := context.Background()
	whole, err := w.store.Search(ctx, nil, q, 1000, nil)
	if err != nil {
		t.Fatalf("%v", err)
	}
	var got []*fhir.Node
	for _, v := range whole.Matches {
		n, err := fhir.ParseJSON(v.Content)
		if err != nil {
			t.Fatalf("%v", err)
		}
		if want[name(n)] == nil {
			t.Fatalf("storage finds what the oracle does not:\n%s", v.Content)
		}
		got = append(got, want[name(n)])
		delete(want, name(n))
	}
	for _, n := range want {
		t.Fatalf("storage does not find what the oracle does:\n%s", n.JSON())
	}
	for i := 1; i < len(got); i++ {
		if w.oracle.Compare(q, got[i-1], got[i]) > 0 {
			t.Fatalf("the first of these must not be before the second:\n%s\n%s", got[i-1].JSON(), got[i].JSON())
		}
	}
	if n, err := w.store.Count(ctx, nil, q, 0); err != nil || n != int64(len(got)) {
		t.Fatalf("Count gives %d, %v; there are %d", n, err, len(got))
	}
	w.checkPages(t, q, whole, size)
}

// checkPages follows next from the first page to the last, and previous back.
func (w *world) checkPages(t rapid.TB, q *search.Query, whole *storage.SearchPage, size int) {
	wanted := ids(whole.Matches)
	var forward, backward []string
	var mark, back *storage.SearchMark
	for pages := 0; ; pages++ {
		page := w.page(t, q, size, mark)
		forward = append(forward, ids(page.Matches)...)
		if (mark == nil) != (page.Previous == nil) && len(wanted) > 0 {
			t.Fatalf("page %d: previous is %v", pages, page.Previous)
		}
		if page.Complete != (len(wanted) <= size && mark == nil) {
			t.Fatalf("page %d: Complete is %t", pages, page.Complete)
		}
		if back = page.Previous; page.Next == nil {
			backward = ids(page.Matches)
			break
		}
		if mark = page.Next; pages > len(wanted) {
			t.Fatalf("next never ends")
		}
	}
	if !slices.Equal(forward, wanted) {
		t.Fatalf("pages of %d joined: %v\nin one: %v", size, forward, wanted)
	}
	for back != nil {
		page := w.page(t, q, size, back)
		if page.Next == nil || len(page.Matches) == 0 {
			t.Fatalf("a page before another is empty or has no next")
		}
		if next := ids(w.page(t, q, size, page.Next).Matches); len(next) == 0 || next[0] != backward[0] {
			t.Fatalf("next after previous begins with %v, not with %s", next, backward[0])
		}
		backward = append(ids(page.Matches), backward...)
		if back = page.Previous; len(backward) > len(wanted) {
			break
		}
	}
	if !slices.Equal(backward, wanted) {
		t.Fatalf("pages of %d joined backward: %v\nin one: %v", size, backward, wanted)
	}
}

// page fetches one page by a mark that has been through JSON, as in a cursor.
func (w *world) page(t rapid.TB, q *search.Query, size int, mark *storage.SearchMark) *storage.SearchPage {
	if mark != nil {
		text, err := json.Marshal(mark)
		mark = &storage.SearchMark{}
		if err != nil || json.Unmarshal(text, mark) != nil {
			t.Fatalf("a mark does not go through JSON: %s %v", text, err)
		}
	}
	page, err := w.store.Search(context.Background(), nil, q, size, mark)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return page
}

func name(n *fhir.Node) string { return n.ResourceType() + "/" + n.ID() }

func ids(list []*storage.Version) []string {
	names := make([]string, len(list))
	for i, v := range list {
		names[i] = v.Type + "/" + v.ID
		if v.Container != "" {
			names[i] = v.Container + "#" + names[i]
		}
	}
	return names
}
