package profile

import (
	"strings"

	"kiln/fhir"
)

// slices sorts the values of an element into the slices, checks each by its own and counts them. A value may be in a
// slice for all that can be told here: it counts where the slice needs values, not where it has too many.
func (r *run) slices(list []item, e *element) {
	counts, doubtful := make([]int, len(e.slices)), make([]int, len(e.slices))
	last, unmatched := -1, false
	for i := range list {
		it := &list[i]
		r.at(it)
		found, possible := r.sort(it, e)
		if found < 0 {
			for _, k := range possible {
				doubtful[k]++
			}
			if len(possible) > 0 {
				r.doubt = true
				continue
			}
			unmatched = true
			if e.slicing != nil && e.slicing.rules == "closed" {
				r.fail(fhir.CodeStructure, "slice-closed", "This value of %s is in none of the slices that %s allows: %s",
					e.name, r.by(), sliceNames(e))
			}
			continue
		}
		s := e.slices[found]
		counts[found]++
		for k, of := range e.slices { // a slice of a slice counts for both
			if k != found && s.within(of) {
				counts[k]++
			}
		}
		switch {
		case e.slicing != nil && e.slicing.ordered && found < last:
			r.fail(fhir.CodeStructure, "slice-order", "The slice %s must stand before %s by %s", s.name, e.slices[last].name, r.by())
		case e.slicing != nil && e.slicing.rules == "openAtEnd" && unmatched:
			r.fail(fhir.CodeStructure, "slice-order", "Values outside of the slices must stand after the slice %s by %s", s.name, r.by())
		}
		last = max(last, found)
		r.value(it, s.element)
	}
	r.pop()
	for k, s := range e.slices {
		n := counts[k]
		if n < s.min {
			n = min(n+doubtful[k], s.min)
		}
		r.count(s.element, e.name+":"+s.name, n)
	}
	r.push(e.name)
}

// within says whether s is a slice of the slice of.
func (s *slice) within(of *slice) bool { return strings.HasPrefix(s.name, of.name+"/") }

// sort finds the slice that a value is in, the innermost of slices of slices; -1 for none, and then those that it may be in.
func (r *run) sort(it *item, e *element) (found int, possible []int) {
	found = -1
	for k, s := range e.slices {
		if s.name == defaultSlice {
			continue
		}
		switch r.inSlice(it, e.slicing, s) {
		case yes:
			if found < 0 || s.within(e.slices[found]) {
				found = k
			}
		case maybe:
			possible = append(possible, k)
		}
	}
	if found < 0 && len(possible) == 0 {
		for k, s := range e.slices {
			if s.name == defaultSlice {
				return k, nil
			}
		}
	}
	return found, possible
}

// defaultSlice holds what is in no other slice (FHIR R4 profiling.html#default-slice).
const defaultSlice = "@default"

func sliceNames(e *element) string {
	text := ""
	for i, s := range e.slices {
		switch {
		case i == 12:
			return text + ", …"
		case i > 0:
			text += ", "
		}
		text += s.name
	}
	return text
}

// inSlice says whether a value is one of a slice, by the discriminators.
func (r *run) inSlice(it *item, by *slicing, s *slice) verdict {
	if by == nil || len(by.discriminators) == 0 {
		return no
	}
	v := yes
	for i := range by.discriminators {
		if v = min(v, r.discriminated(it, &by.discriminators[i], s)); v == no {
			break
		}
	}
	return v
}

func is(b bool) verdict {
	if b {
		return yes
	}
	return no
}

func (r *run) discriminated(it *item, d *discriminator, s *slice) verdict {
	if d.kind != "exists" && d.path == "url" && it.typ != nil && it.typ.Name == "Extension" {
		return is(it.value.GetText("url") == r.extensionURL(s.element))
	}
	defined := r.define([]*element{s.element}, d.steps)
	data := r.navigate([]item{*it}, d.steps)
	switch d.kind {
	case "exists":
		for _, e := range defined {
			switch {
			case e.max == 0:
				return is(len(data) == 0)
			case e.min > 0:
				return is(len(data) > 0)
			}
		}
		return no
	case "type":
		for _, e := range defined {
			if len(e.types) == 0 {
				continue
			}
			for i := range data {
				if data[i].typ != nil && matchingType(e.types, data[i].typ) {
					return yes
				}
			}
		}
		return no
	default: // value, pattern, profile
		found, all := false, yes
		for _, e := range defined {
			if d.kind != "profile" && !e.distinguishes() {
				continue
			}
			found = true
			if len(data) == 0 && e.max == 0 {
				continue
			}
			any := no
			for i := range data {
				if d.kind == "profile" && data[i].unseen {
					if matchingType(e.types, data[i].typ) {
						any = max(any, maybe)
					}
					continue
				}
				if d.kind == "profile" {
					any = max(any, r.fits(func() { r.strictTypes(&data[i], e); r.value(&data[i], e) }))
				} else {
					any = max(any, r.fits(func() { r.resembles(&data[i], e, 0) }))
				}
				if any == yes {
					break
				}
			}
			if all = min(all, any); all == no {
				return no
			}
		}
		if !found {
			return no
		}
		return all
	}
}

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
