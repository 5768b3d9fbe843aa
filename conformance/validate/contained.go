package validate

import (
	"kiln/fhir"
	"kiln/fhir/path"
)

// frame is what references and invariants need to know about the resource that the walk is in. A resource of its own
// (the given one, a Bundle entry's, a Parameters part's) and each contained resource have one.
type frame struct {
	outer     *frame
	container *container
	resource  *fhir.Node
	current   int // which of container.list resource is, or -1
	bundle    *bundleScope
	env       *path.Env // made when an invariant first asks for it
}

// container is a resource of its own with those that it contains.
type container struct {
	root  *fhir.Node
	list  []contained
	index map[string]int // the first place of an id; nil when the list is short enough to search
}

type contained struct {
	id, typ string
	used    bool
}

// longContained is from how many contained resources on ids are found by a map.
const longContained = 8

// frameOf makes the frame of a resource of its own. It lists the contained resources beforehand, so that references
// find them wherever they stand.
func (r *run) frameOf(n *fhir.Node) *frame {
	f := &frame{outer: r.frame, container: &container{root: n}, resource: n, current: -1}
	if r.frame != nil {
		f.bundle = r.frame.bundle
	}
	if n.ResourceType() == "Bundle" {
		f.bundle = &bundleScope{bundle: n}
	}
	list := n.Get("contained")
	if list == nil || list.Kind != fhir.Array || len(list.Kids) == 0 {
		return f
	}
	c := f.container
	c.list = make([]contained, len(list.Kids))
	if len(list.Kids) >= longContained {
		c.index = make(map[string]int, len(list.Kids))
	}
	for i := range list.Kids {
		c.list[i] = contained{id: list.Kids[i].ID(), typ: list.Kids[i].ResourceType()}
		if _, known := c.index[c.list[i].id]; c.index != nil && !known {
			c.index[c.list[i].id] = i
		}
	}
	return f
}

// find gives the place of the first contained resource with this id, or -1.
func (c *container) find(id string) int {
	if c.index != nil {
		if i, ok := c.index[id]; ok {
			return i
		}
		return -1
	}
	for i := range c.list {
		if c.list[i].id == id {
			return i
		}
	}
	return -1
}

// fragment finds the type of a contained resource by its id and notes that something points at it. "" is the container;
// a contained resource that points there is in use too (dom-3).
func (f *frame) fragment(id string) (typ string, ok bool) {
	if id == "" {
		if f.current >= 0 {
			f.container.list[f.current].used = true
		}
		return f.container.root.ResourceType(), true
	}
	i := f.container.find(id)
	if i < 0 {
		return "", false
	}
	f.container.list[i].used = true
	return f.container.list[i].typ, true
}

// containedResource checks the contained resource with index i; the path already ends in contained[i].
func (r *run) containedResource(n *fhir.Node, i int) {
	outer := r.frame
	c := &outer.container.list[i]
	p := r.resourcePlan(n)
	if p == nil {
		c.used = true // one message is enough
		return
	}
	if c.id == "" {
		c.used = true
		r.fail(fhir.CodeRequired, "contained-id", "A contained resource must have an id: without one nothing can refer to it")
	} else if outer.container.find(c.id) != i {
		c.used = true
		r.fail(fhir.CodeDuplicate, "contained-duplicate", "Another contained resource has the id %s too", quote(c.id))
	}
	if n.Get("contained") != nil {
		r.fail(fhir.CodeInvariant, "dom-2",
			"A contained resource must not contain resources: put them all into the outermost resource")
	}
	meta := n.Get("meta")
	if meta.Get("versionId") != nil || meta.Get("lastUpdated") != nil {
		r.fail(fhir.CodeInvariant, "dom-4", "A contained resource must not have meta.versionId or meta.lastUpdated")
	}
	if meta.Get("security") != nil {
		r.fail(fhir.CodeInvariant, "dom-5",
			"A contained resource must not have a security label: the outer resource's labels hold for it")
	}
	r.frame = &frame{outer: outer, container: outer.container, resource: n, current: i, bundle: outer.bundle}
	r.object(n, p, nil)
	r.frame = outer
}

// unusedContained tells which contained resources nothing refers to and which do not refer to the container (dom-3).
func (r *run) unusedContained(start int, c *container) {
	for i := len(c.list) - 1; i >= 0; i-- {
		if !c.list[i].used {
			r.push("contained")
			r.item(i)
			r.add(start, fhir.SeverityError, fhir.CodeInvariant, "dom-3",
				"Nothing refers to this contained resource: refer to it as %s, or leave it out", quote("#"+c.list[i].id))
			r.pop()
		}
	}
}
