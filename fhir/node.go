package fhir

import (
	"iter"
	"strings"
)

// NodeKind is the JSON type of a Node.
type NodeKind uint8

// The JSON types. Null is the zero value, so a zero Node is a JSON null.
const (
	Null NodeKind = iota
	Bool
	Number
	String
	Array
	Object
)

// String gives the name people use for the JSON type.
func (k NodeKind) String() string {
	return [...]string{"null", "boolean", "number", "string", "array", "object"}[k]
}

// Node is one JSON value of a resource. It keeps member order and the literal digits of numbers, so that what came in
// can go out unchanged.
//
// A Node is a value: copying it shares Kids. Code that changes a resource in place works on a Clone.
type Node struct {
	// Name is the member name when the parent is an object, else "".
	Name string
	// Text is a string's decoded text, a number's literal ("1.10"), or "true" and "false".
	Text string
	// Kids are an array's items or an object's members, in the order they came.
	Kids []Node
	Kind NodeKind
}

// Str makes a string node. Obj, Arr and With are its companions for building resources in code.
func Str(s string) Node { return Node{Kind: String, Text: s} }

// Num makes a number node from its literal, which must be valid JSON.
func Num(literal string) Node { return Node{Kind: Number, Text: literal} }

// Boolean makes a boolean node.
func Boolean(b bool) Node {
	if b {
		return Node{Kind: Bool, Text: "true"}
	}
	return Node{Kind: Bool, Text: "false"}
}

// Arr makes an array of the given items.
func Arr(items ...Node) Node { return Node{Kind: Array, Kids: items} }

// Obj makes an object of the given members; name them with Node.As.
func Obj(members ...Node) Node { return Node{Kind: Object, Kids: members} }

// As returns the same value as a member called name.
func (n Node) As(name string) Node { n.Name = name; return n }

// Get returns the member called name of an object, or nil.
func (n *Node) Get(name string) *Node {
	if n == nil || n.Kind != Object {
		return nil
	}
	for i := range n.Kids {
		if n.Kids[i].Name == name {
			return &n.Kids[i]
		}
	}
	return nil
}

// At walks members by name; on an array it goes on with the first item. It returns nil where the path ends early.
func (n *Node) At(names ...string) *Node {
	for _, name := range names {
		if n != nil && n.Kind == Array {
			if len(n.Kids) == 0 {
				return nil
			}
			n = &n.Kids[0]
		}
		if n = n.Get(name); n == nil {
			return nil
		}
	}
	return n
}

// GetText returns the text of the string member called name, or "".
func (n *Node) GetText(name string) string {
	if m := n.Get(name); m != nil && m.Kind == String {
		return m.Text
	}
	return ""
}

// IsString says whether n is a JSON string with exactly this text.
func (n *Node) IsString(text string) bool { return n != nil && n.Kind == String && n.Text == text }

// Set replaces or appends the member called name.
func (n *Node) Set(name string, v Node) {
	v.Name = name
	if m := n.Get(name); m != nil {
		*m = v
		return
	}
	if len(n.Kids) == cap(n.Kids) { // append would double them, for one member that a resource gets
		n.Kids = append(make([]Node, 0, len(n.Kids)+4+len(n.Kids)/8), n.Kids...)
	}
	n.Kids = append(n.Kids, v)
}

// SetFirst replaces the member called name, or puts it before all others.
func (n *Node) SetFirst(name string, v Node) {
	v.Name = name
	if m := n.Get(name); m != nil {
		*m = v
		return
	}
	n.Kids = append(n.Kids, Node{})
	copy(n.Kids[1:], n.Kids)
	n.Kids[0] = v
}

// Remove deletes the member called name and says whether it was there.
func (n *Node) Remove(name string) bool {
	for i := range n.Kids {
		if n.Kids[i].Name == name && n.Kind == Object {
			kids := make([]Node, 0, len(n.Kids)-1)
			kids = append(kids, n.Kids[:i]...)
			n.Kids = append(kids, n.Kids[i+1:]...)
			return true
		}
	}
	return false
}

