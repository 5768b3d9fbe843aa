package fhir

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Bounds on one JSON document. They are published in docs/limits.md.
const (
	// MaxDepth is how many arrays and objects may nest.
	MaxDepth = 100
	// MaxNumberLength is how many characters a number may have.
	MaxNumberLength = 400
	// MaxExponent bounds the power of ten of a number, either way.
	MaxExponent = 400
)

// ParseJSON reads exactly one JSON value. It refuses what would not survive or would not mean the same everywhere:
// invalid UTF-8, duplicate member names, U+0000, numbers and nesting beyond the bounds, anything after the value.
//
// Errors: Invalid, with the line and column, and the path where the parser was.
func ParseJSON(data []byte) (*Node, error) {
	p := parser{src: string(data)}
	p.dec.Reset(bytes.NewBuffer(data), jsontext.AllowDuplicateNames(false), jsontext.AllowInvalidUTF8(false))
	var root Node
	if err := p.value(&root, 0); err != nil {
		return nil, p.explain(err)
	}
	if _, err := p.dec.ReadToken(); err != io.EOF {
		if err == nil {
			err = errTrailing
		}
		return nil, p.explain(err)
	}
	return &root, nil
}

var errTrailing = errors.New("there is more text after the end of the JSON value")

type parser struct {
	dec   jsontext.Decoder
	src   string // the same bytes as the decoder reads: node texts are cut out of it without copying
	stack []Node // kids of the values still open
	slab  []Node // where finished kids are laid down, to spare an allocation a value
}

type limitError string

func (e limitError) Error() string { return string(e) }

func (p *parser) value(n *Node, depth int) error {
	switch p.dec.PeekKind() {
	case '{', '[':
		return p.container(n, depth)
	default:
		raw, err := p.dec.ReadValue()
		if err != nil {
			return err
		}
		return p.scalar(n, raw)
	}
}

func (p *parser) scalar(n *Node, raw jsontext.Value) error {
	end := int(p.dec.InputOffset())
	text := p.src[end-len(raw) : end]
	switch raw.Kind() {
	case '"':
		n.Kind = String
		s, err := unquote(text)
		if err != nil {
			return err
		}
		n.Text = s
	case '0':
		n.Kind, n.Text = Number, text
		return checkNumber(text)
	case 't', 'f':
		n.Kind, n.Text = Bool, text
	}
	return nil
}

func (p *parser) container(n *Node, depth int) error {
	if depth >= MaxDepth {
		return limitError(fmt.Sprintf("arrays and objects nest deeper than %d levels", MaxDepth))
	}
	open, err := p.dec.ReadToken()
	if err != nil {
		return err
	}
	n.Kind = Array
	closing := jsontext.Kind(']')
	if open.Kind() == '{' {
		n.Kind, closing = Object, '}'
	}
	base := len(p.stack)
	for p.dec.PeekKind() != closing {
		var kid Node
		if n.Kind == Object {
			raw, err := p.dec.ReadValue()
			if err != nil {
				return err
			}
			end := int(p.dec.InputOffset())
			if kid.Name, err = unquote(p.src[end-len(raw) : end]); err != nil {
				return err
			}
		}
		if err := p.value(&kid, depth+1); err != nil {
			return err
		}
		p.stack = append(p.stack, kid)
	}
	if _, err := p.dec.ReadToken(); err != nil {
		return err
	}
	n.Kids = p.lay(p.stack[base:])
	p.stack = p.stack[:base]
	return nil
}

// lay copies kids into the slab. The result has no spare capacity, so appending to it never touches a neighbour.
func (p *parser) lay(kids []Node) []Node {
	if len(kids) == 0 {
		return nil
	}
	if cap(p.slab)-len(p.slab) < len(kids) {
		p.slab = make([]Node, 0, max(len(kids), min(64+len(p.src)/64, 4096)))
	}
	start := len(p.slab)
	p.slab = append(p.slab, kids...)
	return p.slab[start:len(p.slab):len(p.slab)]
}

func unquote(quoted string) (string, error) {
	inner := quoted[1 : len(quoted)-1]
	if strings.IndexByte(inner, '\\') < 0 {
		return inner, nil
	}
	b, err := jsontext.AppendUnquote(nil, quoted)
	if err != nil {
		return "", err
	}
	if bytes.IndexByte(b, 0) >= 0 {
		return "", limitError("a string holds the character U+0000, which FHIR does not allow")
	}
	return string(b), nil
}

func checkNumber(literal string) error {
	if len(literal) > MaxNumberLength {
		return limitError(fmt.Sprintf("a number has more than %d characters", MaxNumberLength))
	}
	if i := strings.IndexAny(literal, "eE"); i >= 0 {
		exp := 0
		for _, c := range strings.TrimLeft(literal[i+1:], "+-") {
			if exp = exp*10 + int(c-'0'); exp > MaxExponent {
				return limitError(fmt.Sprintf("a number has an exponent beyond %d", MaxExponent))
			}
		}
	}
	return nil
}

func (p *parser) explain(err error) error {
	offset, pointer := p.dec.InputOffset(), string(p.dec.StackPointer())
	reason := err.Error()
	var syn *jsontext.SyntacticError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		reason = "the JSON ends too early"
		if strings.TrimSpace(p.src) == "" {
			reason = "the body is empty"
		}
	case errors.As(err, &syn):
		offset, pointer = syn.ByteOffset, string(syn.JSONPointer)
		reason = syn.Err.Error()
		if errors.Is(err, jsontext.ErrDuplicateName) {
			reason = "the member name stands twice in one object"
		}
	}
	offset = min(max(offset, 0), int64(len(p.src)))
	line := 1 + strings.Count(p.src[:offset], "\n")
	column := int(offset) - strings.LastIndexByte(p.src[:offset], '\n')
	text := fmt.Sprintf("The body is not the JSON that FHIR asks for: %s (line %d, column %d)", reason, line, column)
	code := CodeStructure
	if _, ok := err.(limitError); ok {
		code = CodeTooLong
	}
	e := &Error{Kind: Invalid, Issues: []Issue{{Severity: SeverityError, Code: code, Text: text}}}
	if path := pointerPath(pointer); path != "" {
		e.Issues[0].Expression = []string{path}
	}
	return e
}

// pointerPath turns a JSON Pointer into the FHIRPath-like form that issue.expression takes: name[0].given[1].
func pointerPath(pointer string) string {
	var b strings.Builder
	for i, part := range strings.Split(pointer, "/") {
		if i == 0 {
			continue
		}
		part = strings.NewReplacer("~1", "/", "~0", "~").Replace(part)
		if part != "" && strings.Trim(part, "0123456789") == "" {
			b.WriteString("[" + part + "]")
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		if len(part) > 64 {
			part = part[:64]
		}
		b.WriteString(strings.ToValidUTF8(part, "?"))
	}
	return b.String()
}
