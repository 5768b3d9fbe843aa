package bench

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"kiln/conformance"
)

// Options say what to measure.
type Options struct {
	// DatabaseURL is a database from which others can be created. Nothing is written into it itself. A database of a
	// scale that an earlier run has made is used again.
	DatabaseURL string
	// Scales are how many resources are there before measuring. Searches are compared between the first and the last.
	Scales []int
	// Synthea is the folder of real bundles to make them of; the demo data where it is absent.
	Synthea string
	// Only measures the groups named: read, auth, write, transaction, search, import, validation. None: all.
	Only []string
	// Match measures only what has this in its name.
	Match string
	// Workers are the concurrencies, Slice how long one server is measured before it is the other's turn.
	Workers []int
	Slice   time.Duration
	Turns   int
	// Command is how to do it again, for the report.
	Command  string
	Out      io.Writer // the report
	Progress io.Writer
}

func (o *Options) does(group string) bool { return len(o.Only) == 0 || slices.Contains(o.Only, group) }

// Run fills the databases, starts Kiln and the ceiling, measures and writes the report.
func Run(ctx context.Context, o Options) error {
	registry, err := conformance.R4()
	if err != nil {
		return err
	}
	people, err := readPopulation(o.Synthea)
	if err != nil {
		return err
	}
	var databases []*database
	for _, scale := range o.Scales {
		d, err := o.filled(ctx, registry, people, scale)
		if err != nil {
			return err
		}
		defer d.close()
		if err := o.settle(ctx, d); err != nil {
			return err
		}
		databases = append(databases, d)
	}
	report, err := newReport(ctx, databases[0].pool, o)
	if err != nil {
		return err
	}
	if o.does("search") {
		if err := report.measureSearches(ctx, databases); err != nil {
			return err
		}
	}
	if o.does("read") || o.does("auth") || o.does("write") || o.does("transaction") || o.does("import") || o.does("validation") {
		copied, err := o.copied(ctx, registry, databases[0])
		if err != nil {
			return err
		}
		defer o.drop(context.WithoutCancel(ctx), copied)
		if err := report.measureCopy(ctx, copied, people); err != nil {
			return err
		}
	}
	return report.write(o.Out)
}

// settle lets a server put FHIR's own definitions into a database, so that this is no part of what is measured.
func (o *Options) settle(ctx context.Context, d *database) error {
	kiln, err := start(ctx, d.url, "/readyz", o.Progress, "serve", "--auth=off")
	if err != nil {
		return err
	}
	defer kiln.stop()
	for range 20 { // a request waits for it, but not for long
		_, err = send(ctx, kiln.base, request{method: http.MethodGet, path: "/fhir/StructureDefinition/Patient", status: http.StatusOK})
		if err == nil || ctx.Err() != nil {
			break
		}
	}
	return err
}

// measureSearches measures searches at all scales, beside the ceiling at the first. Nothing writes meanwhile.
func (r *report) measureSearches(ctx context.Context, databases []*database) error {
	var servers []*process
	var lists [][]scenario
	for _, d := range databases {
		kiln, err := start(ctx, d.url, "/readyz", r.options.Progress, "serve", "--auth=off")
		if err != nil {
			return err
		}
		defer func() { r.peak(kiln); kiln.stop() }()
		servers, lists = append(servers, kiln), append(lists, d.sample.searches())
	}
	bare, err := start(ctx, databases[0].url, "/ready", r.options.Progress, "bench", "--ceiling")
	if err != nil {
		return err
	}
	defer bare.stop()
	for i, sc := range lists[0] {
		if !strings.Contains(sc.name, r.options.Match) {
			continue
		}
		var contenders []contender
		for j, list := range lists {
			if list[i].setup != nil {
				if err := list[i].setup(ctx, servers[j].base); err != nil {
					return fmt.Errorf("%s: %w", sc.name, err)
				}
			}
			contenders = append(contenders, contender{servers[j], databases[j], list[i].kiln})
		}
		if sc.ceiling != nil {
			contenders = append(contenders, contender{bare, databases[0], sc.ceiling})
		}
		if err := r.alike(ctx, sc.name, contenders, len(lists)); err != nil {
			r.searched(sc, 0, []tally{{wrong: err}}, nil)
			continue
		}
		for _, workers := range r.options.Workers {
			tallies := r.options.measure(ctx, contenders, workers)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			r.searched(sc, workers, tallies[:len(lists)], tallies[len(lists):])
		}
	}
	return nil
}

// measureCopy measures what writes, in a copy of the data.
func (r *report) measureCopy(ctx context.Context, d *database, people *population) error {
	var list []scenario
	for _, sc := range d.sample.writes() {
		if r.options.does(sc.group) && strings.Contains(sc.name, r.options.Match) {
			list = append(list, sc)
		}
	}
	if len(list) > 0 {
		kiln, err := start(ctx, d.url, "/readyz", r.options.Progress, "serve", "--auth=off")
		if err != nil {
			return err
		}
		defer func() { r.peak(kiln); kiln.stop() }()
		bare, err := start(ctx, d.url, "/ready", r.options.Progress, "bench", "--ceiling")
		if err != nil {
			return err
		}
		defer bare.stop()
		time.Sleep(2 * time.Second)
		r.idle, _ = kiln.rss()
		for _, sc := range list {
			if sc.setup != nil {
				if err := sc.setup(ctx, kiln.base); err != nil {
					return fmt.Errorf("%s: %w", sc.name, err)
				}
			}
			contenders := []contender{{kiln, d, sc.kiln}, {bare, d, sc.ceiling}}
			if sc.bare != nil {
				contenders = append(contenders, contender{bare, d, sc.bare})
			}
			for _, workers := range r.options.Workers {
				tallies := r.options.measure(ctx, contenders, workers)
				if ctx.Err() != nil {
					return ctx.Err()
				}
				r.wrote(sc, workers, tallies)
			}
			r.peak(kiln)
		}
	}
	if r.options.does("auth") {
		if err := r.measureAuth(ctx, d); err != nil {
			return fmt.Errorf("auth: %w", err)
		}
	}
	if r.options.does("validation") {
		if err := r.measureValidation(ctx, d, people); err != nil {
			return fmt.Errorf("validation: %w", err)
		}
	}
	if r.options.does("import") {
		if err := r.measureImport(ctx, d, people); err != nil {
			return fmt.Errorf("import: %w", err)
		}
	}
	return nil
}
