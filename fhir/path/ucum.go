package path

import (
	"math/big"
	"strconv"
	"strings"
)

// dimensions are the powers of the base units of a unit.
type dimensions struct {
	metre, second, gram, mole, kelvin, ampere, candela, radian int8
}

func (d dimensions) plus(o dimensions, times int8) dimensions {
	return dimensions{d.metre + times*o.metre, d.second + times*o.second, d.gram + times*o.gram,
		d.mole + times*o.mole, d.kelvin + times*o.kelvin, d.ampere + times*o.ampere,
		d.candela + times*o.candela, d.radian + times*o.radian}
}

// unit is a UCUM unit in base units. Units with an offset or a logarithm (Cel, [pH]) are not here: they compare with
// themselves only.
type unit struct {
	factor *big.Rat
	dims   dimensions
}

type atom struct {
	factor string
	dims   dimensions
	metric bool
}

var atoms = map[string]atom{
	"m": {"1", dimensions{metre: 1}, true}, "s": {"1", dimensions{second: 1}, true},
	"g": {"1", dimensions{gram: 1}, true}, "mol": {"1", dimensions{mole: 1}, true},
	"K": {"1", dimensions{kelvin: 1}, true}, "A": {"1", dimensions{ampere: 1}, true},
	"cd": {"1", dimensions{candela: 1}, true}, "rad": {"1", dimensions{radian: 1}, true},
	"1": {"1", dimensions{}, false}, "%": {"0.01", dimensions{}, false}, "[ppth]": {"0.001", dimensions{}, false},
	"[ppm]": {"0.000001", dimensions{}, false}, "10*": {"10", dimensions{}, false}, "10^": {"10", dimensions{}, false},
	"l": {"0.001", dimensions{metre: 3}, true}, "L": {"0.001", dimensions{metre: 3}, true},
	"min": {"60", dimensions{second: 1}, false}, "h": {"3600", dimensions{second: 1}, false},
	"d": {"86400", dimensions{second: 1}, false}, "wk": {"604800", dimensions{second: 1}, false},
	"a": {"31557600", dimensions{second: 1}, false}, "mo": {"2629800", dimensions{second: 1}, false},
	"t": {"1000000", dimensions{gram: 1}, true}, "u": {"1.66053906660e-24", dimensions{gram: 1}, true},
	"Hz": {"1", dimensions{second: -1}, true}, "Bq": {"1", dimensions{second: -1}, true},
	"N":  {"1000", dimensions{gram: 1, metre: 1, second: -2}, true},
	"Pa": {"1000", dimensions{gram: 1, metre: -1, second: -2}, true},
	"J":  {"1000", dimensions{gram: 1, metre: 2, second: -2}, true},
	"W":  {"1000", dimensions{gram: 1, metre: 2, second: -3}, true},
	"V":  {"1000", dimensions{gram: 1, metre: 2, second: -3, ampere: -1}, true},
	"C":  {"1", dimensions{second: 1, ampere: 1}, true}, "Gy": {"1", dimensions{metre: 2, second: -2}, true},
	"Sv": {"1", dimensions{metre: 2, second: -2}, true}, "kat": {"1", dimensions{mole: 1, second: -1}, true},
	"U": {"1/60000000", dimensions{mole: 1, second: -1}, true}, "eq": {"1", dimensions{mole: 1}, true},
	"osm": {"1", dimensions{mole: 1}, true}, "bar": {"100000000", dimensions{gram: 1, metre: -1, second: -2}, true},
	"m[Hg]":    {"133322000", dimensions{gram: 1, metre: -1, second: -2}, true},
	"m[H2O]":   {"9806650", dimensions{gram: 1, metre: -1, second: -2}, true},
	"cal":      {"4184", dimensions{gram: 1, metre: 2, second: -2}, true},
	"[Cal]":    {"4184000", dimensions{gram: 1, metre: 2, second: -2}, false},
	"[in_i]":   {"0.0254", dimensions{metre: 1}, false},
	"[ft_i]":   {"0.3048", dimensions{metre: 1}, false},
	"[yd_i]":   {"0.9144", dimensions{metre: 1}, false},
	"[mi_i]":   {"1609.344", dimensions{metre: 1}, false},
	"[lb_av]":  {"453.59237", dimensions{gram: 1}, false},
	"[oz_av]":  {"28.349523125", dimensions{gram: 1}, false},
	"[gr]":     {"0.06479891", dimensions{gram: 1}, false},
	"[foz_us]": {"0.0000295735295625", dimensions{metre: 3}, false},
	"[pt_us]":  {"0.000473176473", dimensions{metre: 3}, false},
	"[gal_us]": {"0.003785411784", dimensions{metre: 3}, false},
}

