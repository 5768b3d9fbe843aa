package xml

import (
	"fmt"
	"html"
	"strconv"
	"strings"
	"unicode/utf8"

	"kiln/fhir"
)

// Bounds on one XML document. They are published in docs/limits.md.
const (
	// MaxBytes is how long a document may be.
	MaxBytes = 200 << 20
	// MaxNarrativeDepth is how many XHTML elements may nest.
	MaxNarrativeDepth = 100
	// MaxElementDepth is how many elements may nest: for each level of fhir.MaxDepth an element, and perhaps one more
	// that says the type of a resource; then a narrative.
	MaxElementDepth = 2*fhir.MaxDepth + MaxNarrativeDepth
	// MaxAttributes is how many attributes one element may have.
	MaxAttributes = 64
	// MaxNamespaces is how many namespace declarations may be in force at one place.
	MaxNamespaces = 32
)

const (
	fhirNamespace     = "http://hl7.org/fhir"
	xhtmlNamespace    = "http://www.w3.org/1999/xhtml"
	instanceNamespace = "http://www.w3.org/2001/XMLSchema-instance"
	xmlNamespace      = "http://www.w3.org/XML/1998/namespace"
)

// token is a kind of markup. Comments are none: the scanner passes over them.
type token uint8

const (
	tokenEnd   token = iota // the end of the document, or a fault
	tokenText               // character data that is not white space alone
	tokenOpen               // a start tag; an empty-element tag gives a tokenOpen and a tokenClose
	tokenClose              // an end tag
)

type attribute struct {
	prefix, local string
	space         string // the namespace, "" for a name without prefix
	raw           string // the value between its quotes, as it stands
	quote         byte
	at            int
}

// binding is a namespace declaration in force.
type binding struct {
	prefix, uri string
	depth       int
}

// scanner reads one document in order. It checks that the document is well-formed, namespaces included, and refuses
// what FHIR does not use: document types, processing instructions, CDATA sections and references to entities.
type scanner struct {
	src string
	pos int
	// What the last tokenOpen said. attrs is reused by the next one and leaves out namespace declarations.
	name, prefix, local, space string
	attrs                      []attribute
	declared                   []string // prefixes that the tag itself declares
	start                      int      // where the last token begins
	open                       []string
	bindings                   []binding
	closing                    bool // the last tag was an empty-element tag and its tokenClose is still to come
	// inDiv marks the reading of a narrative on its own, which may name the characters of HTML; named says that it did.
	inDiv, named bool
	reason       string
	code         string
	faultAt      int
}

func (s *scanner) fail(at int, format string, args ...any) token {
	return s.refuse(fhir.CodeStructure, at, format, args...)
}

func (s *scanner) refuse(code string, at int, format string, args ...any) token {
	if s.reason == "" {
		s.reason, s.code, s.faultAt = fmt.Sprintf(format, args...), code, at
	}
	return tokenEnd
}

// characters checks the whole text at once: UTF-8, and only characters that XML knows.
func (s *scanner) characters() bool {
	if i := badCharacter(s.src); i >= 0 {
		r, size := utf8.DecodeRuneInString(s.src[i:])
		if r == utf8.RuneError && size == 1 {
			s.fail(i, "it is not valid UTF-8")
		} else {
			s.fail(i, "it holds the character U+%04X, which XML does not know", r)
		}
		return false
	}
	return true
}

