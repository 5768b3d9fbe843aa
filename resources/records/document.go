package records

import (
	"fmt"
	"strings"
)

// Document writes the lifecycles as markdown: docs/records.md holds them, and a test compares the two.
func Document() string {
	var b strings.Builder
	for _, l := range Table() {
		fmt.Fprintf(&b, "\n### %s\n\n| from | to | who | provided | effect |\n|---|---|---|---|---|\n", l.Type)
		for _, m := range l.Moves {
			conditions := make([]string, len(m.Conditions))
			for i, c := range m.Conditions {
				conditions[i] = "`" + string(c) + "`"
			}
			to := names(m.To)
			if len(m.From) == 1 && m.From[0] == None && len(m.To) == len(l.States) {
				to = "any state"
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", names(m.From), to, m.Who, strings.Join(conditions, " "), m.Effect)
		}
		b.WriteString("\n" + l.facts() + "\n")
	}
	return b.String()
}

// facts tells the rest of a lifecycle in a line.
func (l *Lifecycle) facts() string {
	var list []string
	if len(l.Signed) > 0 {
		list = append(list, "Kept for good: "+names(l.Signed)+".")
	}
	if len(l.Fixed) > 0 {
		list = append(list, "Signed: "+names(l.Fixed)+".")
	}
	author := l.Author.Element
	if l.Author.Part != "" {
		author += "." + l.Author.Part
	}
	text := "Author: `" + author + "`"
	if !l.Author.Own {
		text += " (a default only)"
	}
	list = append(list, text+".")
	switch {
	case l.Issued:
		list = append(list, "Written down: `"+l.Recorded+"`, which moves on with new versions.")
	case l.Recorded != "":
		list = append(list, "Written down: `"+l.Recorded+"`.")
	}
	chain := make([]string, len(l.Chain))
	for i, c := range l.Chain {
		chain[i] = "`" + strings.Join(c.Path, ".") + "`"
	}
	return strings.Join(append(list, "The same patient: "+strings.Join(chain, ", ")+"."), " ")
}

func names(states []State) string {
	list := make([]string, len(states))
	for i, s := range states {
		if list[i] = string(s); s == None {
			list[i] = "–"
		}
	}
	return strings.Join(list, ", ")
}
