package path

import (
	"slices"

	"kiln/fhir"
)

func fnIntersect(c *ctx, x *call, mark int) error { return c.keep(x, mark, true) }
func fnExclude(c *ctx, x *call, mark int) error   { return c.keep(x, mark, false) }

// keep leaves the input items that are, or are not, in the argument.
func (c *ctx) keep(x *call, mark int, in bool) error {
	middle, err := c.both(x)
	if err != nil {
		return err
	}
	w := mark
	for i := mark; i < middle; i++ {
		found, err := c.within(&c.stack[i], c.stack[middle:])
		if err != nil {
			return err
		}
		if found == in {
			c.stack[w] = c.stack[i]
			w++
		}
	}
	c.stack = c.stack[:w]
	if in {
		return c.distinct(mark)
	}
	return nil
}

func fnCombine(c *ctx, x *call, _ int) error { _, err := c.both(x); return err }

func fnUnion(c *ctx, x *call, mark int) error {
	if _, err := c.both(x); err != nil {
		return err
	}
	return c.distinct(mark)
}

func fnWhere(c *ctx, x *call, mark int) error {
	end, w := len(c.stack), mark
	for i := mark; i < end; i++ {
		t, err := c.holds(c.stack[i], i-mark, x.args[0])
		if err != nil {
			return err
		}
		if t == yes {
			c.stack[w] = c.stack[i]
			w++
		}
	}
	c.stack = c.stack[:w]
	return nil
}

func fnSelect(c *ctx, x *call, mark int) error {
	end := len(c.stack)
	for i := mark; i < end; i++ {
		if err := c.with(c.stack[i], i-mark, x.args[0]); err != nil {
			return err
		}
	}
	return c.drop(mark, end)
}

// drop removes stack[mark:end] and keeps what lies above.
func (c *ctx) drop(mark, end int) error {
	c.stack = append(c.stack[:mark], c.stack[end:]...)
	return nil
}

// fnRepeat projects again and again until nothing new comes. Elements are told apart by their place, values by
// equality, so it ends also where references go in circles.
func fnRepeat(c *ctx, x *call, mark int) error {
	end := len(c.stack)
	seen := map[*fhir.Node]struct{}{}
	for i := mark; i < len(c.stack); i++ {
		if err := c.step(1); err != nil {
			return err
		}
		top := len(c.stack)
		if err := c.with(c.stack[i], 0, x.args[0]); err != nil {
			return err
		}
		w := top
		for j := top; j < len(c.stack); j++ {
			e := c.stack[j]
			old := false
			if place := e.place(); place != nil {
				_, old = seen[place]
				seen[place] = struct{}{}
			} else {
				var err error
				if old, err = c.within(&e, c.stack[end:w]); err != nil {
					return err
				}
			}
			if !old {
				c.stack[w] = e
				w++
			}
		}
		c.stack = c.stack[:w]
	}
	return c.drop(mark, end)
}

// place is what tells an element of the tree from all others; nil for System values.
func (e *Element) place() *fhir.Node {
	if e.Value != nil {
		return e.Value
	}
	return e.Sibling
}

func fnChildren(c *ctx, _ *call, mark int) error {
	end := len(c.stack)
	for i := mark; i < end; i++ {
		e := c.stack[i]
		if err := c.children(&e); err != nil {
			return err
		}
	}
	return c.drop(mark, end)
}

func fnDescendants(c *ctx, _ *call, mark int) error {
	end := len(c.stack)
	for i := mark; i < len(c.stack); i++ {
		e := c.stack[i]
		if err := c.children(&e); err != nil {
			return err
		}
	}
	return c.drop(mark, end)
}

func fnSingle(c *ctx, x *call, mark int) error { _, _, err := c.one(x, mark); return err }

func fnFirst(c *ctx, _ *call, mark int) error { return c.slice(mark, 0, 1) }

func fnLast(c *ctx, _ *call, mark int) error {
	n := len(c.stack) - mark
	return c.slice(mark, n-1, n)
}

func fnTail(c *ctx, _ *call, mark int) error { return c.slice(mark, 1, len(c.stack)-mark) }

func fnSkip(c *ctx, x *call, mark int) error {
	n, ok, err := c.integerArg(x.args[0])
	if err != nil || !ok {
		c.stack = c.stack[:mark]
		return err
	}
	return c.slice(mark, int(n), len(c.stack)-mark)
}

func fnTake(c *ctx, x *call, mark int) error {
	n, ok, err := c.integerArg(x.args[0])
	if err != nil || !ok {
		c.stack = c.stack[:mark]
		return err
	}
	return c.slice(mark, 0, int(n))
}

