package scheduling_test

import (
	"flag"
	"os"
	"strings"
	"testing"

	"kiln/resources/scheduling"
)

var update = flag.Bool("update", false, "write docs/scheduling.md anew from the table")

// TestDocument says whether docs/scheduling.md shows the table that the code runs on.
func TestDocument(t *testing.T) {
	const file = "../../docs/scheduling.md"
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for mark, want := range map[string]string{
		"table":   "\n" + scheduling.Document(),
		"diagram": "\n```mermaid\n" + scheduling.Diagram() + "```\n",
	} {
		begin, end := "<!-- "+mark+" -->", "<!-- end of "+mark+" -->"
		before, rest, ok1 := strings.Cut(text, begin)
		has, after, ok2 := strings.Cut(rest, end)
		if !ok1 || !ok2 {
			t.Fatalf("%s has no place for the %s", file, mark)
		}
		if has == want {
			continue
		}
		if !*update {
			t.Errorf("the %s in %s is not that of the code; run go test ./resources/scheduling -update", mark, file)
		}
		text = before + begin + want + end + after
	}
	if *update {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
