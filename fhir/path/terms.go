package path

import (
	"strings"

	"kiln/fhir"
)

type literal struct{ item Element }

func (l *literal) eval(c *ctx) error {
	c.push(l.item)
	return c.step(1)
}

type emptyLiteral struct{}

func (emptyLiteral) eval(c *ctx) error { return c.step(1) }

type indexVariable struct{}

func (indexVariable) eval(c *ctx) error {
	c.push(intElement(int64(c.frame.index)))
	return c.step(1)
}

type totalVariable struct{}

func (totalVariable) eval(c *ctx) error {
	c.stack = append(c.stack, c.frame.total...)
	return c.step(1 + len(c.frame.total))
}

// variable is %name (FHIR R4 fhirpath.html#vars).
type variable struct{ name string }

func (v *variable) eval(c *ctx) error {
	if err := c.step(1); err != nil {
		return err
	}
	push := func(e Element) error {
		if !e.IsZero() {
			c.push(e)
		}
		return nil
	}
	switch v.name {
	case "context":
		return push(c.focus)
	case "resource":
		if c.env.Resource.IsZero() {
			return push(c.focus)
		}
		return push(c.env.Resource)
	case "rootResource":
		return push(c.rootResource())
	case "ucum":
		return push(Text("http://unitsofmeasure.org"))
	case "sct":
		return push(Text("http://snomed.info/sct"))
	case "loinc":
		return push(Text("http://loinc.org"))
	}
	if items, ok := c.env.Vars[v.name]; ok {
		c.stack = append(c.stack, items...)
		return c.step(len(items))
	}
	if name, ok := strings.CutPrefix(v.name, "vs-"); ok {
		return push(Text("http://hl7.org/fhir/ValueSet/" + name))
	}
	if name, ok := strings.CutPrefix(v.name, "ext-"); ok {
		return push(Text("http://hl7.org/fhir/StructureDefinition/" + name))
	}
	return failf("there is no variable %%%s", v.name)
}

func (c *ctx) rootResource() Element {
	switch {
	case !c.env.Root.IsZero():
		return c.env.Root
	case !c.env.Resource.IsZero():
		return c.env.Resource
	}
	return c.focus
}

type indexer struct{ input, at node }

func (x *indexer) eval(c *ctx) error {
	mark := len(c.stack)
	if err := x.input.eval(c); err != nil {
		return err
	}
	end := len(c.stack)
	i, ok, err := c.integerArg(x.at)
	if err != nil {
		return err
	}
	if !ok || i < 0 || i >= int64(end-mark) {
		return c.none(mark)
	}
	return c.result(mark, c.stack[mark+int(i)])
}

// polarity is a leading + or -.
type polarity struct {
	operand node
	minus   bool
}

func (x *polarity) eval(c *ctx) error {
	mark := len(c.stack)
	if err := x.operand.eval(c); err != nil {
		return err
	}
	items := c.stack[mark:]
	if len(items) == 0 {
		return c.step(1)
	}
	if len(items) > 1 {
		return failf("a sign needs one number, not %d", len(items))
	}
	v, ok := items[0].System()
	switch {
	case ok && v.Kind == Integer:
		if x.minus {
			v.Int = -v.Int
		}
	case ok && (v.Kind == Decimal || v.Kind == Quantity):
		if x.minus {
			v.Num = v.Num.neg()
		}
	default:
		return failf("a sign needs a number")
	}
	return c.result(mark, Value(v))
}

// binary is an operator between two terms.
type binary struct {
	op          string
	left, right node
	apply       func(c *ctx, x *binary, mark, middle int) error
}

func newBinary(op string, left, right node) node {
	switch op {
	case "and", "or", "xor", "implies":
		return &logic{op: op, left: left, right: right}
	}
	return &binary{op: op, left: left, right: right, apply: operators[op]}
}

// eval leaves the operands at stack[mark:middle] and stack[middle:] for apply.
func (x *binary) eval(c *ctx) error {
	mark := len(c.stack)
	if err := x.left.eval(c); err != nil {
		return err
	}
	middle := len(c.stack)
	if err := x.right.eval(c); err != nil {
		return err
	}
	if err := c.step(1); err != nil {
		return err
	}
	return x.apply(c, x, mark, middle)
}

