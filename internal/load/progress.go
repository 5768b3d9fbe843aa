package load

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// progress tells how far an import is: a bar on a terminal, a line now and then elsewhere.
type progress struct {
	mu              sync.Mutex
	out             io.Writer
	bar             *progressbar.ProgressBar
	began, told     time.Time
	resources       int
	bytes, allBytes int64
	interval        time.Duration
}

func newProgress(out io.Writer, bytes int64) *progress {
	p := &progress{out: out, began: time.Now(), told: time.Now(), allBytes: max(bytes, 1), interval: 5 * time.Second}
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.bar = progressbar.NewOptions64(p.allBytes,
			progressbar.OptionSetWriter(out), progressbar.OptionSetPredictTime(true), progressbar.OptionSetWidth(24),
			progressbar.OptionSetElapsedTime(true), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
	}
	return p
}

// add tells of resources that are in and of bytes that are done with.
func (p *progress) add(resources int, bytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resources += resources
	p.bytes = min(p.bytes+bytes, p.allBytes)
	seconds := time.Since(p.began).Seconds()
	rate := float64(p.resources) / max(seconds, 0.001)
	if p.bar != nil {
		p.bar.Describe(fmt.Sprintf("%d resources, %.0f/s", p.resources, rate))
		p.bar.Set64(p.bytes)
		return
	}
	if p.out == nil || time.Since(p.told) < p.interval {
		return
	}
	p.told = time.Now()
	share := float64(p.bytes) / float64(p.allBytes)
	left := "?"
	if share > 0 {
		left = time.Duration(seconds * (1 - share) / share * float64(time.Second)).Round(time.Second).String()
	}
	fmt.Fprintf(p.out, "%.0f %%, %d resources, %.0f/s, %s left\n", 100*share, p.resources, rate, left)
}

// ordering tells that the files are in, and texts of the index are put in order.
func (p *progress) ordering(texts int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	what := fmt.Sprintf("%d resources are in; putting %d texts of the index in order", p.resources, texts)
	switch {
	case p.bar != nil:
		p.bar.Describe(what)
	case p.out != nil:
		fmt.Fprintln(p.out, what)
	}
}

func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar != nil {
		p.bar.Finish()
	}
}
