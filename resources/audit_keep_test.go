package resources

import (
	"testing"
	"time"
)

// TestAudit_worker_leaves_the_machine_to_requests: an eighth of the time while they come, half once it is behind for long, and all
// of it when nobody asks for anything.
func TestAudit_worker_leaves_the_machine_to_requests(t *testing.T) {
	t.Parallel()
	const took = 100 * time.Millisecond
	for _, c := range []struct {
		behind   time.Duration
		requests bool
		want     time.Duration
	}{
		{0, false, 0}, {time.Hour, false, 0},
		{0, true, 700 * time.Millisecond}, {29 * time.Second, true, 700 * time.Millisecond},
		{30 * time.Second, true, took}, {time.Hour, true, took},
	} {
		if got := auditRest(took, c.behind, c.requests); got != c.want {
			t.Errorf("%v behind, requests %v: rests %v, not %v", c.behind, c.requests, got, c.want)
		}
	}
}
