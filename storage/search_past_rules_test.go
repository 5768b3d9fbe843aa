package storage_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"kiln/fhir/search"
	"kiln/internal/kilntest"
	"kiln/storage"
)

// rebuild has the index rows of some types rebuilt, all of them, to the end.
func rebuild(t *testing.T, s *storage.Store, types ...string) {
	t.Helper()
	if _, err := s.StartReindex(context.Background(), types, true); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); s.Work(ctx, func(err error) { t.Error(err) }) }()
	until(t, "the reindex is done", func() bool {
		list, err := s.Reindexes(context.Background(), 1)
		return err == nil && list[0].Status == "completed"
	})
	stop()
	<-done
}

// TestPaging_while_the_index_is_rebuilt has a $reindex complete between pages, with writes before and behind it: it makes
// every row of the index anew, and the pages go on as if it had not been.
func TestPaging_while_the_index_is_rebuilt(t *testing.T) {
	t.Parallel()
	s := open(t)
	for _, id := range []string{"a", "b", "c", "d", "e", "f"} {
		put(t, s, person(id, "x"+id, `,"gender":"male"`))
		put(t, s, fmt.Sprintf(`{"resourceType":"Observation","id":"o-%[1]s","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"1"}]},"subject":{"reference":"Patient/%[1]s"},"effectiveDateTime":"2020-01-0%[2]d"}`, id, id[0]-'a'+1))
	}
	for _, c := range []struct {
		typ, query, want string
		unordered        bool // the order is that of the patients' keys, which say nothing
	}{
		{"Patient", "gender=male&_sort=family", "a b c d e f", false},
		{"Patient", "gender=male&_sort=-_lastUpdated,-_id", "f e d c b a", false},
		{"Patient", "family=x", "a b c d e f", false},
		{"Observation", "code=http://loinc.org|1", "o-f o-e o-d o-c o-b o-a", false},
		{"Observation", "subject:Patient.family=x", "o-a o-b o-c o-d o-e o-f", true},
	} {
		if c.unordered { // that of one page is the order of them all
			_, page := first(t, s, t.Context(), c.typ, c.query, 6)
			var list []string
			for _, v := range page.Matches {
				list = append(list, v.ID)
			}
			if found := strings.Join(slices.Sorted(slices.Values(list)), " "); found != c.want {
				t.Errorf("%s?%s finds %s, want %s", c.typ, c.query, found, c.want)
			}
			c.want = strings.Join(list, " ")
		}
		q, page := first(t, s, t.Context(), c.typ, c.query, 2)
		all := page.Matches
		for i := 0; page.Next != nil; i++ {
			switch i {
			case 0:
				put(t, s, person("d", "a-now-first", "")) // matches no more, or elsewhere
				rebuild(t, s, "Patient", "Observation")
			case 1:
				rebuild(t, s, "Patient", "Observation")
				put(t, s, person("d", "xd", `,"gender":"male"`))
			}
			var err error
			if page, err = s.Search(t.Context(), nil, q, 2, page.Next); err != nil {
				t.Fatal(err)
			}
			all = append(all, page.Matches...)
		}
		got := ""
		for _, v := range all {
			got += " " + v.ID
		}
		if got != " "+c.want {
			t.Errorf("%s?%s gives%s, want %s", c.typ, c.query, got, c.want)
		}
		for _, id := range []string{"a", "b", "c", "d", "e", "f"} { // as before, in one order of time
			put(t, s, person(id, "x"+id, `,"gender":"male"`))
		}
	}
}

// TestPaging_while_a_value_set_changes shows what docs/adr/0015 says: from the change on its codes of now count, for what has
// changed meanwhile too. The order stays, and nothing comes twice.
func TestPaging_while_a_value_set_changes(t *testing.T) {
	t.Parallel()
	s := openOn(t, kilntest.TerminologyDB(t))
	set := func(codes ...string) {
		list := ""
		for i, code := range codes {
			if i > 0 {
				list += ","
			}
			list += `{"code":"` + code + `"}`
		}
		put(t, s, `{"resourceType":"ValueSet","id":"vs","url":"http://x/vs","status":"active","compose":{"include":[{"system":"http://x/cs","concept":[`+list+`]}]}}`)
	}
	condition := func(id, code string) {
		put(t, s, `{"resourceType":"Condition","id":"`+id+`","subject":{"reference":"Patient/p"},"code":{"coding":[{"system":"http://x/cs","code":"`+code+`"}]}}`)
	}
	for i, id := range []string{"a", "b", "c", "d", "e", "f"} {
		condition(id, []string{"1", "2", "3"}[i%3])
	}
	set("1", "2")
	q, page := first(t, s, t.Context(), "Condition", "code:in=http://x/vs&_sort=_id", 1)
	set("1", "3")
	condition("d", "2") // was 1, which is in the set, when the search began
	condition("e", "3") // was 2, which is in it no more
	if got := rest(t, s, t.Context(), q, page, 1); got != "a c d f" {
		t.Errorf("got %s", got)
	}
}

// TestPaging_while_rights_change has a caller lose and gain rights between two pages: who may see what is asked anew on each
// page, and the rule of now decides. The order stays, and nothing comes twice.
func TestPaging_while_rights_change(t *testing.T) {
	t.Parallel()
	s := open(t)
	for _, id := range []string{"anna", "ben"} {
		put(t, s, person(id, id, ""))
	}
	note := func(id, patient, rest string) {
		put(t, s, fmt.Sprintf(`{"resourceType":"Observation","id":%q,"status":"final","code":{"coding":[{"system":"http://loinc.org","code":"1"}]},"subject":{"reference":"Patient/%s"}%s}`, id, patient, rest))
	}
	for i, id := range []string{"a", "b", "c", "d", "e", "f"} {
		note(id, []string{"anna", "ben"}[i%2], "")
	}
	can := func(reach search.Reach) context.Context {
		access, err := s.Access(&search.Restriction{Caller: "anna", Record: "anna", Rules: []search.Rule{{Types: []string{"Patient", "Observation"}, Reach: reach}}})
		if err != nil {
			t.Fatal(err)
		}
		return storage.WithAccess(t.Context(), access)
	}
	all, own := can(search.ReachAny), can(search.ReachOwn)
	for _, query := range []string{"code=http://loinc.org|1&_sort=_id", "subject:Patient.name=a,b&_sort=_id", "_sort=_id"} {
		q, page := first(t, s, all, "Observation", query, 1)
		if got := rest(t, s, own, q, page, 1); got != "a c e" {
			t.Errorf("%s, when others are hidden: got %s", query, got)
		}
		q, page = first(t, s, own, "Observation", query, 1)
		if got := rest(t, s, all, q, page, 1); got != "a b c d e f" {
			t.Errorf("%s, when others are shown: got %s", query, got)
		}
		q, page = first(t, s, all, "Observation", query, 1)
		note("c", "anna", `,"issued":"2020-01-01T00:00:00Z"`) // changes too, and stays
		note("d", "ben", `,"issued":"2020-01-01T00:00:00Z"`)  // changes, and is hidden
		if got := rest(t, s, own, q, page, 1); got != "a c e" {
			t.Errorf("%s, with writes: got %s", query, got)
		}
	}
	// What was loaded before the right was lost says nothing of what is hidden: not a page with a place of it either.
	q, page := first(t, s, all, "Observation", "_sort=_id", 2)
	if page, err := s.Search(own, nil, q, 2, page.Next); err != nil || len(page.Matches) != 2 || page.Matches[0].ID != "c" || page.Next != nil {
		t.Errorf("the page after a hidden one: %v %+v", err, page)
	}
}
