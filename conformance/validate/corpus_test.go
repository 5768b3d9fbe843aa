package validate

import (
	"archive/zip"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"kiln/conformance"
	"kiln/fhir"
)

// sharedData returns a folder of ../shared/data, which stands beside the module root, or skips the test.
func sharedData(t testing.TB, folder string) string {
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
	data := filepath.Join(dir, "..", "shared", "data", folder)
	if _, err := os.Stat(data); err != nil {
		t.Skip("the corpus is not here: ../shared/data/" + folder + " beside the module root")
	}
	return data
}

// strict is one validator with everything that refuses switched on, shared because its tables cost time.
var strict = sync.OnceValues(func() (*Validator, error) {
	reg, err := conformance.R4()
	if err != nil {
		return nil, err
	}
	return New(reg, Options{Invariants: true, OnInvariantError: noteInvariantError})
})

var (
	invariantErrorsLock sync.Mutex
	invariantErrors     = map[string]string{}
)

func noteInvariantError(key, at string, err error) {
	invariantErrorsLock.Lock()
	defer invariantErrorsLock.Unlock()
	invariantErrors[key+" at "+at] = err.Error()
}

func strictValidator(t testing.TB) *Validator {
	t.Helper()
	v, err := strict()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// readZip calls visit with each JSON file of a zip.
func readZip(t testing.TB, name string, visit func(name string, data []byte)) {
	t.Helper()
	z, err := zip.OpenReader(name)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	for _, f := range z.File {
		if !strings.HasSuffix(f.Name, ".json") {
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
		visit(f.Name, data)
	}
}

// readGzips calls visit with each .json.gz file below dir.
func readGzips(t testing.TB, dir string, visit func(name string, data []byte)) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".json.gz") {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		z, err := gzip.NewReader(f)
		if err != nil {
			return err
		}
		data, err := io.ReadAll(z)
		if err != nil {
			return err
		}
		visit(path[len(dir)+1:], data)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func parse(t testing.TB, data []byte) *fhir.Node {
	t.Helper()
	n, err := fhir.ParseJSON(data)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// errorsOf leaves out warnings.
func errorsOf(issues []fhir.Issue) []fhir.Issue {
	var list []fhir.Issue
	for _, i := range issues {
		if i.Severity == fhir.SeverityError {
			list = append(list, i)
		}
	}
	return list
}

func show(issues []fhir.Issue) string {
	var b strings.Builder
	for _, i := range issues {
		b.WriteString("\n\t" + i.Severity + " " + i.Code + " " + i.Detail + " " + strings.Join(i.Expression, ",") + ": " + i.Text)
	}
	return b.String()
}
