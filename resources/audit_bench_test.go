package resources

import (
	"slices"
	"sync"
	"testing"
	"time"

	"kiln/storage"
)

// BenchmarkAudit reads with and without the log in turn, so that both meet the same machine, and says how the medians
// compare. The worker does not run; BenchmarkAudit_worker is its speed.
func BenchmarkAudit(b *testing.B) {
	w := newWard(b, func(_ *Options, so *storage.Options) { so.PoolSize = 16 })
	o := w.options
	o.Audit = true
	loud, err := New(o)
	if err != nil {
		b.Fatal(err)
	}
	r := Request{Interaction: Read, Type: "Observation", ID: "a1", Principal: doctor("treats", "user/*.rs")}
	for _, callers := range []int{1, 16} {
		name := "one_caller"
		if callers > 1 {
			name = "16_callers"
		}
		b.Run(name, func(b *testing.B) {
			var took [2][]time.Duration
			round := func(which int, s *Service) {
				began := time.Now()
				var group sync.WaitGroup
				for range callers {
					group.Go(func() {
						if _, err := s.Do(b.Context(), r); err != nil {
							b.Error(err)
						}
					})
				}
				group.Wait()
				took[which] = append(took[which], time.Since(began))
			}
			for b.Loop() {
				round(0, w.Service)
				round(1, loud)
			}
			slices.Sort(took[0])
			slices.Sort(took[1])
			without, with := took[0][len(took[0])/2], took[1][len(took[1])/2]
			b.ReportMetric(float64(without.Microseconds()), "µs_without")
			b.ReportMetric(float64(with.Microseconds()), "µs_with")
			b.ReportMetric(float64(with)/float64(without), "ratio")
		})
	}
}

// BenchmarkAudit_worker makes AuditEvents of a batch at a time.
func BenchmarkAudit_worker(b *testing.B) {
	w := newWard(b)
	e := storage.AuditEntry{Recorded: time.Now(), Act: "read", User: "u", Name: "a name", FHIRUser: "Practitioner/treats", Roles: []string{"practitioner"}, Client: "ehr",
		Token: "t", Address: "127.0.0.1", Request: "0123456789abcdef", Target: "Observation/a1", Version: 1, Patients: []string{"anna"}}
	list := make([]storage.AuditEntry, auditBatch)
	for i := range list {
		list[i] = e
	}
	if _, err := w.ChainAudit(b.Context()); err != nil { // what the migrations have noted
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		if err := w.store.Audit(b.Context(), list...); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if n, err := w.ChainAudit(b.Context()); err != nil || n != auditBatch {
			b.Fatal(n, err)
		}
	}
	b.ReportMetric(float64(b.N*auditBatch)/b.Elapsed().Seconds(), "events/s")
}
