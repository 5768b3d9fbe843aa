package oracle

import (
	"math/big"
	"slices"

	"kiln/fhir"
	"kiln/fhir/path"
	"kiln/fhir/search"
)

// measure is a number, or all numbers between two, with a unit.
type measure struct {
	low, high         *big.Rat // nil: without bound
	lowOpen, highOpen bool     // the bound itself is not part of it
	system, code      string
	unit              string // as people read it
}

// measureOf reads a number, Quantity, Money or Range. A comparator makes a Quantity a range: < 5 is all below 5.
func measureOf(v path.Element) (measure, bool) {
	n := v.Value
	var m measure
	switch v.TypeName() {
	case "Range":
		unit := n.Get("low")
		if m.low = value(n.Get("low")); m.low == nil {
			unit = n.Get("high")
		}
		m.high = value(n.Get("high"))
		m.system, m.code, m.unit = unit.GetText("system"), unit.GetText("code"), unit.GetText("unit")
		return m, m.low != nil || m.high != nil
	case "Money":
		m.low = value(n)
		m.high = m.low
		if m.code = n.GetText("currency"); m.code != "" {
			m.system = "urn:iso:std:iso:4217"
		}
		return m, m.low != nil
	}
	if n.Kind == fhir.Number {
		m.low, _ = new(big.Rat).SetString(n.Text)
		m.high = m.low
		return m, true
	}
	x := value(n)
	m.low, m.high = x, x
	switch n.GetText("comparator") {
	case "<":
		m.low, m.highOpen = nil, true
	case "<=":
		m.low = nil
	case ">":
		m.high, m.lowOpen = nil, true
	case ">=":
		m.high = nil
	}
	m.system, m.code, m.unit = n.GetText("system"), n.GetText("code"), n.GetText("unit")
	return m, x != nil
}

func value(n *fhir.Node) *big.Rat {
	v := n.Get("value")
	if v == nil || v.Kind != fhir.Number {
		return nil
	}
	r, _ := new(big.Rat).SetString(v.Text)
	return r
}

const ucum = "http://unitsofmeasure.org"

// units are some UCUM units with what they are of the first of their kind. Tests use no others, apart from codes that
// are not UCUM's, which compare as text.
var units = map[string]struct {
	kind   string
	factor string
}{
	"g": {"mass", "1"}, "mg": {"mass", "1/1000"}, "kg": {"mass", "1000"}, "ug": {"mass", "1/1000000"},
	"m": {"length", "1"}, "cm": {"length", "1/100"}, "mm": {"length", "1/1000"}, "[in_i]": {"length", "254/10000"},
	"mm[Hg]": {"mm[Hg]", "1"}, "%": {"%", "1"}, "h": {"time", "1"}, "min": {"time", "1/60"}, "/min": {"frequency", "60"}, "/h": {"frequency", "1"},
}

// quantity compares a stored value with [prefix][number]|[system]|[code] (search.html#quantity). With a UCUM unit the
// comparison is between quantities, whatever their units; otherwise the units must be the same.
func quantity(v path.Element, asked search.Value) bool {
	m, ok := measureOf(v)
	if !ok {
		return false
	}
	one := big.NewRat(1, 1)
	if u, known := units[asked.Code]; known && asked.System == ucum {
		own, known := units[m.code]
		if m.system != ucum || !known || own.kind != u.kind {
			return false
		}
		to, _ := new(big.Rat).SetString(u.factor)
		from, _ := new(big.Rat).SetString(own.factor)
		one = from.Quo(from, to)
	} else if asked.System != "" && asked.System != m.system ||
		asked.Code != "" && asked.Code != m.code && (asked.System != "" || asked.Code != m.unit) {
		return false
	}
	scale := func(x *big.Rat) *big.Rat {
		if x == nil {
			return nil
		}
		return new(big.Rat).Mul(x, one)
	}
	m.low, m.high = scale(m.low), scale(m.high)
	return m.compare(asked.Prefix, asked.Number)
}

// compare applies a prefix (search.html#prefix and #number). Only eq, ne and ap know the precision of the number asked
// for; for the others it is exact.
func (m measure) compare(prefix string, d fhir.Decimal) bool {
	ten := big.NewRat(10, 1)
	unit := big.NewRat(1, 1) // of the last digit written
	for range max(d.Exponent, 0) {
		unit.Mul(unit, ten)
	}
	for range max(-d.Exponent, 0) {
		unit.Quo(unit, ten)
	}
	x := new(big.Rat).Mul(new(big.Rat).SetInt(d.Unscaled), unit)
	switch prefix {
	case "eq", "ne":
		half := new(big.Rat).Quo(unit, big.NewRat(2, 1))
		from, to := new(big.Rat).Sub(x, half), new(big.Rat).Add(x, half)
		inside := m.low != nil && m.high != nil && m.low.Cmp(from) >= 0 && m.high.Cmp(to) < 0
		return inside == (prefix == "eq")
	case "gt":
		return m.high == nil || m.high.Cmp(x) > 0
	case "ge":
		return m.reaches(x)
	case "lt":
		return m.low == nil || m.low.Cmp(x) < 0
	case "le":
		return m.startsBy(x)
	case "sa":
		return !m.startsBy(x)
	case "eb":
		return !m.reaches(x)
	case "ap": // Choice: ten percent, as recommended
		tenth := new(big.Rat).Quo(new(big.Rat).Abs(x), ten)
		return m.reaches(new(big.Rat).Sub(x, tenth)) && m.startsBy(new(big.Rat).Add(x, tenth))
	}
	panic("oracle: no rule for the prefix " + prefix)
}

// reaches says whether part of m is x or more; startsBy whether part of it is x or less.
func (m measure) reaches(x *big.Rat) bool {
	return m.high == nil || m.high.Cmp(x) > 0 || m.high.Cmp(x) == 0 && !m.highOpen
}

func (m measure) startsBy(x *big.Rat) bool {
	return m.low == nil || m.low.Cmp(x) < 0 || m.low.Cmp(x) == 0 && !m.lowOpen
}

// Units are the UCUM codes that the oracle can convert.
func Units() []string {
	var list []string
	for code := range units {
		list = append(list, code)
	}
	slices.Sort(list)
	return list
}
