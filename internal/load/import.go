package load

import (
	"context"
	"errors"
	"io"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"kiln/resources"
	"kiln/storage"
)

// Importer brings files into a Kiln database.
type Importer struct {
	Store   *storage.Store
	Service *resources.Service
	// Workers is how many files are imported at a time; 0 is one for each processor, 8 at most.
	Workers int
	// Progress hears how far the import is; nil for nobody.
	Progress io.Writer
}

// Run imports the files below paths, prerequisites first, and puts the texts of the index in order where many came. The error is of the import as a whole; what became of each
// file is in the summary, also when there is an error.
func (im *Importer) Run(ctx context.Context, paths ...string) (*Summary, error) {
	ctx, began := resources.Importing(ctx), time.Now()
	files, err := find(paths)
	if err != nil {
		return nil, err
	}
	workers := im.Workers
	if workers == 0 {
		workers = min(runtime.GOMAXPROCS(0), 8)
	}
	summary := &Summary{Files: make([]*Result, len(files))}
	results := make(map[*file]*Result, len(files))
	for i, f := range files {
		summary.Files[i] = &Result{Path: f.path, unit: "entry"}
		results[f] = summary.Files[i]
	}
	inspecting := errgroup.Group{}
	inspecting.SetLimit(workers)
	for _, f := range files {
		inspecting.Go(func() error {
			results[f].Err = f.inspect(ctx)
			return ctx.Err()
		})
	}
	if err := inspecting.Wait(); err != nil {
		return summary, err
	}
	var good []*file
	var bytes int64
	same := map[[32]byte]bool{}
	for _, f := range files {
		r := results[f]
		switch {
		case r.Err != nil:
		case same[f.hash]:
			r.Before = true // the same content under another name
		case !f.fhir && f.named:
			r.Err = errors.New("there is no FHIR resource in it")
		case !f.fhir:
			r.NotFHIR = true
		default:
			same[f.hash] = true
			good = append(good, f)
			bytes += f.size
		}
	}
	progress := newProgress(im.Progress, bytes)
	defer progress.end()
	for _, stage := range stages(good) {
		group, inner := errgroup.WithContext(ctx)
		group.SetLimit(workers)
		for _, f := range stage {
			group.Go(func() error {
				w := &work{file: f, store: im.Store, service: im.Service, result: results[f], progress: progress}
				w.result.Err = w.run(inner)
				return inner.Err()
			})
		}
		if err := group.Wait(); err != nil {
			return summary, err
		}
		if err := im.Store.Ping(ctx); err != nil { // with the database gone, the other stages would only fail too
			return summary, err
		}
	}
	summary.Took = time.Since(began)
	if err := im.Store.OrderTexts(ctx, progress.ordering); err != nil {
		summary.Unordered = err
	}
	return summary, ctx.Err()
}
