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
	reached := reach{item: it}
	for k, s := range e.slices {
		if s.name == defaultSlice {
			continue
		}
		if r.steps > MaxSteps {
			return -1, nil // it is refused already
		}
		switch r.inSlice(&reached, e.slicing, s) {
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
func (r *run) inSlice(it *reach, by *slicing, s *slice) verdict {
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

// reach is a value with what discriminators lead to in it, which is the same for all slices.
type reach struct {
	*item
	at map[*discriminator][]item
}

// asking is a discriminator with the definition of a slice in which it is followed, which is the same for all values.
type asking struct {
	slice *element
	by    *discriminator
}

// follow gives what a discriminator leads to in the definition of a slice, and in a value.
func (r *run) follow(it *reach, d *discriminator, s *slice) (defined []*element, data []item) {
	key := asking{s.element, d}
	defined, known := r.defined[key]
	if !known {
		defined = r.define([]*element{s.element}, d.steps)
		if r.defined == nil {
			r.defined = map[asking][]*element{}
		}
		r.defined[key] = defined
	}
	data, known = it.at[d]
	if !known {
		data = r.navigate([]item{*it.item}, d.steps)
		if it.at == nil {
			it.at = map[*discriminator][]item{}
		}
		it.at[d] = data
	}
	return defined, data
}

func (r *run) discriminated(it *reach, d *discriminator, s *slice) verdict {
	if !r.step() {
		return no
	}
	if d.kind != "exists" && d.path == "url" && it.typ != nil && it.typ.Name == "Extension" {
		return is(it.value.GetText("url") == r.extensionURL(s.element))
	}
	defined, data := r.follow(it, d, s)
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
