package storage_test

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"kiln/conformance"
	"kiln/fhir"
	"kiln/internal/kilntest"
	"kiln/storage"
)

// synthea reads the resources of some Synthea bundles, without references that would have to be resolved.
func synthea(t testing.TB, bundles int) []*fhir.Node {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(kilntest.SharedData(t, "synthea"), "v2*", "*-*-*-*-*.json.gz"))
	if err != nil {
		t.Fatal(err)
	}
	var list []*fhir.Node
	for _, name := range files[:min(bundles, len(files))] {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		z, err := gzip.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		if _, err := fmt.Fprint(&b, readAll(t, z)); err != nil {
			t.Fatal(err)
		}
		f.Close()
		n, err := fhir.ParseJSON([]byte(b.String()))
		if err != nil {
			t.Fatal(err)
		}
		for e := range n.Get("entry").Items() {
			list = append(list, e.Get("resource"))
		}
	}
	if len(list) == 0 {
		t.Fatal("the folder of Synthea bundles has none of the names expected")
	}
	return list
}

func readAll(t testing.TB, z *gzip.Reader) string {
	var b strings.Builder
	if _, err := io.Copy(&b, z); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// BenchmarkInsert measures single creates of Synthea resources, and what the full text and the composites add.
func BenchmarkInsert(b *testing.B) {
	registry, err := conformance.R4()
	if err != nil {
		b.Fatal(err)
	}
	source := synthea(b, 12)
	for _, c := range []struct{ name, sql string }{
		{"all", "SELECT 1"},
		{"no_composite_gin", "DROP INDEX search_composite_tokens"},
		{"no_text", "CREATE RULE no AS ON INSERT TO search_text DO INSTEAD NOTHING"},
		{"all_again", "SELECT 1"},
	} {
		b.Run(c.name, func(b *testing.B) {
			ctx := context.Background()
			url := kilntest.DB(b)
			conn, err := pgx.Connect(ctx, url)
			if err == nil {
				_, err = conn.Exec(ctx, c.sql)
				conn.Close(ctx)
			}
			if err != nil {
				b.Fatal(err)
			}
			s, err := storage.Open(ctx, storage.Options{URL: url, Base: "http://localhost/fhir", Registry: registry, PoolSize: 4, Unrestricted: true})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			b.ResetTimer()
			for i := 0; b.Loop(); i++ {
				n := source[i%len(source)].Clone()
				n.SetFirst("id", fhir.Str(fmt.Sprintf("x%d", i)))
				p, err := s.Prepare(&n)
				if err != nil {
					b.Fatal(err)
				}
				if err := s.Write(ctx, func(tx *storage.Tx) error { tx.Insert(p, storage.MethodUpdate); return nil }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkPrepare measures the extraction alone.
func BenchmarkPrepare(b *testing.B) {
	registry, err := conformance.R4()
	if err != nil {
		b.Fatal(err)
	}
	source := synthea(b, 12)
	s := open(b)
	_ = registry
	for i := 0; b.Loop(); i++ {
		if _, err := s.Prepare(source[i%len(source)]); err != nil {
			b.Fatal(err)
		}
	}
}
