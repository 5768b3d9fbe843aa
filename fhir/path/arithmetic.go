package path

import (
	"math/big"

	"kiln/fhir/ucum"
)

// arithmetic answers + - * / div mod. What overflows or divides by zero is empty (FHIRPath, math).
func arithmetic(c *ctx, x *binary, mark, middle int) error {
	l, r := c.stack[mark:middle], c.stack[middle:]
	if len(l) > 1 || len(r) > 1 {
		return failf("\"%s\" takes one item on each side", x.op)
	}
	if len(l) == 0 || len(r) == 0 {
		return c.none(mark)
	}
	a, ok := l[0].System()
	b, ok2 := r[0].System()
	if !ok || !ok2 {
		return failf("\"%s\" does not work on %s and %s", x.op, l[0].TypeName(), r[0].TypeName())
	}
	switch {
	case a.Kind == String && b.Kind == String && x.op == "+":
		return c.text(mark, a.Str+b.Str)
	case a.Kind == Integer && b.Kind == Integer && x.op != "/":
		return c.integers(mark, x.op, a.Int, b.Int)
	case (isDate(a.Kind) || a.Kind == Time) && b.Kind == Quantity && (x.op == "+" || x.op == "-"):
		return c.moveMoment(mark, a, b, x.op == "-")
	case a.Kind == Quantity || b.Kind == Quantity:
		return c.quantities(mark, x.op, a, b)
	}
	m, ok := a.number()
	n, ok2 := b.number()
	if !ok || !ok2 {
		return failf("\"%s\" does not work on %s and %s", x.op, a.Kind, b.Kind)
	}
	var d Number
	switch x.op {
	case "+":
		d = m.add(n)
	case "-":
		d = m.sub(n)
	case "*":
		d = m.mul(n)
	default:
		if n.sign() == 0 {
			return c.none(mark)
		}
		switch x.op {
		case "/":
			d = m.div(n)
		case "div":
			q, ok := integerOf(wholeQuotient(m, n))
			if !ok {
				return c.none(mark)
			}
			return c.result(mark, intElement(q))
		case "mod":
			d = m.sub(Number{coef: wholeQuotient(m, n)}.mul(n))
		}
	}
	return c.number(mark, d)
}

func wholeQuotient(m, n Number) *big.Int {
	scale := max(m.scale, n.scale)
	return new(big.Int).Quo(m.at(scale), n.at(scale))
}

// number replaces everything from mark on by a Decimal, within MaxDigits.
func (c *ctx) number(mark int, d Number) error {
	if d.tooLong() {
		return errDigits()
	}
	if err := c.step(1 + d.int().BitLen()/64); err != nil {
		return err
	}
	return c.result(mark, numElement(d))
}

func (c *ctx) integers(mark int, op string, a, b int64) error {
	var n int64
	switch op {
	case "+":
		n = a + b
	case "-":
		n = a - b
	case "*":
		if !fitsInteger(a) || !fitsInteger(b) {
			return c.none(mark)
		}
		n = a * b
	default:
		if b == 0 {
			return c.none(mark)
		}
		if n = a / b; op == "mod" {
			n = a % b
		}
	}
	if !fitsInteger(n) {
		return c.none(mark)
	}
	return c.result(mark, intElement(n))
}

// moveMoment adds a quantity of time to a date. The fraction of the quantity does not count.
func (c *ctx) moveMoment(mark int, a, q System, minus bool) error {
	unit := calendarUnits[q.Str]
	if unit == "" && !q.Calendar {
		if unit = ucumDurations[q.Str]; unit == "" {
			return failf("'%s' cannot be added to a date: only calendar units and those of a fixed length can", q.Str)
		}
	}
	whole := q.Num.truncate()
	if minus {
		whole.Neg(whole)
	}
	if !whole.IsInt64() {
		return c.none(mark)
	}
	m, ok := a.Moment.add(a.Kind, whole.Int64(), unit)
	if !ok {
		return c.none(mark)
	}
	a.Moment = m
	return c.result(mark, Value(a))
}

func (c *ctx) quantities(mark int, op string, a, b System) error {
	p, ok := a.asQuantity()
	q, ok2 := b.asQuantity()
	if !ok || !ok2 {
		return failf("\"%s\" does not work on %s and %s", op, a.Kind, b.Kind)
	}
	var sum System
	switch op {
	case "+", "-":
		if op == "-" {
			q.Num = q.Num.neg()
		}
		if sum, ok = addQuantities(p, q); !ok {
			return c.none(mark)
		}
	case "*":
		sum, ok = timesQuantity(p, q)
	case "/":
		sum, ok = overQuantity(p, q)
	default:
		return failf("\"%s\" does not work on quantities", op)
	}
	if !ok {
		return c.none(mark)
	}
	if sum.Num.tooLong() {
		return errDigits()
	}
	return c.result(mark, Value(sum))
}

// addQuantities adds in the left side's unit.
func addQuantities(a, b System) (System, bool) {
	u, _ := a.unit()
	v, _ := b.unit()
	if u == v {
		a.Num = a.Num.add(b.Num)
		return a, true
	}
	x, y, _, ok := commensurate(&a, &b)
	if !ok {
		return System{}, false
	}
	sum := new(big.Rat).Add(x, y)
	switch _, zero, known := ucum.CanonicalRat(u, new(big.Rat)); {
	case known && zero.Sign() != 0:
		return System{}, false // degrees Celsius begin elsewhere than kelvins: no sum of the two has a meaning
	case known:
		sum.Quo(sum, unitSize(u))
	case u == "year":
		sum.Quo(sum, big.NewRat(12, 1))
	}
	a.Num = fromRat(sum, 28)
	return a, true
}
