package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"kiln/auth"
	"kiln/conformance/validate"
	"kiln/fhir"
	"kiln/internal/load"
	"kiln/resources"
	"kiln/storage"
)

// report is the table of what was measured.
type report struct {
	options    Options
	machine    string
	rows       [][]string
	wrong      []error
	idle, peak float64 // MiB
	imported   string
}

var header = []string{"what", "clients", "requests/s", "p50 ms", "p95 ms", "p99 ms", "CPU ms each", "ceiling/s", "ceiling p50", "ratio"}

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

func (r *report) add(name string, workers int, ours, theirs *tally) []string {
	ms := func(d time.Duration) string { return fmt.Sprintf("%.2f", float64(d.Microseconds())/1000) }
	row := []string{name, fmt.Sprint(workers), fmt.Sprintf("%.0f", ours.rate()), ms(ours.percentile(0.5)), ms(ours.percentile(0.95)),
		ms(ours.percentile(0.99)), ms(ours.cpuEach()), "", "", ""}
	if len(theirs.times) > 0 {
		row[7], row[8], row[9] = fmt.Sprintf("%.0f", theirs.rate()), ms(theirs.percentile(0.5)), fmt.Sprintf("%.2f", ours.rate()/theirs.rate())
	}
	if ours.wrong != nil {
		row[0] += " (WRONG ANSWER)"
		r.wrong = append(r.wrong, fmt.Errorf("%s: %w", name, ours.wrong))
	}
	r.rows = append(r.rows, row)
	return row
}

// write writes the report as markdown. A wrong answer is an error.
func (r *report) write(out io.Writer) error {
	fmt.Fprintf(out, "%s, %d resources, %s\n\n    %s\n\n", time.Now().UTC().Format(time.DateOnly), r.options.Scale, r.machine, r.options.Command)
	if len(r.rows) > 0 {
		fmt.Fprintf(out, "| %s |\n|---|%s\n", strings.Join(header, " | "), strings.Repeat("--:|", len(header)-1))
		for _, row := range r.rows {
			fmt.Fprintf(out, "| %s |\n", strings.Join(row, " | "))
		}
		fmt.Fprintf(out, "\nMemory of the server (RSS): %.0f MiB idle, %.0f MiB at most under load.\n", r.idle, r.peak)
	}
	if r.imported != "" {
		fmt.Fprintf(out, "\n%s\n", r.imported)
	}
	return errors.Join(r.wrong...)
}

// measureImport imports variations from NDJSON through the service, and stores others by COPY with rows made
// beforehand, in turns.
func (r *report) measureImport(ctx context.Context, store *storage.Store, list []source) error {
	dir, err := os.MkdirTemp("", "kiln-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	registry := store.Registry()
	validator, err := validate.New(registry, validate.Options{Invariants: true})
	if err != nil {
		return err
	}
	service := resources.New(resources.Options{Store: store, Registry: registry, Validate: validator.Resource, Anonymous: auth.Operator("bench")})
	importer := load.Importer{Store: store, Service: service, Workers: 2}
	var ours, theirs time.Duration
	var imported, copied int
	for turn := range max(2, r.options.Turns) {
		var paths []string
		for i, s := range list[:min(4, len(list))] {
			path := filepath.Join(dir, fmt.Sprintf("%d-%d.ndjson", turn, i))
			if err := writeVariation(path, s, 1_000_000_000+10*turn+i); err != nil {
				return err
			}
			paths = append(paths, path)
		}
		summary, err := importer.Run(ctx, paths...)
		if err != nil {
			return err
		}
		if summary.Failed() > 0 {
			summary.Print(r.options.Progress)
			return errors.New("files failed")
		}
		_, all := summary.Total()
		imported, ours = imported+all.Created, ours+summary.Took

		var prepared []*storage.Prepared
		for i, s := range list[:min(4, len(list))] {
			vary := newVariation(s, 2_000_000_000+10*turn+i, random(turn))
			for _, resource := range s.resources {
				p, err := store.Prepare(vary.of(resource))
				if err != nil {
					return err
				}
				prepared = append(prepared, p)
			}
		}
		began := time.Now()
		for part := prepared; len(part) > 0; part = part[min(2000, len(part)):] {
			if err := store.Copy(ctx, part[:min(2000, len(part))]); err != nil {
				return err
			}
		}
		copied, theirs = copied+len(prepared), theirs+time.Since(began)
	}
	a, b := float64(imported)/ours.Seconds(), float64(copied)/theirs.Seconds()
	r.imported = fmt.Sprintf("Import of NDJSON: %.0f resources/s (2 files at a time); COPY of prepared rows into the same tables: %.0f/s (one connection); ratio %.2f.", a, b, a/b)
	fmt.Fprintln(r.options.Progress, r.imported)
	return nil
}

func writeVariation(path string, s source, variant int) error {
	vary := newVariation(s, variant, random(variant))
	var out []byte
	for _, resource := range s.resources {
		node := vary.of(resource)
		if ref := node.Get("id"); ref == nil || !fhir.ValidID(ref.Text) {
			continue
		}
		out = append(node.AppendJSON(out), '\n')
	}
	return os.WriteFile(path, out, 0o600)
}
