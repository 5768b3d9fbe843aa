package search

import (
	"encoding/json"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"kiln/fhir"
)

// filterNode is a test, or "and", "or" or "not" of others.
type filterNode struct {
	operator string
	kids     []*filterNode
	test     *filterTest
}

// filterTest is path operator value. Positions are byte offsets.
type filterTest struct {
	steps           []filterStep
	operator, value string
	at, valueAt     int // of operator and value
}

// filterStep is one name of a path, with the type and the filter that may follow it: name:Type[filter].
type filterStep struct {
	name, target string
	filter       *filterNode
	at           int
}

// filterReader reads the grammar of R4 search_filter.html. "and" and "or" have the same rank and group from the left,
// as it says. A type after a name (subject:Patient.name) is ours.
type filterReader struct {
	text  string
	at    int
	depth int
	tests int
}

var filterWords = []string{"eq", "ne", "co", "sw", "ew", "gt", "lt", "ge", "le", "ap", "sa", "eb", "pr", "po", "ss", "sb", "in", "ni", "re"}

func (r *filterReader) whole() (*filterNode, *filterFault) {
	n, fault := r.logical()
	if fault == nil && r.at < len(r.text) {
		return nil, r.fault(`expected "and", "or" or the end, not %q.`, r.rest())
	}
	return n, fault
}

func (r *filterReader) fault(format string, args ...any) *filterFault {
	return faultAt(r.at, fhir.CodeInvalid, format, args...)
}

// rest is what stands here, for messages.
func (r *filterReader) rest() string { return cutText(r.text[r.at:], 20) }

func cutText(s string, n int) string {
	if list := []rune(s); len(list) > n {
		return string(list[:n]) + "…"
	}
	return s
}

func (r *filterReader) blanks() {
	for r.at < len(r.text) {
		c, size := utf8.DecodeRuneInString(r.text[r.at:])
		if !unicode.IsSpace(c) {
			return
		}
		r.at += size
	}
}

// byteIs says whether c stands here, and passes it.
func (r *filterReader) byteIs(c byte) bool {
	if r.at < len(r.text) && r.text[r.at] == c {
		r.at++
		return true
	}
	return false
}

