package resources

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"kiln/auth"
	"kiln/fhir"
	"kiln/storage"
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

// TestSearch_of_the_log_tells_what_it_misses: what was read before a search of AuditEvents is found, although the worker leaves the
// machine to those who read meanwhile; or the answer says that something is missing.
func TestSearch_of_the_log_tells_what_it_misses(t *testing.T) {
	t.Parallel()
	s := newService(t, func(o *Options, so *storage.Options) {
		o.Audit, so.AuditJournal = true, filepath.Join(t.TempDir(), "journal")
	})
	read := func(name string) {
		p := auth.Operator("test")
		p.User, p.Name = "u", name
		if _, err := s.Do(t.Context(), Request{Interaction: Read, Type: "Organization", ID: "none", Principal: p}); fhir.KindOf(err) != fhir.NotFound {
			t.Error(err)
		}
	}
	found := func(name string) (n int, told bool) {
		resp := do(t, s, Request{Interaction: SearchType, Type: "AuditEvent", Query: "agent-name=" + name, Principal: auth.Operator("test")})
		for _, issue := range resp.Bundle.Issues {
			told = told || issue.Code == fhir.CodeIncomplete
		}
		return len(resp.Bundle.Entries), told
	}
	ctx, stop := context.WithCancel(t.Context())
	var group sync.WaitGroup
	defer group.Wait()
	defer stop()
	read("before")
	if n, told := found("before"); n != 0 || told {
		t.Errorf("without a worker: %d, %v", n, told)
	}
	group.Go(func() { s.KeepAudit(ctx, func(err error) { t.Error(err) }) })
	for !s.worker.running.Load() {
		time.Sleep(time.Millisecond)
	}
	for i := range 4 {
		var crowd sync.WaitGroup
		for range 4 {
			crowd.Go(func() {
				for range auditBatch {
					read("crowd")
				}
			})
		}
		for j := range 5 {
			name := fmt.Sprintf("reader-%d-%d", i, j)
			read(name)
			if n, told := found(name); n != 1 && !told {
				t.Errorf("%s is not found, and nothing says so", name)
			}
		}
		crowd.Wait()
	}
	for n, told := found("reader-3-4"); n != 1; n, told = found("reader-3-4") { // nothing asks for anything else any more
		if !told {
			t.Fatal("not found, and nothing says so")
		}
	}
}
