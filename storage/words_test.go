package storage_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"kiln/fhir/search"
	"kiln/internal/kilntest"
)

// wordy is a resource of the model: its narrative and its other texts, as words.
type wordy struct {
	typ, id, status string
	narrative       []string
	notes           [][]string
}

func (w wordy) json() string {
	var notes []string
	for _, n := range w.notes {
		notes = append(notes, fmt.Sprintf(`{"text":%q}`, strings.Join(n, " ")))
	}
	status := fmt.Sprintf(`"status":%q`, w.status)
	if w.typ == "Condition" {
		status = fmt.Sprintf(`"clinicalStatus":{"coding":[{"code":%q}]}`, w.status)
	}
	return fmt.Sprintf(`{"resourceType":%q,"id":%q,%s,"text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\">%s</div>"},"note":[%s]}`,
		w.typ, w.id, status, strings.Join(w.narrative, " "), strings.Join(notes, ","))
}

// has says whether a text query finds a resource.
func (w wordy) has(t search.Text, narrative bool) bool {
	switch t.Operator {
	case "not":
		return !w.has(t.Kids[0], narrative)
	case "and":
		return !slices.ContainsFunc(t.Kids, func(k search.Text) bool { return !w.has(k, narrative) })
	case "or":
		return slices.ContainsFunc(t.Kids, func(k search.Text) bool { return w.has(k, narrative) })
	}
	texts := [][]string{w.narrative}
	if !narrative {
		texts = append(texts, w.notes...)
	}
	phrase := strings.Join(strings.Fields(t.Phrase), " ")
	return slices.ContainsFunc(texts, func(words []string) bool { return strings.Contains(" "+strings.Join(words, " ")+" ", " "+phrase+" ") })
}

var vocabulary = []string{"blood", "pressure", "high", "low", "pulse", "rare", "none"}

func someWords(r *rand.Rand, most int) (list []string) {
	for range r.IntN(most + 1) {
		i := r.IntN(len(vocabulary) - 1)
		if vocabulary[i] == "rare" && r.IntN(8) > 0 {
			i = 0
		}
		list = append(list, vocabulary[i])
	}
	return list
}

// someText is a text query.
func someText(r *rand.Rand, depth int) string {
	switch n := r.IntN(10); {
	case n < 4 || depth == 0:
		return vocabulary[r.IntN(len(vocabulary))]
	case n < 6:
		return `"` + vocabulary[r.IntN(5)] + " " + vocabulary[r.IntN(5)] + `"`
	case n < 7:
		return someText(r, depth-1) + " -" + vocabulary[r.IntN(len(vocabulary))]
	case n < 8:
		return "(" + someText(r, depth-1) + ") OR (" + someText(r, depth-1) + ")"
	case n < 9:
		return someText(r, depth-1) + " NOT (" + someText(r, depth-1) + ")"
	}
	return someText(r, depth-1) + " AND " + someText(r, depth-1)
}

