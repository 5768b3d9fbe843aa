package path

import (
	"strings"

	"kiln/fhir"
)

type parser struct {
	lex    lexer
	tok    token
	schema *fhir.Schema
	depth  int
}

func (p *parser) advance() (err error) {
	p.tok, err = p.lex.next()
	return err
}

func (p *parser) symbol(s string) bool { return p.tok.kind == tokSymbol && p.tok.text == s }

func (p *parser) expect(s string) error {
	if !p.symbol(s) {
		return p.unexpected("\"" + s + "\"")
	}
	return p.advance()
}

func (p *parser) unexpected(wanted string) error {
	if p.tok.kind == tokEnd {
		return syntax(p.tok.pos, "the expression ends where %s should stand", wanted)
	}
	return syntax(p.tok.pos, "%q stands where %s should", p.tok.text, wanted)
}

// precedence is the binding power of the binary operators, from FHIRPath's table of precedences.
var precedence = map[string]int{
	"implies": 1, "or": 2, "xor": 2, "and": 3, "in": 4, "contains": 4, "=": 5, "~": 5, "!=": 5, "!~": 5,
	"<": 6, ">": 6, "<=": 6, ">=": 6, "|": 7, "is": 8, "as": 8, "+": 9, "-": 9, "&": 9,
	"*": 10, "/": 10, "div": 10, "mod": 10,
}

const unaryPrecedence = 11

func (p *parser) nest(pos int) error {
	if p.depth++; p.depth > MaxNesting {
		return syntax(pos, "terms nest deeper than %d levels", MaxNesting)
	}
	return nil
}

// expression reads operators that bind at least as tight as low.
func (p *parser) expression(low int) (node, error) {
	if err := p.nest(p.tok.pos); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	left, err := p.unary()
	if err != nil {
		return nil, err
	}
	for (p.tok.kind == tokSymbol || p.tok.kind == tokIdent) && !p.tok.quoted {
		op := p.tok.text
		bind, ok := precedence[op]
		if !ok || bind < low {
			break
		}
		if err := p.advance(); err != nil {
			return nil, err
		}
		if op == "is" || op == "as" {
			spec, err := p.typeSpec()
			if err != nil {
				return nil, err
			}
			left = &typeOp{input: left, spec: spec, as: op == "as"}
			continue
		}
		right, err := p.expression(bind + 1)
		if err != nil {
			return nil, err
		}
		left = newBinary(op, left, right)
	}
	return left, nil
}

func (p *parser) unary() (node, error) {
	if p.symbol("+") || p.symbol("-") {
		minus := p.tok.text == "-"
		if err := p.advance(); err != nil {
			return nil, err
		}
		n, err := p.expression(unaryPrecedence)
		if err != nil {
			return nil, err
		}
		return &polarity{operand: n, minus: minus}, nil
	}
	n, err := p.term()
	if err != nil {
		return nil, err
	}
	for {
		switch {
		case p.symbol("."):
			if err := p.advance(); err != nil {
				return nil, err
			}
			if p.tok.kind == tokThis {
				if n, err = p.special(); err != nil {
					return nil, err
				}
				continue
			}
			if p.tok.kind != tokIdent {
				return nil, p.unexpected("a name")
			}
			if n, err = p.invocation(n); err != nil {
				return nil, err
			}
		case p.symbol("["):
			if err := p.advance(); err != nil {
				return nil, err
			}
			at, err := p.expression(0)
			if err != nil {
				return nil, err
			}
			if err := p.expect("]"); err != nil {
				return nil, err
			}
			n = &indexer{input: n, at: at}
		default:
			return n, nil
		}
	}
}

func (p *parser) special() (node, error) {
	var n node
	switch p.tok.text {
	case "$this":
		n = &path{}
	case "$index":
		n = indexVariable{}
	default:
		n = totalVariable{}
	}
	return n, p.advance()
}

func (p *parser) term() (node, error) {
	t := p.tok
	switch t.kind {
	case tokIdent:
		if !t.quoted && (t.text == "true" || t.text == "false") {
			return &literal{boolElement(t.text == "true")}, p.advance()
		}
		return p.invocation(nil)
	case tokThis:
		return p.special()
	case tokString:
		return &literal{Text(t.text)}, p.advance()
	case tokNumber:
		return p.number()
	case tokMoment:
		m, kind, ok := momentLiteral(t.text)
		if !ok {
			return nil, syntax(t.pos, "@%s is no date or time", t.text)
		}
		return &literal{Value(System{Kind: kind, Moment: m})}, p.advance()
	case tokVariable:
		return &variable{name: t.text}, p.advance()
	case tokSymbol:
		switch t.text {
		case "(":
			if err := p.advance(); err != nil {
				return nil, err
			}
			n, err := p.expression(0)
			if err != nil {
				return nil, err
			}
			return n, p.expect(")")
		case "{":
			if err := p.advance(); err != nil {
				return nil, err
			}
			return emptyLiteral{}, p.expect("}")
		}
	}
	return nil, p.unexpected("a value")
}

