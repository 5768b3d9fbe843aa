package profile

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"kiln/fhir"
	"kiln/fhir/path"
)

// element is what a profile asks of one element, beyond its base type. The zero values ask nothing.
type element struct {
	name        string // without [x]; "valueQuantity" where a definition names one type of a choice so
	min         int
	max         int // -1 for *
	types       []typeRule
	fixed       *fhir.Node
	pattern     *fhir.Node
	minValue    *fhir.Node
	maxValue    *fhir.Node
	maxLength   int
	binding     string // a value set whose codes are required
	extensible  string // one whose codes are, where one fits
	mustSupport bool
	invariants  []*invariant
	children    []*element
	slicing     *slicing
	slices      []*slice
}

type typeRule struct {
	code              string
	profiles, targets []string
}

type slicing struct {
	discriminators []discriminator
	rules          string // open, closed, openAtEnd
	ordered        bool
}

type discriminator struct {
	kind  string // value, pattern, type, exists, profile
	path  string
	steps []step
}

type slice struct {
	name string
	*element
}

type invariant struct {
	*fhir.Constraint
	expr *path.Expression
}

func (e *element) child(name string) *element {
	for _, c := range e.children {
		if c.name == name {
			return c
		}
	}
	return nil
}

func (e *element) slice(name string) *slice {
	for _, s := range e.slices {
		if s.name == name {
			return s
		}
	}
	return nil
}

// clone copies the tree, so that a derived profile may change it; what is never changed is shared.
func (e *element) clone() *element {
	c := *e
	c.invariants = slices.Clip(e.invariants)
	c.children = make([]*element, len(e.children))
	for i, k := range e.children {
		c.children[i] = k.clone()
	}
	c.slices = make([]*slice, len(e.slices))
	for i, s := range e.slices {
		c.slices[i] = &slice{s.name, s.element.clone()}
	}
	return &c
}

// compiler makes one profile.
type compiler struct {
	set    *Set
	p      *Profile
	faults *fhir.Error
	base   *fhir.Type
	count  int
	// current is which slice a path is in, for definitions whose elements have no ids.
	current map[string]string
}

func (c *compiler) fault(code, at, format string, args ...any) {
	if len(c.faults.Issues) < 50 {
		c.faults.Issues = append(c.faults.Issues, fhir.Issue{Severity: fhir.SeverityError, Code: code,
			Text: fmt.Sprintf(format, args...), Expression: []string{at}})
	}
}

// compile makes a profile; what keeps it from being used is its fault. within are the profiles that derive from it.
func (s *Set) compile(ctx context.Context, n *fhir.Node, within []string) (*Profile, error) {
	p := &Profile{bare: n.GetText("url"), typ: n.GetText("type"), root: &element{max: -1}}
	if p.URL = p.bare; n.GetText("version") != "" {
		p.URL += "|" + n.GetText("version")
	}
	c := &compiler{set: s, p: p, faults: &fhir.Error{Kind: fhir.Unprocessable}, current: map[string]string{}}
	c.base = s.registry.Schema().Type(p.typ)
	switch {
	case n.GetText("derivation") != "constraint":
		if c.base == nil {
			c.fault(fhir.CodeNotSupported, "StructureDefinition.derivation",
				"Only profiles on types of FHIR R4 can be checked: this defines the new type %s", quote(p.typ))
		}
		p.base = true
	case c.base == nil:
		c.fault(fhir.CodeValue, "StructureDefinition.type", "%s is not a type of FHIR R4", quote(p.typ))
	default:
		if err := c.derive(ctx, n, within); err != nil {
			return nil, err
		}
	}
	for x := range n.Get("context").Items() {
		p.contexts = append(p.contexts, extensionContext{x.GetText("type"), x.GetText("expression")})
	}
	if len(c.faults.Issues) > 0 {
		p.fault = c.faults
	}
	return p, nil
}

