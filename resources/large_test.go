package resources

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"kiln/conformance/validate"
	"kiln/fhir"
	"kiln/internal/kilntest"
	"kiln/storage"
)

func validating(t testing.TB) func(*Options, *storage.Options) {
	return func(o *Options, _ *storage.Options) {
		v, err := validate.New(o.Registry, validate.Options{})
		if err != nil {
			t.Fatal(err)
		}
		o.Validate = v.Resource
	}
}

// largeBundle is a transaction of n entries and, with padding of 2 kB, of 60 MB at 25,000: one patient, and
// observations that refer to it and to each other.
func largeBundle(n, padding int) []byte {
	var b bytes.Buffer
	note := strings.Repeat("lorem ipsum ", padding/12)
	b.WriteString(`{"resourceType":"Bundle","type":"transaction","entry":[`)
	b.WriteString(entryOf("urn:uuid:patient", "POST", "Patient", identified("large", "")))
	for i := 1; i < n; i++ {
		b.WriteString(",\n")
		b.WriteString(entryOf(fmt.Sprintf("urn:uuid:o%d", i), "POST", "Observation", fmt.Sprintf(`{"resourceType":"Observation","status":"final",
"category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"laboratory"}]}],
"code":{"coding":[{"system":"http://loinc.org","code":"%d-1"}],"text":"x"},"subject":{"reference":"urn:uuid:patient"},
"effectiveDateTime":"2024-05-%02dT10:00:00Z","valueQuantity":{"value":%d.50,"unit":"mg","system":"http://unitsofmeasure.org","code":"mg"},
"derivedFrom":[{"reference":"urn:uuid:o%d"}],"note":[{"text":"%s"}]}`, i%500, i%28+1, i, i%(n-1)+1, note)))
	}
	b.WriteString("]}")
	return b.Bytes()
}

func TestLargeTransaction(t *testing.T) {
	if testing.Short() {
		t.Skip("short: 25,000 entries take a while")
	}
	entries := 25_000
	if raceDetector {
		entries = 3_000 // the race detector makes memory and time ten times as large
	}
	s := newService(t)
	text := largeBundle(entries, 1800)
	size := len(text)
	runtime.GC()
	stop, peak := make(chan struct{}), make(chan uint64)
	go func() {
		var most uint64
		var m runtime.MemStats
		for {
			select {
			case <-stop:
				peak <- most
				return
			case <-time.After(20 * time.Millisecond):
				runtime.ReadMemStats(&m)
				most = max(most, m.HeapInuse+m.StackInuse)
			}
		}
	}()
	begin := time.Now()
	body, err := fhir.ParseJSON(text)
	if err != nil {
		t.Fatal(err)
	}
	parsed := time.Since(begin)
	resp := do(t, s, Request{Interaction: Transaction, Body: body})
	took := time.Since(begin)
	runtime.KeepAlive(text) // the server holds the body while it works
	close(stop)
	most := <-peak
	t.Logf("%d entries, %.1f MB: %v (parse %v), %.0f resources/s, heap at most %d MiB", entries, float64(size)/1e6,
		took.Round(time.Millisecond), parsed.Round(time.Millisecond), float64(entries)/took.Seconds(), most>>20)
	if len(resp.Bundle.Entries) != entries || count(t, s, "Observation") != int64(entries-1) {
		t.Errorf("%d entries, %d observations", len(resp.Bundle.Entries), count(t, s, "Observation"))
	}
	last := read(t, s, "Observation", resp.Bundle.Entries[entries-1].Response.Version.ID)
	if got := last.At("derivedFrom", "reference"); got.Text != "Observation/"+resp.Bundle.Entries[1].Response.Version.ID {
		t.Errorf("the last refers to %s", got.Text)
	}
	if most > 1<<30 && !raceDetector {
		t.Errorf("the heap grew to %d MiB", most>>20)
	}
}

func TestSynthea(t *testing.T) {
	t.Parallel()
	root := kilntest.SharedData(t, "synthea")
	var expected struct {
		Counts map[string]map[string]int64 `json:"resourcesAfterLoadingEachFileOnceIntoAnEmptyServer"`
	}
	text, err := os.ReadFile(filepath.Join(root, "expected-counts.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &expected); err != nil {
		t.Fatal(err)
	}
	for generation, counts := range expected.Counts {
		t.Run(generation, func(t *testing.T) {
			t.Parallel()
			s := newService(t, validating(t))
			files, err := filepath.Glob(filepath.Join(root, generation, "*.json.gz"))
			if err != nil || len(files) == 0 {
				t.Fatalf("%v: no files", err)
			}
			var load time.Duration
			total := 0
			for _, file := range files { // the names of hospitals and practitioners sort first
				text := gunzip(t, file)
				begin := time.Now()
				resp, err := s.Do(t.Context(), Request{Interaction: Transaction, Body: parse(t, string(text))})
				if err != nil {
					t.Fatalf("%s: %s", file, describe(err))
				}
				load += time.Since(begin)
				total += len(resp.Bundle.Entries)
				for _, e := range resp.Bundle.Entries {
					if e.Err != nil {
						t.Fatalf("%s: %s", file, describe(e.Err))
					}
				}
			}
			for typ, want := range counts {
				if got := count(t, s, typ); got != want {
					t.Errorf("%s: %d, want %d", typ, got, want)
				}
			}
			t.Logf("%d resources in %v: %.0f/s", total, load.Round(time.Millisecond), float64(total)/load.Seconds())
			all := do(t, s, Request{Interaction: HistorySystem, Query: "_count=1000"}).Bundle
			for _, e := range all.Entries {
				if bytes.Contains(e.Version.Content, []byte(`"urn:uuid:`)) && bytes.Contains(e.Version.Content, []byte(`"reference": "urn:uuid:`)) {
					t.Fatalf("an unresolved reference: %s", e.Version.Content)
				}
			}
		})
	}
}

func gunzip(t testing.TB, file string) []byte {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
