package coverage_test

import (
	"flag"
	"os"
	"strings"
	"testing"

	"kiln/resources/coverage"
)

var update = flag.Bool("update", false, "write docs/coverage.md anew from the steps")

// TestDocument says whether docs/coverage.md shows the steps that the code takes.
func TestDocument(t *testing.T) {
	const file, begin, end = "../../docs/coverage.md", "<!-- steps -->\n", "<!-- end of steps -->"
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(data), begin)
	has, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no place for the steps", file)
	}
	switch want := coverage.Document(); {
	case has == want:
	case !*update:
		t.Errorf("the table in %s is not that of the code; run go test ./resources/coverage -update", file)
	default:
		if err := os.WriteFile(file, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
