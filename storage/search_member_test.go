package storage_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"kiln/fhir/search"
	"kiln/storage"
)

// recordOf is the search for all members of a patient's compartment, as $everything makes it.
func recordOf(s *storage.Store, id string) *search.Query {
	q, members := &search.Query{Count: -1}, search.Or{}
	for _, typ := range s.Registry().Schema().Resources {
		if params := s.Registry().Compartment("Patient").Params(typ); params != nil || typ == "Patient" {
			q.Types = append(q.Types, typ)
			members = append(members, &search.Member{Compartment: "Patient", ID: id, Type: typ, Params: params})
		}
	}
	q.Where = []search.Expr{members}
	return q
}

// TestSearch_record compares a patient's record, read in its order, with the same found as a set: what lies in it alone, what lies in
// another one, too, and what is a member for other reasons.
func TestSearch_record(t *testing.T) {
	t.Parallel()
	s := open(t)
	for _, id := range []string{"p", "q"} {
		put(t, s, `{"resourceType":"Patient","id":"`+id+`"}`)
		for i := range 9 {
			put(t, s, fmt.Sprintf(`{"resourceType":"Observation","id":"o%s%d","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/%[1]s"},"effectiveDateTime":"2024-01-0%[3]d"}`, id, i, 1+i/2))
		}
		put(t, s, `{"resourceType":"Task","id":"t`+id+`","status":"draft","intent":"order","for":{"reference":"Patient/`+id+`"}}`)
		put(t, s, `{"resourceType":"Provenance","id":"v`+id+`","target":[{"reference":"Patient/`+id+`"}],"recorded":"2024-01-02T00:00:00Z","agent":[{"who":{"display":"x"}}]}`)
	}
	for i, of := range [][]string{{"p"}, {"q"}, {"p", "q"}, {"q", "p"}} {
		list := ""
		for _, id := range of {
			list += `,{"status":"accepted","actor":{"reference":"Patient/` + id + `"}}`
		}
		put(t, s, fmt.Sprintf(`{"resourceType":"Appointment","id":"a%d","status":"booked","start":"2024-01-0%[2]dT10:00:00Z","end":"2024-01-0%[2]dT10:30:00Z","participant":[%s]}`, i, i+2, list[1:]))
	}
	for _, c := range []struct{ id, want string }{
		{"p", "a0 a2 a3 op0 op1 op2 op3 op4 op5 op6 op7 op8 p vp"}, {"q", "a1 a2 a3 oq0 oq1 oq2 oq3 oq4 oq5 oq6 oq7 oq8 q vq"}, {"nobody", ""},
	} {
		q, other := recordOf(s, c.id), recordOf(s, c.id)
		also, err := parseQuery(s, "Observation", "_lastUpdated=gt1990")
		if err != nil {
			t.Fatal(err)
		}
		other.Where = append(other.Where, also.Where...) // so that it is a set
		want := all(t, s, other, 100)
		for _, size := range []int{100, 51, 5, 2, 1} {
			if got := all(t, s, q, size); !slices.Equal(got, want) {
				t.Errorf("%s, %d a page: %s, as a set %s", c.id, size, got, want)
			}
		}
		if slices.Sort(want); strings.Join(want, " ") != c.want {
			t.Errorf("%s: %s", c.id, want)
		}
		for limit, index := range map[int]string{10: "resource_pkey", 200: "resource_record"} {
			plan, err := s.Explain(context.Background(), q, limit)
			if err != nil || !strings.Contains(plan, "cardinality(x.compartments) = 1") || !strings.Contains(plan, "using "+index) {
				t.Errorf("%d: %v\n%s", limit, err, plan)
			}
		}
	}
}
