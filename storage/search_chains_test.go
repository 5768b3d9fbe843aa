package storage_test

import (
	"fmt"
	"testing"
)

// Of several chains to the patient the one by the name gives the order, whichever comes first; the others still hold.
func TestSearch_by_a_name_and_another_chain(t *testing.T) {
	t.Parallel()
	s := open(t)
	put(t, s, `{"resourceType":"Patient","id":"other","name":[{"family":"Zed","given":["Bo"]}]}`)
	for i := range 6 { // every second one is linked to Bo
		link := ""
		if i%2 == 0 {
			link = `,"link":[{"type":"seealso","other":{"reference":"Patient/other"}}]`
		}
		put(t, s, fmt.Sprintf(`{"resourceType":"Patient","id":"p%d","name":[{"family":"Smith%d"}]%s}`, i, 9-i, link))
		put(t, s, fmt.Sprintf(`{"resourceType":"RelatedPerson","id":"r%d","patient":{"reference":"Patient/p%d"}}`, i, i))
	}
	for _, query := range []string{"patient:Patient.link:Patient.given=bo&patient:Patient.family=smith", "patient:Patient.family=smith&patient:Patient.link:Patient.given=bo"} {
		for _, size := range []int{1, 2, 10} {
			q, page := first(t, s, t.Context(), "RelatedPerson", query, size)
			if got := rest(t, s, t.Context(), q, page, size); got != "r4 r2 r0" {
				t.Errorf("%s, %d a page: %s", query, size, got)
			}
		}
	}
}
