package storage_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/internal/kilntest"
	"kiln/storage"
)

// first asks for the first page of a search.
func first(t *testing.T, s *storage.Store, ctx context.Context, typ, query string, size int) (*search.Query, *storage.SearchPage) {
	t.Helper()
	q, err := parseQuery(s, typ, query)
	if err != nil {
		t.Fatal(err)
	}
	page, err := s.Search(ctx, nil, q, size, nil)
	if err != nil {
		t.Fatal(err)
	}
	return q, page
}

// rest follows next from a page on, and joins the ids with those of the page.
func rest(t *testing.T, s *storage.Store, ctx context.Context, q *search.Query, page *storage.SearchPage, size int) string {
	t.Helper()
	all := page.Matches
	for page.Next != nil {
		var err error
		if page, err = s.Search(ctx, nil, q, size, page.Next); err != nil {
			t.Fatal(err)
		}
		all = append(all, page.Matches...)
	}
	list := ids(all)
	for i, id := range list {
		_, list[i], _ = strings.Cut(id, "/")
	}
	return strings.Join(list, " ")
}

func person(id, family, rest string) string {
	return fmt.Sprintf(`{"resourceType":"Patient","id":%q,"name":[{"family":%q}]%s}`, id, family, rest)
}

// TestPaging_shows_the_first_pages_time has one case for each thing that can happen between two pages.
func TestPaging_shows_the_first_pages_time(t *testing.T) {
	t.Parallel()
	male := `,"gender":"male"`
	for _, c := range []struct {
		name, query string
		between     func(*testing.T, *storage.Store)
		want        string
	}{
		{"nothing", "_sort=family", func(*testing.T, *storage.Store) {}, "a b c d e f"},
		{"one_moves_back_that_was_shown", "_sort=family", func(t *testing.T, s *storage.Store) { put(t, s, person("a", "Z", male)) }, "a b c d e f"},
		{"one_moves_forward_that_was_not", "_sort=family", func(t *testing.T, s *storage.Store) { put(t, s, person("f", "A", male)) }, "a b c d e f"},
		{"one_stops_matching", "gender=male&_sort=family", func(t *testing.T, s *storage.Store) { put(t, s, person("d", "D", "")) }, "a b c d e f"},
		{"one_begins_to_match", "gender=male&_sort=family", func(t *testing.T, s *storage.Store) { put(t, s, person("g", "D", male)) }, "a b c d e f"},
		{"one_is_updated_so_that_it_is_the_newest", "_sort=_lastUpdated,_id", func(t *testing.T, s *storage.Store) { put(t, s, person("a", "A", "")) }, "a b c d e f"},
		{"one_is_updated_twice", "_sort=-family", func(t *testing.T, s *storage.Store) {
			put(t, s, person("d", "Z", male))
			put(t, s, person("d", "A", male))
		}, "f e d c b a"},
		{"one_is_deleted", "_sort=family", func(t *testing.T, s *storage.Store) { remove(t, s, storage.Key{Type: "Patient", ID: "d"}) }, "a b c e f"},
		{"one_is_deleted_and_comes_back_elsewhere", "_sort=family", func(t *testing.T, s *storage.Store) {
			remove(t, s, storage.Key{Type: "Patient", ID: "d"})
			put(t, s, person("d", "Z", male))
		}, "a b c d e f"},
		{"a_new_one_is_updated", "gender=male&_sort=family", func(t *testing.T, s *storage.Store) {
			put(t, s, person("new", "C1", male))
			put(t, s, person("new", "C2", male))
		}, "a b c d e f"},
		{"who_is_referred_to_changes", "gender=male&general-practitioner:Practitioner.family=Wolf&_sort=family", func(t *testing.T, s *storage.Store) {
			put(t, s, `{"resourceType":"Practitioner","id":"p","name":[{"family":"Lamb"}]}`)
		}, "a b c d e f"},
		{"who_is_referred_to_by_a_part_of_the_name_changes", "general-practitioner:Practitioner.family:contains=ol&_sort=family", func(t *testing.T, s *storage.Store) {
			put(t, s, `{"resourceType":"Practitioner","id":"p","name":[{"family":"Lamb"}]}`)
		}, "a b c d e f"},
		{"who_is_referred_to_is_deleted", "general-practitioner:Practitioner.family=Wolf&_sort=family", func(t *testing.T, s *storage.Store) {
			remove(t, s, storage.Key{Type: "Practitioner", ID: "p"})
		}, "a b c d e f"},
		{"a_part_of_the_name_goes", "family:contains=e,f,d,a,b,c&_sort=family", func(t *testing.T, s *storage.Store) { put(t, s, person("e", "Z", male)) }, "a b c d e f"},
		{"who_refers_changes", "_has:Observation:patient:status=final&_sort=family", func(t *testing.T, s *storage.Store) {
			put(t, s, `{"resourceType":"Observation","id":"of-e","status":"preliminary","code":{"text":"x"},"subject":{"reference":"Patient/e"}}`)
		}, "a b c d e f"},
		{"who_refers_is_deleted", "_has:Observation:patient:status=final&_sort=family", func(t *testing.T, s *storage.Store) {
			remove(t, s, storage.Key{Type: "Observation", ID: "of-e"})
		}, "a b c d e f"},
		{"a_key_that_stands_in_the_content_changes", "_sort=gender,_id", func(t *testing.T, s *storage.Store) {
			put(t, s, person("e", "E", `,"gender":"female"`))
			put(t, s, person("a", "A", `,"gender":"unknown"`))
		}, "a b c d e f"},
		{"the_last_with_a_value_loses_it", "_sort=birthdate,_id", func(t *testing.T, s *storage.Store) { put(t, s, person("b", "B", male+`,"birthDate":"1999"`)) }, "a b c d e f"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			put(t, s, `{"resourceType":"Practitioner","id":"p","name":[{"family":"Wolf"}]}`)
			for _, id := range []string{"a", "b", "c", "d", "e", "f"} {
				put(t, s, person(id, strings.ToUpper(id), male+`,"generalPractitioner":[{"reference":"Practitioner/p"}]`))
				put(t, s, fmt.Sprintf(`{"resourceType":"Observation","id":"of-%[1]s","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/%[1]s"}}`, id))
			}
			for size := 1; size < 6; size++ {
				for _, more := range []string{"a", "b", "c", "d", "e", "f"} { // as it was
					if c.want != "a b c d e f" || strings.Contains(c.query, "_lastUpdated") {
						continue
					}
					put(t, s, person(more, strings.ToUpper(more), male+`,"generalPractitioner":[{"reference":"Practitioner/p"}]`))
					put(t, s, fmt.Sprintf(`{"resourceType":"Observation","id":"of-%[1]s","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/%[1]s"}}`, more))
				}
				put(t, s, `{"resourceType":"Practitioner","id":"p","name":[{"family":"Wolf"}]}`)
				for _, id := range []string{"g", "new"} {
					remove(t, s, storage.Key{Type: "Patient", ID: id})
				}
				q, page := first(t, s, t.Context(), "Patient", c.query, size)
				c.between(t, s)
				got := rest(t, s, t.Context(), q, page, size)
				if got = strings.ReplaceAll(got, " g", ""); got != c.want { // new matches may come or not
					t.Errorf("pages of %d: %s, want %s", size, got, c.want)
				}
				if c.want != "a b c d e f" || strings.Contains(c.query, "_lastUpdated") {
					break
				}
			}
		})
	}
}