var operators = map[string]func(c *ctx, x *binary, mark, middle int) error{
	"=":  func(c *ctx, _ *binary, mark, middle int) error { return c.equality(mark, middle, false) },
	"!=": func(c *ctx, _ *binary, mark, middle int) error { return c.equality(mark, middle, true) },
	"~": func(c *ctx, _ *binary, mark, middle int) error {
		same, err := c.equivalentLists(c.stack[mark:middle], c.stack[middle:])
		if err != nil {
			return err
		}
		return c.bool(mark, same)
	},
	"!~": func(c *ctx, _ *binary, mark, middle int) error {
		same, err := c.equivalentLists(c.stack[mark:middle], c.stack[middle:])
		if err != nil {
			return err
		}
		return c.bool(mark, !same)
	},
	"<": order, ">": order, "<=": order, ">=": order,
	"+": arithmetic, "-": arithmetic, "*": arithmetic, "/": arithmetic, "div": arithmetic, "mod": arithmetic,
	"&": concatenate,
	"|": func(c *ctx, _ *binary, mark, _ int) error { return c.distinct(mark) },
	"in": func(c *ctx, _ *binary, mark, middle int) error {
		return c.contains(mark, c.stack[mark:middle], c.stack[middle:])
	},
	"contains": func(c *ctx, _ *binary, mark, middle int) error {
		return c.contains(mark, c.stack[middle:], c.stack[mark:middle])
	},
}

// contains answers "in" and its converse.
func (c *ctx) contains(mark int, needle, list []Element) error {
	switch {
	case len(needle) > 1:
		return failf("membership is asked of one item, not %d", len(needle))
	case len(needle) == 0:
		return c.none(mark)
	}
	for i := range list {
		t, err := c.equal(&needle[0], &list[i])
		if err != nil {
			return err
		}
		if t == yes {
			return c.bool(mark, true)
		}
	}
	return c.bool(mark, false)
}

// logic is a Boolean operator in three-valued logic. It leaves the right side out when the left decides.
type logic struct {
	op          string
	left, right node
}

func (x *logic) eval(c *ctx) error {
	mark := len(c.stack)
	if err := c.step(1); err != nil {
		return err
	}
	l, err := c.truth(x.left)
	if err != nil {
		return err
	}
	switch {
	case x.op == "and" && l == no:
		return c.bool(mark, false)
	case x.op == "or" && l == yes, x.op == "implies" && l == no:
		return c.bool(mark, true)
	}
	r, err := c.truth(x.right)
	if err != nil {
		return err
	}
	var t truthValue
	switch x.op {
	case "and":
		if t = min(l, r); l == no || r == no {
			t = no
		} else if l == unknown || r == unknown {
			t = unknown
		}
	case "or":
		if l == yes || r == yes {
			t = yes
		} else if l == no && r == no {
			t = no
		}
	case "xor":
		if l != unknown && r != unknown {
			t = truthOf(l != r)
		}
	case "implies":
		if r == yes {
			t = yes
		} else if l == yes {
			t = r
		}
	}
	if t == unknown {
		return nil
	}
	return c.bool(mark, t == yes)
}

// truth evaluates n as a Boolean and leaves the stack as it was.
func (c *ctx) truth(n node) (truthValue, error) {
	mark := len(c.stack)
	if err := n.eval(c); err != nil {
		return unknown, err
	}
	t, err := truth(c.stack[mark:])
	c.stack = c.stack[:mark]
	return t, err
}

// concatenate is &, to which nothing counts as "".
func concatenate(c *ctx, _ *binary, mark, middle int) error {
	l, err := text(c.stack[mark:middle])
	if err != nil {
		return err
	}
	r, err := text(c.stack[middle:])
	if err != nil {
		return err
	}
	return c.text(mark, l+r)
}

// text reads at most one String; nothing is "".
func text(items []Element) (string, error) {
	if len(items) > 1 {
		return "", failf("one text is needed where there are %d", len(items))
	}
	if len(items) == 0 {
		return "", nil
	}
	s, ok := items[0].str()
	if !ok {
		return "", failf("a text is needed where there is a %s", items[0].TypeName())
	}
	return s, nil
}

// str returns the text of a String or of any primitive that JSON writes as a string.
func (e *Element) str() (string, bool) {
	if e.sys != nil {
		return e.sys.Str, e.sys.Kind == String
	}
	if e.Value != nil && e.Value.Kind == fhir.String {
		return e.Value.Text, true
	}
	return "", false
}

// text replaces everything from mark on by a String, within MaxText.
func (c *ctx) text(mark int, s string) error {
	if len(s) > MaxText {
		return errText()
	}
	if err := c.step(len(s) / 64); err != nil {
		return err
	}
	return c.result(mark, Text(s))
}
