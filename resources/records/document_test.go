package records_test

import (
	"flag"
	"os"
	"strings"
	"testing"

	"kiln/resources/records"
)

var update = flag.Bool("update", false, "write docs/records.md anew from the table")

// TestDocument says whether docs/records.md shows the lifecycles that the code runs on.
func TestDocument(t *testing.T) {
	const file, begin, end = "../../docs/records.md", "<!-- lifecycles -->", "<!-- end of lifecycles -->"
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(data), begin)
	has, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no place for the lifecycles", file)
	}
	want := "\n" + records.Document()
	if has == want {
		return
	}
	if !*update {
		t.Fatalf("the lifecycles in %s are not those of the code; run go test ./resources/records -update", file)
	}
	if err := os.WriteFile(file, []byte(before+begin+want+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
