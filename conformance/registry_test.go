package conformance

import (
	"archive/zip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kiln/fhir"
)

func registry(t testing.TB) *Registry {
	t.Helper()
	r, err := R4()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// sharedData returns the folder of the official examples, which stands beside the module root, or skips the test.
func sharedData(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the test")
		}
	}
	data := filepath.Join(dir, "..", "shared", "data", "examples")
	if _, err := os.Stat(data); err != nil {
		t.Skip("the official examples are not here: ../shared/data/examples beside the module root")
	}
	return data
}

// readZip calls visit with each resource of a zip whose file name starts with prefix.
func readZip(t *testing.T, name, prefix string, visit func(name string, n *fhir.Node)) {
	t.Helper()
	z, err := zip.OpenReader(name)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	for _, f := range z.File {
		if !strings.HasPrefix(f.Name, prefix) {
			continue
		}
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		n, err := fhir.ParseJSON(data)
		if err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
		visit(f.Name, n)
	}
}

func TestTypeNumbersAreFrozen(t *testing.T) {
	t.Parallel()
	r := registry(t)
	for name, want := range map[string]int16{"Account": 1, "Appointment": 5, "DomainResource": 43, "Resource": 121,
		"VisionPrescription": 148, "Nothing": 0, "": 0} {
		if got := r.TypeNumber(name); got != want {
			t.Errorf("%s has number %d, want %d", name, got, want)
		}
	}
	for i := int16(1); i <= 148; i++ {
		if name := r.TypeName(i); r.TypeNumber(name) != i || r.Schema().Type(name) == nil {
			t.Errorf("number %d is %q", i, name)
		}
	}
	if r.TypeName(0) != "" || r.TypeName(149) != "" || r.TypeName(-1) != "" {
		t.Error("a number beyond the list has a name")
	}
}

func BenchmarkR4(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := load(r4Table); err != nil {
			b.Fatal(err)
		}
	}
}

// TestLoadingIsSmall keeps the bounds that the start of the server was promised: 15 MB. The time is BenchmarkR4's.
func TestLoadingIsSmall(t *testing.T) {
	result := testing.Benchmark(BenchmarkR4)
	if bytes := result.AllocedBytesPerOp(); bytes > 15<<20 {
		t.Errorf("R4 allocates %d bytes", bytes)
	}
}

func BenchmarkCodes(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		readCodes(codesTable)
	}
}
