package storage_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"kiln/conformance"
	"kiln/fhir"
	"kiln/internal/kilntest"
	"kiln/storage"
)

// TestSearch_of_a_range_by_name_while_others_write follows the pages of those born since a day, by name, while one of them changes.
func TestSearch_of_a_range_by_name_while_others_write(t *testing.T) {
	t.Parallel()
	s := open(t)
	patient := func(id, family string) {
		put(t, s, fmt.Sprintf(`{"resourceType":"Patient","id":"%s","gender":"female","birthDate":"2001-02-03","name":[{"family":"%s"}]}`, id, family))
	}
	for i, family := range []string{"Adams", "Baker", "Cole", "Dunn", "Evans"} {
		patient(fmt.Sprint("p", i), family)
	}
	for _, query := range []string{"birthdate=ge2000&gender=female&_sort=family", "birthdate=ge2000&_sort=-family", "birthdate=2001&_sort=gender,family", "birthdate=ge2000&_sort=gender"} {
		q, page := first(t, s, t.Context(), "Patient", query, 2)
		got := []string{}
		for n := 0; ; n++ {
			for _, v := range page.Matches {
				got = append(got, v.ID)
			}
			if page.Next == nil {
				break
			}
			patient("p3", fmt.Sprint("Zimmer", n)) // behind all others now, and where it was on the pages
			var err error
			if page, err = s.Search(t.Context(), nil, q, 2, page.Next); err != nil {
				t.Fatalf("%s: %v", query, err)
			}
		}
		if slices.Sort(got); strings.Join(got, " ") != "p0 p1 p2 p3 p4" {
			t.Errorf("%s: the pages show %v", query, got)
		}
	}
}

// TestSearch_sorted_by_a_code has a bound: no table has the order.
func TestSearch_sorted_by_a_code(t *testing.T) {
	t.Parallel()
	registry, err := conformance.R4()
	if err != nil {
		t.Fatal(err)
	}
	url := kilntest.DB(t)
	s, err := storage.Open(t.Context(), storage.Options{URL: url, Registry: registry, Unrestricted: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	for i, code := range []string{"b", "a", "c"} {
		put(t, s, fmt.Sprintf(`{"resourceType":"Basic","id":"b%d","created":"2020-01-0%d","code":{"coding":[{"system":"http://x","code":"%s"}]},"subject":{"reference":"Patient/%s"}}`, i, i+1, code, code))
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), `INSERT INTO search_index (rk, type, last_updated, date_low, date_high, tokens, refs)
SELECT n, (SELECT type FROM search_index WHERE date_low >= '2020-01-01' LIMIT 1), now(), '1999-01-01', '1999-01-02', '{}', '{}' FROM generate_series(1, $1) n`, storage.MaxSortedByContent)
	if err != nil {
		t.Fatal(err)
	}
	for query, want := range map[string]string{"created=2020&_sort=code": "b1 b0 b2", "created=2020&_sort=-subject": "b2 b0 b1", "code=a,b,c&_sort=code": "b1 b0 b2"} {
		q, err := parseQuery(s, "Basic", query)
		if err != nil {
			t.Fatal(err)
		}
		page, err := s.Search(t.Context(), nil, q, 10, nil)
		if err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		got := []string{}
		for _, v := range page.Matches {
			got = append(got, v.ID)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s gives %v, not %s", query, got, want)
		}
	}
	for _, by := range []string{"code", "subject"} {
		q, err := parseQuery(s, "Basic", "_sort="+by)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Search(t.Context(), nil, q, 10, nil); fhir.KindOf(err) != fhir.TooCostly || !strings.Contains(err.Error(), by) {
			t.Errorf("by %s: %v", by, err)
		}
	}
}
