package scheduling

import (
	"fmt"
	"strings"
)

// Document writes the table as markdown: docs/scheduling.md holds it, and a test compares the two.
func Document() string {
	var b strings.Builder
	b.WriteString("| row | from | to | by | who | provided | effect |\n|---|---|---|---|---|---|---|\n")
	for _, t := range Table() {
		from := make([]string, len(t.From))
		for i, s := range t.From {
			if from[i] = string(s); s == None {
				from[i] = "–"
			}
		}
		by := make([]string, len(t.Triggers))
		for i, x := range t.Triggers {
			by[i] = "`" + string(x) + "`"
		}
		conditions := make([]string, len(t.Conditions))
		for i, c := range t.Conditions {
			conditions[i] = "`" + string(c) + "`"
		}
		fmt.Fprintf(&b, "| %d | %s | %s | %s | %s | %s | %s |\n", t.Row, strings.Join(from, ", "), t.To,
			strings.Join(by, " "), t.Who, strings.Join(conditions, " "), t.Effect)
	}
	return b.String()
}

// Diagram draws the table for mermaid.
func Diagram() string {
	var b strings.Builder
	b.WriteString("stateDiagram-v2\n")
	name := func(s State) string {
		if s == None {
			return "[*]"
		}
		return strings.ReplaceAll(string(s), "-", "_")
	}
	seen := map[string]bool{}
	for _, t := range Table() {
		for _, from := range t.From {
			by := make([]string, len(t.Triggers))
			for i, x := range t.Triggers {
				by[i] = string(x)
			}
			line := fmt.Sprintf("  %s --> %s: %s\n", name(from), name(t.To), strings.Join(by, ", "))
			if !seen[line] {
				seen[line] = true
				b.WriteString(line)
			}
		}
	}
	return b.String()
}
