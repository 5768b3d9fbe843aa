package validate

import (
	"slices"
	"strings"

	"kiln/fhir"
)

// unknown tells of a member that the type does not have.
func (r *run) unknown(n *fhir.Node, p *plan) {
	if r.full() {
		r.unlisted(fhir.SeverityError)
		return
	}
	shown := isName(n.Name)
	if shown {
		r.push(n.Name)
	}
	hint := ""
	names := make([]string, 0, len(p.props))
	for name := range p.props {
		names = append(names, name)
	}
	if near := nearest(n.Name, names); near != "" {
		hint = ": did you mean " + near + "?"
	} else if e := bareChoice(n.Name, p.typ); e != nil {
		hint = ": write the type behind the name, as in " + choiceExample(e)
	}
	r.fail(fhir.CodeStructure, "unknown-element", "%s has no element %s%s", p.typ.Name, quote(n.Name), hint)
	if shown {
		r.pop()
	}
}

// suggestType gives " (did you mean …?)" for a misspelt resource type, or "".
func (r *run) suggestType(name string) string {
	if near := nearest(name, r.v.schema.Resources); near != "" {
		return " (did you mean " + near + "?)"
	}
	return ""
}

// isName says whether a JSON name can stand in an expression.
func isName(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i] | 0x20
		if !(c >= 'a' && c <= 'z' || s[i] == '_' || i > 0 && s[i] >= '0' && s[i] <= '9') {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

func bareChoice(name string, t *fhir.Type) *fhir.Element {
	for _, e := range t.Elements {
		if e.Choice && strings.HasPrefix(name, e.Name) {
			return e
		}
	}
	return nil
}

func choiceExample(e *fhir.Element) string {
	code := e.Types[0].Code
	return e.Name + strings.ToUpper(code[:1]) + code[1:]
}

// nearest finds the name that s is most likely a misspelling of, or "".
func nearest(s string, names []string) string {
	const longest = 48
	if len(s) < 3 || len(s) > longest {
		return ""
	}
	slices.Sort(names)
	best, least := "", min(3, 1+len(s)/3)
	for _, name := range names {
		if strings.EqualFold(name, s) {
			return name
		}
		if d := len(name) - len(s); d >= least || -d >= least || len(name) > longest {
			continue
		}
		if d := distance(s, name); d < least {
			best, least = name, d
		}
	}
	return best
}

// distance is the number of single-byte edits between two short strings.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
