package path

import (
	"math/big"
	"time"
)

// maxBoundaryDigits is how many fractional digits lowBoundary() and highBoundary() give.
const maxBoundaryDigits = 28

// fnBoundary is lowBoundary() and highBoundary(): the ends of what a value of limited precision may mean.
func fnBoundary(c *ctx, x *call, mark int) error {
	e, ok, err := c.one(x, mark)
	if err != nil {
		return err
	}
	digits, given := int64(0), false
	if len(x.args) == 1 {
		if digits, given, err = c.integerArg(x.args[0]); err != nil {
			return err
		}
	}
	if !ok {
		return c.none(mark)
	}
	v, ok := e.System()
	if !ok {
		return c.none(mark)
	}
	high := x.name == "highBoundary"
	switch v.Kind {
	case Integer, Decimal, Quantity:
		if !given {
			digits = 8
		}
		if digits < 0 || digits > maxBoundaryDigits {
			return c.none(mark)
		}
		n, isNumber := v.number()
		if !isNumber {
			n = v.Num
		}
		n = boundary(n, int(digits), high)
		if v.Kind != Quantity {
			return c.number(mark, n)
		}
		v.Num = n
	case Date, DateTime, Time:
		if !given {
			digits = map[SystemKind]int64{Date: 8, DateTime: 17, Time: 9}[v.Kind]
		}
		m, ok := v.Moment.boundary(v.Kind, int(digits), high)
		if !ok {
			return c.none(mark)
		}
		v.Moment = m
	default:
		return failf("%s() does not work on a %s", x.name, v.Kind)
	}
	return c.result(mark, Value(v))
}

// boundary goes half a unit of the last digit outwards. A number that is smaller than one unit of the digits asked for
// gives zero, as in R4's suite.
func boundary(d Number, digits int, high bool) Number {
	half := Number{big.NewInt(5), d.scale + 1}
	end := d.sub(half)
	if high {
		end = d.add(half)
	}
	if digits > 0 && d.sign() != 0 && d.scale > digits && new(big.Int).Abs(end.int()).Cmp(pow10(end.scale-digits)) < 0 {
		return Number{bigZero, digits}
	}
	if high {
		return end.ceil(digits)
	}
	return end.floor(digits)
}

// The precisions that FHIRPath counts dates and times in: the number of their digits.
var momentDigits = map[int]precision{4: byYear, 6: byMonth, 8: byDay, 10: byHour, 12: byMinute, 14: bySecond,
	17: byFraction}
var clockDigits = map[int]precision{2: byHour, 4: byMinute, 6: bySecond, 9: byFraction}

// boundary fills or cuts to the precision asked for. Without an offset, the earliest and latest on Earth are +14:00
// and -12:00.
func (m Moment) boundary(kind SystemKind, digits int, high bool) (Moment, bool) {
	table := momentDigits
	if kind == Time {
		table = clockDigits
	}
	to, ok := table[digits]
	if !ok || kind == Date && to > byDay {
		return m, false
	}
	if m.prec == byHour && to > byHour {
		m.prec = byMinute // R4's dateTimes have no hours alone: T08 is read as T08:00
	}
	end := m
	if high {
		end = m.last(kind)
	}
	end.prec = to
	if to == byFraction {
		end.nanos, end.digits = end.nanos/1e6*1e6, 3
		if m.prec == byFraction && m.digits >= 3 {
			end.nanos, end.digits = m.nanos/1e6*1e6, 3
		}
	} else {
		end.nanos, end.digits = 0, 0
	}
	if kind == DateTime && to >= byHour && !end.zoned {
		end.zoned, end.offset = true, 14*60
		if high {
			end.offset = -12 * 60
		}
	}
	if to < byHour {
		end.zoned, end.offset = false, 0
	}
	return end, true
}

// last is the last millisecond of m.
func (m Moment) last(kind SystemKind) Moment {
	if m.prec < byMonth && kind != Time {
		m.month = 12
	}
	if m.prec < byDay && kind != Time {
		m.day = daysIn(m.year, m.month)
	}
	if m.prec < byHour {
		m.hour = 23
	}
	if m.prec < byMinute {
		m.minute = 59
	}
	if m.prec < bySecond {
		m.second = 59
	}
	if m.prec < byFraction {
		m.nanos = int(999 * time.Millisecond)
	}
	return m
}

func fnPrecision(c *ctx, x *call, mark int) error {
	e, ok, err := c.one(x, mark)
	if err != nil || !ok {
		c.stack = c.stack[:mark]
		return err
	}
	v, _ := e.System()
	n := 0
	switch v.Kind {
	case Integer:
	case Decimal, Quantity:
		n = v.Num.scale
	case Date, DateTime, Time:
		table := momentDigits
		if v.Kind == Time {
			table = clockDigits
		}
		for digits, p := range table {
			if p == v.Moment.prec {
				n = digits
			}
		}
	default:
		return failf("precision() does not work on a %s", e.TypeName())
	}
	return c.result(mark, intElement(int64(n)))
}

// fnComparable says whether two quantities have units that convert into each other.
func fnComparable(c *ctx, x *call, mark int) error {
	e, ok, err := c.one(x, mark)
	if err != nil {
		return err
	}
	arg, ok2, err := c.argument(x.args[0])
	if err != nil || !ok || !ok2 {
		c.stack = c.stack[:mark]
		return err
	}
	v, _ := e.System()
	w, _ := arg.System()
	a, ok := v.asQuantity()
	b, ok2 := w.asQuantity()
	if !ok || !ok2 {
		return c.bool(mark, false)
	}
	_, _, _, ok = commensurate(&a, &b)
	return c.bool(mark, ok)
}
