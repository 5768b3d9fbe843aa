package path

import (
	"sync"
	"time"

	"kiln/fhir"
)

// Expression is a compiled FHIRPath expression.
type Expression struct {
	src    string
	root   node
	schema *fhir.Schema
}

// Compile reads an expression. The schema says what type names mean and how elements are typed; without one, elements
// have no types.
//
// Errors: Invalid, with the character where reading ended; also for unknown functions and types.
func Compile(src string, schema *fhir.Schema) (*Expression, error) {
	if len(src) > MaxSource {
		return nil, syntax(MaxSource, "an expression may have %d characters", MaxSource)
	}
	p := parser{lex: lexer{src: src}, schema: schema}
	if err := p.advance(); err != nil {
		return nil, err
	}
	root, err := p.expression(0)
	if err != nil {
		return nil, err
	}
	if p.tok.kind != tokEnd {
		return nil, p.unexpected("the end or an operator")
	}
	return &Expression{src: src, root: root, schema: schema}, nil
}

// String returns the source.
func (x *Expression) String() string { return x.src }

// Env is what surrounds an evaluation. All of it may be left out; a nil Env is an empty one.
type Env struct {
	// Resource is %resource: the resource, perhaps a contained one, that the focus lies in. Zero means the focus.
	Resource Element
	// Root is %rootResource: the container. Zero means Resource.
	Root Element
	// Resolve finds the target of a literal reference, nil if there is none. References to contained resources (#id)
	// are found without it. Where Resolve is nil, resolve() gives an element of the type that the reference names, with
	// no content, so that "resolve() is Patient" has its answer.
	Resolve func(reference string) *fhir.Node
	// Now is the time of now(), today() and timeOfDay(). Zero means the clock.
	Now time.Time
	// Vars are further %variables.
	Vars map[string][]Element
	// MemberOf answers memberOf(). Where it is nil, memberOf() gives nothing.
	MemberOf func(valueSet string, e Element) (bool, error)
	// ConformsTo answers conformsTo(). Where it is nil, only the base profiles of R4's types are known.
	ConformsTo func(e Element, profile string) (bool, error)
	// CheckHTML answers htmlChecks(). Where it is nil, the answer is true.
	CheckHTML func(e Element) bool
	// Trace receives what trace() passes.
	Trace func(name string, items []Element)
	// MaxSteps bounds the evaluation; zero means DefaultMaxSteps.
	MaxSteps int
	// Strict makes as() refuse several items, as FHIRPath asks. R4's own definitions need it to take them. For names
	// that a type does not have, see Expression.Check.
	Strict bool
}

// ctx is one evaluation. Terms push their results on the stack; whoever called them takes them from there.
type ctx struct {
	stack  []Element
	frame  frame
	env    *Env
	schema *fhir.Schema
	focus  Element // %context
	steps  int
	strict bool
	now    time.Time
}

// frame is what $this, $index and $total mean. has is false where $this is empty.
type frame struct {
	this  Element
	total []Element
	index int
	has   bool
}

var (
	pool     = sync.Pool{New: func() any { return &ctx{stack: make([]Element, 0, 64)} }}
	emptyEnv Env
)

// maxPooled is how many items a pooled stack may keep room for.
const maxPooled = 4096

func (x *Expression) start(env *Env, focus Element) *ctx {
	if env == nil {
		env = &emptyEnv
	}
	c := pool.Get().(*ctx)
	c.env, c.schema, c.focus, c.strict = env, x.schema, focus, env.Strict
	c.steps = env.MaxSteps
	if c.steps <= 0 {
		c.steps = DefaultMaxSteps
	}
	c.frame = frame{this: focus, has: !focus.IsZero()}
	return c
}

func (c *ctx) release() {
	stack := c.stack[:0]
	if cap(stack) > maxPooled {
		stack = nil
	}
	*c = ctx{stack: stack}
	pool.Put(c)
}

