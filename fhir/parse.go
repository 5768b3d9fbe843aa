package fhir

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"unicode/utf16"
	"unicode/utf8"
)

// Bounds on one JSON document. They are published in docs/limits.md.
const (
	// MaxDepth is how many arrays and objects may nest.
	MaxDepth = 100
	// MaxValues is how many values there may be in all, MaxMembers how many members an object may have. FHIR has 14 bytes
	// and more for each value, so no resource of a size that is taken comes near; text made of nothing but brackets and
	// commas would take forty times its size in memory.
	MaxValues  = 3_000_000
	MaxMembers = 1_000
	// MaxNumberLength is how many characters a number may have.
	MaxNumberLength = 400
	// MaxExponent bounds the power of ten of a number, either way.
	MaxExponent = 400
)

// ParseJSON reads exactly one JSON value (RFC 8259). It refuses what would not survive or would not mean the same
// everywhere: invalid UTF-8, duplicate member names, lone surrogates, U+0000, numbers and nesting beyond the bounds,
// anything after the value.
//
// It is a scanner of our own because every write passes through it: far fewer allocations than one built on a
// token decoder (docs/adr/0004), and node texts are cut out of one copy of the input.
//
// Errors: Invalid, or TooLarge beyond MaxValues, with the line and column, and the path where the parser was.
func ParseJSON(data []byte) (*Node, error) { return ParseText(string(data)) }

// ParseText is ParseJSON of a text, which the nodes hold on to.
func ParseText(src string) (*Node, error) {
	p := parser{src: src, room: rooms.Get().(*[]Node)}
	defer p.release()
	p.stack = (*p.room)[:0]
	var root Node
	if !utf8.ValidString(p.src) {
		for size := 0; p.pos < len(p.src); p.pos += size {
			var r rune
			if r, size = utf8.DecodeRuneInString(p.src[p.pos:]); r == utf8.RuneError && size == 1 {
				break
			}
		}
		p.fail("it is not valid UTF-8")
	} else if root = p.value(0); p.reason == "" {
		if p.space(); p.pos < len(p.src) {
			p.fail("there is more text after the end of the JSON value")
		}
	}
	if p.reason != "" {
		return nil, p.explain()
	}
	return &root, nil
}

// rooms are stacks of parsers at rest.
var rooms = sync.Pool{New: func() any {
	room := make([]Node, 0, 64)
	return &room
}}

// maxRoom is how many values a stack at rest may have room for.
const maxRoom = 1024

type parser struct {
	src   string
	pos   int
	stack []Node  // kids of the values still open
	room  *[]Node // where the stack came from
	high  int     // how far up the stack was used
	slab  []Node  // where finished kids are laid down, to spare an allocation a value
	count int     // of values read
	// reason is what is wrong, "" for nothing; trail is where, innermost first.
	reason  string
	tooLong bool
	tooMany bool
	trail   []string
}

// release gives the stack back. Nothing of the document stays in it.
func (p *parser) release() {
	if cap(p.stack) > maxRoom {
		return
	}
	clear(p.stack[:min(max(p.high, len(p.stack)), cap(p.stack))])
	*p.room = p.stack[:0]
	rooms.Put(p.room)
}

// fail records the first fault.
func (p *parser) fail(format string, args ...any) {
	if p.reason == "" {
		p.reason = fmt.Sprintf(format, args...)
	}
}

// limit records that the input goes beyond a bound.
func (p *parser) limit(format string, args ...any) {
	p.tooLong = p.reason == ""
	p.fail(format, args...)
}

func (p *parser) space() {
	for p.pos < len(p.src) {
		switch p.src[p.pos] {
		case ' ', '\n', '\t', '\r':
			p.pos++
		default:
			return
		}
	}
}

// next skips white space and returns the byte there, 0 at the end.
func (p *parser) next() byte {
	p.space()
	if p.pos == len(p.src) {
		return 0
	}
	return p.src[p.pos]
}

// value reads one value. The results of a parser that has a reason mean nothing.
func (p *parser) value(depth int) (n Node) {
	switch c := p.next(); {
	case c == '{' || c == '[':
		return p.container(depth, c)
	case c == '"':
		return Node{Kind: String, Text: p.string()}
	case c == '-' || c >= '0' && c <= '9':
		return p.number()
	case c == 0 && p.pos == len(p.src):
		p.fail("the JSON ends too early")
		return n
	}
	for _, l := range [...]struct {
		text string
		kind NodeKind
	}{{"true", Bool}, {"false", Bool}, {"null", Null}} {
		if strings.HasPrefix(p.src[p.pos:], l.text) {
			n.Kind = l.kind
			if l.kind == Bool {
				n.Text = l.text
			}
			p.pos += len(l.text)
			return n
		}
	}
	p.fail("there is no JSON value here")
	return n
}

