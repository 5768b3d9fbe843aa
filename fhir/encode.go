package fhir

import (
	"github.com/go-json-experiment/json/jsontext"
)

// AppendJSON appends the compact JSON form of n. Strings are escaped only where JSON demands it; number literals go
// out as they came in.
func (n *Node) AppendJSON(dst []byte) []byte {
	switch n.Kind {
	case Null:
		return append(dst, "null"...)
	case Bool, Number:
		return append(dst, n.Text...)
	case String:
		return appendQuoted(dst, n.Text)
	case Array:
		dst = append(dst, '[')
		for i := range n.Kids {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = n.Kids[i].AppendJSON(dst)
		}
		return append(dst, ']')
	default:
		dst = append(dst, '{')
		for i := range n.Kids {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(appendQuoted(dst, n.Kids[i].Name), ':')
			dst = n.Kids[i].AppendJSON(dst)
		}
		return append(dst, '}')
	}
}

// AppendIndented appends the JSON form of n with two spaces a level and a final newline, for people.
func (n *Node) AppendIndented(dst []byte) []byte {
	return append(n.appendIndented(dst, "\n"), '\n')
}

func (n *Node) appendIndented(dst []byte, newline string) []byte {
	if len(n.Kids) == 0 {
		return n.AppendJSON(dst)
	}
	open, end := byte('['), byte(']')
	if n.Kind == Object {
		open, end = '{', '}'
	}
	inner := newline + "  "
	dst = append(dst, open)
	for i := range n.Kids {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, inner...)
		if n.Kind == Object {
			dst = append(appendQuoted(dst, n.Kids[i].Name), ": "...)
		}
		dst = n.Kids[i].appendIndented(dst, inner)
	}
	dst = append(dst, newline...)
	return append(dst, end)
}

// JSON returns the compact JSON form.
func (n *Node) JSON() []byte { return n.AppendJSON(make([]byte, 0, n.length())) }

// length is about how many bytes n takes as JSON: exactly, where no string has anything to escape.
func (n *Node) length() int {
	size := len(n.Text)
	switch n.Kind {
	case Null:
		size = len("null")
	case String:
		size += 2
	case Array, Object:
		size += 2 + max(len(n.Kids)-1, 0)
		for i := range n.Kids {
			size += n.Kids[i].length()
			if n.Kind == Object {
				size += len(n.Kids[i].Name) + 3
			}
		}
	}
	return size
}

func appendQuoted(dst []byte, s string) []byte {
	plain := true
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' || c >= 0x80 {
			plain = false
			break
		}
	}
	if plain {
		dst = append(dst, '"')
		dst = append(dst, s...)
		return append(dst, '"')
	}
	// Texts come from ParseJSON or from Go string constants: they are valid UTF-8, and anything else becomes U+FFFD.
	dst, _ = jsontext.AppendQuote(dst, s)
	return dst
}