// TestPaging_races lets writers change sort keys and matches all the time: what is a match all along comes exactly once,
// everything else at most once.
func TestPaging_races(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.SortBounds(0, 1000, 1000) // sorted by several keys, a page takes several statements
	const n = 60
	key := func(i, round int) string { return fmt.Sprintf("%c%03d", 'A'+(i*7+round*11)%26, i) }
	for i := range n {
		put(t, s, person(fmt.Sprintf("p%d", i), key(i, 0), `,"gender":"male"`))
	}
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	// left is how many more changes a search stands that has just begun, however slowly its pages are asked for.
	var left atomic.Int64
	for w := range 3 {
		writers.Go(func() {
			for round := 1; ctx.Err() == nil; round++ {
				for i := w; i < n && ctx.Err() == nil; i += 3 {
					for left.Add(-1) < 0 && ctx.Err() == nil {
						time.Sleep(time.Millisecond)
					}
					gender := "male"
					if i%4 == 3 && round%2 == 0 { // these match now and then
						gender = "female"
					}
					put(t, s, person(fmt.Sprintf("p%d", i), key(i, round), `,"gender":"`+gender+`"`))
				}
			}
		})
	}
	for round := range 16 {
		left.Store(storage.MaxChangedWhilePaging - 100)
		query := []string{"gender=male&_sort=family", "gender=male&_sort=family,-birthdate", "gender=male&_sort=-family", "gender=male&_sort=-_lastUpdated"}[round%4]
		q, page := first(t, s, t.Context(), "Patient", query, 7+20*(round%2))
		got := strings.Fields(rest(t, s, t.Context(), q, page, 7))
		slices.Sort(got)
		if len(slices.Compact(slices.Clone(got))) != len(got) {
			t.Errorf("%s: some come twice: %v", query, got)
		}
		for i := range n {
			if id := fmt.Sprintf("p%d", i); i%4 != 3 && !slices.Contains(got, id) {
				t.Errorf("%s: %s does not come", query, id)
			}
		}
	}
	stop()
	writers.Wait()
}

