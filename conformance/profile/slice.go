package profile

import (
	"kiln/fhir"
)

// slices sorts the values of an element into the slices, checks each by its own and counts them.
func (r *run) slices(list []item, e *element) {
	counts := make([]int, len(e.slices))
	last, unmatched := -1, false
	for i := range list {
		it := &list[i]
		r.at(it)
		found := -1
		for k, s := range e.slices {
			if r.inSlice(it, e.slicing, s) && (found < 0 || len(s.name) > len(e.slices[found].name)) {
				found = k
			}
		}
		if found < 0 {
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
			if k != found && len(s.name) > len(of.name) && s.name[:len(of.name)+1] == of.name+"/" {
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
		r.count(s.element, e.name+":"+s.name, counts[k])
	}
	r.push(e.name)
}

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
func (r *run) inSlice(it *item, by *slicing, s *slice) bool {
	if by == nil || len(by.discriminators) == 0 {
		return false
	}
	for i := range by.discriminators {
		if !r.discriminated(it, &by.discriminators[i], s) {
			return false
		}
	}
	return true
}

func (r *run) discriminated(it *item, d *discriminator, s *slice) bool {
	if d.kind != "exists" && d.path == "url" && it.typ != nil && it.typ.Name == "Extension" {
		return it.value.GetText("url") == r.extensionURL(s.element)
	}
	defined := r.define([]*element{s.element}, d.steps)
	data := r.navigate([]item{*it}, d.steps)
	switch d.kind {
	case "exists":
		for _, e := range defined {
			switch {
			case e.max == 0:
				return len(data) == 0
			case e.min > 0:
				return len(data) > 0
			}
		}
		return false
	case "type":
		for _, e := range defined {
			if len(e.types) == 0 {
				continue
			}
			for i := range data {
				if data[i].typ != nil && matchingType(e.types, data[i].typ) {
					return true
				}
			}
		}
		return false
	default: // value, pattern, profile
		found := false
		for _, e := range defined {
			if d.kind != "profile" && !e.distinguishes() {
				continue
			}
			found = true
			if len(data) == 0 {
				if e.max == 0 {
					continue
				}
				return false
			}
			any := false
			for i := range data {
				if d.kind == "profile" && data[i].unseen {
					any = any || matchingType(e.types, data[i].typ)
					continue
				}
				if any = r.fits(func() { r.strictTypes(&data[i], e); r.value(&data[i], e) }); any {
					break
				}
			}
			if !any {
				return false
			}
		}
		return found
	}
}

// strictTypes fails where none of an element's types fits, whatever the base definition says.
func (r *run) strictTypes(it *item, e *element) {
	if len(e.types) > 0 && it.typ != nil && !matchingType(e.types, it.typ) {
		r.fail(fhir.CodeStructure, "type", "")
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
