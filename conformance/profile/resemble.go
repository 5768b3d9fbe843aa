package profile

import "kiln/fhir"

// resembles fails where a value is not what fixed values, patterns and required bindings say of it and of what is in it.
// What else a slice asks is no matter of who is in it (FHIR R4 profiling.html#discriminator).
func (r *run) resembles(it *item, e *element, depth int) {
	if !r.step() || it.unseen {
		return
	}
	if v := it.value; v != nil {
		if e.fixed != nil && !v.Equal(e.fixed) || e.pattern != nil && !r.matches(v, e.pattern) {
			r.hit = true
			return
		}
		if e.binding != "" {
			r.codes(v, it.typ, e.binding)
		}
	}
	if e.fixed != nil || e.pattern != nil || r.hit || depth > MaxNesting {
		return
	}
	r.strictTypes(it, e)
	for i := range e.types {
		t := &e.types[i]
		if len(t.profiles) != 1 || it.typ == nil || !t.is(it.typ) {
			continue
		}
		if p := r.profile(t.profiles[0]); p != nil && p.fault == nil {
			r.resembles(it, p.root, depth+1)
		}
	}
	for _, c := range e.children {
		if !c.distinguishes() {
			continue
		}
		list := r.members(it, c.name, nil)
		if len(list) == 0 && c.min > 0 || len(list) > 0 && c.max == 0 {
			r.hit = true
			return
		}
		r.oneResembles(list, c, depth, false)
		for _, s := range c.slices {
			if s.min > 0 && s.distinguishes() {
				r.oneResembles(list, s.element, depth, true)
			}
		}
	}
}

func (r *run) oneResembles(list []item, e *element, depth int, needed bool) {
	best := no
	for i := range list {
		if best = max(best, r.fits(func() { r.resembles(&list[i], e, depth+1) })); best == yes {
			return
		}
	}
	r.hit = r.hit || best == no && (needed || len(list) > 0)
	r.doubt = r.doubt || best == maybe
}

// strictTypes hits where none of an element's types fits, whatever the base definition says.
func (r *run) strictTypes(it *item, e *element) {
	if len(e.types) > 0 && it.typ != nil && !matchingType(e.types, it.typ) {
		r.hit = true
	}
}

// distinguishes says whether an element says anything about its value that tells slices apart.
func (e *element) distinguishes() bool {
	if e.fixed != nil || e.pattern != nil || e.binding != "" || e.max == 0 {
		return true
	}
	for _, t := range e.types {
		if len(t.profiles) > 0 {
			return true
		}
	}
	for _, c := range e.children {
		if c.distinguishes() {
			return true
		}
	}
	for _, s := range e.slices {
		if s.distinguishes() {
			return true
		}
	}
	return false
}

func matchingType(rules []typeRule, t *fhir.Type) bool {
	for i := range rules {
		if rules[i].is(t) {
			return true
		}
	}
	return false
}

func (t *typeRule) is(actual *fhir.Type) bool {
	return t.code == "" || actual.Is(t.code) || len(t.code) > 5 && t.code[:5] == "http:"
}
