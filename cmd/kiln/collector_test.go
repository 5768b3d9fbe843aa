package main

import (
	"runtime"
	"runtime/metrics"
	"testing"
	"time"
)

// TestSuitCollector_follows_what_is_alive holds much, and then nothing.
func TestSuitCollector_follows_what_is_alive(t *testing.T) {
	t.Setenv("GOGC", "")
	stop := suitCollector(serving)
	defer stop()
	sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	becomes := func(want func(percent uint64) bool) {
		t.Helper()
		for range 1000 {
			runtime.GC()
			if metrics.Read(sample); want(sample[0].Value.Uint64()) {
				return
			}
			time.Sleep(time.Millisecond) // the finalizer runs beside
		}
		t.Fatalf("the heap may grow by %d percent", sample[0].Value.Uint64())
	}
	held := make([]*[1 << 20]byte, 64)
	for i := range held {
		held[i] = new([1 << 20]byte)
	}
	becomes(func(percent uint64) bool { return percent == leastGrowth })
	runtime.KeepAlive(held)
	held = nil
	becomes(func(percent uint64) bool { return percent > leastGrowth })
}
