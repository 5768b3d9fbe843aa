package path

import "kiln/fhir"

// typeSpec is a type as an expression names it.
type typeSpec struct {
	namespace string // "System", "FHIR" or ""
	name      string
	system    SystemKind // 0 when it is no System type
	fhir      bool
}

// known fills in what the name means and says whether it means anything. Without a schema every FHIR name is good.
func (t *typeSpec) known(schema *fhir.Schema) bool {
	if t.namespace != "FHIR" {
		for k := Boolean; k <= Quantity; k++ {
			if k.String() == t.name {
				t.system = k
			}
		}
	}
	if t.namespace != "System" {
		// A System name without its namespace is the System type, but for Quantity, which both have.
		t.fhir = schema == nil && t.system == 0 || schema != nil && schema.Type(t.name) != nil
	}
	// is(System.Patient) is false, not an error, in R4's suite.
	return t.system != 0 || t.fhir || t.namespace == "System"
}

// is says whether e is of the type or one derived from it.
func (t *typeSpec) is(e *Element) bool {
	if e.sys != nil {
		return t.system != 0 && e.sys.Kind == t.system
	}
	if !t.fhir {
		return false
	}
	if e.Type == nil {
		return e.Value != nil && e.Value.ResourceType() == t.name
	}
	return e.Type.Is(t.name)
}

// as says whether ofType() and as() let e pass: a primitive must have exactly the type, so that a code is no string.
func (t *typeSpec) as(e *Element) bool {
	if e.sys == nil && e.Type != nil && e.Type.Kind == fhir.Primitive {
		return t.fhir && e.Type.Name == t.name
	}
	return t.is(e)
}

// typeOp is the operator is or as.
type typeOp struct {
	input node
	spec  *typeSpec
	as    bool
}

func (t *typeOp) eval(c *ctx) error {
	mark := len(c.stack)
	if err := t.input.eval(c); err != nil {
		return err
	}
	if t.as {
		return c.as(t.spec, mark)
	}
	return c.is(t.spec, mark)
}

func (c *ctx) is(spec *typeSpec, mark int) error {
	switch len(c.stack) - mark {
	case 0:
		return nil
	case 1:
		return c.bool(mark, spec.is(&c.stack[mark]))
	}
	return failf("\"is %s\" needs one item, not %d", spec.name, len(c.stack)-mark)
}

// as works on whole collections, unlike FHIRPath: R4's search parameters and invariants (dom-3) use it that way. In
// strict mode it takes one item.
func (c *ctx) as(spec *typeSpec, mark int) error {
	if c.strict && len(c.stack)-mark > 1 {
		return failf("\"as %s\" needs one item, not %d", spec.name, len(c.stack)-mark)
	}
	return c.ofType(spec, mark)
}

func (c *ctx) ofType(spec *typeSpec, mark int) error {
	w := mark
	for i := mark; i < len(c.stack); i++ {
		if spec.as(&c.stack[i]) {
			c.stack[w] = c.stack[i]
			w++
		}
	}
	c.stack = c.stack[:w]
	return nil
}
