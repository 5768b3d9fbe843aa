package path

import (
	"strings"
)

// conversion turns a value into another kind; ok is false where it cannot.
type conversion func(v System) (System, bool)

func converter(f conversion) *function {
	return &function{eval: func(c *ctx, x *call, mark int) error {
		e, ok, err := c.one(x, mark)
		if err != nil || !ok {
			c.stack = c.stack[:mark]
			return err
		}
		v, ok := e.System()
		if ok {
			v, ok = f(v)
		}
		if !ok {
			return c.none(mark)
		}
		return c.result(mark, Value(v))
	}}
}

func tester(f conversion) *function {
	return &function{eval: func(c *ctx, x *call, mark int) error {
		e, ok, err := c.one(x, mark)
		if err != nil || !ok {
			c.stack = c.stack[:mark]
			return err
		}
		v, ok := e.System()
		if ok {
			_, ok = f(v)
		}
		return c.bool(mark, ok)
	}}
}

func toBoolean(v System) (System, bool) {
	b := System{Kind: Boolean}
	switch v.Kind {
	case Boolean:
		return v, true
	case Integer:
		b.Bool = v.Int == 1
		return b, v.Int == 0 || v.Int == 1
	case Decimal:
		b.Bool = v.Num.Cmp(numberOf(1)) == 0
		return b, b.Bool || v.Num.sign() == 0
	case String:
		switch strings.ToLower(v.Str) {
		case "true", "t", "yes", "y", "1", "1.0":
			b.Bool = true
			return b, true
		case "false", "f", "no", "n", "0", "0.0":
			return b, true
		}
	}
	return v, false
}

func toInteger(v System) (System, bool) {
	switch v.Kind {
	case Integer:
		return v, true
	case Boolean:
		n := System{Kind: Integer}
		if v.Bool {
			n.Int = 1
		}
		return n, true
	case String:
		d, ok := parseNumber(v.Str)
		if !ok || d.scale > 0 || strings.ContainsAny(v.Str, "eE.") {
			return v, false
		}
		n, ok := integerOf(d.int())
		return System{Kind: Integer, Int: n}, ok
	}
	return v, false
}

func toDecimal(v System) (System, bool) {
	switch v.Kind {
	case Decimal:
		return v, true
	case Integer:
		return System{Kind: Decimal, Num: numberOf(v.Int)}, true
	case Boolean:
		n := System{Kind: Decimal, Num: Number{coef: bigZero, scale: 1}}
		if v.Bool {
			n.Num = Number{coef: bigTen, scale: 1}
		}
		return n, true
	case String:
		d, ok := parseNumber(v.Str)
		return System{Kind: Decimal, Num: d}, ok && !strings.ContainsAny(v.Str, "eE")
	}
	return v, false
}

func toText(v System) (System, bool) {
	if v.Kind == TypeInfo {
		return v, false
	}
	return System{Kind: String, Str: v.String()}, true
}

func toDate(v System) (System, bool) {
	switch v.Kind {
	case Date:
		return v, true
	case DateTime:
		m := v.Moment
		return System{Kind: Date, Moment: Moment{year: m.year, month: m.month, day: m.day, prec: min(m.prec, byDay)}}, true
	case String:
		m, ok := parseMoment(v.Str, Date)
		return System{Kind: Date, Moment: m}, ok
	}
	return v, false
}

func toDateTime(v System) (System, bool) {
	switch v.Kind {
	case DateTime:
		return v, true
	case Date:
		v.Kind = DateTime
		return v, true
	case String:
		m, ok := parseMoment(v.Str, DateTime)
		return System{Kind: DateTime, Moment: m}, ok
	}
	return v, false
}

func toTime(v System) (System, bool) {
	switch v.Kind {
	case Time:
		return v, true
	case String:
		m, ok := parseMoment(strings.TrimPrefix(v.Str, "T"), Time)
		return System{Kind: Time, Moment: m}, ok
	}
	return v, false
}

func toQuantity(v System) (System, bool) {
	switch v.Kind {
	case Quantity:
		return v, true
	case Integer, Decimal:
		return v.asQuantity()
	case Boolean:
		d, _ := toDecimal(v)
		return d.asQuantity()
	case String:
		return parseQuantity(v.Str)
	}
	return v, false
}

// parseQuantity reads "1", "1 day" and "1 'wk'".
func parseQuantity(s string) (System, bool) {
	number, unit, _ := strings.Cut(strings.TrimSpace(s), " ")
	q := System{Kind: Quantity, Str: "1"}
	d, ok := parseNumber(number)
	if !ok || strings.ContainsAny(number, "eE") {
		return q, false
	}
	q.Num = d
	unit = strings.TrimSpace(unit)
	switch {
	case unit == "":
		return q, true
	case calendarUnits[unit] != "":
		q.Str, q.Calendar = unit, true
		return q, true
	case len(unit) > 2 && unit[0] == '\'' && unit[len(unit)-1] == '\'':
		q.Str = unit[1 : len(unit)-1]
		return q, !strings.Contains(q.Str, "'")
	}
	return q, false
}

// quantityIn converts the input and, where the argument names a unit, brings it there.
func (c *ctx) quantityIn(x *call, mark int) (q System, has, ok bool, err error) {
	e, has, err := c.one(x, mark)
	if err != nil || !has {
		return q, false, false, err
	}
	v, ok := e.System()
	if ok {
		q, ok = toQuantity(v)
	}
	if !ok || len(x.args) == 0 {
		return q, true, ok, nil
	}
	unit, given, err := c.textArg(x.args[0])
	if err != nil || !given {
		return q, true, ok, err
	}
	target := System{Kind: Quantity, Num: numberOf(1), Str: unit, Calendar: calendarUnits[unit] != ""}
	a, b, _, ok := commensurate(&q, &target)
	if !ok {
		return q, true, false, nil
	}
	if q.Str != unit {
		q.Num = fromRat(a.Quo(a, b), 28)
	}
	q.Str, q.Calendar = unit, target.Calendar
	return q, true, true, nil
}

func fnToQuantity(c *ctx, x *call, mark int) error {
	q, _, ok, err := c.quantityIn(x, mark)
	if err != nil || !ok {
		c.stack = c.stack[:mark]
		return err
	}
	return c.result(mark, Value(q))
}

func fnConvertsToQuantity(c *ctx, x *call, mark int) error {
	_, has, ok, err := c.quantityIn(x, mark)
	if err != nil || !has {
		c.stack = c.stack[:mark]
		return err
	}
	return c.bool(mark, ok)
}

// fnType gives System.Integer and FHIR.boolean style type infos.
func fnType(c *ctx, _ *call, mark int) error {
	for i := mark; i < len(c.stack); i++ {
		e := &c.stack[i]
		info := System{Kind: TypeInfo, Namespace: "FHIR", Str: e.TypeName()}
		if e.sys != nil {
			info.Namespace = "System"
		}
		c.stack[i] = Value(info)
	}
	return c.step(len(c.stack) - mark)
}
