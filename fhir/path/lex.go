package path

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"kiln/fhir"
)

type tokenKind uint8

const (
	tokEnd      tokenKind = iota
	tokIdent              // also keywords; a quoted one has quoted = true
	tokString             // text is unescaped
	tokNumber             // 12 or 1.20
	tokMoment             // @…; text without the @
	tokVariable           // %name; text without the %
	tokThis               // $this, $index, $total; text with the $
	tokSymbol             // operators and punctuation
)

type token struct {
	kind   tokenKind
	text   string
	pos    int
	quoted bool
}

type lexer struct {
	src string
	pos int
}

func syntax(pos int, format string, args ...any) error {
	return fhir.NewError(fhir.Invalid, fhir.CodeInvalid,
		fmt.Sprintf("FHIRPath, character %d: %s", pos+1, fmt.Sprintf(format, args...)))
}

// skip passes white space and comments.
func (l *lexer) skip() error {
	for l.pos < len(l.src) {
		rest := l.src[l.pos:]
		switch {
		case strings.IndexByte(" \t\r\n", rest[0]) >= 0:
			l.pos++
		case strings.HasPrefix(rest, "//"):
			if i := strings.IndexAny(rest, "\r\n"); i >= 0 {
				l.pos += i
			} else {
				l.pos = len(l.src)
			}
		case strings.HasPrefix(rest, "/*"):
			i := strings.Index(rest[2:], "*/")
			if i < 0 {
				return syntax(l.pos, "the comment does not end")
			}
			l.pos += i + 4
		default:
			return nil
		}
	}
	return nil
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' }
func isDigit(c byte) bool  { return c >= '0' && c <= '9' }

func (l *lexer) next() (token, error) {
	if err := l.skip(); err != nil {
		return token{}, err
	}
	t := token{pos: l.pos}
	if l.pos >= len(l.src) {
		return t, nil
	}
	c := l.src[l.pos]
	var err error
	switch {
	case isLetter(c):
		t.kind, t.text = tokIdent, l.word()
	case c == '`':
		t.kind, t.quoted = tokIdent, true
		t.text, err = l.quoted('`')
	case c == '\'':
		t.kind = tokString
		t.text, err = l.quoted('\'')
	case isDigit(c):
		t.kind, t.text = tokNumber, l.number()
	case c == '@':
		t.kind, t.text = tokMoment, l.moment()
	case c == '%':
		t.kind = tokVariable
		t.text, err = l.variable()
	case c == '$':
		l.pos++
		t.kind, t.text = tokThis, "$"+l.word()
		if t.text != "$this" && t.text != "$index" && t.text != "$total" {
			err = syntax(t.pos, "%s is no variable", t.text)
		}
	default:
		t.kind = tokSymbol
		t.text, err = l.symbol()
	}
	return t, err
}

func (l *lexer) word() string {
	start := l.pos
	for l.pos < len(l.src) && (isLetter(l.src[l.pos]) || isDigit(l.src[l.pos])) {
		l.pos++
	}
	return l.src[start:l.pos]
}

func (l *lexer) digits() {
	for l.pos < len(l.src) && isDigit(l.src[l.pos]) {
		l.pos++
	}
}

// at says whether the next byte is c and a digit follows.
func (l *lexer) at(c byte) bool {
	return l.pos+1 < len(l.src) && l.src[l.pos] == c && isDigit(l.src[l.pos+1])
}

func (l *lexer) number() string {
	start := l.pos
	l.digits()
	if l.at('.') {
		l.pos++
		l.digits()
	}
	return l.src[start:l.pos]
}

// moment takes as many characters as can belong to a date or time; whether they do is for parseMoment.
func (l *lexer) moment() string {
	l.pos++
	start := l.pos
	if l.pos < len(l.src) && l.src[l.pos] == 'T' {
		l.pos++
		l.clock()
		return l.src[start:l.pos]
	}
	l.digits()
	for range 2 {
		if l.at('-') {
			l.pos++
			l.digits()
		}
	}
	if l.pos < len(l.src) && l.src[l.pos] == 'T' {
		l.pos++
		l.clock()
		if l.pos < len(l.src) && l.src[l.pos] == 'Z' {
			l.pos++
		} else if (l.at('+') || l.at('-')) && len(l.src) > l.pos+5 && l.src[l.pos+3] == ':' {
			l.pos += 6
		}
	}
	return l.src[start:l.pos]
}

func (l *lexer) clock() {
	l.digits()
	for range 2 {
		if l.at(':') {
			l.pos++
			l.digits()
		}
	}
	if l.at('.') {
		l.pos++
		l.digits()
	}
}

func (l *lexer) variable() (string, error) {
	l.pos++
	if l.pos >= len(l.src) {
		return "", syntax(l.pos, "a name must follow %%")
	}
	switch c := l.src[l.pos]; {
	case c == '`' || c == '\'':
		return l.quoted(c)
	case isLetter(c):
		name := l.word()
		// %vs-name and %ext-name without quotes is the older form.
		if (name == "vs" || name == "ext") && l.pos < len(l.src) && l.src[l.pos] == '-' {
			start := l.pos
			for l.pos < len(l.src) && (isLetter(l.src[l.pos]) || isDigit(l.src[l.pos]) || l.src[l.pos] == '-') {
				l.pos++
			}
			name += l.src[start:l.pos]
		}
		return name, nil
	}
	return "", syntax(l.pos, "a name must follow %%")
}

func (l *lexer) symbol() (string, error) {
	rest := l.src[l.pos:]
	for _, s := range [...]string{"<=", ">=", "!=", "!~"} {
		if strings.HasPrefix(rest, s) {
			l.pos += 2
			return s, nil
		}
	}
	if strings.IndexByte(".,()[]{}+-*/&|=~<>", rest[0]) < 0 {
		r, _ := utf8.DecodeRuneInString(rest)
		return "", syntax(l.pos, "the character %q is out of place", r)
	}
	l.pos++
	return rest[:1], nil
}

// quoted reads a string or a delimited identifier with its escapes.
func (l *lexer) quoted(mark byte) (string, error) {
	start := l.pos
	l.pos++
	end := strings.IndexByte(l.src[l.pos:], mark)
	if end >= 0 && strings.IndexByte(l.src[l.pos:l.pos+end], '\\') < 0 {
		s := l.src[l.pos : l.pos+end]
		l.pos += end + 1
		return s, nil
	}
	var b strings.Builder
	for l.pos < len(l.src) {
		c := l.src[l.pos]
		l.pos++
		if c == mark {
			return b.String(), nil
		}
		if c != '\\' {
			b.WriteByte(c)
			continue
		}
		if l.pos >= len(l.src) {
			break
		}
		c = l.src[l.pos]
		l.pos++
		switch c {
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		case 't':
			b.WriteByte('\t')
		case 'f':
			b.WriteByte('\f')
		case 'u':
			if l.pos+4 > len(l.src) {
				return "", syntax(l.pos, "four digits must follow \\u")
			}
			r, err := strconv.ParseUint(l.src[l.pos:l.pos+4], 16, 32)
			if err != nil {
				return "", syntax(l.pos, "four digits must follow \\u")
			}
			l.pos += 4
			b.WriteRune(rune(r))
		default:
			// Other characters stand for themselves; R4's own invariants write "\." for ".".
			b.WriteByte(c)
		}
	}
	return "", syntax(start, "the text does not end")
}
