package storage

import (
	"archive/zip"
	"io"
	"strings"
	"testing"

	"kiln/conformance"
	"kiln/fhir"
	"kiln/fhir/path"
	"kiln/internal/kilntest"
)

// TestBegins_passes_over_nothing looks at the official examples: no parameter that has a value is passed over.
func TestBegins_passes_over_nothing(t *testing.T) {
	t.Parallel()
	registry, err := conformance.R4()
	if err != nil {
		t.Fatal(err)
	}
	ix := NewIndexer(newHasher(make([]byte, 16)), registry, "http://localhost/fhir", nil)
	archive, err := zip.OpenReader(kilntest.SharedData(t, "examples", "r4-examples.zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	found, passed := 0, 0
	for _, file := range archive.File {
		if !strings.HasSuffix(file.Name, ".json") {
			continue
		}
		in, err := file.Open()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		n, err := fhir.ParseJSON(data)
		if err != nil || registry.Schema().Type(n.ResourceType()) == nil {
			continue // some examples are no JSON that FHIR takes
		}
		plan, err := ix.plan(n.ResourceType())
		if err != nil {
			t.Fatal(err)
		}
		root, present := path.Root(n, registry.Schema()), membersOf(n)
		for _, p := range plan.params {
			if p.expr == nil {
				continue
			}
			values, err := p.expr.Eval(&path.Env{Resource: root, Root: root}, root)
			if err != nil {
				t.Errorf("%s: %s.%s: %v", file.Name, n.ResourceType(), p.def.Code, err)
			}
			switch over := p.begins&present == 0; {
			case over && len(values) > 0:
				t.Errorf("%s: %s.%s is passed over, and has %d values", file.Name, n.ResourceType(), p.def.Code, len(values))
			case over:
				passed++
			case len(values) > 0:
				found++
			}
		}
	}
	if found < 5_000 || passed < 5_000 {
		t.Errorf("%d parameters have a value and %d are passed over: the test shows little", found, passed)
	}
}