var prefixes = map[string]int{
	"Y": 24, "Z": 21, "E": 18, "P": 15, "T": 12, "G": 9, "M": 6, "k": 3, "h": 2, "da": 1,
	"d": -1, "c": -2, "m": -3, "u": -6, "n": -9, "p": -12, "f": -15, "a": -18, "z": -21, "y": -24,
}

// maxUnit bounds the text of a unit, maxUnitBits its factor, so that no unit is dear to compare.
const (
	maxUnit     = 200
	maxUnitBits = 4000
)

// parseUnit reads a UCUM code of the units above: terms joined by . and /, parentheses, powers, {annotations}.
func parseUnit(code string) (unit, bool) {
	if len(code) == 0 || len(code) > maxUnit {
		return unit{}, false
	}
	p := unitParser{s: code}
	u, ok := p.term(0)
	return u, ok && p.s == "" && u.factor.Sign() > 0
}

type unitParser struct{ s string }

func (p *unitParser) term(depth int) (unit, bool) {
	total := unit{factor: big.NewRat(1, 1)}
	over := false
	if strings.HasPrefix(p.s, "/") {
		over, p.s = true, p.s[1:]
	}
	for {
		u, ok := p.component(depth)
		if !ok {
			return total, false
		}
		if over {
			if u.factor.Sign() == 0 {
				return total, false
			}
			total.factor.Quo(total.factor, u.factor)
			total.dims = total.dims.plus(u.dims, -1)
		} else {
			total.factor.Mul(total.factor, u.factor)
			total.dims = total.dims.plus(u.dims, 1)
		}
		if total.factor.Num().BitLen()+total.factor.Denom().BitLen() > maxUnitBits {
			return total, false
		}
		if p.s == "" || p.s[0] == ')' {
			return total, true
		}
		if p.s[0] != '.' && p.s[0] != '/' {
			return total, false
		}
		over, p.s = p.s[0] == '/', p.s[1:]
	}
}

func (p *unitParser) component(depth int) (unit, bool) {
	if strings.HasPrefix(p.s, "(") {
		if depth > 10 {
			return unit{}, false
		}
		p.s = p.s[1:]
		u, ok := p.term(depth + 1)
		if !ok || !strings.HasPrefix(p.s, ")") {
			return u, false
		}
		p.s = p.s[1:]
		return u, true
	}
	end := 0
	for end < len(p.s) && strings.IndexByte("./(){", p.s[end]) < 0 {
		if p.s[end] == '[' {
			for end < len(p.s) && p.s[end] != ']' {
				end++
			}
			continue
		}
		end++
	}
	end = min(end, len(p.s))
	text := p.s[:end]
	p.s = p.s[end:]
	if strings.HasPrefix(p.s, "{") {
		i := strings.IndexByte(p.s, '}')
		if i < 0 {
			return unit{}, false
		}
		p.s = p.s[i+1:]
		if text == "" {
			text = "1"
		}
	}
	return simpleUnit(text)
}

// simpleUnit reads [prefix]atom[power], or a whole number.
func simpleUnit(text string) (unit, bool) {
	if text == "" {
		return unit{}, false
	}
	if n, err := strconv.ParseUint(text, 10, 31); err == nil {
		return unit{factor: new(big.Rat).SetInt64(int64(n))}, n > 0
	}
	cut := len(text)
	for cut > 0 && isDigit(text[cut-1]) {
		cut--
	}
	if cut > 0 && (text[cut-1] == '-' || text[cut-1] == '+') {
		cut--
	}
	power := 1
	if cut < len(text) {
		n, err := strconv.Atoi(text[cut:])
		if err != nil || n < -30 || n > 30 {
			return unit{}, false
		}
		power = n
	}
	name := text[:cut]
	exp := 0
	a, ok := atoms[name]
	for n := 1; !ok && n <= 2 && n < len(name); n++ {
		if e, found := prefixes[name[:n]]; found {
			if a, ok = atoms[name[n:]]; ok && !a.metric {
				ok = false
			}
			exp = e
		}
	}
	if !ok {
		return unit{}, false
	}
	base, _ := new(big.Rat).SetString(a.factor)
	if exp >= 0 {
		base.Mul(base, new(big.Rat).SetInt(pow10(exp)))
	} else {
		base.Quo(base, new(big.Rat).SetInt(pow10(-exp)))
	}
	u := unit{factor: big.NewRat(1, 1)}
	for range max(power, -power) {
		if power > 0 {
			u.factor.Mul(u.factor, base)
		} else {
			u.factor.Quo(u.factor, base)
		}
	}
	u.dims = u.dims.plus(a.dims, int8(power))
	return u, true
}
