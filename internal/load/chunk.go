package load

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"kiln/fhir"
	"kiln/resources"
	"kiln/storage"
)

// chunk is a stretch of a file that goes in as one transaction. What does not go in as a whole goes in entry by entry.
type chunk struct {
	entries []fhir.Node
	places  []int // entry or line of each, counted from 1
	bytes   int64
	// texts are what the resources were parsed from; none where an entry is more than its resource. taken is how many
	// entries have been given away.
	texts []string
	taken int
	// whole says that it must go in as a whole: it is a transaction of whoever wrote the file.
	whole bool
	// puts says that all entries name their id, so that repeating them doubles nothing.
	puts bool
}

func (c *chunk) start() int32 { return int32(c.places[0]) }

// take gives the entries from i to before j away: the service may change them. Those that may be needed again are made anew.
func (c *chunk) take(i, j int) []fhir.Node {
	list := make([]fhir.Node, 0, j-i)
	for ; i < j; i++ {
		switch {
		case len(c.texts) == 0:
			list = append(list, c.entries[i].Clone())
		case i >= c.taken:
			list = append(list, c.entries[i])
			c.entries[i], c.taken = fhir.Node{}, i+1
		default:
			node, err := fhir.ParseText(c.texts[i])
			if err != nil {
				panic("load: what was parsed before cannot be parsed: " + err.Error())
			}
			list = append(list, asEntry(*node, ""))
		}
	}
	return list
}

const (
	maxTries  = 5
	firstWait = 200 * time.Millisecond
)

// importChunk performs a chunk, unless it was performed before. The error says that the file cannot go on.
func (w *work) importChunk(ctx context.Context, c *chunk) error {
	if slices.Contains(w.known.Done, c.start()) {
		w.progress.add(0, c.bytes)
		w.result.Repeated += len(c.entries)
		return nil
	}
	if slices.Contains(w.known.Split, c.start()) {
		return w.importSplit(ctx, c)
	}
	resp, err := w.do(ctx, resources.Transaction, c, 0, len(c.entries), w.key("chunk", c.start()))
	switch {
	case err == nil:
		for _, e := range resp.Bundle.Entries {
			w.result.count(e)
		}
		w.progress.add(len(resp.Bundle.Entries), c.bytes)
		if !c.whole { // else the file is finished, which says it all
			return w.store.MarkImport(ctx, w.file.hash[:], storage.ImportFile{Done: []int32{c.start()}})
		}
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case !isRefusal(err):
		return err
	case c.whole:
		w.result.fail(c.places, err)
		w.progress.add(0, c.bytes)
		return nil
	}
	if err := w.store.MarkImport(ctx, w.file.hash[:], storage.ImportFile{Split: []int32{c.start()}}); err != nil {
		return err
	}
	return w.importSplit(ctx, c)
}

// importSplit performs the entries of a chunk one by one.
func (w *work) importSplit(ctx context.Context, c *chunk) error {
	var done []int32
	failed := false
	for i, place := range c.places {
		if slices.Contains(w.known.Done, int32(-place)) {
			w.result.Repeated++
			continue
		}
		resp, err := w.do(ctx, resources.Batch, c, i, i+1, w.key("entry", int32(place)))
		if err == nil {
			w.result.count(resp.Bundle.Entries[0])
			done = append(done, int32(-place))
			continue
		}
		if ctx.Err() != nil || !isRefusal(err) {
			return errors.Join(err, w.store.MarkImport(context.WithoutCancel(ctx), w.file.hash[:], storage.ImportFile{Done: done}))
		}
		failed = true
		w.result.fail(c.places[i:i+1], err)
	}
	w.progress.add(len(done), c.bytes)
	if !failed {
		done = []int32{c.start()}
	}
	return w.store.MarkImport(ctx, w.file.hash[:], storage.ImportFile{Done: done})
}

// do sends the entries from i to before j as a Bundle. What may pass by itself is tried again.
func (w *work) do(ctx context.Context, kind resources.Interaction, c *chunk, i, j int, key string) (*resources.Response, error) {
	if c.puts {
		key = ""
	}
	wait := firstWait
	for try := 1; ; try++ {
		body := fhir.Obj(fhir.Str("Bundle").As("resourceType"), fhir.Str(string(kind)).As("type"), fhir.Arr(c.take(i, j)...).As("entry"))
		resp, err := w.service.Do(ctx, resources.Request{Interaction: kind, Body: &body, IdempotencyKey: key})
		if err == nil && kind == resources.Batch { // of one entry
			err = resp.Bundle.Entries[0].Err
		}
		if err == nil || fhir.KindOf(err) != fhir.Transient || try == maxTries {
			return resp, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(wait):
			wait *= 2
		}
	}
}

// key is the Idempotency-Key of a stretch of this file's content.
func (w *work) key(kind string, start int32) string {
	return fmt.Sprintf("kiln-import:%s:%s:%d", hex.EncodeToString(w.file.hash[:]), kind, start)
}

// isRefusal says that the server does not want the content, as opposed to being unable to take it.
func isRefusal(err error) bool {
	switch fhir.KindOf(err) {
	case fhir.Transient, fhir.Internal:
		return false
	}
	return err != nil
}

// issuesOf are the texts of an error, each with the place in the file that it is about.
func issuesOf(err error, places []int, unit string) []Failure {
	var e *fhir.Error
	if !errors.As(err, &e) || len(e.Issues) == 0 {
		return []Failure{{Place: at(unit, places[:min(1, len(places))], 0), Text: err.Error()}}
	}
	var list []Failure
	for _, issue := range e.Issues {
		if issue.Severity == fhir.SeverityWarning || issue.Severity == fhir.SeverityInformation {
			continue
		}
		f := Failure{Text: issue.Text}
		if len(places) == 1 {
			f.Place = at(unit, places, 0)
		}
		if len(issue.Expression) > 0 {
			var i int
			f.Expression = issue.Expression[0]
			if n, _ := fmt.Sscanf(f.Expression, "Bundle.entry[%d]", &i); n == 1 && i < len(places) {
				f.Place = at(unit, places, i)
				_, f.Expression, _ = strings.Cut(f.Expression, "].")
			}
		}
		list = append(list, f)
	}
	return list
}

func at(unit string, places []int, i int) string {
	if len(places) == 0 {
		return ""
	}
	return unit + " " + fmt.Sprint(places[i])
}