func (p *parser) container(depth int, open byte) (n Node) {
	if depth >= MaxDepth {
		p.limit("arrays and objects nest deeper than %d levels", MaxDepth)
		return n
	}
	n.Kind, p.pos = Array, p.pos+1
	end := byte(']')
	if open == '{' {
		n.Kind, end = Object, '}'
	}
	base := len(p.stack)
	if p.next() == end {
		p.pos++
		return n
	}
	for {
		name := ""
		if n.Kind == Object {
			name = p.member(base)
		}
		var kid Node
		if p.reason == "" {
			kid = p.value(depth + 1)
		}
		if p.reason != "" {
			index := len(p.stack) - base
			p.high = max(p.high, len(p.stack))
			p.stack = p.stack[:base]
			p.locate(n.Kind, name, index)
			return n
		}
		kid.Name = name
		p.stack = append(p.stack, kid)
		if p.count++; p.count > MaxValues {
			p.tooMany = true
			p.limit("there are more than %d values", MaxValues)
			return n
		}
		switch p.next() {
		case ',':
			p.pos++
		case end:
			p.pos++
			if n.Kind == Object && len(p.stack)-base > fewMembers {
				p.distinct(base)
			}
			n.Kids = p.lay(p.stack[base:])
			p.high = max(p.high, len(p.stack))
			p.stack = p.stack[:base]
			return n
		default:
			if p.pos == len(p.src) {
				p.fail("the JSON ends too early")
			}
			p.fail("a comma or %q must stand here", end)
			return n
		}
	}
}

// locate adds a step to the trail of a fault.
func (p *parser) locate(kind NodeKind, name string, index int) {
	if kind == Array {
		name = "[" + strconv.Itoa(index) + "]"
	}
	p.trail = append(p.trail, name)
}

// fewMembers is up to how many members names are compared one by one; larger objects are checked with a map.
const fewMembers = 24

// member reads a member's name and colon.
func (p *parser) member(base int) (name string) {
	switch {
	case p.next() == '"':
		name = p.string()
	case p.pos == len(p.src):
		p.fail("the JSON ends too early")
	default:
		p.fail("a member name in quotes must stand here")
	}
	others := p.stack[base:]
	if len(others) == MaxMembers {
		p.limit("an object has more than %d members", MaxMembers)
	}
	if len(others) <= fewMembers {
		for i := range others {
			if others[i].Name == name {
				p.fail("the member name stands twice in one object")
			}
		}
	}
	switch {
	case p.reason != "":
	case p.next() == ':':
		p.pos++
	case p.pos == len(p.src):
		p.fail("the JSON ends too early")
	default:
		p.fail("a colon must stand here")
	}
	return name
}

// distinct checks the names of a large object.
func (p *parser) distinct(base int) {
	seen := make(map[string]struct{}, len(p.stack)-base)
	for i := range p.stack[base:] {
		name := p.stack[base+i].Name
		if _, twice := seen[name]; twice {
			p.locate(Object, name, 0)
			p.fail("the member name stands twice in one object")
			return
		}
		seen[name] = struct{}{}
	}
}

// lay copies kids into the slab. The result has no spare capacity, so appending to it never touches a neighbour.
func (p *parser) lay(kids []Node) []Node {
	if cap(p.slab)-len(p.slab) < len(kids) {
		p.slab = make([]Node, 0, max(len(kids), p.expected()))
	}
	start := len(p.slab)
	p.slab = append(p.slab, kids...)
	return p.slab[start:len(p.slab):len(p.slab)]
}

// maxSlab is how many values are made room for at once.
const maxSlab = 2048

// expected is about how many values are still to be laid down: those on the stack, and of the rest nearly each has a name, and so a colon.
func (p *parser) expected() int {
	const perValue = 25 // bytes, at the least, in what people send
	if len(p.src)-p.pos > maxSlab*perValue {
		return maxSlab
	}
	return min(8+len(p.stack)+strings.Count(p.src[p.pos:], ":"), maxSlab)
}

// string reads a string; p.pos is at its quote.
func (p *parser) string() string {
	start := p.pos + 1
	for i := start; i < len(p.src); i++ {
		switch c := p.src[i]; {
		case c == '"':
			p.pos = i + 1
			return p.src[start:i]
		case c == '\\':
			return p.escaped(start, i)
		case c < ' ':
			p.pos = i
			p.fail("a control character stands unescaped in a string")
			return ""
		}
	}
	p.pos = len(p.src)
	p.fail("the JSON ends too early")
	return ""
}