// badCharacter gives the position of the first character that XML cannot carry (XML 1.0 section 2.2), or -1.
func badCharacter(text string) int {
	for i := 0; i < len(text); {
		if c := text[i]; c < utf8.RuneSelf {
			if c < ' ' && c != '\t' && c != '\n' && c != '\r' {
				return i
			}
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(text[i:])
		if r == utf8.RuneError && size == 1 || r == 0xFFFE || r == 0xFFFF {
			return i
		}
		i += size
	}
	return -1
}

// prolog passes over the XML declaration.
func (s *scanner) prolog() {
	if !strings.HasPrefix(s.src, "<?xml") || len(s.src) < 6 || !isSpace(s.src[5]) {
		return
	}
	end := strings.Index(s.src, "?>")
	if end < 0 {
		s.fail(0, "the XML declaration is not closed")
		return
	}
	declaration := scanner{src: s.src[5:end]}
	allowed := [...]string{"version", "encoding", "standalone"}
	next := 0
	for {
		spaced := declaration.spaces()
		if declaration.pos == len(declaration.src) {
			break
		}
		a, ok := declaration.attribute()
		for next < len(allowed) && allowed[next] != a.local {
			next++
		}
		if !ok || !spaced || a.prefix != "" || next == len(allowed) {
			s.fail(5, "the XML declaration cannot be read")
			return
		}
		switch {
		case a.local == "version" && a.raw != "1.0":
			s.fail(5, "only XML 1.0 is taken")
		case a.local == "encoding" && !strings.EqualFold(a.raw, "UTF-8") && !strings.EqualFold(a.raw, "US-ASCII"):
			s.fail(5, "only the encoding UTF-8 is taken")
		case a.local == "standalone" && a.raw != "yes" && a.raw != "no":
			s.fail(5, "standalone must be yes or no")
		}
		if next == 0 {
			declaration.closing = true // the version, which must be there, was
		}
		next++
	}
	if !declaration.closing {
		s.fail(5, "the XML declaration has no version")
	}
	s.pos = end + 2
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

func (s *scanner) spaces() bool {
	from := s.pos
	for s.pos < len(s.src) && isSpace(s.src[s.pos]) {
		s.pos++
	}
	return s.pos > from
}

// next reads the next token.
func (s *scanner) next() token {
	if s.closing && s.reason == "" {
		s.closing = false
		s.leave()
		return tokenClose
	}
	for s.reason == "" {
		s.start = s.pos
		if s.pos == len(s.src) {
			if len(s.open) > 0 {
				return s.fail(s.pos, "the XML ends before <%s> is closed", short(s.open[len(s.open)-1]))
			}
			return tokenEnd
		}
		rest := s.src[s.pos:]
		switch {
		case rest[0] != '<':
			if s.text() {
				return tokenText
			}
		case strings.HasPrefix(rest, "<!--"):
			s.comment()
		case strings.HasPrefix(rest, "<!DOCTYPE"):
			return s.refuse(fhir.CodeSecurity, s.pos, "a document type (DOCTYPE) is not taken, nor are the entities that one declares")
		case strings.HasPrefix(rest, "<![CDATA["):
			return s.refuse(fhir.CodeStructure, s.pos, "CDATA sections are not taken; write &lt; and &amp;")
		case strings.HasPrefix(rest, "<!"):
			return s.fail(s.pos, "this markup is not known")
		case strings.HasPrefix(rest, "<?"):
			return s.refuse(fhir.CodeSecurity, s.pos, "processing instructions are not taken")
		case strings.HasPrefix(rest, "</"):
			return s.endTag()
		default:
			return s.startTag()
		}
	}
	return tokenEnd
}

// text reads up to the next tag and says whether more than white space was there.
func (s *scanner) text() bool {
	end := strings.IndexByte(s.src[s.pos:], '<')
	if end < 0 {
		end = len(s.src) - s.pos
	}
	text := s.src[s.pos : s.pos+end]
	if i := strings.Index(text, "]]>"); i >= 0 {
		s.fail(s.pos+i, "]]> may not stand in text")
		return false
	}
	if !s.references(text, s.pos) {
		return false
	}
	s.pos += end
	return strings.Trim(text, " \t\r\n") != ""
}

func (s *scanner) comment() {
	body := s.src[s.pos+len("<!--"):]
	end := strings.Index(body, "--")
	if end < 0 || !strings.HasPrefix(body[end:], "-->") {
		s.fail(s.pos, "a comment must end with --> and have no other -- inside")
		return
	}
	s.pos += len("<!--") + end + len("-->")
}

// qname reads a name and splits it at its colon. Only ASCII ones are known in FHIR and in XHTML.
func (s *scanner) qname() (name, prefix, local string, ok bool) {
	from, colon := s.pos, -1
	for ; s.pos < len(s.src); s.pos++ {
		c := s.src[s.pos]
		switch lower := c | 0x20; {
		case lower >= 'a' && lower <= 'z', c == '_':
			continue
		case c >= '0' && c <= '9', c == '-', c == '.':
			if s.pos > from && s.pos != colon+1 {
				continue
			}
		case c == ':':
			if colon < 0 && s.pos > from {
				colon = s.pos
				continue
			}
		}
		break
	}
	name = s.src[from:s.pos]
	if colon < 0 {
		return name, "", name, name != ""
	}
	return name, s.src[from:colon], s.src[colon+1 : s.pos], colon+1 < s.pos
}

// attribute reads name="value".
func (s *scanner) attribute() (a attribute, ok bool) {
	a.at = s.pos
	if _, a.prefix, a.local, ok = s.qname(); !ok {
		s.fail(a.at, "there is no attribute's name where one must stand")
		return a, false
	}
	s.spaces()
	if s.pos == len(s.src) || s.src[s.pos] != '=' {
		s.fail(s.pos, "= must follow the attribute's name")
		return a, false
	}
	s.pos++
	s.spaces()
	if s.pos == len(s.src) || s.src[s.pos] != '"' && s.src[s.pos] != '\'' {
		s.fail(s.pos, "an attribute's value must stand in quotes")
		return a, false
	}
	a.quote = s.src[s.pos]
	s.pos++
	end := strings.IndexByte(s.src[s.pos:], a.quote)
	if end < 0 {
		s.fail(s.pos, "an attribute's value is not closed")
		return a, false
	}
	a.raw = s.src[s.pos : s.pos+end]
	if i := strings.IndexByte(a.raw, '<'); i >= 0 {
		s.fail(s.pos+i, "< must be written as &lt; in an attribute")
		return a, false
	}
	if !s.references(a.raw, s.pos) {
		return a, false
	}
	s.pos += end + 1
	return a, true
}

func (s *scanner) startTag() token {
	s.pos++
	var ok bool
	if s.name, s.prefix, s.local, ok = s.qname(); !ok {
		return s.fail(s.start, "< must begin a tag, or be written as &lt;")
	}
	if len(s.open) == MaxElementDepth {
		return s.refuse(fhir.CodeTooLong, s.start, "elements nest deeper than %d levels", MaxElementDepth)
	}
	s.open = append(s.open, s.name)
	s.attrs, s.declared = s.attrs[:0], s.declared[:0]
	for {
		spaced := s.spaces()
		switch rest := s.src[s.pos:]; {
		case rest == "":
			return s.fail(s.start, "the tag <%s is not closed", short(s.name))
		case rest[0] == '>':
			s.pos++
			return s.resolve()
		case strings.HasPrefix(rest, "/>"):
			s.pos += 2
			s.closing = true
			return s.resolve()
		case !spaced:
			return s.fail(s.pos, "the tag <%s cannot be read on", short(s.name))
		}
		a, ok := s.attribute()
		if !ok {
			return tokenEnd
		}
		if len(s.attrs)+len(s.declared) == MaxAttributes {
			return s.refuse(fhir.CodeTooLong, s.start, "an element has more than %d attributes", MaxAttributes)
		}
		if a.prefix == "xmlns" || a.prefix == "" && a.local == "xmlns" {
			if !s.declare(a) {
				return tokenEnd
			}
			continue
		}
		s.attrs = append(s.attrs, a)
	}
}

// declare takes a namespace declaration (Namespaces in XML 1.0).
func (s *scanner) declare(a attribute) bool {
	prefix := ""
	if a.prefix != "" {
		prefix = a.local
	}
	uri := unescape(a.raw)
	for _, other := range s.declared {
		if other == prefix {
			s.fail(a.at, "an attribute stands twice in one tag")
			return false
		}
	}
	if prefix == "xmlns" || (prefix == "xml") != (uri == xmlNamespace) || prefix != "" && uri == "" || strings.HasSuffix(uri, "/2000/xmlns/") {
		s.fail(a.at, "this namespace cannot be declared")
		return false
	}
	if len(s.bindings) == MaxNamespaces {
		s.refuse(fhir.CodeTooLong, a.at, "more than %d namespace declarations are in force", MaxNamespaces)
		return false
	}
	s.declared = append(s.declared, prefix)
	s.bindings = append(s.bindings, binding{prefix, uri, len(s.open)})
	return true
}

// lookup gives the namespace of a prefix.
func (s *scanner) lookup(prefix string) (uri string, ok bool) {
	for i := len(s.bindings) - 1; i >= 0; i-- {
		if s.bindings[i].prefix == prefix {
			return s.bindings[i].uri, true
		}
	}
	if prefix == "xml" {
		return xmlNamespace, true
	}
	return "", prefix == ""
}

// resolve finds the namespaces of the tag just read and compares its attributes.
func (s *scanner) resolve() token {
	var ok bool
	if s.space, ok = s.lookup(s.prefix); !ok {
		return s.fail(s.start, "the prefix %q is not declared", short(s.prefix))
	}
	for i := range s.attrs {
		a := &s.attrs[i]
		if a.prefix != "" {
			if a.space, ok = s.lookup(a.prefix); !ok {
				return s.fail(a.at, "the prefix %q is not declared", short(a.prefix))
			}
		}
		for j := range i {
			if s.attrs[j].local == a.local && s.attrs[j].space == a.space {
				return s.fail(a.at, "an attribute stands twice in one tag")
			}
		}
	}
	return tokenOpen
}

func (s *scanner) endTag() token {
	s.pos += 2
	name, _, _, ok := s.qname()
	s.spaces()
	switch {
	case !ok || s.pos == len(s.src) || s.src[s.pos] != '>':
		return s.fail(s.start, "the end tag cannot be read")
	case len(s.open) == 0:
		return s.fail(s.start, "</%s> closes nothing", short(name))
	case s.open[len(s.open)-1] != name:
		return s.fail(s.start, "</%s> stands where <%s> must be closed", short(name), short(s.open[len(s.open)-1]))
	}
	s.pos++
	s.leave()
	return tokenClose
}

func (s *scanner) leave() {
	depth := len(s.open)
	for len(s.bindings) > 0 && s.bindings[len(s.bindings)-1].depth == depth {
		s.bindings = s.bindings[:len(s.bindings)-1]
	}
	s.open = s.open[:depth-1]
}

// skip passes over the rest of the element whose start tag was read last.
func (s *scanner) skip() bool {
	for depth := len(s.open); ; {
		switch s.next() {
		case tokenEnd:
			return false
		case tokenClose:
			if len(s.open) < depth {
				return true
			}
		}
	}
}

// references checks every & of a text: only XML's own five names and numbers mean something without a DTD.
func (s *scanner) references(text string, at int) bool {
	for i := 0; ; {
		j := strings.IndexByte(text[i:], '&')
		if j < 0 {
			return true
		}
		i += j
		name, _, found := strings.Cut(text[i+1:min(len(text), i+40)], ";")
		switch {
		case !found || name == "":
			s.fail(at+i, "& must be written as &amp;")
			return false
		case character(name) >= 0:
		case name[0] == '#':
			s.fail(at+i, "a reference names a character that XML does not know")
			return false
		case s.inDiv && html.UnescapeString("&"+name+";") != "&"+name+";" && !strings.HasSuffix(html.UnescapeString("&"+name+";"), ";"):
			s.named = true
		default:
			s.refuse(fhir.CodeSecurity, at+i, "the entity &%s; is not known to XML without a document type; write the character itself", short(name))
			return false
		}
		i += len(name) + 2
	}
}

// character gives the character that &name; stands for, or -1.
func character(name string) rune {
	switch name {
	case "lt":
		return '<'
	case "gt":
		return '>'
	case "amp":
		return '&'
	case "quot":
		return '"'
	case "apos":
		return '\''
	}
	if len(name) < 2 || name[0] != '#' {
		return -1
	}
	digits, base := name[1:], 10
	if digits[0] == 'x' {
		digits, base = digits[1:], 16
	}
	if digits == "" || digits[0] == '+' || digits[0] == '-' {
		return -1
	}
	n, err := strconv.ParseUint(digits, base, 32)
	if err != nil || n > utf8.MaxRune || !utf8.ValidRune(rune(n)) || badCharacter(string(rune(n))) >= 0 {
		return -1
	}
	return rune(n)
}

// unescape gives the text of an attribute whose references were checked. As XML has it, white space that stands for
// itself becomes spaces (XML 1.0 section 3.3.3).
func unescape(raw string) string {
	if !strings.ContainsAny(raw, "&\t\n\r") {
		return raw
	}
	var b strings.Builder
	b.Grow(len(raw))
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; c {
		case '&':
			name, _, _ := strings.Cut(raw[i+1:], ";")
			b.WriteRune(character(name))
			i += len(name) + 1
		case '\r':
			if i+1 < len(raw) && raw[i+1] == '\n' {
				i++
			}
			b.WriteByte(' ')
		case '\n', '\t':
			b.WriteByte(' ')
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// short cuts a piece of the input to what a message can hold.
func short(s string) string {
	if len(s) > 40 {
		return strings.ToValidUTF8(s[:40], "") + "…"
	}
	return s
}