// derive takes what the base profile asks and adds what this one says.
func (c *compiler) derive(ctx context.Context, n *fhir.Node, within []string) error {
	list, section := n.At("differential", "element"), "differential"
	base := n.GetText("baseDefinition")
	switch {
	case base == "":
		c.fault(fhir.CodeRequired, "StructureDefinition.baseDefinition", "A profile needs a baseDefinition")
		return nil
	case slices.Contains(within, base) || base == c.p.bare || base == c.p.URL:
		c.fault(fhir.CodeBusinessRule, "StructureDefinition.baseDefinition", "The profile derives from itself, by %s", quote(base))
		return nil
	case len(within) > 2*MaxBases: // each is there with and without its version
		c.fault(fhir.CodeTooCostly, "StructureDefinition.baseDefinition", "More than %d profiles derive from each other in a row", MaxBases)
		return nil
	}
	parent, err := c.set.find(ctx, base, append(slices.Clone(within), c.p.bare, c.p.URL))
	if err != nil {
		return err
	}
	switch {
	case parent == nil && n.At("snapshot", "element") == nil:
		c.fault(fhir.CodeNotFound, "StructureDefinition.baseDefinition",
			"The base definition %s is not here, and there is no snapshot: send it first", quote(base))
		return nil
	case parent == nil: // the snapshot says all
		list, section = n.At("snapshot", "element"), "snapshot"
	case parent.fault != nil:
		c.fault(fhir.CodeNotSupported, "StructureDefinition.baseDefinition", "The base definition %s cannot be used: %s",
			quote(base), parent.fault.Error())
		return nil
	case parent.depth >= MaxBases:
		c.fault(fhir.CodeTooCostly, "StructureDefinition.baseDefinition", "More than %d profiles derive from each other in a row", MaxBases)
		return nil
	default:
		if !parent.base {
			c.p.depth = parent.depth + 1
		}
		if t := c.set.registry.Schema().Type(parent.typ); parent.typ != c.p.typ && (t == nil || !c.base.Is(parent.typ)) {
			c.fault(fhir.CodeValue, "StructureDefinition.type", "The base definition is about %s, not %s", parent.typ, c.p.typ)
			return nil
		}
		c.p.root = parent.root.clone()
		if list == nil {
			list, section = n.At("snapshot", "element"), "snapshot"
		}
	}
	i := 0
	for d := range list.Items() {
		if i++; i > MaxElements {
			c.fault(fhir.CodeTooCostly, "StructureDefinition."+section, "A definition may have %d elements at most", MaxElements)
			return nil
		}
		c.element(d, fmt.Sprintf("StructureDefinition.%s.element[%d]", section, i-1), section == "snapshot")
	}
	return nil
}

// element puts one element definition into the tree.
func (c *compiler) element(d *fhir.Node, at string, snapshot bool) {
	where := c.place(d)
	names := strings.Split(where, ".")
	if len(names) > MaxNesting {
		c.fault(fhir.CodeTooCostly, at+".path", "Elements may nest %d deep", MaxNesting)
		return
	}
	if names[0] != c.p.typ {
		c.fault(fhir.CodeValue, at+".path", "The path must begin with %s", c.p.typ)
		return
	}
	e, t := c.p.root, c.base
	for _, name := range names[1:] {
		name, sliceName, sliced := strings.Cut(name, ":")
		choice := strings.HasSuffix(name, "[x]")
		name = strings.TrimSuffix(name, "[x]")
		if t != nil {
			var ok bool
			if t, ok = memberType(t, name); !ok {
				c.fault(fhir.CodeValue, at+".path", "There is no element %s in %s", quote(name), quote(d.GetText("path")))
				return
			}
		}
		next := e.child(name)
		if next == nil {
			next = c.add(&element{name: name, max: -1}, at)
			e.children = append(e.children, next)
		}
		e = next
		if !sliced {
			continue
		}
		if e.slicing == nil {
			e.slicing = impliedSlicing(name, choice)
		}
		s := e.slice(sliceName)
		if s == nil {
			s = &slice{sliceName, c.add(&element{name: name, max: -1}, at)}
			if i := strings.LastIndexByte(sliceName, '/'); i > 0 { // a slice of a slice is one of it
				if of := e.slice(sliceName[:i]); of != nil {
					s.element = c.add(of.element.clone(), at)
					s.min, s.slices = 0, nil
				}
			}
			e.slices = append(e.slices, s)
		}
		e = s.element
	}
	c.overlay(e, d, at, snapshot)
}