// TestWords compares random searches for texts with a model, by the terms of words, by search_text as long as some resource has no
// terms, and again after the server has made those.
func TestWords(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	database := kilntest.DB(t)
	s := openOn(t, database)
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	count := func(sql string) (n int) {
		t.Helper()
		if err := conn.QueryRow(ctx, sql).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	const unhashed, index = `SELECT count(*) FROM search_text WHERE NOT hashed`, `SELECT count(*) FROM pg_class WHERE relname = 'search_text_words'`
	if count(index) != 0 {
		t.Error("a new database has the index of words that only older versions searched")
	}

	r := rand.New(rand.NewPCG(5, 8))
	var world []wordy
	for i := range 150 {
		w := wordy{typ: []string{"Observation", "Condition"}[i%2], id: fmt.Sprint("w", i), status: []string{"final", "active"}[r.IntN(2)], narrative: someWords(r, 4)}
		for range r.IntN(3) {
			w.notes = append(w.notes, append(someWords(r, 3), "note"))
		}
		if i%10 == 3 { // what has no words
			w.narrative, w.notes = nil, nil
		}
		put(t, s, w.json())
		world = append(world, w)
	}
	compare := func(t *testing.T) {
		for range 120 {
			narrative, code := r.IntN(2) == 0, "_content"
			if narrative {
				code = "_text"
			}
			var texts []search.Text
			var values []string
			for range 1 + r.IntN(2) {
				text := someText(r, 2)
				if parsed, reason := search.ParseText(text); reason == "" {
					texts, values = append(texts, parsed), append(values, url.QueryEscape(text))
				}
			}
			if len(texts) == 0 {
				continue
			}
			query, typ, status := code+"="+strings.Join(values, ","), "", r.IntN(4) == 0
			types := []string{"Observation", "Condition"}
			switch r.IntN(4) {
			case 0:
				typ, types = "Observation", []string{"Observation"}
			case 1:
				query = "_type=Observation,Condition&" + query
			case 2:
				query, types = "_type=Patient,Condition&"+query, []string{"Condition"}
			}
			if status = status && len(types) == 1 && types[0] == "Observation"; status {
				query += "&status=final"
			}
			var want []string
			for _, w := range world {
				if slices.Contains(types, w.typ) && (!status || w.status == "final") && slices.ContainsFunc(texts, func(t search.Text) bool { return w.has(t, narrative) }) {
					want = append(want, w.id)
				}
			}
			q, err := parseQuery(s, typ, query)
			if err != nil {
				t.Fatal(query, err)
			}
			got := all(t, s, q, 1+r.IntN(30))
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("%s?%s\n got %v\nwant %v", typ, query, got, want)
			}
			if n, err := s.Count(ctx, nil, q, 0); err != nil || n != int64(len(want)) {
				t.Errorf("%s?%s: %v counts %d of %d", typ, query, err, n, len(want))
			}
		}
	}
	t.Run("by_terms", compare)

	// An older server has written a resource, and left words of one that is gone.
	for _, sql := range []string{
		"UPDATE search_index SET tokens = '{}' WHERE rk IN (SELECT rk FROM search_text ORDER BY rk LIMIT 20)",
		"UPDATE search_text SET hashed = false WHERE rk IN (SELECT rk FROM search_text ORDER BY rk LIMIT 20)",
		"INSERT INTO search_text (rk, words) VALUES (1, 'blood:1')",
		"CREATE INDEX search_text_words ON search_text USING gin (words)",
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.HashWords(ctx); err != nil {
		t.Fatal(err)
	}
	if n := count(unhashed); n != 20 {
		t.Errorf("words of %d resources have no terms, want 20: the words of what is gone go", n)
	}
	if err := s.HashWords(ctx); err != nil || count("SELECT count(*) FROM reindex_job") != 1 || count(index) != 1 {
		t.Errorf("%v: one order is enough, and until it is done the index of words stays", err)
	}
	t.Run("before_the_reindex", func(t *testing.T) {
		q, err := parseQuery(s, "", "_content=note,blood,pressure,high,low,pulse,rare")
		if err != nil {
			t.Fatal(err)
		}
		want := 0
		for _, w := range world {
			if len(w.narrative)+len(w.notes) > 0 {
				want++
			}
		}
		if n, err := s.Count(ctx, nil, q, 0); err != nil || n != int64(want) {
			t.Errorf("%v: counts %d of %d", err, n, want)
		}
	})
	working, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); s.Work(working, func(err error) { t.Error(err) }) }()
	until(t, "the words have terms", func() bool {
		return count(unhashed) == 0 && count("SELECT count(*) FROM reindex_job WHERE status <> 'completed'") == 0
	})
	stop()
	<-done
	if err := s.HashWords(ctx); err != nil || count(index) != 0 {
		t.Errorf("%v: the index of words is of no use any more", err)
	}
	t.Run("after_the_reindex", compare)
	if _, err := conn.Exec(ctx, "UPDATE search_text SET hashed = false WHERE rk IN (SELECT rk FROM search_text LIMIT 1)"); err != nil {
		t.Fatal(err)
	}
	if err := s.HashWords(ctx); err != nil {
		t.Fatal(err)
	}
	t.Run("by_search_text", compare)
}
