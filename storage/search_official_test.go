package storage_test

import (
	"archive/zip"
	"context"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"kiln/conformance"
	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/internal/kilntest"
	"kiln/internal/oracle"
	"kiln/storage"
)

// plain is a value that a parameter takes.
func plain(def *conformance.SearchParameter) string {
	switch def.Type {
	case search.Date:
		return "2020-05"
	case search.Number, search.Quantity:
		return "1.5"
	case search.URI:
		return "http://example.org/x"
	case search.Composite:
		var parts []string
		for _, c := range def.Components {
			parts = append(parts, plain(c.Param))
		}
		return strings.Join(parts, "$")
	case search.Special:
		if def.Code == "near" {
			return "10|10|5|km"
		}
	}
	return "x"
}

// TestSearch_every_official_parameter_is_answered asks each type for each of its parameters, for their absence, and sorted by
// them: all have a home, the composite ones too.
func TestSearch_every_official_parameter_is_answered(t *testing.T) {
	t.Parallel()
	s := open(t)
	asked := 0
	for _, typ := range s.Registry().Schema().Resources {
		for _, def := range s.Registry().SearchParameters(typ) {
			if def.Type == search.Special && def.Code != "near" || def.Expression == "" && !slices.Contains([]string{"_text", "_content", "near"}, def.Code) {
				continue // _filter, _has, _list, _type and _query are no parameters of resources but of searches
			}
			queries := []string{def.Code + "=" + plain(def), def.Code + ":missing=false"}
			switch {
			case def.Type == search.Special:
				queries = append(queries, "_sort=-"+def.Code+"&"+queries[0])
			case def.Code != "_text" && def.Code != "_content":
				queries = append(queries, "_sort=-"+def.Code)
			}
			for _, query := range queries {
				asked++
				if got, err := ask(t, s, typ, query, true); err != nil || got != "" {
					t.Errorf("%s?%s: %q, %v", typ, query, got, err)
				}
			}
		}
	}
	t.Logf("%d searches", asked)
}

