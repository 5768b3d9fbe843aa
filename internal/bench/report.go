package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// report is what was measured, as tables of markdown.
type report struct {
	options    Options
	machine    string
	writes     [][]string
	auth       [][]string
	searches   [][]string
	notes      []string
	wrong      []error
	idle, most float64 // MiB
}

func newReport(ctx context.Context, pool *pgxpool.Pool, o Options) (*report, error) {
	var version, commit, buffers string
	err := pool.QueryRow(ctx, "SELECT current_setting('server_version'), current_setting('synchronous_commit'), current_setting('shared_buffers')").
		Scan(&version, &commit, &buffers)
	return &report{options: o, machine: fmt.Sprintf("%d × %s, %s, PostgreSQL %s (synchronous_commit %s, shared_buffers %s)",
		runtime.NumCPU(), cpuModel(), runtime.Version(), version, commit, buffers)}, err
}

func cpuModel() string {
	data, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(data)) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

func (r *report) peak(p *process) {
	_, most := p.rss()
	r.most = max(r.most, most)
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f", float64(d.Microseconds())/1000) }

// speed are the cells of requests a second, percentiles and processor time of the server.
func speed(t *tally) []string {
	return []string{fmt.Sprintf("%.0f", t.rate()), ms(t.percentile(0.5)), ms(t.percentile(0.95)), ms(t.percentile(0.99)),
		fmt.Sprintf("%.3f", t.each(t.cpu).Seconds()*1e3), fmt.Sprintf("%.3f", t.each(t.work).Seconds()*1e3)}
}

var speedHeader = []string{"requests/s", "p50 ms", "p95 ms", "p99 ms", "CPU ms", "PostgreSQL's"}

// check says whether all answers were right; a wrong one makes the whole measurement fail.
func (r *report) check(name string, tallies ...tally) bool {
	right := true
	for i := range tallies {
		if err := tallies[i].wrong; err != nil {
			right, r.wrong = false, append(r.wrong, fmt.Errorf("%s: wrong answer: %w", name, err))
		}
	}
	return right
}

// wrote adds the line of a scenario: Kiln, the ceiling, and where there is one the ceiling without index rows.
func (r *report) wrote(sc scenario, workers int, t []tally) {
	if !r.check(sc.name, t...) {
		r.writes = append(r.writes, []string{sc.name, fmt.Sprint(workers), "WRONG ANSWER"})
		return
	}
	row := append([]string{sc.name, fmt.Sprint(workers)}, speed(&t[0])...)
	for i := 1; i < 3; i++ {
		if i >= len(t) {
			row = append(row, "", "", "", "")
			continue
		}
		row = append(row, fmt.Sprintf("%.0f", t[i].rate()), ms(t[i].each(t[i].cpu)), ms(t[i].each(t[i].work)), fmt.Sprintf("%.2f", t[0].rate()/t[i].rate()))
	}
	row = append(row, fmt.Sprintf("%.2f", sc.ratio), verdict(t[0].rate()/t[1].rate() < sc.ratio, "ratio"))
	r.writes = append(r.writes, row)
	if later := t[0].each(t[0].later); later >= 10*time.Microsecond {
		r.note("%s, %d clients: %s ms of processors later for the AuditEvents of a request.", sc.name, workers, ms(later))
	}
	fmt.Fprintln(r.options.Progress, strings.Join(row, " | "))
}

const (
	selectiveAim = 2 * time.Millisecond   // the median of one client
	slowestAim   = 150 * time.Millisecond // the 99th percentile of eight
)

// searched adds the line of a search: Kiln at each scale, and the ceiling at the first where there is one.
func (r *report) searched(sc scenario, workers int, t, ceiling []tally) {
	if !r.check(sc.name, append(t, ceiling...)...) {
		r.searches = append(r.searches, []string{sc.name, fmt.Sprint(workers), "WRONG ANSWER"})
		return
	}
	row := []string{sc.name, fmt.Sprint(workers)}
	for i := range t {
		row = append(append(row, fmt.Sprintf("%.1f", float64(t[i].matches)/float64(max(len(t[i].times), 1)))), speed(&t[i])...)
	}
	last := &t[len(t)-1]
	var missed []string
	miss := func(is bool, what string) {
		if is {
			missed = append(missed, what)
		}
	}
	growth, aim, ratio := "", "", ""
	used := func(t *tally) float64 { return t.each(t.cpu + t.work).Seconds() }
	if len(t) > 1 {
		by := last.percentile(0.5).Seconds() / max(t[0].percentile(0.5).Seconds(), 1e-9)
		growth = fmt.Sprintf("%.2f, CPU %.2f", by, used(last)/max(used(&t[0]), 1e-9))
		if sc.growth > 0 {
			aim = fmt.Sprintf("≤ %.2f", sc.growth)
			miss(by > sc.growth, "growth")
		}
	}
	if len(ceiling) > 0 {
		ratio = fmt.Sprintf("%.2f (aim %.2f)", t[0].rate()/ceiling[0].rate(), sc.ratio)
		miss(t[0].rate()/ceiling[0].rate() < sc.ratio, "ratio")
	}
	miss(sc.selective && workers == 1 && last.percentile(0.5) > selectiveAim, "p50")
	miss(workers == 8 && last.percentile(0.99) > slowestAim, "p99")
	row = append(row, growth, aim, ratio, verdict(len(missed) > 0, strings.Join(missed, ", ")))
	r.searches = append(r.searches, row)
	fmt.Fprintln(r.options.Progress, strings.Join(row, " | "))
}

func verdict(missed bool, what string) string {
	if missed {
		return "**missed: " + what + "**"
	}
	return "met"
}

// write writes the report. A wrong answer is an error.
func (r *report) write(out io.Writer) error {
	fmt.Fprintf(out, "%s, %s\n\n    %s\n", time.Now().UTC().Format(time.DateOnly), r.machine, r.options.Command)
	if len(r.writes) > 0 {
		head := append([]string{"what", "clients"}, speedHeader...)
		table(out, append(head, "ceiling/s", "its CPU ms", "PostgreSQL's", "ratio", "bare rows/s", "its CPU ms", "PostgreSQL's", "ratio to it", "aim of ratio", ""), r.writes)
		fmt.Fprintf(out, "\nMemory of the server (RSS): %.0f MiB idle, %.0f MiB at most under load.\n", r.idle, r.most)
	}
	if len(r.searches) > 0 {
		head := []string{"search", "clients"}
		for _, scale := range r.options.Scales {
			for _, h := range append([]string{"matches"}, speedHeader...) {
				head = append(head, fmt.Sprintf("%s at %s", h, short(scale)))
			}
		}
		table(out, append(head, "growth of p50 and of all CPU", "aim of p50", "ratio to ceiling", ""), r.searches)
	}
	if len(r.auth) > 0 {
		table(out, authHeader(), r.auth)
	}
	for _, note := range r.notes {
		fmt.Fprintf(out, "\n%s\n", note)
	}
	return errors.Join(r.wrong...)
}

func short(n int) string {
	switch {
	case n >= 1_000_000 && n%1_000_000 == 0:
		return fmt.Sprintf("%dM", n/1_000_000)
	case n >= 1000 && n%1000 == 0:
		return fmt.Sprintf("%dk", n/1000)
	}
	return fmt.Sprint(n)
}

func table(out io.Writer, head []string, rows [][]string) {
	fmt.Fprintf(out, "\n| %s |\n|---|%s\n", strings.Join(head, " | "), strings.Repeat("--:|", len(head)-1))
	for _, row := range rows {
		fmt.Fprintf(out, "| %s |\n", strings.Join(row, " | "))
	}
}

func (r *report) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	r.notes = append(r.notes, text)
	fmt.Fprintln(r.options.Progress, text)
}
