package ucum

import (
	"math/big"
	"strconv"
	"strings"
)

// maxDigits bounds an integer in a code, so that it fits an int64.
const maxDigits = 18

// lookup reads a code, through the ready-made ones first.
func (t *table) lookup(code string) (*unit, bool) {
	if u, ok := t.ready[code]; ok {
		return u, true
	}
	return t.parse(code)
}

// parse reads a code by the grammar of UCUM §§3–12; operators bind equally and from the left, so a/b.c is (a/b).c.
func (t *table) parse(code string) (*unit, bool) {
	if code == "" || len(code) > MaxLength {
		return nil, false
	}
	p := parser{table: t, rest: code}
	u, ok := p.term(true)
	return u, ok && p.rest == ""
}

// parser holds what is still to be read; its depth is bounded by MaxLength.
type parser struct {
	table *table
	rest  string
}

// accept consumes c if it comes next.
func (p *parser) accept(c byte) bool {
	if p.rest == "" || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

// term reads components and the operators between them. A leading '/' is allowed in a whole code only.
func (p *parser) term(whole bool) (u *unit, ok bool) {
	if whole && p.accept('/') {
		if u, ok = p.component(); !ok {
			return nil, false
		}
		u, ok = u.power(-1)
	} else {
		u, ok = p.component()
	}
	for ok && p.rest != "" {
		divide := p.rest[0] == '/'
		if !divide && p.rest[0] != '.' {
			break // ')' for the caller, or an error that the caller finds
		}
		p.rest = p.rest[1:]
		var v *unit
		if v, ok = p.component(); ok {
			u, ok = u.times(v, divide)
		}
	}
	return u, ok
}

// component reads one unit, number, group or annotation, with the annotation that may follow the first three.
func (p *parser) component() (u *unit, ok bool) {
	switch {
	case p.rest == "":
		return nil, false
	case p.rest[0] == '{':
		return pure(one), p.annotation()
	case p.accept('('):
		if u, ok = p.term(false); !ok || !p.accept(')') {
			return nil, false
		}
	case isDigit(p.rest[0]) && !strings.HasPrefix(p.rest, "10*") && !strings.HasPrefix(p.rest, "10^"):
		n, ok := p.integer()
		if !ok || n == 0 {
			return nil, false
		}
		u = pure(new(big.Rat).SetInt64(n))
	default:
		if u, ok = p.simple(); !ok {
			return nil, false
		}
	}
	if p.rest != "" && p.rest[0] == '{' {
		return u, p.annotation()
	}
	return u, true
}

// annotation skips {…}, which carries no meaning (UCUM §6). A space is let through, unlike in UCUM, because HL7's list of
// common codes has some: {2 or 3 times}/d (FHIR R4 valueset-ucum-common.html).
func (p *parser) annotation() bool {
	for i := 1; i < len(p.rest); i++ {
		switch c := p.rest[i]; {
		case c == '}':
			p.rest = p.rest[i+1:]
			return true
		case c == '{' || c < ' ' || c > '~':
			return false
		}
	}
	return false
}

// simple reads a unit with its prefix and its exponent.
func (p *parser) simple() (*unit, bool) {
	length := symbolLength(p.rest)
	if length == 0 {
		return nil, false
	}
	u, ok := p.table.symbol(p.rest[:length])
	if !ok {
		return nil, false
	}
	p.rest = p.rest[length:]
	if p.rest == "" {
		return u, true
	}
	negative := p.accept('-')
	signed := negative || p.accept('+')
	if !signed && (p.rest == "" || !isDigit(p.rest[0])) {
		return u, true
	}
	n, ok := p.integer()
	if !ok || n > maxPower {
		return nil, false
	}
	if negative {
		n = -n
	}
	return u.power(int(n))
}

// integer reads digits.
func (p *parser) integer() (int64, bool) {
	i := 0
	for i < len(p.rest) && isDigit(p.rest[i]) {
		i++
	}
	if i == 0 || i > maxDigits {
		return 0, false
	}
	n, err := strconv.ParseInt(p.rest[:i], 10, 64)
	p.rest = p.rest[i:]
	return n, err == nil
}

// symbolLength is how far a unit symbol goes. Digits and operators end it, except within square brackets, where
// everything printable is part of the name: m[H2O]. The symbols 10* and 10^ are the only ones that begin with digits.
func symbolLength(s string) int {
	if strings.HasPrefix(s, "10*") || strings.HasPrefix(s, "10^") {
		return 3
	}
	bracket := false
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c <= ' ' || c > '~':
			return 0
		case bracket:
			bracket = c != ']'
		case c == '[':
			bracket = true
		case isDigit(c) || strings.IndexByte("+-./(){}]=\"", c) >= 0:
			return i
		}
	}
	if bracket {
		return 0
	}
	return len(s)
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// symbol finds a unit symbol, as it stands first and then as prefix and metric unit: "min" is no milli-inch, and
// "dar" is a tenth of an are because "r" is no unit.
func (t *table) symbol(s string) (*unit, bool) {
	if d, ok := t.units[s]; ok {
		return d.unit, true
	}
	for n := 1; n <= 2 && n < len(s); n++ {
		factor, ok := t.prefixes[s[:n]]
		if !ok {
			continue
		}
		if d, ok := t.units[s[n:]]; ok && d.metric {
			return d.unit.scaled(factor), true
		}
	}
	return nil, false
}
