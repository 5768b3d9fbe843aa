package load

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"kiln/fhir"
	"kiln/resources"
	"kiln/storage"
)

const (
	// chunkEntries and chunkBytes bound what goes in as one transaction, where the file does not say.
	chunkEntries = 200
	chunkBytes   = 4 << 20
	// maxLine bounds a line of NDJSON, maxFile a file that is one JSON value.
	maxLine = 64 << 20
	maxFile = 512 << 20
)

// work is the import of one file.
type work struct {
	file     *file
	store    *storage.Store
	service  *resources.Service
	known    storage.ImportFile
	result   *Result
	progress *progress
}

// run imports the file. The error says why it could not go on; refused entries are in the result.
func (w *work) run(ctx context.Context) (err error) {
	if w.known, err = w.store.ImportFile(ctx, w.file.hash[:], w.file.path); err != nil {
		return err
	}
	if w.known.Finished {
		w.result.Before = true
		w.progress.add(0, w.file.size)
		return nil
	}
	in, err := w.file.open()
	if err != nil {
		return err
	}
	defer in.Close()
	if w.file.lines {
		err = w.importLines(ctx, in)
	} else {
		err = w.importJSON(ctx, in)
	}
	if err != nil || len(w.result.Failures) > 0 {
		return err
	}
	return w.store.MarkImport(ctx, w.file.hash[:], storage.ImportFile{Finished: true})
}

// importLines imports NDJSON as it comes, a chunk in memory at a time.
func (w *work) importLines(ctx context.Context, in io.Reader) error {
	w.result.unit = "line"
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	b := chunker{work: w, ctx: ctx}
	for n := 1; lines.Scan(); n++ {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		text := string(line)
		node, err := fhir.ParseText(text)
		if err == nil {
			err = b.resource(*node, "", text, n, int64(len(line))+1)
		} else if isRefusal(err) {
			w.result.fail([]int{n}, err)
			err = nil
		}
		if err != nil {
			return err
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return fmt.Errorf("a line is longer than %d MiB", maxLine>>20)
	}
	return errors.Join(lines.Err(), b.flush())
}

// importJSON imports a file that is one resource, perhaps a Bundle.
func (w *work) importJSON(ctx context.Context, in io.Reader) error {
	w.result.unit = "entry"
	data, err := io.ReadAll(io.LimitReader(in, maxFile+1))
	if err != nil {
		return err
	}
	if len(data) > maxFile {
		return fmt.Errorf("the file is larger than %d MiB; as NDJSON it can have any size", maxFile>>20)
	}
	node, err := fhir.ParseJSON(data)
	if err != nil {
		if isRefusal(err) {
			w.result.fail(nil, err)
			return nil
		}
		return err
	}
	b := chunker{work: w, ctx: ctx}
	if node.ResourceType() != "Bundle" {
		if err := b.resource(*node, "", "", 1, w.file.size); err != nil {
			return err
		}
		return b.flush()
	}
	var entries []fhir.Node
	if list := node.Get("entry"); list != nil {
		entries = list.Kids
	}
	if len(entries) == 0 {
		return nil
	}
	each := w.file.size / int64(len(entries))
	switch kind := node.GetText("type"); {
	case kind == "transaction", kind == "collection" && namesOthers(entries):
		c := &chunk{entries: entries, whole: true, bytes: w.file.size, places: make([]int, len(entries))}
		for i := range entries {
			c.places[i] = i + 1
			if kind == "collection" {
				entries[i] = asEntry(*entries[i].Get("resource"), entries[i].GetText("fullUrl"))
			}
		}
		return w.importChunk(ctx, c)
	case kind == "batch":
		for i := range entries {
			if err := b.add(entries[i], "", i+1, each); err != nil {
				return err
			}
		}
	case kind == "collection", kind == "searchset":
		for i := range entries {
			resource := entries[i].Get("resource")
			if resource == nil || entries[i].At("search").GetText("mode") == "outcome" {
				continue
			}
			if err := b.resource(*resource, entries[i].GetText("fullUrl"), "", i+1, each); err != nil {
				return err
			}
		}
	default:
		w.result.fail(nil, fhir.NewError(fhir.Invalid, fhir.CodeValue, fmt.Sprintf(
			"Bundle.type is %q; a transaction, batch, collection or searchset can be imported", kind)))
		return nil
	}
	return b.flush()
}

// namesOthers says whether entries refer to each other by urn, so that they belong into one transaction.
func namesOthers(entries []fhir.Node) bool {
	urn := false
	for i := range entries {
		if entries[i].Get("resource") == nil {
			return false
		}
		if full := entries[i].GetText("fullUrl"); len(full) > 4 && full[:4] == "urn:" {
			urn = true
		}
	}
	return urn
}

// asEntry makes the entry that stores a resource: under its id, or under a new one where it has none.
func asEntry(resource fhir.Node, fullURL string) fhir.Node {
	typ, id := resource.ResourceType(), resource.ID()
	method, url := "POST", typ
	if id != "" {
		method, url = "PUT", typ+"/"+id
	}
	entry := fhir.Obj()
	if fullURL != "" {
		entry.Set("fullUrl", fhir.Str(fullURL))
	}
	entry.Set("resource", resource)
	entry.Set("request", fhir.Obj(fhir.Str(method).As("method"), fhir.Str(url).As("url")))
	return entry
}

// chunker gathers entries into chunks. Where a chunk ends depends on nothing but the content of the file.
type chunker struct {
	*work
	ctx  context.Context
	next *chunk
	urls map[string]bool
}

// resource adds what stores a resource; text is what it was parsed from, "" where that is not at hand.
func (b *chunker) resource(resource fhir.Node, fullURL, text string, place int, size int64) error {
	if resource.Kind != fhir.Object || resource.ResourceType() == "" {
		b.result.fail([]int{place}, fhir.NewError(fhir.Invalid, fhir.CodeRequired, "This is not a resource: it has no resourceType"))
		return nil
	}
	return b.add(asEntry(resource, fullURL), text, place, size)
}

func (b *chunker) add(entry fhir.Node, text string, place int, size int64) error {
	request := entry.Get("request")
	method, url := request.GetText("method"), request.GetText("url")
	// A transaction writes each resource once: a second version of one begins a new chunk.
	if b.next != nil && (len(b.next.entries) >= chunkEntries || b.next.bytes >= chunkBytes || method != "POST" && b.urls[url]) {
		if err := b.flush(); err != nil {
			return err
		}
	}
	if b.next == nil {
		b.next, b.urls = &chunk{puts: true}, map[string]bool{}
	}
	c := b.next
	b.urls[url] = true
	c.entries, c.places, c.bytes = append(c.entries, entry), append(c.places, place), c.bytes+size
	if text != "" {
		c.texts = append(c.texts, text)
	}
	c.puts = c.puts && method == "PUT" && request.Get("ifMatch") == nil
	return nil
}

func (b *chunker) flush() error {
	c := b.next
	if b.next = nil; c == nil {
		return nil
	}
	return b.importChunk(b.ctx, c)
}
