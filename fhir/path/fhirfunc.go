package path

import (
	"strings"

	"kiln/fhir"
)

// fnExtension is extension('url'): extension.where(url = 'url') without the detour.
func fnExtension(c *ctx, x *call, mark int) error {
	url, ok, err := c.textArg(x.args[0])
	if err != nil || !ok {
		c.stack = c.stack[:mark]
		return err
	}
	var typ *fhir.Type
	if c.schema != nil {
		typ = c.schema.Type("Extension")
	}
	end := len(c.stack)
	for i := mark; i < end; i++ {
		e := c.stack[i]
		holder := e.Value
		if holder == nil || holder.Kind != fhir.Object {
			holder = e.Sibling
		}
		list := holder.Get("extension")
		for j := range count(list) {
			if err := c.step(1); err != nil {
				return err
			}
			if ext := item(list, j); ext.GetText("url") == url {
				c.push(Element{Value: ext, Type: typ, src: e.src})
			}
		}
	}
	return c.drop(mark, end)
}

func (e *Element) hasValue() bool {
	return e.Value != nil && e.Value.Kind != fhir.Object && e.Value.Kind != fhir.Array && e.Value.Kind != fhir.Null
}

func fnHasValue(c *ctx, _ *call, mark int) error {
	return c.bool(mark, len(c.stack) == mark+1 && (c.stack[mark].sys != nil || c.stack[mark].hasValue()))
}

func fnGetValue(c *ctx, _ *call, mark int) error {
	if len(c.stack) != mark+1 {
		return c.none(mark)
	}
	v, ok := c.stack[mark].value()
	if !ok {
		return c.none(mark)
	}
	return c.result(mark, Value(v))
}

// fnResolve follows References, canonicals and URIs. What has no target is left out.
func fnResolve(c *ctx, _ *call, mark int) error {
	w := mark
	for i := mark; i < len(c.stack); i++ {
		if err := c.step(1); err != nil {
			return err
		}
		if target, ok := c.resolve(&c.stack[i]); ok {
			c.stack[w] = target
			w++
		}
	}
	c.stack = c.stack[:w]
	return nil
}

func (c *ctx) resolve(e *Element) (Element, bool) {
	ref, ok := e.str()
	if !ok && e.Value != nil {
		ref = e.Value.GetText("reference")
	}
	if fragment, inside := strings.CutPrefix(ref, "#"); inside {
		root := c.rootResource()
		if fragment == "" {
			return root, !root.IsZero()
		}
		list := root.Value.Get("contained")
		for i := range count(list) {
			if r := item(list, i); r.ID() == fragment {
				return Element{Value: r, Type: c.typeOf(r), src: root.src}, true
			}
		}
		return Element{}, false
	}
	if c.env.Resolve != nil {
		if ref == "" {
			return Element{}, false
		}
		n := c.env.Resolve(ref)
		if n == nil {
			return Element{}, false
		}
		return Root(n, c.schema), true
	}
	t := c.referenceType(ref)
	if t == nil && e.Value != nil && e.Value.Kind == fhir.Object && c.schema != nil {
		t = c.resourceType(e.Value.GetText("type"))
	}
	return Element{Type: t}, t != nil
}

func (c *ctx) typeOf(n *fhir.Node) *fhir.Type {
	if c.schema == nil {
		return nil
	}
	return c.schema.Type(n.ResourceType())
}

func (c *ctx) resourceType(name string) *fhir.Type {
	if c.schema == nil || name == "" {
		return nil
	}
	if t := c.schema.Type(name); t != nil && t.Kind == fhir.Resource {
		return t
	}
	return nil
}

// referenceType reads the type out of Type/id, with what may stand before and after it.
func (c *ctx) referenceType(ref string) *fhir.Type {
	if c.schema == nil {
		return nil
	}
	if i := strings.IndexByte(ref, '?'); i >= 0 {
		return c.resourceType(ref[:i]) // conditional
	}
	if i := strings.IndexByte(ref, '#'); i >= 0 {
		ref = ref[:i]
	}
	if i := strings.Index(ref, "/_history/"); i >= 0 {
		ref = ref[:i]
	}
	slash := strings.LastIndexByte(ref, '/')
	if slash <= 0 {
		return nil
	}
	ref = ref[:slash]
	return c.resourceType(ref[strings.LastIndexByte(ref, '/')+1:])
}

func fnMemberOf(c *ctx, x *call, mark int) error {
	url, ok, err := c.textArg(x.args[0])
	if err != nil {
		return err
	}
	e, has, err := c.one(x, mark)
	if err != nil || !has || !ok || c.env.MemberOf == nil {
		c.stack = c.stack[:mark]
		return err
	}
	in, err := c.env.MemberOf(url, e)
	if err != nil {
		return err
	}
	return c.bool(mark, in)
}

// baseProfiles begins the URLs of R4's own types.
const baseProfiles = "http://hl7.org/fhir/StructureDefinition/"

func fnConformsTo(c *ctx, x *call, mark int) error {
	url, ok, err := c.textArg(x.args[0])
	if err != nil {
		return err
	}
	e, has, err := c.one(x, mark)
	if err != nil || !has || !ok {
		c.stack = c.stack[:mark]
		return err
	}
	if c.env.ConformsTo != nil {
		does, err := c.env.ConformsTo(e, url)
		if err != nil {
			return err
		}
		return c.bool(mark, does)
	}
	name, base := strings.CutPrefix(url, baseProfiles)
	if !base || c.schema == nil || c.schema.Type(name) == nil {
		return failf("the profile %s is not known", url)
	}
	return c.bool(mark, e.Type != nil && e.Type.Is(name))
}

func fnHTMLChecks(c *ctx, _ *call, mark int) error {
	result := true
	for i := mark; i < len(c.stack) && c.env.CheckHTML != nil; i++ {
		result = result && c.env.CheckHTML(c.stack[i])
	}
	return c.bool(mark, result)
}
