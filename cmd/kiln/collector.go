package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// collectorSteps say how much the heap may grow beyond what is alive, in percent, before garbage is collected. A server that
// reads has some 20 MiB alive, and collecting each time that these have doubled took a twelfth of a read. With many large
// transactions at once 70 MiB are alive, and memory is what is short then.
var collectorSteps = []struct {
	below   uint64 // bytes alive
	percent int
}{{24 << 20, 200}, {40 << 20, 100}}

const leastGrowth = 50

func growthFor(alive uint64) int {
	for _, step := range collectorSteps {
		if alive < step.below {
			return step.percent
		}
	}
	return leastGrowth
}

// suitCollector has the garbage collector follow collectorSteps, until stop is called. Where GOGC is set, that holds.
func suitCollector() (stop func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	before := debug.SetGCPercent(growthFor(0))
	now, stopped := growthFor(0), make(chan struct{})
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	// An object that nobody holds is finalized after each collection, and put up again.
	type mark struct{ _ *byte }
	var collected func(*mark)
	collected = func(m *mark) {
		select {
		case <-stopped:
			return
		default:
		}
		metrics.Read(sample)
		if next := growthFor(sample[0].Value.Uint64()); next != now {
			debug.SetGCPercent(next)
			now = next
		}
		runtime.SetFinalizer(m, collected)
	}
	runtime.SetFinalizer(&mark{}, collected)
	return func() { close(stopped); debug.SetGCPercent(before) }
}
