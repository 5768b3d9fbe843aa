package resources

import (
	"fmt"
	"testing"
)

// Time is taken to the microsecond; who writes it finer gets no fault of the server's, and the check agrees.
func TestVisit_finer_than_a_microsecond(t *testing.T) {
	t.Parallel()
	s, _ := clinic(t)
	visit := func(start, end string) string {
		return fmt.Sprintf(`{"resourceType":"Appointment","status":"booked","start":"2026-01-16T%sZ","end":"2026-01-16T%sZ","participant":[{"actor":{"reference":"Patient/ada"},"status":"accepted"}]}`, start, end)
	}
	if _, err := create(s, t, visit("13:00:00.0000001", "13:00:00.0000002")); codeOf(err) != "start-before-end" {
		t.Errorf("shorter than a microsecond: %s", describe(err))
	}
	for _, half := range []string{"4", "5", "9", "99999"} {
		v := mustCreate(t, s, visit("13:00:00.000000"+half, "13:30:00.000001"+half))
		if got := read(t, s, "Appointment", v.ID).GetText("start"); got != "2026-01-16T13:00:00.000000"+half+"Z" {
			t.Errorf("it is kept as %s", got)
		}
		agrees(t, s)
		if err := patchStatus(t, s, v.ID, "cancelled"); err != nil {
			t.Fatal(describe(err))
		}
	}
}
