package bench

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"kiln/auth"
	"kiln/conformance/validate"
	"kiln/fhir"
	"kiln/internal/load"
	"kiln/resources"
	"kiln/storage"
)

const (
	importWorkers = 2
	// importTime is how long resources are imported, in turns of importTurn of them: what an import does at its beginning is a small part of each.
	importTime = 10 * time.Second
	importTurn = 4000
)

// measureImport imports records from NDJSON, validated and indexed, and stores others by COPY with rows made
// beforehand: all rows, then only those of the resource and its history. They take turns, each with two connections, and the first is not
// counted: it compiles what each type asks for.
func (r *report) measureImport(ctx context.Context, d *database, people *population) error {
	dir, err := os.MkdirTemp("", "kiln-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	registry := d.store.Registry()
	validator, err := validate.New(registry, validate.Options{Invariants: true})
	if err != nil {
		return err
	}
	service, err := resources.New(resources.Options{Store: d.store, Registry: registry, Validate: validator.Resource, Anonymous: auth.Operator("bench")})
	if err != nil {
		return err
	}
	importer := load.Importer{Store: d.store, Service: service, Workers: importWorkers}
	var imported, copied, bare rate
	for turn := 0; imported.took < importTime; turn++ {
		if turn == 1 {
			imported, copied, bare = rate{}, rate{}, rate{}
		}
		paths, err := writeFiles(dir, people.recordsFrom(1_000_000_000+importTurn*turn, importTurn))
		if err != nil {
			return err
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
		imported.add(all.Created, summary.Took)

		var prepared []*storage.Prepared
		for _, node := range people.recordsFrom(1_500_000_000+importTurn*turn, importTurn) {
			p, err := d.store.Prepare(node)
			if err != nil {
				return err
			}
			prepared = append(prepared, p)
		}
		began := time.Now()
		if err := parallel(ctx, prepared, func(ctx context.Context, part []*storage.Prepared) error { return d.store.Copy(ctx, part) }); err != nil {
			return err
		}
		copied.add(len(prepared), time.Since(began))

		rows := bareRows(d.store, people.recordsFrom(2_000_000_000+importTurn*turn, importTurn))
		began = time.Now()
		if err := parallel(ctx, rows, func(ctx context.Context, part []bareRow) error { return copyBare(ctx, d, part) }); err != nil {
			return err
		}
		bare.add(len(rows), time.Since(began))
	}
	const aim = 0.35 // of a COPY of the same rows, as the other scenarios are compared with a handler that writes the same rows
	ratio := imported.perSecond() / copied.perSecond()
	r.note("Import of NDJSON, validated and indexed, with two workers: %d resources, %.0f/s. COPY of the same rows made beforehand, with two connections: %.0f/s (ratio %.2f; aim %.2f, %s). "+
		"COPY of only the rows of resource and history: %.0f/s (ratio %.2f).",
		imported.n, imported.perSecond(), copied.perSecond(), ratio, aim, verdict(ratio < aim, "ratio"), bare.perSecond(), imported.perSecond()/bare.perSecond())
	return nil
}

type rate struct {
	n    int
	took time.Duration
}

func (r *rate) add(n int, took time.Duration) { r.n, r.took = r.n+n, r.took+took }
func (r *rate) perSecond() float64            { return float64(r.n) / max(r.took.Seconds(), 1e-9) }

// parallel gives the parts of a list to two workers.
func parallel[T any](ctx context.Context, list []T, work func(context.Context, []T) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(importWorkers)
	for len(list) > 0 {
		part := list[:min(copyBatch, len(list))]
		list = list[len(part):]
		group.Go(func() error { return work(ctx, part) })
	}
	return group.Wait()
}

// recordsFrom makes variations of the records, from number on, until there are n resources. Appointments, which the demo data have, are not among them:
// those of several variations may be at one time.
func (p *population) recordsFrom(number, n int) (list []*fhir.Node) {
	for i := 0; ; i++ {
		record := p.records[i%len(p.records)]
		v := p.variation(record, number+i, random(number+i))
		for _, resource := range record.resources {
			if len(list) == n {
				return list
			}
			if resource.ResourceType() != "Appointment" {
				list = append(list, v.of(resource))
			}
		}
	}
}

// writeFiles writes resources as NDJSON, in as many files as there are workers.
func writeFiles(dir string, list []*fhir.Node) (paths []string, err error) {
	files := make([][]byte, importWorkers)
	for i, node := range list {
		if !fhir.ValidID(node.ID()) {
			continue
		}
		f := &files[i%importWorkers]
		*f = append(node.AppendJSON(*f), '\n')
	}
	for i, content := range files {
		path := filepath.Join(dir, string(rune('a'+i))+".ndjson")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return nil, err
		}
		paths = append(paths, path)
	}
	return paths, nil
}

type bareRow struct {
	rk      int64
	typ, id string
	number  int16
	content []byte
}

func bareRows(store *storage.Store, list []*fhir.Node) []bareRow {
	rows := make([]bareRow, len(list))
	hash := store.Hasher()
	for i, node := range list {
		typ, id := node.ResourceType(), node.ID()
		rows[i] = bareRow{hash.Resource(typ, id), typ, id, store.Registry().TypeNumber(typ), node.JSON()}
	}
	return rows
}

func copyBare(ctx context.Context, d *database, list []bareRow) error {
	now := time.Now().UTC()
	return pgx.BeginFunc(ctx, d.pool, func(tx pgx.Tx) error {
		_, err := tx.CopyFrom(ctx, pgx.Identifier{"resource"}, []string{"rk", "type", "type_number", "id", "version", "last_updated", "method", "content"},
			pgx.CopyFromSlice(len(list), func(i int) ([]any, error) {
				return []any{list[i].rk, list[i].typ, list[i].number, list[i].id, int32(1), now, "C", list[i].content}, nil
			}))
		if err != nil {
			return err
		}
		_, err = tx.CopyFrom(ctx, pgx.Identifier{"resource_change"}, []string{"last_updated", "type", "rk", "version"},
			pgx.CopyFromSlice(len(list), func(i int) ([]any, error) { return []any{now, list[i].number, list[i].rk, int32(1)}, nil }))
		return err
	})
}
