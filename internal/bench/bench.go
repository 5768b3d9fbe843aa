package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"kiln/conformance"
	"kiln/storage"
)

// Options say what to measure.
type Options struct {
	// DatabaseURL is a migrated database without resources: the measurement fills it.
	DatabaseURL string
	// Scale is how many resources are there before measuring.
	Scale int
	// Synthea is the folder of real bundles to make them of; the demo data where it is absent.
	Synthea string
	// Only measures the groups named: write, search, import. None: all.
	Only []string
	// Workers are the concurrencies, Slice how long one side is measured before it is the other's turn.
	Workers []int
	Slice   time.Duration
	Turns   int
	// Command is how to do it again, for the report.
	Command  string
	Out      io.Writer // the report
	Progress io.Writer
}

func (o *Options) does(group string) bool { return len(o.Only) == 0 || slices.Contains(o.Only, group) }

// Run fills the database, starts Kiln and the ceiling, measures and writes the report.
func Run(ctx context.Context, o Options) error {
	registry, err := conformance.R4()
	if err != nil {
		return err
	}
	store, err := storage.Open(ctx, storage.Options{URL: o.DatabaseURL, Registry: registry, StatementTimeout: time.Hour, Unrestricted: true})
	if err != nil {
		return err
	}
	defer store.Close()
	pool, err := pgxpool.New(ctx, o.DatabaseURL)
	if err != nil {
		return errors.New("bench: the database cannot be opened")
	}
	defer pool.Close()
	var used bool
	if err := pool.QueryRow(ctx, "SELECT EXISTS (SELECT FROM resource)").Scan(&used); err != nil {
		return err
	}
	if used {
		return errors.New("bench: there are resources in this database, and it would add rows that are none; use an empty one")
	}
	list, err := sources(o.Synthea)
	if err != nil {
		return err
	}
	if err := generate(ctx, store, list, o.Scale, o.Progress); err != nil {
		return fmt.Errorf("generate: %w", err)
	}
	if _, err := pool.Exec(ctx, "VACUUM ANALYZE"); err != nil {
		return err
	}
	s, err := readSample(ctx, pool, o.Scale)
	if err != nil {
		return err
	}
	report, err := newReport(ctx, pool, o)
	if err != nil {
		return err
	}
	if err := measureAll(ctx, o, s, report); err != nil {
		return err
	}
	if o.does("import") {
		if err := report.measureImport(ctx, store, list); err != nil {
			return fmt.Errorf("import: %w", err)
		}
	}
	return report.write(o.Out)
}

// measureAll starts both servers and goes through the scenarios, searches first: they must not see what the ceiling
// writes.
func measureAll(ctx context.Context, o Options, s *sample, report *report) error {
	var scenarios []scenario
	if o.does("search") {
		scenarios = append(scenarios, s.searches()...)
	}
	if o.does("write") {
		scenarios = append(scenarios, s.writes()...)
	}
	if len(scenarios) == 0 {
		return nil
	}
	kiln, err := start(ctx, o.DatabaseURL, "/readyz", o.Progress, "serve")
	if err != nil {
		return err
	}
	defer kiln.stop()
	bare, err := start(ctx, o.DatabaseURL, "/ready", o.Progress, "bench", "--ceiling")
	if err != nil {
		return err
	}
	defer bare.stop()
	time.Sleep(time.Second)
	report.idle, _ = kiln.rss()
	for _, sc := range scenarios {
		for _, workers := range o.Workers {
			var ours, theirs tally
			measure(ctx, kiln, sc.kiln, workers, o.Slice/4, 99, &tally{}) // warm
			for turn := range o.Turns {
				measure(ctx, kiln, sc.kiln, workers, o.Slice, uint64(turn), &ours)
				if sc.ceiling != nil {
					measure(ctx, bare, sc.ceiling, workers, o.Slice, uint64(turn), &theirs)
				}
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if theirs.wrong != nil {
				return fmt.Errorf("the ceiling gives a wrong answer: %w", theirs.wrong)
			}
			row := report.add(sc.name, workers, &ours, &theirs)
			fmt.Fprintln(o.Progress, strings.Join(row, " | "))
		}
	}
	_, report.peak = kiln.rss()
	return nil
}
