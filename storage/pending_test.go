package storage_test

import (
	"fmt"
	"testing"
)

// TestMergePending finds what was written a moment ago in the indexes themselves, whose pending lists are empty afterwards.
func TestMergePending(t *testing.T) {
	t.Parallel()
	s := open(t)
	for i := range 5 {
		put(t, s, fmt.Sprintf(`{"resourceType":"Patient","id":"p%d","identifier":[{"value":"x%d"}],"name":[{"family":"Merged"}]}`, i, i))
	}
	if pages, err := s.MergePending(t.Context()); err != nil || pages == 0 {
		t.Errorf("%d pages, %v; want what was written", pages, err)
	}
	if pages, err := s.MergePending(t.Context()); err != nil || pages != 0 {
		t.Errorf("%d pages were left, %v", pages, err)
	}
	q, err := parseQuery(s, "Patient", "identifier=x3")
	if err != nil {
		t.Fatal(err)
	}
	if page, err := s.Search(t.Context(), nil, q, 10, nil); err != nil || len(page.Matches) != 1 {
		t.Errorf("%v, %v", page, err)
	}
}
