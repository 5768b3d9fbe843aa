package resources

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"kiln/storage"
)

// BenchmarkBooking books by POST: each time once (free), and each time wanted by eight (contended); the report says how
// many tries, and how many bookings, a second. Those of one doctor come one after the other, of several side by side. With told, people are told of it: the order to do so is part of it.
func BenchmarkBooking(b *testing.B) {
	for _, c := range []struct {
		rivals, doctors int
		told            bool
	}{{1, 1, false}, {1, 16, false}, {1, 16, true}, {8, 16, false}, {8, 16, true}} {
		rivals := c.rivals
		b.Run(fmt.Sprintf("rivals_%d_doctors_%d_told_%v", rivals, c.doctors, c.told), func(b *testing.B) {
			s := newService(b, func(o *Options, so *storage.Options) {
				if so.PoolSize = 16; c.told {
					o.Messages = &Messages{}
				}
			})
			base := time.Now().UTC().Truncate(24 * time.Hour).Add(48 * time.Hour)
			for d := range c.doctors {
				put(b, s, fmt.Sprintf(`{"resourceType":"Practitioner","id":"doc%d"}`, d))
				put(b, s, fmt.Sprintf(`{"resourceType":"Schedule","id":"cal%d","actor":[{"reference":"Practitioner/doc%[1]d"}]}`, d))
			}
			var next, won atomic.Int64
			b.SetParallelism(max(rivals, 4))
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					i := next.Add(1) - 1
					at := base.Add(time.Duration(i/int64(rivals)) * time.Minute)
					body := fmt.Sprintf(`{"resourceType":"Appointment","status":"booked","start":%q,"end":%q,"participant":[{"actor":{"reference":"Practitioner/doc%d"},"status":"accepted"},{"actor":{"reference":"Patient/p%d"},"status":"accepted"}]}`,
						at.Format(time.RFC3339), at.Add(time.Minute).Format(time.RFC3339), i/int64(rivals)%int64(c.doctors), i)
					if _, err := create(s, b, body); err == nil {
						won.Add(1)
					} else if codeOf(err) != "slot-taken" {
						b.Error(describe(err))
					}
				}
			})
			b.ReportMetric(float64(won.Load())/b.Elapsed().Seconds(), "bookings/s")
			b.ReportMetric(float64(next.Load())/b.Elapsed().Seconds(), "tries/s")
		})
	}
}
