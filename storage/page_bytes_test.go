package storage_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"kiln/internal/kilntest"
	"kiln/storage"
)

// A page has as much as there is room for, and one at least; its links lead to the rest, each once, forward and back.
func TestPages_have_bounded_bytes(t *testing.T) {
	t.Parallel()
	s := openWith(t, storage.Options{URL: kilntest.DB(t), MaxPageBytes: 10_000})
	put(t, s, `{"resourceType":"Basic","id":"gone"}`)
	remove(t, s, storage.Key{Type: "Basic", ID: "gone"})
	long := map[int]int{3: 9_000, 4: 9_000, 9: 30_000} // one alone is more than a page has room for
	for i := range 14 {
		text := strings.Repeat("x", max(long[i], 2_500))
		put(t, s, fmt.Sprintf(`{"resourceType":"Basic","id":"b%02d","code":{"text":%q,"coding":[{"code":"c%d"}]},"subject":{"reference":"Patient/p%02d"}}`, i, text, i%3, i))
		put(t, s, fmt.Sprintf(`{"resourceType":"Patient","id":"p%02d","name":[{"text":%q,"family":"f"}]}`, i, text))
	}
	for _, sorted := range []bool{false, true} {
		if sorted {
			s.SortBounds(1, 1000, 100_000) // from text to text
		}
		for _, query := range []string{"_sort=_id", "_sort=-_id", "code=c0,c1,c2", "_sort=code,_id", "_sort=-code", "subject:missing=false&_sort=_lastUpdated"} {
			q, page := first(t, s, t.Context(), "Basic", query, 50)
			var forward []string
			pages, last := 1, page
			for ; ; pages++ {
				size := 0
				for _, v := range page.Matches {
					size += len(v.Content)
				}
				if len(page.Matches) == 0 || len(page.Matches) > 1 && size > 10_000 {
					t.Fatalf("%s: %d matches of %d bytes on a page", query, len(page.Matches), size)
				}
				if forward = append(forward, ids(page.Matches)...); page.Next == nil {
					break
				}
				var err error
				if last, err = s.Search(t.Context(), nil, q, 50, page.Next); err != nil {
					t.Fatal(err)
				}
				page = last
			}
			if all := slices.Sorted(slices.Values(forward)); len(all) != 14 || len(slices.Compact(all)) != 14 || pages < 5 {
				t.Fatalf("%s: %d pages have %v", query, pages, forward)
			}
			backward := ids(last.Matches)
			for page = last; page.Previous != nil; {
				var err error
				if page, err = s.Search(t.Context(), nil, q, 50, page.Previous); err != nil {
					t.Fatal(err)
				}
				backward = append(ids(page.Matches), backward...)
			}
			if !slices.Equal(backward, forward) {
				t.Errorf("%s: backward %v, forward %v", query, backward, forward)
			}
		}
	}

	q, page := first(t, s, t.Context(), "Basic", "_id=b00,b01,b02&_sort=_id&_include=Basic:subject", 50)
	if added, cut, err := s.Include(t.Context(), nil, page.Matches, q.Includes, 50); err != nil || cut || len(added) != 3 {
		t.Errorf("%v included, cut %v, %v", ids(added), cut, err)
	}
	q, page = first(t, s, t.Context(), "Basic", "_id=b08,b09&_sort=-_id&_include=Basic:subject", 50)
	other, err := s.Read(t.Context(), "Basic", "b08")
	if err != nil {
		t.Fatal(err)
	}
	page.Matches = append(page.Matches, other)
	if added, cut, err := s.Include(t.Context(), nil, page.Matches, q.Includes, 50); err != nil || !cut || len(added) != 1 {
		t.Errorf("%v included, cut %v, %v", ids(added), cut, err)
	}

	var seen []string
	var last storage.HistoryMark
	for h := (storage.HistoryQuery{Type: "Basic", Limit: 50}); ; {
		page, err := s.History(t.Context(), h)
		if err != nil || len(page.Versions) == 0 {
			t.Fatalf("%v %v", page, err)
		}
		for i, m := range page.Marks {
			if last.Seq != 0 && m.Seq >= last.Seq {
				t.Errorf("%s stands out of its order", page.Versions[i].ID)
			}
			last = m
		}
		if seen = append(seen, ids(page.Versions)...); page.Next == nil {
			break
		}
		h.After = page.Next
	}
	slices.Sort(seen)
	if len(seen) != 16 || len(slices.Compact(seen)) != 15 {
		t.Errorf("the history has %v", seen)
	}
}
