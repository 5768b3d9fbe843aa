package scheduling_test

import (
	"fmt"
	"strings"
	"testing"

	"kiln/resources/scheduling"
)

// legal is the table of the design once more, written by hand as "from trigger roles to", so that a slip in the code's
// table shows. Roles are P, D (practitioner), A and S (server).
const legal = `
-            $find       PDA proposed
-            $hold       PDA hold
proposed     $hold       PDA hold
-            $book       P   awaiting
proposed     $book       P   awaiting
hold         $book       P   awaiting
-            create      P   awaiting
proposed     create      P   awaiting
-            $book       PDA booked
proposed     $book       PDA booked
hold         $book       PDA booked
-            create      PDA booked
proposed     create      PDA booked
awaiting     accepted    PDA booked
awaiting     coverage    S   booked
awaiting     declined    PDA cancelled
awaiting     tentative   DA  awaiting
hold         $cancel     PDAS cancelled
hold         status      PDAS cancelled
hold         expiry      PDAS cancelled
awaiting     $cancel     PDAS cancelled
awaiting     status      PDAS cancelled
awaiting     expiry      PDAS cancelled
booked       $reschedule PDA booked
booked       $cancel     PDA cancelled
booked       status      PDA cancelled
booked       status      PDA arrived
booked       status      DA  checked-in
arrived      status      DA  checked-in
arrived      $cancel     DA  cancelled
arrived      status      DA  cancelled
checked-in   $cancel     DA  cancelled
checked-in   status      DA  cancelled
booked       encounter   DA  fulfilled
arrived      encounter   DA  fulfilled
checked-in   encounter   DA  fulfilled
booked       status      DA  fulfilled
arrived      status      DA  fulfilled
checked-in   status      DA  fulfilled
booked       status      DA  noshow
noshow       status      A   arrived
-            create      PA  waitlist
waitlist     offer       S   hold
waitlist     $cancel     PAS cancelled
waitlist     status      PAS cancelled
waitlist     expiry      PAS cancelled
hold         status      DA  entered-in-error
awaiting     status      DA  entered-in-error
booked       status      DA  entered-in-error
arrived      status      DA  entered-in-error
checked-in   status      DA  entered-in-error
noshow       status      DA  entered-in-error
waitlist     status      DA  entered-in-error
fulfilled    status      DA  entered-in-error
-            create      PDA proposed
proposed     $cancel     PDA cancelled
proposed     status      PDA cancelled
proposed     status      DA  entered-in-error
`

// TestFind_every_state_trigger_and_role tries all combinations: exactly those of the list are legal.
func TestFind_every_state_trigger_and_role(t *testing.T) {
	roles := map[rune]scheduling.Roles{'P': scheduling.Patient, 'D': scheduling.Practitioner, 'A': scheduling.Admin, 'S': scheduling.Server}
	want := map[string]bool{}
	for line := range strings.Lines(strings.TrimSpace(legal)) {
		f := strings.Fields(line)
		if f[0] == "-" {
			f[0] = ""
		}
		for _, r := range f[2] {
			want[fmt.Sprint(f[0], " ", f[1], " ", roles[r], " ", f[3])] = true
		}
	}
	states := append(scheduling.States(), scheduling.None, scheduling.Proposed)
	tried := 0
	for _, from := range states {
		for _, to := range states {
			for _, by := range []scheduling.Trigger{scheduling.ByFind, scheduling.ByHold, scheduling.ByBook, scheduling.ByAccept, scheduling.ByDecline,
				scheduling.ByCounter, scheduling.ByReschedule, scheduling.ByCancel, scheduling.ByStatus, scheduling.ByEncounter, scheduling.ByExpiry,
				scheduling.ByOffer, scheduling.ByPost, scheduling.ByCoverage} {
				for _, who := range roles {
					tried++
					name := fmt.Sprint(from, " ", by, " ", who, " ", to)
					row, _, _, ok := scheduling.Find(from, to, by, who)
					if ok != want[name] {
						t.Errorf("%s: legal %t, want %t", name, ok, want[name])
					}
					if ok && row.To != to {
						t.Errorf("%s: row %d leads to %s", name, row.Row, row.To)
					}
				}
			}
		}
	}
	if tried < 5000 {
		t.Fatalf("only %d combinations", tried)
	}
}

func TestFind_says_what_is_allowed_instead(t *testing.T) {
	_, allowed, known, ok := scheduling.Find(scheduling.Booked, scheduling.NoShow, scheduling.ByStatus, scheduling.Patient)
	if ok || !known || fmt.Sprint(allowed) != "[cancelled arrived]" {
		t.Fatalf("%v %t %t", allowed, known, ok)
	}
	if _, allowed, known, ok = scheduling.Find(scheduling.Fulfilled, scheduling.Booked, scheduling.ByStatus, scheduling.Admin); ok || known || fmt.Sprint(allowed) != "[entered-in-error]" {
		t.Fatalf("%v %t %t", allowed, known, ok)
	}
}
