package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// collectorSteps say how much the heap may grow beyond what is alive, in percent, before garbage is collected. Beyond the last
// step it is leastGrowth.
type collectorSteps []struct {
	below   uint64 // bytes alive
	percent int
}

// A server that reads has some 20 MiB alive, and collecting each time that these have doubled took a twelfth of a read. With many
// large transactions at once 70 MiB are alive, and memory is what is short then.
var serving = collectorSteps{{24 << 20, 200}, {40 << 20, 100}}

// An import leaves 20 kB of garbage for each resource, and marking what is alive each time that this has doubled took a tenth of its
// time. It ends, and gives its memory back.
var importing = collectorSteps{{48 << 20, 400}, {96 << 20, 150}}

const leastGrowth = 50

func (c collectorSteps) growthFor(alive uint64) int {
	for _, step := range c {
		if alive < step.below {
			return step.percent
		}
	}
	return leastGrowth
}

// suitCollector has the garbage collector follow steps, until stop is called. Where GOGC is set, that holds.
func suitCollector(steps collectorSteps) (stop func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	before := debug.SetGCPercent(steps.growthFor(0))
	now, stopped := steps.growthFor(0), make(chan struct{})
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
		if next := steps.growthFor(sample[0].Value.Uint64()); next != now {
			debug.SetGCPercent(next)
			now = next
		}
		runtime.SetFinalizer(m, collected)
	}
	runtime.SetFinalizer(&mark{}, collected)
	return func() { close(stopped); debug.SetGCPercent(before) }
}