// slice leaves the items from low to before high, counted from mark and cut to what is there.
func (c *ctx) slice(mark, low, high int) error {
	n := len(c.stack) - mark
	low, high = max(low, 0), min(high, n)
	if low >= high {
		return c.none(mark)
	}
	copy(c.stack[mark:], c.stack[mark+low:mark+high])
	c.stack = c.stack[:mark+high-low]
	return nil
}

func fnAggregate(c *ctx, x *call, mark int) error {
	end := len(c.stack)
	if len(x.args) == 2 {
		if err := x.args[1].eval(c); err != nil {
			return err
		}
	}
	outer := c.frame.total
	total := slices.Clone(c.stack[end:])
	c.stack = c.stack[:end]
	for i := mark; i < end; i++ {
		c.frame.total = total
		err := c.with(c.stack[i], i-mark, x.args[0])
		c.frame.total = outer
		if err != nil {
			return err
		}
		if err := c.step(len(c.stack) - end); err != nil {
			return err
		}
		total = append(total[:0:0], c.stack[end:]...)
		c.stack = c.stack[:end]
	}
	c.stack = append(c.stack[:mark], total...)
	return nil
}

// fnIif evaluates only the branch that the criterion asks for.
func fnIif(c *ctx, x *call, mark int) error {
	e, has, err := c.one(x, mark)
	if err != nil {
		return err
	}
	c.stack = c.stack[:mark]
	outer := c.frame
	c.frame.this, c.frame.has = e, has
	defer func() { c.frame = outer }()
	if err := x.args[0].eval(c); err != nil {
		return err
	}
	if n := len(c.stack) - mark; n > 1 {
		return failf("the criterion of iif() must be one Boolean, not %d items", n)
	}
	holds := false
	if len(c.stack) > mark {
		v, ok := c.stack[mark].value()
		if !ok || v.Kind != Boolean {
			return failf("the criterion of iif() must be a Boolean, not a %s", c.stack[mark].TypeName())
		}
		holds = v.Bool
	}
	c.stack = c.stack[:mark]
	if holds {
		return x.args[1].eval(c)
	}
	if len(x.args) == 3 {
		return x.args[2].eval(c)
	}
	return nil
}

// fnSort orders by the keys, or by the items themselves. An item without a key comes first, either way.
func fnSort(c *ctx, x *call, mark int) error {
	n := len(c.stack) - mark
	if n < 2 {
		return nil
	}
	keys := max(len(x.args), 1)
	type row struct {
		item Element
		keys []Element
		has  []bool
	}
	rows := make([]row, n)
	for i := range rows {
		e := c.stack[mark+i]
		rows[i] = row{e, make([]Element, keys), make([]bool, keys)}
		if len(x.args) == 0 {
			rows[i].keys[0], rows[i].has[0] = e, true
		}
		for k, arg := range x.args {
			top := len(c.stack)
			if err := c.with(e, i, arg); err != nil {
				return err
			}
			if len(c.stack) > top+1 {
				return failf("a key of sort() must be one item")
			}
			if len(c.stack) > top {
				rows[i].keys[k], rows[i].has[k] = c.stack[top], true
			}
			c.stack = c.stack[:top]
		}
	}
	if err := c.step(16 * n); err != nil {
		return err
	}
	var failed error
	slices.SortStableFunc(rows, func(a, b row) int {
		for k := range keys {
			if !a.has[k] || !b.has[k] {
				if a.has[k] != b.has[k] {
					if b.has[k] {
						return -1
					}
					return 1
				}
				continue
			}
			order, _, err := compare(&a.keys[k], &b.keys[k])
			if err != nil && failed == nil {
				failed = err
			}
			if order != 0 {
				if k < len(x.descending) && x.descending[k] {
					return -order
				}
				return order
			}
		}
		return 0
	})
	for i := range rows {
		c.stack[mark+i] = rows[i].item
	}
	return failed
}

func fnTrace(c *ctx, x *call, mark int) error {
	if c.env.Trace == nil {
		return nil
	}
	name, _, err := c.textArg(x.args[0])
	if err != nil {
		return err
	}
	end := len(c.stack)
	shown := c.stack[mark:end]
	if len(x.args) == 2 {
		for i := mark; i < end; i++ {
			if err := c.with(c.stack[i], i-mark, x.args[1]); err != nil {
				return err
			}
		}
		shown = c.stack[end:]
	}
	c.env.Trace(name, slices.Clone(shown))
	c.stack = c.stack[:end]
	return nil
}