// Items ranges over an array's items; a value that is no array counts as one item and nil as none. FHIR writes a
// repeating element as an array and a single one as a plain value, and many readers do not care which.
func (n *Node) Items() iter.Seq[*Node] {
	return func(yield func(*Node) bool) {
		switch {
		case n == nil:
		case n.Kind == Array:
			for i := range n.Kids {
				if !yield(&n.Kids[i]) {
					return
				}
			}
		default:
			yield(n)
		}
	}
}

// Property yields each value of the JSON property called name together with its sibling from "_name" (the id and
// extensions of a primitive, FHIR R4 json.html#primitive). Either may be nil, but not both.
func (n *Node) Property(name string) iter.Seq2[*Node, *Node] {
	return func(yield func(*Node, *Node) bool) {
		value, sibling := n.Get(name), (*Node)(nil)
		if n != nil && n.Kind == Object {
			for i := range n.Kids {
				if m := n.Kids[i].Name; len(m) == len(name)+1 && m[0] == '_' && m[1:] == name {
					sibling = &n.Kids[i]
					break
				}
			}
		}
		if (value == nil || value.Kind != Array) && (sibling == nil || sibling.Kind != Array) {
			if value != nil || sibling != nil {
				yield(value, sibling)
			}
			return
		}
		item := func(list *Node, i int) *Node {
			if list == nil || list.Kind != Array {
				if i == 0 {
					return list
				}
				return nil
			}
			if i >= len(list.Kids) || list.Kids[i].Kind == Null {
				return nil
			}
			return &list.Kids[i]
		}
		length := 0
		for _, list := range []*Node{value, sibling} {
			if list != nil && list.Kind == Array {
				length = max(length, len(list.Kids))
			} else if list != nil {
				length = max(length, 1)
			}
		}
		for i := range length {
			v, s := item(value, i), item(sibling, i)
			if (v != nil || s != nil) && !yield(v, s) {
				return
			}
		}
	}
}

// Clone returns a deep copy.
func (n *Node) Clone() Node {
	c := *n
	if n.Kids != nil {
		c.Kids = make([]Node, len(n.Kids))
		for i := range n.Kids {
			c.Kids[i] = n.Kids[i].Clone()
		}
	}
	return c
}

// Equal says whether two values are the same resource content: member order does not matter, item order and the
// literal digits of numbers do.
func (n *Node) Equal(o *Node) bool {
	if n.Kind != o.Kind || n.Text != o.Text || len(n.Kids) != len(o.Kids) {
		return false
	}
	if n.Kind != Object {
		for i := range n.Kids {
			if !n.Kids[i].Equal(&o.Kids[i]) {
				return false
			}
		}
		return true
	}
	for i := range n.Kids {
		m := &o.Kids[i]
		if m.Name != n.Kids[i].Name {
			if m = o.Get(n.Kids[i].Name); m == nil {
				return false
			}
		}
		if !n.Kids[i].Equal(m) {
			return false
		}
	}
	return true
}

// Walk calls visit for n and everything below it, parents first, until visit returns false for a node: then that
// node's kids are left out.
func (n *Node) Walk(visit func(*Node) bool) {
	if !visit(n) {
		return
	}
	for i := range n.Kids {
		n.Kids[i].Walk(visit)
	}
}

// ResourceType returns the resource's type, or "".
func (n *Node) ResourceType() string { return n.GetText("resourceType") }

// ID returns the resource's logical id, or "".
func (n *Node) ID() string { return n.GetText("id") }

// IsProfiledBy says whether meta.profile holds the canonical URL, with or without a version.
func (n *Node) IsProfiledBy(url string) bool {
	for p := range n.At("meta", "profile").Items() {
		if u, _, _ := strings.Cut(p.Text, "|"); u == url || p.Text == url {
			return true
		}
	}
	return false
}