func (c *compiler) add(e *element, at string) *element {
	if c.count++; c.count == MaxElements+1 {
		c.fault(fhir.CodeTooCostly, at, "A profile may have %d elements at most", MaxElements)
	}
	return e
}

// place is the id of an element, made from its path where the definition gives none, or none of use.
func (c *compiler) place(d *fhir.Node) string {
	id, where, name := d.ID(), d.GetText("path"), d.GetText("sliceName")
	if id == "" || withoutSlices(id) != where || strings.Count(id, ":") == 0 && name != "" {
		parent, last := "", where
		if i := strings.LastIndexByte(where, '.'); i >= 0 {
			parent, last = where[:i], where[i+1:]
			if known := c.current[parent]; known != "" {
				parent = known
			}
			parent += "."
		}
		if id = parent + last; name != "" {
			id += ":" + name
		}
	}
	c.current[where] = id
	return id
}

func withoutSlices(id string) string {
	var b strings.Builder
	for i, part := range strings.Split(id, ".") {
		if i > 0 {
			b.WriteByte('.')
		}
		name, _, _ := strings.Cut(part, ":")
		b.WriteString(name)
	}
	return b.String()
}

// memberType is the type of a member; nil where it can be several, or any resource.
func memberType(t *fhir.Type, name string) (*fhir.Type, bool) {
	if p, ok := t.Properties[name]; ok {
		return p.Type, true
	}
	for _, e := range t.Elements {
		if e.Name == name {
			if len(e.Types) == 1 {
				return e.Types[0].Type, true
			}
			return nil, true
		}
	}
	return nil, t.Abstract || t.Kind == fhir.Primitive && name == primitiveValue
}

// primitiveValue is what definitions call a primitive's own value, as if it were a child.
const primitiveValue = "value"

// impliedSlicing is that of extensions and of choices, which needs no saying.
func impliedSlicing(name string, choice bool) *slicing {
	switch {
	case name == "extension" || name == "modifierExtension":
		return newSlicing("open", false, "value", "url")
	case choice:
		return newSlicing("open", false, "type", "$this")
	}
	return nil
}

func newSlicing(rules string, ordered bool, kind, at string) *slicing {
	steps, _ := parseSteps(at)
	return &slicing{discriminators: []discriminator{{kind, at, steps}}, rules: rules, ordered: ordered}
}

