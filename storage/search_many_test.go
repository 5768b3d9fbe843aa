package storage_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"kiln/storage"
)

// TestSearch_for_many_values compares searches for many alternatives, and for parts of texts that the index of trigrams tells nothing of, with what
// each alternative finds alone.
func TestSearch_for_many_values(t *testing.T) {
	t.Parallel()
	s := openFilled(t, 3000)
	var ids, names, parts []string
	for i := range 40 {
		ids = append(ids, []string{fmt.Sprintf("p%d", i*10), fmt.Sprintf("o%d", i*10+5), fmt.Sprintf("nobody%d", i), fmt.Sprintf("a%d", i*10+1)}[i%4])
		names = append(names, fmt.Sprintf("%s%d", strings.ToLower(familyNames[i%len(familyNames)]), i))
		parts = append(parts, fmt.Sprintf("other%d", 10+i))
	}
	names = append(names, "smith", "smith1", "Smith1", "", "given49", "zzz", "muller2", "müller3", "other\\,")
	found := func(typ, query string) []string {
		q, err := parseQuery(s, typ, query)
		if err != nil {
			t.Fatal(err)
		}
		list := all(t, s, q, 1000)
		if n, err := s.Count(context.Background(), nil, q, 0); err != nil || n != int64(len(list)) {
			t.Errorf("%s?%s: counts %d of %d, %v", typ, query, n, len(list), err)
		}
		return list
	}
	for _, c := range []struct {
		typ, name string
		values    []string
		more      []string
	}{
		{"", "_id", ids, []string{"", "&_sort=_lastUpdated", "&_sort=-_id", "&identifier=http://mrn|M120", "&_type=Patient,Observation"}},
		{"", "name", names, []string{"", "&_sort=-date", "&_sort=_lastUpdated", "&_sort=-_id", "&_type=Patient,Location", "&gender=male"}},
		{"", "name", []string{"smith", "e"}, []string{"", "&_sort=-date", "&_sort=date", "&name=s", "&_type=Patient,Location&_sort=-_lastUpdated"}},
		{"Patient", "_id", ids, []string{"", "&gender=male"}},
		{"Patient", "name", names, []string{"", "&_sort=birthdate", "&_sort=-family", "&gender=female", "&birthdate=ge1980&_sort=family", "&_sort=gender,name", "&_sort=identifier"}},
		{"Patient", "family:contains", parts, []string{"", "&_sort=birthdate", "&gender=male&_sort=_id"}},
		{"Patient", "family:contains", []string{"i"}, []string{"", "&_sort=birthdate", "&_sort=-family", "&gender=male", "&_sort=gender"}},
		{"Patient", "family:contains", []string{"h1", "a9"}, []string{"", "&_sort=-birthdate", "&_sort=identifier"}},
		{"Patient", "name:contains", []string{"zq"}, []string{"", "&_sort=birthdate"}},
		{"Location", "name:contains", []string{"e 1", "7", " 9"}, []string{"", "&_sort=name", "&_sort=_lastUpdated"}},
		{"Observation", "subject:Patient.name", names[:12], []string{"", "&code=8302-2"}},
		{"Observation", "subject:Patient.family:contains", []string{"a"}, []string{"", "&_sort=-date"}},
		{"Observation", "value-quantity", []string{"1", "2", "3.5", "gt198", "17", "18"}, []string{"", "&code=8302-2", "&_sort=value-quantity", "&_sort=-date"}},
		{"RiskAssessment", "probability", []string{"0.1", "0.2", "0.3", "gt0.9", "0.5"}, []string{"", "&_sort=-probability"}},
	} {
		for _, more := range c.more {
			t.Run(c.typ+"?"+c.name+"="+c.values[0]+more, func(t *testing.T) {
				var want []string
				for _, v := range c.values {
					if v != "" {
						want = append(want, found(c.typ, c.name+"="+v+more)...)
					}
				}
				slices.Sort(want)
				want = slices.Compact(want)
				query := c.name + "=" + strings.Join(c.values, ",") + more
				list := found(c.typ, query)
				got := slices.Sorted(slices.Values(list))
				if !slices.Equal(got, want) || len(want) == 0 && c.values[0] != "zq" {
					t.Fatalf("finds %d, each alone %d\n%v\n%v", len(got), len(want), got, want)
				}
				q, err := parseQuery(s, c.typ, query)
				if err != nil {
					t.Fatal(err)
				}
				if paged := all(t, s, q, 7+len(list)/10); !slices.Equal(paged, list) {
					t.Errorf("in pages\n%v\nat once\n%v", paged, list)
				}
			})
		}
	}
	for _, query := range []string{"status:not=final", "status:not=booked,final", "identifier:not=http://mrn|M120", "code:not=8302-2&status:not=booked"} { // each type has its own
		t.Run(query, func(t *testing.T) {
			var want []string
			for _, typ := range s.Registry().Schema().Resources {
				if _, err := parseQuery(s, typ, query); err == nil {
					want = append(want, found(typ, query)...)
				}
			}
			for _, sort := range []string{"", "&_sort=-_id", "&_sort=-date"} {
				list := found("", query+sort)
				if slices.Sort(list); !slices.Equal(list, slices.Sorted(slices.Values(want))) || len(list) == 0 {
					t.Errorf("%s finds %d of %d", sort, len(list), len(want))
				}
			}
		})
	}
	t.Run("changed_meanwhile", func(t *testing.T) {
		for _, query := range []string{"_id=" + strings.Join(ids, ","), "name=s,e&_sort=-date", "_type=Patient&name=" + strings.Join(names, ","), "_type=Patient&family:contains=i",
			"_content=" + strings.Join(names[:12], ","), "_content=place"} {
			q, err := parseQuery(s, "", query)
			if err != nil {
				t.Fatal(err)
			}
			want := all(t, s, q, 1000)
			page, err := s.Search(t.Context(), nil, q, 3, nil)
			if err != nil {
				t.Fatal(err)
			}
			got := idsOf(page)
			ahead, err := s.Search(t.Context(), nil, q, 9, page.Next)
			if err != nil {
				t.Fatal(err)
			}
			gone := map[string]bool{}
			for i, v := range ahead.Matches {
				if i%3 == 0 {
					if v.Type == "Patient" && i%2 == 0 {
						put(t, s, fmt.Sprintf(`{"resourceType":"Patient","id":%q,"birthDate":"1900-01-01","name":[{"family":"changed"}]}`, v.ID))
						continue
					}
					gone[v.ID] = true
					remove(t, s, storage.Key{Type: v.Type, ID: v.ID})
				}
			}
			for page.Next != nil {
				if page, err = s.Search(t.Context(), nil, q, 4, page.Next); err != nil {
					t.Fatal(err)
				}
				got = append(got, idsOf(page)...)
			}
			if want = slices.DeleteFunc(want, func(id string) bool { return gone[id] }); !slices.Equal(got, want) {
				t.Errorf("%s\n%v\n%v", query, got, want)
			}
		}
	})
}
