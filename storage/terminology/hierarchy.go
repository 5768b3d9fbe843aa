package terminology

import (
	"fmt"
	"slices"
	"strings"

	"kiln/fhir"
)

// MaxAncestors is how many pairs of a concept and an ancestor one code system may have, when a client writes it.
const MaxAncestors = 4_000_000

// hierarchy numbers the concepts of a code system and works out who is above whom.
type hierarchy struct {
	offset  int32
	numbers map[string]int32 // code to place, from 0
	codes   []string
	defined []bool
	parents [][]int32
	above   [][]int32
}

func newHierarchy(system int64) *hierarchy {
	return &hierarchy{offset: int32(uint64(system)*0x9E3779B97F4A7C15>>34) & 0x3FFFFFFF, numbers: map[string]int32{}}
}

// place returns the place of a code; one that is new gets the next.
func (h *hierarchy) place(code string) int32 {
	if n, ok := h.numbers[code]; ok {
		return n
	}
	n := int32(len(h.codes))
	code = strings.Clone(code) // it may be a part of a long line
	h.numbers[code] = n
	h.codes = append(h.codes, code)
	h.defined = append(h.defined, false)
	h.parents = append(h.parents, nil)
	return n
}

// define says that the system has the code. It returns false when it had it before.
func (h *hierarchy) define(code string) bool {
	n := h.place(code)
	fresh := !h.defined[n]
	h.defined[n] = true
	return fresh
}

// link puts one code below another. Links to codes that are never defined do not count.
func (h *hierarchy) link(child, parent string) {
	if child == parent {
		return
	}
	c, p := h.place(child), h.place(parent)
	if !slices.Contains(h.parents[c], p) {
		h.parents[c] = append(h.parents[c], p)
	}
}

// close works out the ancestors of all concepts, limit pairs at most.
//
// Errors: Unprocessable for a hierarchy that goes in circles, TooCostly beyond the limit.
func (h *hierarchy) close(limit int) error {
	h.above = make([][]int32, len(h.codes))
	state := make([]uint8, len(h.codes)) // 0 new, 1 under way, 2 done
	var stack []int32
	pairs := 0
	for start := range h.codes {
		if state[start] != 0 {
			continue
		}
		stack = append(stack[:0], int32(start))
		for len(stack) > 0 {
			n := stack[len(stack)-1]
			if state[n] == 2 {
				stack = stack[:len(stack)-1]
				continue
			}
			ready := true
			for _, p := range h.parents[n] {
				if !h.defined[p] || state[p] == 2 {
					continue
				}
				if state[p] == 1 {
					return fhir.NewError(fhir.Unprocessable, fhir.CodeBusinessRule, fmt.Sprintf(
						"The hierarchy goes in a circle at the code %q.", h.codes[p])).At("CodeSystem.concept").Coded("hierarchy-circle")
				}
				ready = false
				stack = append(stack, p)
			}
			if state[n] = 1; !ready {
				continue
			}
			state[n] = 2
			stack = stack[:len(stack)-1]
			var all []int32
			kept := h.parents[n][:0]
			for _, p := range h.parents[n] {
				if h.defined[p] {
					kept = append(kept, p)
					all = append(append(all, p), h.above[p]...)
					if len(all)+pairs > limit {
						return fhir.NewError(fhir.TooCostly, fhir.CodeTooCostly, fmt.Sprintf(
							"The hierarchy has more than %d pairs of a concept and an ancestor.", limit)).At("CodeSystem.concept")
					}
				}
			}
			h.parents[n] = kept
			slices.Sort(all)
			h.above[n] = slices.Clip(slices.Compact(all))
			pairs += len(h.above[n])
		}
	}
	return nil
}

// number is what the tables call the concept at a place.
func (h *hierarchy) number(place int32) int32 { return h.offset + place }

func (h *hierarchy) numbered(places []int32) []int32 {
	list := make([]int32, len(places))
	for i, p := range places {
		list[i] = h.number(p)
	}
	return list
}