// overlay adds what a definition says to an element.
func (c *compiler) overlay(e *element, d *fhir.Node, at string, snapshot bool) {
	if n := d.Get("min"); n != nil {
		if v, err := strconv.Atoi(n.Text); err == nil && v >= e.min {
			e.min = v
		}
	}
	if text := d.GetText("max"); text != "" && text != "*" {
		v, err := strconv.Atoi(text)
		switch {
		case err != nil || v < 0:
			c.fault(fhir.CodeValue, at+".max", "max is a number or *")
		case e.max < 0 || v < e.max:
			e.max = v
		}
	}
	if e.max >= 0 && e.min > e.max {
		c.fault(fhir.CodeBusinessRule, at+".min", "min %d is above max %d", e.min, e.max)
	}
	if types := d.Get("type"); types != nil {
		e.types = nil
		for t := range types.Items() {
			rule := typeRule{code: t.GetText("code")}
			for p := range t.Get("profile").Items() {
				rule.profiles = append(rule.profiles, p.Text)
			}
			for p := range t.Get("targetProfile").Items() {
				rule.targets = append(rule.targets, p.Text)
			}
			e.types = append(e.types, rule)
		}
	}
	for i := range d.Kids {
		k := &d.Kids[i]
		switch name := k.Name; {
		case strings.HasPrefix(name, "fixed"):
			e.fixed = k
		case strings.HasPrefix(name, "pattern"):
			e.pattern = k
		case strings.HasPrefix(name, "minValue"):
			e.minValue = k
		case strings.HasPrefix(name, "maxValue"):
			e.maxValue = k
		case name == "maxLength":
			if v, err := strconv.Atoi(k.Text); err == nil && v > 0 {
				e.maxLength = v
			}
		case name == "mustSupport":
			e.mustSupport = k.Text == "true"
		case name == "binding":
			// A weaker binding replaces a required one, as in the snapshot that its author published: US Core 6.1.0 has vital
			// signs with units that R4's profile, from which they derive, does not know.
			e.binding, e.extensible = "", ""
			switch k.GetText("strength") {
			case "required":
				e.binding = k.GetText("valueSet")
			case "extensible":
				e.extensible = k.GetText("valueSet")
			}
		case name == "slicing":
			c.slicing(e, k, at+".slicing")
		}
	}
	i := 0
	for k := range d.Get("constraint").Items() {
		c.constraint(e, k, fmt.Sprintf("%s.constraint[%d]", at, i), snapshot)
		i++
	}
}

func (c *compiler) slicing(e *element, n *fhir.Node, at string) {
	s := &slicing{rules: n.GetText("rules"), ordered: n.Get("ordered") != nil && n.Get("ordered").Text == "true"}
	i := 0
	for d := range n.Get("discriminator").Items() {
		steps, ok := parseSteps(d.GetText("path"))
		if !ok {
			c.fault(fhir.CodeNotSupported, fmt.Sprintf("%s.discriminator[%d].path", at, i),
				"%s is not of the restricted FHIRPath that a discriminator may have", quote(d.GetText("path")))
		}
		s.discriminators = append(s.discriminators, discriminator{d.GetText("type"), d.GetText("path"), steps})
		i++
	}
	if len(s.discriminators) == 0 {
		if implied := impliedSlicing(e.name, false); implied != nil {
			s.discriminators = implied.discriminators
		}
	}
	e.slicing = s
}

func (c *compiler) constraint(e *element, n *fhir.Node, at string, snapshot bool) {
	x := &fhir.Constraint{Key: n.GetText("key"), Severity: n.GetText("severity"), Human: n.GetText("human"), Expression: n.GetText("expression")}
	source := n.GetText("source")
	if x.Expression == "" || snapshot && source != "" && source != c.p.bare && strings.HasPrefix(source, "http://hl7.org/fhir/StructureDefinition/") {
		return // the base definitions have asked it
	}
	switch x.Key {
	case "ele-1", "ext-1", "dom-2", "dom-3", "dom-4", "dom-5", "dom-6":
		return
	}
	expr, err := path.Compile(x.Expression, c.set.registry.Schema())
	if err != nil {
		c.fault(fhir.CodeInvalid, at+".expression", "The invariant %s cannot be used: %s", quote(x.Key), err.Error())
		return
	}
	for i, known := range e.invariants {
		if known.Key == x.Key {
			e.invariants = slices.Clone(e.invariants)
			e.invariants[i] = &invariant{x, expr}
			return
		}
	}
	e.invariants = append(e.invariants, &invariant{x, expr})
}

// quote repeats a piece of a definition or resource in a message, shortened.
func quote(s string) string {
	const longest = 100
	if len(s) > longest {
		s = strings.ToValidUTF8(s[:longest], "") + "…"
	}
	return strconv.Quote(s)
}
