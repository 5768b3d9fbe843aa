package path

import (
	"math/big"

	"kiln/fhir/ucum"
)

// asQuantity turns numbers into quantities of unit '1'.
func (s *System) asQuantity() (System, bool) {
	if s.Kind == Quantity {
		return *s, true
	}
	if n, ok := s.number(); ok {
		return System{Kind: Quantity, Num: n, Str: "1"}, true
	}
	return System{}, false
}

// unit returns a quantity's unit as a UCUM code, and whether it is a calendar year or month: those have no exact
// length, and compare with each other only.
func (s *System) unit() (code string, calendar bool) {
	u := calendarUnits[s.Str]
	if u == "" {
		return s.Str, false
	}
	switch u {
	case "year", "month":
		return u, true
	}
	for code, name := range ucumDurations {
		if name == u {
			return code, false
		}
	}
	return s.Str, false
}

// commensurate brings two quantities to one unit; size is how large the units are relative to each other.
func commensurate(a, b *System) (x, y *big.Rat, size int, ok bool) {
	u, uCalendar := a.unit()
	v, vCalendar := b.unit()
	x, y = a.Num.Rat(), b.Num.Rat()
	if u == v {
		return x, y, 0, true
	}
	if uCalendar || vCalendar {
		switch {
		case uCalendar && vCalendar && u == "year":
			return x.Mul(x, big.NewRat(12, 1)), y, 1, true
		case uCalendar && vCalendar:
			return x, y.Mul(y, big.NewRat(12, 1)), -1, true
		}
		return nil, nil, 0, false
	}
	if !ucum.Comparable(u, v) {
		return nil, nil, 0, false
	}
	_, x, _ = ucum.CanonicalRat(u, x)
	_, y, _ = ucum.CanonicalRat(v, y)
	return x, y, unitSize(u).Cmp(unitSize(v)), true
}

// unitSize is what one of a UCUM unit is in base units, which ucum knows.
func unitSize(code string) *big.Rat {
	_, zero, ok := ucum.CanonicalRat(code, new(big.Rat))
	_, one, ok2 := ucum.CanonicalRat(code, big.NewRat(1, 1))
	if !ok || !ok2 {
		return big.NewRat(1, 1)
	}
	return one.Sub(one, zero)
}

// quantitiesEqual is unknown only between a calendar unit of no exact length and a UCUM duration.
func quantitiesEqual(s, o *System) truthValue {
	a, ok := s.asQuantity()
	b, ok2 := o.asQuantity()
	if !ok || !ok2 {
		return no
	}
	order, known := compareQuantities(&a, &b)
	if known {
		return truthOf(order == 0)
	}
	if isVague(&a) != isVague(&b) && isDuration(&a) && isDuration(&b) {
		return unknown // 1 year against 1 'a'
	}
	return no
}

func compareQuantities(a, b *System) (order int, known bool) {
	x, y, _, ok := commensurate(a, b)
	if !ok {
		return 0, false
	}
	return x.Cmp(y), true
}

func isVague(q *System) bool { _, calendar := q.unit(); return calendar }

func isDuration(q *System) bool {
	u, calendar := q.unit()
	if calendar {
		return true
	}
	return ucum.Comparable(u, "s")
}

// quantitiesEquivalent compares in the larger of the two units, at the lower precision.
func quantitiesEquivalent(s, o *System) bool {
	a, ok := s.asQuantity()
	b, ok2 := o.asQuantity()
	if !ok || !ok2 {
		return false
	}
	if a.Str == b.Str {
		return equivalentNumbers(a.Num, b.Num)
	}
	x, y, size, ok := commensurate(&a, &b)
	if !ok {
		// ~ does take a calendar year for a UCUM one.
		return yearLike[a.Str] != "" && yearLike[a.Str] == yearLike[b.Str] && equivalentNumbers(a.Num, b.Num)
	}
	large := &a
	if size < 0 {
		large = &b
	}
	unit := big.NewRat(1, 1)
	if u, calendar := large.unit(); calendar {
		if u == "year" && size != 0 {
			unit.SetInt64(12)
		}
	} else if !calendar && size != 0 {
		unit = unitSize(u)
	}
	m := fromRat(x.Quo(x, unit), 28)
	n := fromRat(y.Quo(y, unit), 28)
	return equivalentNumbers(m, n)
}

var yearLike = map[string]string{
	"a": "a", "year": "a", "years": "a", "mo": "mo", "month": "mo", "months": "mo",
}

// timesQuantity and overQuantity multiply and divide with units.
func timesQuantity(a, b System) (System, bool) { return combineQuantities(a, b, false) }
func overQuantity(a, b System) (System, bool)  { return combineQuantities(a, b, true) }

func combineQuantities(a, b System, over bool) (System, bool) {
	num, sep := a.Num.mul(b.Num), "."
	if over {
		if b.Num.sign() == 0 {
			return System{}, false
		}
		num, sep = a.Num.div(b.Num), "/"
	}
	u, _ := a.unit()
	v, _ := b.unit()
	switch {
	case v == "1":
		return System{Kind: Quantity, Num: num, Str: u}, true
	case u == "1" && !over:
		return System{Kind: Quantity, Num: num, Str: v}, true
	case u == v && over:
		return System{Kind: Quantity, Num: num, Str: "1"}, true
	}
	if over {
		v = "(" + v + ")"
	}
	q := System{Kind: Quantity, Num: num, Str: u + sep + v}
	if len(q.Str) > 200 {
		return System{}, false
	}
	return q, true
}
