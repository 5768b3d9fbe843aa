package path

func fnEmpty(c *ctx, _ *call, mark int) error { return c.bool(mark, len(c.stack) == mark) }

func fnCount(c *ctx, _ *call, mark int) error {
	return c.result(mark, intElement(int64(len(c.stack)-mark)))
}

func fnExists(c *ctx, x *call, mark int) error {
	if len(x.args) == 0 {
		return c.bool(mark, len(c.stack) > mark)
	}
	for i := mark; i < len(c.stack); i++ {
		t, err := c.holds(c.stack[i], i-mark, x.args[0])
		if err != nil {
			return err
		}
		if t == yes {
			return c.bool(mark, true)
		}
	}
	return c.bool(mark, false)
}

func fnAll(c *ctx, x *call, mark int) error {
	for i := mark; i < len(c.stack); i++ {
		t, err := c.holds(c.stack[i], i-mark, x.args[0])
		if err != nil {
			return err
		}
		if t != yes {
			return c.bool(mark, false)
		}
	}
	return c.bool(mark, true)
}

// quantifier makes allTrue and its like: whether all, or any, items are want.
func quantifier(want truthValue, all bool) func(*ctx, *call, int) error {
	return func(c *ctx, x *call, mark int) error {
		result := all
		for i := mark; i < len(c.stack); i++ {
			v, ok := c.stack[i].value()
			if !ok || v.Kind != Boolean {
				return failf("%s() works on Booleans, not on a %s", x.name, c.stack[i].TypeName())
			}
			if (truthOf(v.Bool) == want) != all {
				result = !all
			}
		}
		return c.bool(mark, result)
	}
}

func fnNot(c *ctx, _ *call, mark int) error {
	t, err := truth(c.stack[mark:])
	if err != nil || t == unknown {
		c.stack = c.stack[:mark]
		return err
	}
	return c.bool(mark, t == no)
}

func fnIsDistinct(c *ctx, _ *call, mark int) error {
	n := len(c.stack)
	if err := c.distinct(mark); err != nil {
		return err
	}
	return c.bool(mark, len(c.stack) == n)
}

// within says whether list holds an item equal to e.
func (c *ctx) within(e *Element, list []Element) (bool, error) {
	for i := range list {
		t, err := c.equal(e, &list[i])
		if err != nil {
			return false, err
		}
		if t == yes {
			return true, nil
		}
	}
	return false, nil
}

// both evaluates the argument behind the input and returns where it begins.
func (c *ctx) both(x *call) (middle int, err error) {
	middle = len(c.stack)
	return middle, x.args[0].eval(c)
}

func fnSubsetOf(c *ctx, x *call, mark int) error {
	middle, err := c.both(x)
	if err != nil {
		return err
	}
	return c.subset(mark, c.stack[mark:middle], c.stack[middle:])
}

func fnSupersetOf(c *ctx, x *call, mark int) error {
	middle, err := c.both(x)
	if err != nil {
		return err
	}
	return c.subset(mark, c.stack[middle:], c.stack[mark:middle])
}

func (c *ctx) subset(mark int, small, large []Element) error {
	for i := range small {
		in, err := c.within(&small[i], large)
		if err != nil {
			return err
		}
		if !in {
			return c.bool(mark, false)
		}
	}
	return c.bool(mark, true)
}