// escaped reads on in a string with escapes: from start, the first backslash at i.
func (p *parser) escaped(start, i int) string {
	b := append(make([]byte, 0, i-start+64), p.src[start:i]...)
	for i < len(p.src) {
		c := p.src[i]
		switch {
		case c == '"':
			p.pos = i + 1
			return string(b)
		case c < ' ':
			p.pos = i
			p.fail("a control character stands unescaped in a string")
			return ""
		case c != '\\':
			b = append(b, c)
			i++
			continue
		}
		p.pos = i
		if i++; i == len(p.src) {
			break
		}
		if p.src[i] == 'u' {
			r, size := p.unicode(i - 1)
			if size == 0 {
				return ""
			}
			b = utf8.AppendRune(b, r)
			i += size - 1
			continue
		}
		at := strings.IndexByte(`"\/bfnrt`, p.src[i])
		if at < 0 {
			p.fail("a backslash is followed by a character that JSON does not escape")
			return ""
		}
		b = append(b, "\"\\/\b\f\n\r\t"[at])
		i++
	}
	p.pos = len(p.src)
	p.fail("the JSON ends too early")
	return ""
}

// unicode reads \uXXXX, or two of them that make a pair, at i. Size is how many bytes it took, 0 for a fault.
func (p *parser) unicode(i int) (r rune, size int) {
	unit := func(i int) (rune, bool) {
		if i+6 > len(p.src) || p.src[i:i+2] != `\u` {
			return 0, false
		}
		v, err := strconv.ParseUint(p.src[i+2:i+6], 16, 16)
		return rune(v), err == nil
	}
	r, ok := unit(i)
	switch {
	case !ok:
		p.fail(`\u must be followed by four hexadecimal digits`)
		return 0, 0
	case r == 0:
		p.fail("a string holds the character U+0000, which FHIR does not allow")
		return 0, 0
	case utf16.IsSurrogate(r):
		second, ok := unit(i + 6)
		if pair := utf16.DecodeRune(r, second); ok && pair != utf8.RuneError {
			return pair, 12
		}
		p.fail("half of a surrogate pair stands alone, which is no character")
		return 0, 0
	}
	return r, 6
}

// number reads a number and keeps its digits.
func (p *parser) number() (n Node) {
	start := p.pos
	digits := func() bool {
		from := p.pos
		for p.pos < len(p.src) && p.src[p.pos] >= '0' && p.src[p.pos] <= '9' {
			p.pos++
		}
		return p.pos > from
	}
	at := func(set string) bool {
		if p.pos < len(p.src) && strings.IndexByte(set, p.src[p.pos]) >= 0 {
			p.pos++
			return true
		}
		return false
	}
	at("-")
	zero := p.pos < len(p.src) && p.src[p.pos] == '0'
	whole := p.pos
	if !digits() || zero && p.pos-whole > 1 || at(".") && !digits() {
		p.fail("the number is not written as JSON writes numbers")
		return n
	}
	exponent := 0
	if at("eE") {
		at("+-")
		from := p.pos
		if !digits() {
			p.fail("the number is not written as JSON writes numbers")
			return n
		}
		for _, c := range p.src[from:p.pos] {
			exponent = min(exponent*10+int(c-'0'), MaxExponent+1)
		}
	}
	n.Kind, n.Text = Number, p.src[start:p.pos]
	switch {
	case len(n.Text) > MaxNumberLength:
		p.limit("a number has more than %d characters", MaxNumberLength)
	case exponent > MaxExponent:
		p.limit("a number has an exponent beyond %d", MaxExponent)
	}
	return n
}

// explain makes the error of the fault recorded.
func (p *parser) explain() error {
	if strings.TrimSpace(p.src) == "" {
		p.reason = "the body is empty"
	}
	before := p.src[:p.pos]
	line, column := 1+strings.Count(before, "\n"), p.pos-strings.LastIndexByte(before, '\n')
	code := CodeStructure
	if p.tooLong {
		code = CodeTooLong
	}
	kind := Invalid
	if p.tooMany {
		kind = TooLarge
	}
	e := NewError(kind, code, fmt.Sprintf("The body is not the JSON that FHIR asks for: %s (line %d, column %d)", p.reason, line, column))
	var path strings.Builder
	for i := len(p.trail) - 1; i >= 0; i-- {
		step := p.trail[i]
		if path.Len() > 0 && step != "" && step[0] != '[' {
			path.WriteByte('.')
		}
		if len(step) > 64 {
			step = strings.ToValidUTF8(step[:64], "?")
		}
		path.WriteString(step)
	}
	if at := path.String(); at != "" && len(at) < 2000 {
		e.At(at)
	}
	return e
}