// momentLiteral tells the kinds apart: Time begins with T, DateTime has a T, all others are Dates.
func momentLiteral(s string) (Moment, SystemKind, bool) {
	if strings.HasPrefix(s, "T") {
		m, ok := parseMoment(s[1:], Time)
		return m, Time, ok
	}
	kind := Date
	if trimmed, partial := strings.CutSuffix(s, "T"); partial {
		s, kind = trimmed, DateTime
	} else if strings.Contains(s, "T") {
		kind = DateTime
	}
	m, ok := parseMoment(s, kind)
	return m, kind, ok
}

// number reads a number and, where a unit follows, a quantity.
func (p *parser) number() (node, error) {
	t := p.tok
	d, ok := parseNumber(t.text)
	if !ok {
		return nil, syntax(t.pos, "%s is no number", t.text)
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	if p.tok.kind == tokString {
		q := System{Kind: Quantity, Num: d, Str: p.tok.text}
		return &literal{Value(q)}, p.advance()
	}
	if p.tok.kind == tokIdent && !p.tok.quoted && calendarUnits[p.tok.text] != "" {
		q := System{Kind: Quantity, Num: d, Str: p.tok.text, Calendar: true}
		return &literal{Value(q)}, p.advance()
	}
	if strings.Contains(t.text, ".") {
		return &literal{numElement(d)}, nil
	}
	n, ok := integerOf(d.int())
	if !ok {
		// 2147483648 stands only after a minus, but grammar gives the minus to the whole term.
		return nil, syntax(t.pos, "%s is too large for an Integer", t.text)
	}
	return &literal{intElement(n)}, nil
}

// invocation reads a member or a function, on input or, if that is nil, on $this.
func (p *parser) invocation(input node) (node, error) {
	t := p.tok
	if err := p.advance(); err != nil {
		return nil, err
	}
	if p.symbol("(") {
		return p.call(input, t)
	}
	switch in := input.(type) {
	case nil:
		if t.text[:min(1, len(t.text))] >= "A" && t.text[:min(1, len(t.text))] <= "Z" {
			return &path{root: t.text}, nil
		}
		return &path{steps: []*step{{name: t.text}}}, nil
	case *path:
		in.steps = append(in.steps, &step{name: t.text})
		return in, nil
	}
	return &path{head: input, steps: []*step{{name: t.text}}}, nil
}

func (p *parser) call(input node, name token) (node, error) {
	if err := p.nest(name.pos); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	fn := functions[name.text]
	if fn == nil {
		return nil, syntax(name.pos, "there is no function %s()", name.text)
	}
	c := &call{input: input, fn: fn, name: name.text}
	if err := p.advance(); err != nil {
		return nil, err
	}
	if fn.typed {
		spec, err := p.typeSpec()
		if err != nil {
			return nil, err
		}
		c.spec = spec
		return p.finish(c, name)
	}
	for !p.symbol(")") {
		if len(c.args) > 0 {
			if err := p.expect(","); err != nil {
				return nil, err
			}
		}
		arg, err := p.expression(0)
		if err != nil {
			return nil, err
		}
		if name.text == "sort" {
			arg = p.sortKey(c, arg)
			if p.tok.kind == tokIdent && (p.tok.text == "asc" || p.tok.text == "desc") {
				c.descending[len(c.args)] = p.tok.text == "desc"
				if err := p.advance(); err != nil {
					return nil, err
				}
			}
		}
		c.args = append(c.args, arg)
	}
	if len(c.args) < fn.min || len(c.args) > fn.max {
		return nil, syntax(name.pos, "%s() does not take %d arguments", name.text, len(c.args))
	}
	return p.finish(c, name)
}

// sortKey takes the minus that means descending off a sort key.
func (p *parser) sortKey(c *call, arg node) node {
	minus, ok := arg.(*polarity)
	c.descending = append(c.descending, ok && minus.minus)
	if ok && minus.minus {
		return minus.operand
	}
	return arg
}

// finish closes the argument list and prepares what depends on literal arguments.
func (p *parser) finish(c *call, name token) (node, error) {
	if err := p.expect(")"); err != nil {
		return nil, err
	}
	if strings.HasPrefix(c.name, "matches") || c.name == "replaceMatches" {
		if l, ok := c.args[0].(*literal); ok && l.item.sys.Kind == String {
			re, err := compilePattern(l.item.sys.Str, c.name == "matchesFull")
			if err != nil {
				return nil, syntax(name.pos, "%s", err.Error())
			}
			c.pattern = re
		}
	}
	return c, nil
}

// typeSpec reads Name or Namespace.Name and checks that there is such a type.
func (p *parser) typeSpec() (*typeSpec, error) {
	t := p.tok
	if t.kind != tokIdent {
		return nil, p.unexpected("a type")
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	spec := &typeSpec{name: t.text}
	if (t.text == "System" || t.text == "FHIR") && p.symbol(".") {
		if err := p.advance(); err != nil {
			return nil, err
		}
		if p.tok.kind != tokIdent {
			return nil, p.unexpected("a type")
		}
		spec.namespace, spec.name = t.text, p.tok.text
		if err := p.advance(); err != nil {
			return nil, err
		}
	}
	if !spec.known(p.schema) {
		return nil, syntax(t.pos, "there is no type %s", spec.name)
	}
	return spec, nil
}