// Eval evaluates the expression on focus.
//
// Errors: Invalid when the data does not fit the expression, TooCostly beyond a limit, and what Env's functions return.
func (x *Expression) Eval(env *Env, focus Element) ([]Element, error) {
	return x.Append(nil, env, focus)
}

// Append is Eval for callers who have room for the result: it appends to dst, and returns it also with an error.
func (x *Expression) Append(dst []Element, env *Env, focus Element) ([]Element, error) {
	c := x.start(env, focus)
	defer c.release()
	if err := x.root.eval(c); err != nil {
		return dst, err
	}
	return append(dst, c.stack...), nil
}

// Each calls yield for every item of the result. It does not allocate for expressions that only walk and filter.
func (x *Expression) Each(env *Env, focus Element, yield func(Element)) error {
	c := x.start(env, focus)
	defer c.release()
	if err := x.root.eval(c); err != nil {
		return err
	}
	for i := range c.stack {
		yield(c.stack[i])
	}
	return nil
}

// EvalBool evaluates an invariant. An empty result counts as true: FHIR asks that an invariant is not false.
func (x *Expression) EvalBool(env *Env, focus Element) (bool, error) {
	t, err := x.truth(env, focus)
	return t != no && err == nil, err
}

// EvalCriterion evaluates what an element is chosen by. An empty result counts as false, as in where().
func (x *Expression) EvalCriterion(env *Env, focus Element) (bool, error) {
	t, err := x.truth(env, focus)
	return t == yes && err == nil, err
}

func (x *Expression) truth(env *Env, focus Element) (truthValue, error) {
	c := x.start(env, focus)
	defer c.release()
	if err := x.root.eval(c); err != nil {
		return unknown, err
	}
	return truth(c.stack)
}

// step counts n steps.
func (c *ctx) step(n int) error {
	if c.steps -= n; c.steps < 0 {
		return errSteps()
	}
	return nil
}

func (c *ctx) push(e Element) { c.stack = append(c.stack, e) }

// result replaces everything from mark on by e.
func (c *ctx) result(mark int, e Element) error {
	c.stack = append(c.stack[:mark], e)
	return nil
}

func (c *ctx) bool(mark int, b bool) error { return c.result(mark, boolElement(b)) }

// none replaces everything from mark on by nothing.
func (c *ctx) none(mark int) error {
	c.stack = c.stack[:mark]
	return nil
}

func (c *ctx) time() time.Time {
	if c.now.IsZero() {
		if c.now = c.env.Now; c.now.IsZero() {
			c.now = time.Now()
		}
	}
	return c.now
}

// with evaluates n with e as $this.
func (c *ctx) with(e Element, index int, n node) error {
	this, has, at := c.frame.this, c.frame.has, c.frame.index
	c.frame.this, c.frame.has, c.frame.index = e, true, index
	err := n.eval(c)
	c.frame.this, c.frame.has, c.frame.index = this, has, at
	return err
}

// holds evaluates a criterion for e and leaves the stack as it was.
func (c *ctx) holds(e Element, index int, n node) (truthValue, error) {
	mark := len(c.stack)
	if err := c.with(e, index, n); err != nil {
		return unknown, err
	}
	t, err := truth(c.stack[mark:])
	c.stack = c.stack[:mark]
	return t, err
}

type truthValue int8

const (
	unknown truthValue = iota
	yes
	no
)

func truthOf(b bool) truthValue {
	if b {
		return yes
	}
	return no
}

// truth reads a collection as a Boolean: one item that is no Boolean counts as true (FHIRPath, singleton evaluation).
func truth(items []Element) (truthValue, error) {
	switch len(items) {
	case 0:
		return unknown, nil
	case 1:
		if e := &items[0]; e.sys != nil && e.sys.Kind == Boolean {
			return truthOf(e.sys.Bool), nil
		} else if e.Value != nil && e.Value.Kind == fhir.Bool {
			return truthOf(e.Value.Text == "true"), nil
		}
		return yes, nil
	}
	return unknown, failf("one value is needed where there are %d", len(items))
}