// TestSearch_finds_the_official_examples asks for the values that the official examples have, in each parameter that has
// some, and compares with the oracle.
func TestSearch_finds_the_official_examples(t *testing.T) {
	if testing.Short() {
		t.Skip("stores all examples of FHIR")
	}
	t.Parallel()
	w := &world{store: open(t), now: time.Date(2024, 1, 15, 10, 0, 0, 0, time.UTC)}
	nodes := examples(t)
	var list []*storage.Prepared
	for _, n := range nodes {
		p, err := w.store.Prepare(n)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	for part := range slices.Chunk(list, 500) {
		if err := w.store.Copy(context.Background(), part); err != nil {
			t.Fatal(err)
		}
	}
	w.asker.resources = nodes
	w.oracle = oracle.New(w.store.Registry(), nodes...)
	w.oracle.Base, w.oracle.Now = "http://localhost/fhir", w.now
	a := asker{registry: w.store.Registry(), oracle: w.oracle, values: map[*conformance.SearchParameter][]sample{}}
	known, asked := 0, 0
	for _, typ := range w.store.Registry().Schema().Resources {
		for _, def := range w.store.Registry().SearchParameters(typ) {
			if def.Expression == "" || def.Type == search.Special {
				continue
			}
			for _, n := range nodes {
				if n.ResourceType() == typ && len(a.values[def]) < 50 {
					for _, v := range w.oracle.Values(n, def.Code) {
						a.values[def] = append(a.values[def], sample{n, v})
					}
				}
			}
			if len(a.values[def]) == 0 {
				continue
			}
			known++
			for seed := range 3 {
				value := rapid.Custom(func(t *rapid.T) string {
					b := a
					b.t = t
					return b.value(def, "", b.sample(def))
				}).Example(seed)
				if value == "" {
					continue
				}
				asked++
				pairs := []search.Pair{{Name: def.Code, Value: value}}
				if seed == 2 && def.Type != search.Composite {
					pairs = append(pairs, search.Pair{Name: "_sort", Value: "-" + def.Code + ",_id"})
				}
				q := w.parse(t, []string{typ}, pairs)
				page, err := w.store.Search(context.Background(), nil, q, len(nodes), nil)
				if err != nil {
					t.Errorf("%s?%s: %v", typ, search.Encode(pairs), err)
					continue
				}
				got := ids(page.Matches)
				var want []string
				for _, n := range w.oracle.Search(q) {
					want = append(want, name(n))
				}
				slices.Sort(got)
				slices.Sort(want)
				if !slices.Equal(got, want) {
					t.Errorf("%s?%s finds %v, and the oracle %v", typ, search.Encode(pairs), got, want)
				}
			}
		}
	}
	includesAllAsOneByOne(t, w, len(nodes))
	sortedEitherWay(t, w, len(nodes))
	t.Logf("%d examples, %d parameters of types with a value in them, %d searches", len(nodes), known, asked)
	if known < 1000 {
		t.Errorf("only %d parameters have a value", known)
	}
}

// includesAllAsOneByOne follows the references of all resources of each type, all at once and one parameter after the other.
func includesAllAsOneByOne(t *testing.T, w *world, limit int) {
	t.Helper()
	total := 0
	for _, typ := range w.store.Registry().Schema().Resources {
		page, err := w.store.Search(t.Context(), nil, w.parse(t, []string{typ}, nil), limit, nil)
		if err != nil {
			t.Fatal(err)
		}
		follow := func(includes ...search.Include) []string {
			added, cut, err := w.store.Include(t.Context(), nil, page.Matches, includes, limit)
			if err != nil || cut {
				t.Fatal(err, cut)
			}
			got := ids(added)
			slices.Sort(got)
			return got
		}
		var each []search.Include
		for _, def := range w.store.Registry().SearchParameters(typ) {
			if def.Type == search.Reference {
				each = append(each, search.Include{Source: typ, Param: def.Code})
			}
		}
		got, want := follow(search.Include{Source: typ, Param: "*"}), follow(each...)
		if total += len(got); !slices.Equal(got, want) {
			t.Errorf("%s: all references lead to %v, and one by one to %v", typ, got, want)
		}
		beside, cut, err := w.store.Referred(t.Context(), nil, page.Matches, nil, limit)
		if err != nil || cut {
			t.Fatal(err, cut)
		}
		var named strings.Builder // with what no search parameter looks at
		for _, v := range page.Matches {
			n, err := fhir.ParseJSON(v.Content)
			if err != nil {
				t.Fatal(err)
			}
			n.Walk(func(n *fhir.Node) bool {
				named.WriteString(n.GetText("reference") + "\n")
				return true
			})
		}
		for _, v := range beside {
			if name := v.Type + "/" + v.ID; !slices.Contains(got, name) && !strings.Contains(named.String(), name) {
				t.Errorf("%s: nothing refers to %s", typ, name)
			}
		}
		for _, name := range got {
			if w.store.Registry().SearchParameter(typ, "patient") == nil { // definitions refer in more ways
				break
			}
			if all := ids(beside); !slices.Contains(all, name) {
				t.Errorf("%s: what the texts refer to lacks %s of %v", typ, name, all)
			}
		}
		if within := len(beside) - len(got); within > 0 {
			t.Logf("%s: %d more where no parameter looks", typ, within)
		}
	}
	if total < 200 {
		t.Errorf("only %d resources are referred to", total)
	}
}

// examples are the official ones, but for those with an id of another.
func examples(t *testing.T) (nodes []*fhir.Node) {
	archive, err := zip.OpenReader(kilntest.SharedData(t, "examples", "r4-examples.zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	seen := map[string]bool{}
	for _, f := range archive.File {
		if !strings.HasSuffix(f.Name, ".json") {
			continue
		}
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		r.Close()
		if err != nil {
			t.Fatal(err)
		}
		n, err := fhir.ParseJSON(text)
		if err != nil || n.ResourceType() == "" || !fhir.ValidID(n.ID()) || seen[name(n)] || len(text) > 300_000 {
			continue
		}
		seen[name(n)] = true
		nodes = append(nodes, n)
	}
	return nodes
}

// sortedEitherWay compares two ways to sort by codes and references, for each parameter that some example has a value for: text by
// text, and all at once.
func sortedEitherWay(t *testing.T, w *world, limit int) {
	of := map[string]bool{}
	for _, n := range w.asker.resources {
		of[n.ResourceType()] = true
	}
	asked := 0
	for typ := range of {
		for _, def := range w.store.Registry().SearchParameters(typ) {
			if def.Type != search.Token && def.Type != search.Reference || def.Expression == "" {
				continue
			}
			asked++
			q := w.parse(t, []string{typ}, []search.Pair{{Name: "_sort", Value: []string{"", "-"}[asked%2] + def.Code}})
			var found [2][]string
			for way, atOnce := range []int{limit, 0} {
				w.store.SortBounds(atOnce, 10_000, limit)
				page, err := w.store.Search(t.Context(), nil, q, limit, nil)
				if err != nil {
					t.Fatalf("%s by %s: %v", typ, def.Code, err)
				}
				found[way] = ids(page.Matches)
			}
			if !slices.Equal(found[0], found[1]) {
				t.Errorf("%s by %s (%s): all at once %d, text by text %d", typ, def.Code, def.Expression, len(found[0]), len(found[1]))
				for _, key := range found[0] {
					if !slices.Contains(found[1], key) {
						t.Log(key)
					}
				}
			}
		}
	}
	t.Logf("%d orders", asked)
}
