package path

func (c *ctx) numberIn(x *call, mark int) (v System, ok bool, err error) {
	e, ok, err := c.one(x, mark)
	if err != nil || !ok {
		return v, false, err
	}
	v, ok = e.System()
	if !ok || v.Kind != Integer && v.Kind != Decimal && v.Kind != Quantity {
		return v, false, failf("%s() works on a number, not on a %s", x.name, e.TypeName())
	}
	return v, true, nil
}

// realIn is numberIn without quantities.
func (c *ctx) realIn(x *call, mark int) (d Number, ok bool, err error) {
	v, ok, err := c.numberIn(x, mark)
	if err != nil || !ok {
		return d, false, err
	}
	if d, ok = v.number(); !ok {
		return d, false, failf("%s() does not work on a quantity", x.name)
	}
	return d, true, nil
}

func fnAbs(c *ctx, x *call, mark int) error {
	v, ok, err := c.numberIn(x, mark)
	if err != nil || !ok {
		c.stack = c.stack[:mark]
		return err
	}
	if v.Kind == Integer {
		if v.Int < 0 {
			v.Int = -v.Int
		}
	} else if v.Num.sign() < 0 {
		v.Num = v.Num.neg()
	}
	return c.result(mark, Value(v))
}

// fnWhole is ceiling(), floor() and truncate().
func fnWhole(c *ctx, x *call, mark int) error {
	d, ok, err := c.realIn(x, mark)
	if err != nil || !ok {
		c.stack = c.stack[:mark]
		return err
	}
	n := d.truncate()
	switch x.name {
	case "floor":
		n = d.floor(0).int()
	case "ceiling":
		n = d.ceil(0).int()
	}
	i, ok := integerOf(n)
	if !ok {
		return c.none(mark)
	}
	return c.result(mark, intElement(i))
}

func fnRound(c *ctx, x *call, mark int) error {
	d, ok, err := c.realIn(x, mark)
	if err != nil {
		return err
	}
	places := int64(0)
	if len(x.args) == 1 {
		n, given, err := c.integerArg(x.args[0])
		if err != nil {
			return err
		}
		if given {
			places = n
		}
	}
	if !ok {
		return c.none(mark)
	}
	if places < 0 || places > MaxDigits {
		return failf("round() takes a precision from 0 to %d", MaxDigits)
	}
	return c.number(mark, d.round(int(places)))
}

func fnSqrt(c *ctx, x *call, mark int) error {
	d, ok, err := c.realIn(x, mark)
	if err != nil || !ok || d.sign() < 0 {
		c.stack = c.stack[:mark]
		return err
	}
	return c.number(mark, fromReal(toReal(d).Sqrt(toReal(d))))
}

func fnExp(c *ctx, x *call, mark int) error {
	d, ok, err := c.realIn(x, mark)
	if err != nil || !ok {
		c.stack = c.stack[:mark]
		return err
	}
	y, ok := expReal(toReal(d))
	if !ok {
		return c.none(mark)
	}
	return c.number(mark, fromReal(y))
}

func fnLn(c *ctx, x *call, mark int) error {
	d, ok, err := c.realIn(x, mark)
	if err != nil || !ok || d.sign() <= 0 {
		c.stack = c.stack[:mark]
		return err
	}
	return c.number(mark, fromReal(lnReal(toReal(d))))
}

// numberArg is an argument that must be a number.
func (c *ctx) numberArg(n node) (v System, ok bool, err error) {
	e, ok, err := c.argument(n)
	if err != nil || !ok {
		return v, false, err
	}
	v, ok = e.value()
	if _, number := v.number(); !ok || !number {
		return v, false, failf("an argument must be a number, not a %s", e.TypeName())
	}
	return v, true, nil
}

func fnLog(c *ctx, x *call, mark int) error {
	d, ok, err := c.realIn(x, mark)
	if err != nil {
		return err
	}
	v, ok2, err := c.numberArg(x.args[0])
	if err != nil || !ok || !ok2 {
		c.stack = c.stack[:mark]
		return err
	}
	base, _ := v.number()
	if d.sign() <= 0 || base.sign() <= 0 || base.Cmp(numberOf(1)) == 0 {
		return c.none(mark)
	}
	y := lnReal(toReal(d))
	return c.number(mark, fromReal(y.Quo(y, lnReal(toReal(base)))))
}

func fnPower(c *ctx, x *call, mark int) error {
	e, has, err := c.one(x, mark)
	if err != nil {
		return err
	}
	d, ok, err := c.realIn(x, mark)
	if err != nil {
		return err
	}
	v, ok2, err := c.numberArg(x.args[0])
	if err != nil || !ok || !ok2 || !has {
		c.stack = c.stack[:mark]
		return err
	}
	exponent, _ := v.number()
	if exponent = exponent.trim(); exponent.scale == 0 {
		return c.wholePower(mark, e, v, d, exponent)
	}
	if d.sign() <= 0 {
		return c.none(mark)
	}
	y := lnReal(toReal(d))
	y, ok = expReal(y.Mul(y, toReal(exponent)))
	if !ok {
		return c.none(mark)
	}
	return c.number(mark, fromReal(y))
}

// wholePower multiplies exactly; an Integer to a positive Integer stays one.
func (c *ctx) wholePower(mark int, e Element, v System, d, exponent Number) error {
	const limit = 10_000
	if !exponent.int().IsInt64() || exponent.int().Int64() > limit || exponent.int().Int64() < -limit {
		return c.none(mark)
	}
	n := int(exponent.int().Int64())
	result := numberOf(1)
	for i := 0; i < max(n, -n); i++ {
		if result = result.mul(d); result.tooLong() {
			return c.none(mark)
		}
		if err := c.step(1); err != nil {
			return err
		}
	}
	if n < 0 {
		if result.sign() == 0 {
			return c.none(mark)
		}
		return c.number(mark, numberOf(1).div(result))
	}
	if base, ok := e.value(); ok && base.Kind == Integer && v.Kind == Integer {
		i, ok := integerOf(result.int())
		if !ok {
			return c.none(mark)
		}
		return c.result(mark, intElement(i))
	}
	return c.number(mark, result)
}
