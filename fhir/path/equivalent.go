package path

import (
	"strings"

	"kiln/fhir"
)

// equivalentLists answers ~ for collections: order does not matter.
func (c *ctx) equivalentLists(l, r []Element) (bool, error) {
	if len(l) != len(r) {
		return false, nil
	}
	var used []bool
	if len(l) > 1 {
		used = make([]bool, len(r))
	}
next:
	for i := range l {
		for j := range r {
			if used != nil && used[j] {
				continue
			}
			same, err := c.equivalent(&l[i], &r[j])
			if err != nil {
				return false, err
			}
			if same {
				if used != nil {
					used[j] = true
				}
				continue next
			}
		}
		return false, nil
	}
	return true, nil
}

func (c *ctx) equivalent(a, b *Element) (bool, error) {
	if err := c.step(1); err != nil {
		return false, err
	}
	v, ok := a.System()
	w, ok2 := b.System()
	if ok && ok2 {
		return v.equivalent(&w), nil
	}
	if ok != ok2 || a.Value == nil || b.Value == nil {
		return false, nil
	}
	return c.equivalentNodes(a.Value, b.Value)
}

func (s *System) equivalent(o *System) bool {
	if s.Kind == Quantity || o.Kind == Quantity {
		return quantitiesEquivalent(s, o)
	}
	if a, ok := s.number(); ok {
		b, ok := o.number()
		return ok && equivalentNumbers(a, b)
	}
	if s.Kind == String && o.Kind == String {
		return equivalentTexts(s.Str, o.Str)
	}
	if isDate(s.Kind) && isDate(o.Kind) && s.Kind != o.Kind {
		return false
	}
	return s.equal(o) == yes
}

// equivalentNumbers compares at the lower of the two precisions; trailing zeros do not count as precision.
func equivalentNumbers(a, b Number) bool {
	a, b = a.trim(), b.trim()
	scale := min(a.scale, b.scale)
	return a.round(scale).Cmp(b.round(scale)) == 0
}

func equivalentTexts(a, b string) bool {
	return strings.EqualFold(a, b) ||
		strings.EqualFold(strings.Join(strings.Fields(a), " "), strings.Join(strings.Fields(b), " "))
}

// equivalentNodes compares complex values member by member; ids do not count, nor does the order of items.
func (c *ctx) equivalentNodes(a, b *fhir.Node) (bool, error) {
	if err := c.step(1); err != nil {
		return false, err
	}
	if a.Kind != b.Kind {
		return false, nil
	}
	switch a.Kind {
	case fhir.String:
		return equivalentTexts(a.Text, b.Text), nil
	case fhir.Number:
		m, ok := parseNumber(a.Text)
		n, ok2 := parseNumber(b.Text)
		return ok && ok2 && equivalentNumbers(m, n), nil
	case fhir.Object:
		return c.equivalentMembers(a, b)
	case fhir.Array:
		return c.equivalentItems(a, b)
	}
	return a.Text == b.Text, nil
}

func (c *ctx) equivalentMembers(a, b *fhir.Node) (bool, error) {
	size := func(n *fhir.Node) int {
		if n.Get("id") != nil {
			return len(n.Kids) - 1
		}
		return len(n.Kids)
	}
	if size(a) != size(b) {
		return false, nil
	}
	for i := range a.Kids {
		if a.Kids[i].Name == "id" {
			continue
		}
		if err := c.step(len(b.Kids)); err != nil {
			return false, err
		}
		m := b.Get(a.Kids[i].Name)
		if m == nil {
			return false, nil
		}
		if same, err := c.equivalentNodes(&a.Kids[i], m); !same {
			return false, err
		}
	}
	return true, nil
}

func (c *ctx) equivalentItems(a, b *fhir.Node) (bool, error) {
	if len(a.Kids) != len(b.Kids) {
		return false, nil
	}
	used := make([]bool, len(b.Kids))
next:
	for i := range a.Kids {
		for j := range b.Kids {
			if used[j] {
				continue
			}
			same, err := c.equivalentNodes(&a.Kids[i], &b.Kids[j])
			if err != nil {
				return false, err
			}
			if same {
				used[j] = true
				continue next
			}
		}
		return false, nil
	}
	return true, nil
}