// word returns the letters, digits, _ and - that stand here, without passing them.
func (r *filterReader) word() string {
	end := r.at
	for end < len(r.text) && (isLetter(r.text[end]) || end > r.at && (r.text[end] == '-' || '0' <= r.text[end] && r.text[end] <= '9')) {
		end++
	}
	return r.text[r.at:end]
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' || c == '_' }

func (r *filterReader) logical() (*filterNode, *filterFault) {
	left, fault := r.operand()
	if fault != nil {
		return nil, fault
	}
	for {
		r.blanks()
		operator := r.word()
		if operator != "and" && operator != "or" {
			return left, nil
		}
		r.at += len(operator)
		right, fault := r.operand()
		if fault != nil {
			return nil, fault
		}
		if left.operator == operator && left.test == nil {
			left = &filterNode{operator: operator, kids: append(slices.Clone(left.kids), right)}
		} else {
			left = &filterNode{operator: operator, kids: []*filterNode{left, right}}
		}
	}
}

func (r *filterReader) operand() (*filterNode, *filterFault) {
	r.blanks()
	if r.word() == "not" {
		before := r.at
		r.at += len("not")
		r.blanks()
		if r.byteIs('(') {
			n, fault := r.inside(')')
			return &filterNode{operator: "not", kids: []*filterNode{n}}, fault
		}
		r.at = before
	}
	if r.byteIs('(') {
		return r.inside(')')
	}
	t, fault := r.test()
	return &filterNode{test: t}, fault
}

// inside reads a filter up to the bracket that ends it.
func (r *filterReader) inside(end byte) (*filterNode, *filterFault) {
	if r.depth++; r.depth > MaxFilterDepth {
		return nil, faultAt(r.at, fhir.CodeTooCostly, "it nests deeper than %d levels.", MaxFilterDepth)
	}
	n, fault := r.logical()
	if fault != nil {
		return nil, fault
	}
	if r.depth--; !r.byteIs(end) {
		return nil, r.fault(`expected %q, "and" or "or".`, string(end))
	}
	return n, nil
}

func (r *filterReader) test() (*filterTest, *filterFault) {
	if r.tests++; r.tests > MaxFilterTests {
		return nil, faultAt(r.at, fhir.CodeTooCostly, "it has more than %d tests.", MaxFilterTests)
	}
	t := &filterTest{}
	for {
		step := filterStep{at: r.at, name: r.word()}
		if step.name == "" {
			return nil, r.fault("expected the name of a search parameter.")
		}
		r.at += len(step.name)
		if r.byteIs(':') {
			step.target = r.word()
			r.at += len(step.target)
		}
		if r.byteIs('[') {
			var fault *filterFault
			if step.filter, fault = r.inside(']'); fault != nil {
				return nil, fault
			}
			if r.at == len(r.text) || r.text[r.at] != '.' {
				return nil, r.fault("expected a point and a name after the filter in brackets.")
			}
		}
		if t.steps = append(t.steps, step); len(t.steps) > MaxChain+1 {
			return nil, faultAt(r.at, fhir.CodeTooCostly, "a chain has more than %d steps.", MaxChain)
		}
		if !r.byteIs('.') {
			break
		}
	}
	if last := t.steps[len(t.steps)-1]; last.target != "" {
		return nil, faultAt(last.at, fhir.CodeInvalid, "a name with a type must have a point and a name after it.")
	}
	r.blanks()
	t.at, t.operator = r.at, r.word()
	if !slices.Contains(filterWords, t.operator) {
		return nil, r.fault("expected an operator, one of %s.", strings.Join(filterWords, ", "))
	}
	r.at += len(t.operator)
	r.blanks()
	t.valueAt = r.at
	var fault *filterFault
	t.value, fault = r.value()
	return t, fault
}

// value reads a JSON string, or characters up to a blank, ")" or "]".
func (r *filterReader) value() (string, *filterFault) {
	start := r.at
	if r.byteIs('"') {
		for r.at < len(r.text) && r.text[r.at] != '"' {
			if r.text[r.at] == '\\' {
				r.at++
			}
			r.at++
		}
		var s string
		if !r.byteIs('"') || json.Unmarshal([]byte(r.text[start:r.at]), &s) != nil {
			r.at = start
			return "", r.fault("the string in quotation marks is not one of JSON, or does not end.")
		}
		if s == "" || strings.ContainsRune(s, 0) {
			return "", faultAt(start, fhir.CodeValue, "the value is empty, or has a character that is not allowed.")
		}
		return s, nil
	}
	end := strings.IndexFunc(r.text[start:], func(c rune) bool { return c == ')' || c == ']' || unicode.IsSpace(c) })
	if end < 0 {
		end = len(r.text) - start
	}
	if end == 0 {
		return "", r.fault("expected a value.")
	}
	r.at += end
	return r.text[start:r.at], nil
}

// filterValue writes a value of a filter as it would stand in a search parameter: with the names of systems resolved,
// and escaped where a character means nothing in a filter.
func filterValue(kind Kind, value string) string {
	switch kind {
	case String, URI:
		return filterEscaper.Replace(value)
	case Token, Quantity:
		parts := strings.Split(value, "|")
		at := 0
		if kind == Quantity {
			at = 1
		}
		if len(parts) > at+1 && filterSystems[parts[at]] != "" {
			parts[at] = filterSystems[parts[at]]
			return strings.Join(parts, "|")
		}
	}
	return value
}

var filterEscaper = strings.NewReplacer(`\`, `\\`, `,`, `\,`, `$`, `\$`, `|`, `\|`)