// TestPaging_in_a_transaction begins in a transaction that has written, whose own writes the first page sees.
func TestPaging_in_a_transaction(t *testing.T) {
	t.Parallel()
	s := open(t)
	for _, id := range []string{"a", "b", "c"} {
		put(t, s, person(id, id, ""))
	}
	q, err := parseQuery(s, "Patient", "_sort=family")
	if err != nil {
		t.Fatal(err)
	}
	var page *storage.SearchPage
	err = s.Write(t.Context(), func(tx *storage.Tx) error {
		n, _ := fhir.ParseJSON([]byte(person("c", "0", "")))
		p, err := s.Prepare(n)
		if err != nil {
			return err
		}
		key := storage.Key{Type: "Patient", ID: "c"}
		old, err := tx.Lock(t.Context(), key)
		if err != nil {
			return err
		}
		tx.Replace(p, old[key], storage.MethodUpdate)
		if page, err = s.Search(t.Context(), tx, q, 1, nil); err != nil {
			return err
		}
		_, err = s.Search(t.Context(), tx, q, 1, page.Next)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, person("c", "z", "")) // after it
	if got := rest(t, s, t.Context(), q, page, 1); got != "c a b" {
		t.Errorf("got %s", got)
	}
	// A later page inside a transaction sees what that transaction has changed since.
	_, page = first(t, s, t.Context(), "Patient", "_sort=family", 1)
	err = s.Write(t.Context(), func(tx *storage.Tx) error {
		key := storage.Key{Type: "Patient", ID: "b"}
		old, err := tx.Lock(t.Context(), key)
		if err != nil {
			return err
		}
		tx.Delete(old[key])
		if page, err = s.Search(t.Context(), tx, q, 1, page.Next); err == nil && fmt.Sprint(ids(page.Matches)) != "[Patient/c]" {
			t.Errorf("got %v", ids(page.Matches))
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestPaging_has_a_bound tells a client to begin again where too much has changed.
func TestPaging_has_a_bound(t *testing.T) {
	t.Parallel()
	s := open(t)
	const n = storage.MaxChangedWhilePaging + 1
	for from := 0; from < n; from += 500 {
		write(t, s, from, min(n, from+500), "A")
	}
	q, page := first(t, s, t.Context(), "Patient", "_sort=family", 10)
	for from := 0; from < n; from += 500 {
		write(t, s, from, min(n-1, from+500), "B")
	}
	if got := rest(t, s, t.Context(), q, page, 900); len(strings.Fields(got)) != n {
		t.Errorf("with %d changes there are %d matches", n-1, len(strings.Fields(got)))
	}
	write(t, s, n-1, n, "B")
	var refused *fhir.Error
	if _, err := s.Search(t.Context(), nil, q, 10, page.Next); !errors.As(err, &refused) || refused.Kind != fhir.TooCostly {
		t.Errorf("got %v", err)
	}
}

// write gives patients from … to-1 a name, in one transaction.
func write(t *testing.T, s *storage.Store, from, to int, family string) {
	t.Helper()
	var keys []storage.Key
	var list []*storage.Prepared
	for i := from; i < to; i++ {
		id := fmt.Sprintf("p%d", i)
		n, _ := fhir.ParseJSON([]byte(person(id, family+id, "")))
		p, err := s.Prepare(n)
		if err != nil {
			t.Fatal(err)
		}
		keys, list = append(keys, storage.Key{Type: "Patient", ID: id}), append(list, p)
	}
	err := s.Write(t.Context(), func(tx *storage.Tx) error {
		old, err := tx.Lock(t.Context(), keys...)
		for i, k := range keys {
			if old[k] == nil {
				tx.Insert(list[i], storage.MethodUpdate)
			} else {
				tx.Replace(list[i], old[k], storage.MethodUpdate)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestPaging_after_a_restore pages in a database whose rows carry the transactions of another cluster.
func TestPaging_after_a_restore(t *testing.T) {
	t.Parallel()
	url := kilntest.DB(t)
	before := openOn(t, url)
	for _, id := range []string{"a", "b", "c", "d"} {
		put(t, before, person(id, id, ""))
	}
	put(t, before, person("b", "b2", ""))
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, sql := range []string{"ALTER TABLE resource_change DISABLE TRIGGER USER",
		"UPDATE resource_change SET xid = (xid::text::bigint + 1000000)::text::xid8", "ALTER TABLE resource_change ENABLE TRIGGER USER"} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	s := openOn(t, url)
	q, page := first(t, s, t.Context(), "Patient", "_sort=family", 1)
	put(t, s, person("c", "z", ""))
	put(t, s, person("b", "z", ""))
	if got := rest(t, s, t.Context(), q, page, 1); got != "a b c d" {
		t.Errorf("got %s", got)
	}
}

// TestPaging_hides pages as a caller who does not see all: nothing that is hidden shows, by rows, errors or places.
func TestPaging_hides(t *testing.T) {
	t.Parallel()
	s := open(t)
	note := func(id, patient, rest string) string {
		return fmt.Sprintf(`{"resourceType":"Observation","id":%q,"status":"final","code":{"text":%q},"subject":{"reference":"Patient/%s"}%s}`, id, id, patient, rest)
	}
	secret := `,"meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"R"}]}`
	for _, id := range []string{"anna", "ben"} {
		put(t, s, person(id, id, ""))
	}
	for _, id := range []string{"a", "b", "c", "d", "e"} {
		put(t, s, note(id, "anna", ""))
	}
	put(t, s, note("c", "ben", "")) // never anna's from here on
	put(t, s, note("x", "ben", ""))
	access, err := s.Access(&search.Restriction{Caller: "anna", Record: "anna", Rules: []search.Rule{{Types: []string{"Patient", "Observation"}, Reach: search.ReachOwn}}})
	if err != nil {
		t.Fatal(err)
	}
	anna := storage.WithAccess(t.Context(), access)
	q, page := first(t, s, anna, "Observation", "_sort=_id", 1)
	put(t, s, note("a", "anna", `,"issued":"2020-01-01T00:00:00Z"`)) // was shown
	put(t, s, note("b", "ben", ""))                                  // now hidden
	put(t, s, note("d", "anna", `,"issued":"2020-01-01T00:00:00Z"`)) // stays
	put(t, s, note("x", "anna", ""))                                 // hidden at the first page
	put(t, s, note("c", "anna", ""))                                 // too
	if got := rest(t, s, anna, q, page, 1); got != "a d e" {
		t.Errorf("got %s", got)
	}
	// As many hidden changes as one likes say nothing.
	q, page = first(t, s, anna, "Observation", "_sort=_id", 1)
	for i := range 20 {
		put(t, s, note(fmt.Sprintf("y%d", i), "ben", ""))
		put(t, s, note(fmt.Sprintf("y%d", i), "ben", secret))
	}
	if got := rest(t, s, anna, q, page, 1); got != "a c d e x" {
		t.Errorf("got %s", got)
	}
}
