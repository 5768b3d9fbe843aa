package path

import (
	"strings"

	"kiln/fhir"
)

// equality answers = and !=: empty when a side is empty or the answer lies beyond a value's precision.
func (c *ctx) equality(mark, middle int, not bool) error {
	l, r := c.stack[mark:middle], c.stack[middle:]
	if len(l) == 0 || len(r) == 0 {
		return c.none(mark)
	}
	t := yes
	if len(l) != len(r) {
		t = no
	}
	for i := 0; i < len(l) && t != no; i++ {
		one, err := c.equal(&l[i], &r[i])
		if err != nil {
			return err
		}
		if one != yes {
			t = one
		}
	}
	if t == unknown {
		return c.none(mark)
	}
	return c.bool(mark, (t == yes) != not)
}

// equal compares two items.
func (c *ctx) equal(a, b *Element) (truthValue, error) {
	if err := c.step(1); err != nil {
		return unknown, err
	}
	if a.sys == nil && b.sys == nil && a.Value == b.Value && a.Sibling == b.Sibling {
		return yes, nil
	}
	if s, ok := a.plainText(); ok {
		if t, ok := b.plainText(); ok {
			return truthOf(s == t), nil
		}
	}
	if v, ok := a.value(); ok {
		if w, ok := b.value(); ok {
			return v.equal(&w), nil
		}
	}
	if a.isQuantity() && (b.isQuantity() || b.sys != nil) || a.sys != nil && b.isQuantity() {
		if v, ok := a.System(); ok {
			if w, ok := b.System(); ok {
				return v.equal(&w), nil
			}
		}
	}
	if a.sys != nil || b.sys != nil {
		return no, nil
	}
	return truthOf(sameNode(a.Value, b.Value) && sameNode(a.Sibling, b.Sibling)), c.step(8)
}

// plainText returns a text whose equality is that of its characters: Strings and primitives that turn into them.
func (e *Element) plainText() (string, bool) {
	if e.sys != nil {
		return e.sys.Str, e.sys.Kind == String
	}
	if e.Value != nil && e.Value.Kind == fhir.String && (e.Type == nil || primitiveKind(e.Type) == String) {
		return e.Value.Text, true
	}
	return "", false
}

func sameNode(a, b *fhir.Node) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a == b || a.Equal(b)
}

// equal compares values of kinds that convert into each other; others are not equal.
func (s *System) equal(o *System) truthValue {
	if s.Kind == Quantity || o.Kind == Quantity {
		return quantitiesEqual(s, o)
	}
	if a, ok := s.number(); ok {
		b, ok := o.number()
		return truthOf(ok && a.Cmp(b) == 0)
	}
	if isDate(s.Kind) && isDate(o.Kind) {
		order, known := s.Moment.compare(o.Moment)
		if !known {
			return unknown
		}
		return truthOf(order == 0)
	}
	if s.Kind != o.Kind {
		return no
	}
	switch s.Kind {
	case Boolean:
		return truthOf(s.Bool == o.Bool)
	case String, TypeInfo:
		return truthOf(s.Str == o.Str && s.Namespace == o.Namespace)
	case Time:
		order, known := s.Moment.compare(o.Moment)
		if !known {
			return unknown
		}
		return truthOf(order == 0)
	}
	return no
}

func isDate(k SystemKind) bool { return k == Date || k == DateTime }

// order answers < > <= >=.
func order(c *ctx, x *binary, mark, middle int) error {
	l, r := c.stack[mark:middle], c.stack[middle:]
	if len(l) > 1 || len(r) > 1 {
		return failf("\"%s\" compares one item with one", x.op)
	}
	if len(l) == 0 || len(r) == 0 {
		return c.none(mark)
	}
	order, known, err := compare(&l[0], &r[0])
	if err != nil || !known {
		c.stack = c.stack[:mark]
		return err
	}
	switch x.op {
	case "<":
		return c.bool(mark, order < 0)
	case ">":
		return c.bool(mark, order > 0)
	case "<=":
		return c.bool(mark, order <= 0)
	}
	return c.bool(mark, order >= 0)
}

func compare(a, b *Element) (order int, known bool, err error) {
	v, ok := a.System()
	w, ok2 := b.System()
	if !ok || !ok2 {
		if a.isQuantity() || b.isQuantity() || a.isPrimitive() && a.Value == nil || b.isPrimitive() && b.Value == nil {
			return 0, false, nil // a value that is not there
		}
		return 0, false, failf("%s and %s have no order", a.TypeName(), b.TypeName())
	}
	if n, ok := v.number(); ok {
		if m, ok := w.number(); ok {
			return n.Cmp(m), true, nil
		}
	}
	switch {
	case v.Kind == Quantity || w.Kind == Quantity:
		if p, ok := v.asQuantity(); ok {
			if q, ok := w.asQuantity(); ok {
				order, known = compareQuantities(&p, &q)
				return order, known, nil
			}
		}
	case isDate(v.Kind) && isDate(w.Kind), v.Kind == Time && w.Kind == Time:
		order, known = v.Moment.compare(w.Moment)
		return order, known, nil
	case v.Kind == String && w.Kind == String:
		return strings.Compare(v.Str, w.Str), true, nil
	}
	return 0, false, failf("%s and %s have no order", v.Kind, w.Kind)
}

// distinct leaves the first of equal items from mark on. Long lists of texts are told apart by hash.
func (c *ctx) distinct(mark int) error {
	items := c.stack[mark:]
	if len(items) > hashFrom {
		if done, err := c.distinctTexts(mark); done || err != nil {
			return err
		}
	}
	w := mark
next:
	for i := mark; i < len(c.stack); i++ {
		for j := mark; j < w; j++ {
			t, err := c.equal(&c.stack[j], &c.stack[i])
			if err != nil {
				return err
			}
			if t == yes {
				continue next
			}
		}
		c.stack[w] = c.stack[i]
		w++
	}
	c.stack = c.stack[:w]
	return nil
}

// hashFrom is the length from which a map is faster than comparing pairs.
const hashFrom = 32

func (c *ctx) distinctTexts(mark int) (bool, error) {
	for i := mark; i < len(c.stack); i++ {
		if _, ok := c.stack[i].plainText(); !ok {
			return false, nil
		}
	}
	if err := c.step(len(c.stack) - mark); err != nil {
		return false, err
	}
	seen := make(map[string]struct{}, len(c.stack)-mark)
	w := mark
	for i := mark; i < len(c.stack); i++ {
		s, _ := c.stack[i].plainText()
		if _, ok := seen[s]; ok {
			continue
		}
		seen[s] = struct{}{}
		c.stack[w] = c.stack[i]
		w++
	}
	c.stack = c.stack[:w]
	return true, nil
}
