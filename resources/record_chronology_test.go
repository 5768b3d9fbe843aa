package resources

import (
	"fmt"
	"strings"
	"testing"

	"kiln/auth"
)

// TestChronology: one search over the types of a record, by the date of each, page by page.
func TestChronology(t *testing.T) {
	t.Parallel()
	h := newHospital(t)
	write := func(id, body string) { h.put(strings.Replace(body, "{", `{"id":"`+id+`",`, 1)) }
	write("o1", bodyOf("Observation", "final", `,"effectiveDateTime":"2026-01-01"`))
	write("c2", bodyOf("Condition", "active", `,"recordedDate":"2026-01-02"`))
	write("p3", bodyOf("Procedure", "completed", `,"performedDateTime":"2026-01-03T10:00:00Z"`))
	write("m4", bodyOf("MedicationRequest", "draft", `,"authoredOn":"2026-01-04"`))
	write("v5", strings.Replace(bodyOf("Immunization", "completed", ""), "2026-01-01", "2026-01-05", 1))
	write("d6", bodyOf("DocumentReference", "current", `,"date":"2026-01-06T00:00:00Z"`))
	write("wrong", bodyOf("Observation", "entered-in-error", `,"effectiveDateTime":"2026-01-01"`))
	write("mistake", bodyOf("Condition", "entered-in-error", `,"recordedDate":"2026-01-02"`))
	write("early", bodyOf("Observation", "preliminary", `,"effectiveDateTime":"2026-01-07"`))
	h.put(strings.Replace(bodyOf("Observation", "final", `,"effectiveDateTime":"2026-01-01"`), "anna", "cleo", 1)[:1] + `"id":"others",` + strings.Replace(bodyOf("Observation", "final", ""), "anna", "cleo", 1)[1:])
	list := func(p auth.Principal, query string, pages int) string {
		t.Helper()
		var ids []string
		r := Request{Principal: p, Interaction: SearchSystem, Compartment: "Patient", CompartmentID: "anna", Query: query}
		for n := 1; ; n++ {
			b := do(t, h.Service, r).Bundle
			for _, e := range b.Entries {
				ids = append(ids, e.Version.ID)
			}
			next := ""
			for _, l := range b.Links {
				if l.Relation == "next" {
					_, next, _ = strings.Cut(l.URL, "?")
				}
			}
			if next == "" || n > 20 {
				if n != pages {
					t.Errorf("%s: %d pages, want %d", query, n, pages)
				}
				return strings.Join(ids, " ")
			}
			r.Query = next
		}
	}
	const types = "_type=Observation,Condition,Procedure,MedicationRequest,Immunization,DocumentReference"
	for name, c := range map[string]struct {
		who   auth.Principal
		query string
		pages int
		want  string
	}{
		"newest_first":         {h.doc, types + "&_sort=-date", 1, "early d6 v5 m4 p3 c2 o1"},
		"oldest_first":         {h.doc, types + "&_sort=date", 1, "o1 c2 p3 m4 v5 d6 early"},
		"page_by_page":         {h.doc, types + "&_sort=-date&_count=2", 4, "early d6 v5 m4 p3 c2 o1"},
		"page_by_page_upwards": {h.doc, types + "&_sort=date&_count=3", 3, "o1 c2 p3 m4 v5 d6 early"},
		"some_types":           {h.doc, "_type=Condition,Procedure&_sort=-date", 1, "p3 c2"},
		"all_types":            {h.doc, "_sort=-date,_id", 1, "early d6 v5 m4 p3 c2 o1 anna ea"},
		"the_patient":          {patientApp("anna", "patient/*.rs"), types + "&_sort=-date", 1, "d6 v5 m4 p3 c2 o1"},
		"a_stranger":           {doctor("dirk", "user/*.rs"), types + "&_sort=-date", 1, ""},
		"without_an_order":     {h.doc, "_type=Observation,Condition&_count=10", 1, "early mistake c2 wrong o1"},
	} {
		t.Run(name, func(t *testing.T) {
			got := list(c.who, c.query, c.pages)
			if name == "all_types" || name == "without_an_order" { // what has no date, or the same, comes in any order
				if fmt.Sprint(len(strings.Fields(got))) != fmt.Sprint(len(strings.Fields(c.want))) || !strings.HasPrefix(got, "early ") {
					t.Errorf("%s", got)
				}
				return
			}
			if got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
	if got := h.found(h.doc, "Observation", "_id=wrong"); got != "wrong" {
		t.Errorf("a search by type finds %q", got)
	}
}
