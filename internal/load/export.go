package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"kiln/storage"
)

// Export writes the current resources of the types (all types when there are none) as NDJSON, one file Type.ndjson for
// each type that has any, into dir. It returns how many there were of each. Files appear under their names when they
// are whole; all show the database as it was at one moment.
func Export(ctx context.Context, store *storage.Store, types []string, dir string) (map[string]int, error) {
	types, err := exportTypes(store, types)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	counts := map[string]int{}
	var file *os.File
	var out *bufio.Writer
	current := ""
	finish := func() error {
		if file == nil {
			return nil
		}
		f := file
		file = nil
		if err := errors.Join(out.Flush(), f.Close()); err != nil {
			return err
		}
		return os.Rename(f.Name(), filepath.Join(dir, current+".ndjson"))
	}
	err = store.Each(ctx, types, func(v *storage.Version) (err error) {
		if v.Type != current {
			if err := finish(); err != nil {
				return err
			}
			current = v.Type
			// 0600: health data are for whoever asked for them.
			file, err = os.OpenFile(filepath.Join(dir, current+".ndjson.part"), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
			if err != nil {
				return err
			}
			out = bufio.NewWriterSize(file, 256<<10)
		}
		counts[v.Type]++
		return writeLine(out, v)
	})
	if err != nil {
		if file != nil {
			file.Close()
			os.Remove(file.Name())
		}
		return counts, err
	}
	return counts, finish()
}

// ExportTo is Export into one stream.
func ExportTo(ctx context.Context, store *storage.Store, types []string, to io.Writer) (map[string]int, error) {
	types, err := exportTypes(store, types)
	if err != nil {
		return nil, err
	}
	counts := map[string]int{}
	out := bufio.NewWriterSize(to, 256<<10)
	err = store.Each(ctx, types, func(v *storage.Version) error {
		counts[v.Type]++
		return writeLine(out, v)
	})
	return counts, errors.Join(err, out.Flush())
}

// exportTypes checks the types and sorts them.
func exportTypes(store *storage.Store, types []string) ([]string, error) {
	all := store.Registry().Schema().Resources
	for _, t := range types {
		if !slices.Contains(all, t) {
			return nil, fmt.Errorf("%q is not a resource type of FHIR R4", t)
		}
	}
	if len(types) > 0 {
		all = types
	}
	return slices.Compact(slices.Sorted(slices.Values(all))), nil
}

// writeLine writes a resource as stored; its JSON has line ends only as escapes.
func writeLine(out *bufio.Writer, v *storage.Version) error {
	out.Write(v.Content)
	return out.WriteByte('\n')
}
