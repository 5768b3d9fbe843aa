package terminology

import "slices"

// literal is a code that a value set lists of a code system that is not here, or not in full.
type literal struct {
	listed
	url, version string
	system       *System
	place        int64
}

// literals are the members of a value set that may have no row, in the order of the value set.
func (c *compiler) literals(s *Set) []literal {
	var list []literal
	seen := map[codeKey]bool{}
	var walk func(s *Set, place int64, top bool)
	walk = func(s *Set, place int64, top bool) {
		for i, p := range s.includes {
			if top {
				place = int64(i) << placeBits
			}
			if p.url == "" || c.only == "" || c.only == p.url {
				if p.enumerated && !c.skip[p.url] && p.open() {
					for k, l := range p.listed {
						key := codeKey{p.url, l.code}
						if !seen[key] && (c.code == "" || c.code == l.code) {
							seen[key] = true
							list = append(list, literal{listed: l, url: p.url, version: p.version, system: p.system, place: place + int64(k)})
						}
					}
				}
			}
			for _, o := range p.sets {
				walk(o, place, false)
			}
		}
	}
	walk(s, 0, true)
	return slices.DeleteFunc(list, func(l literal) bool { return !c.has(s, l.url, l.code) })
}

// placeBits is how many bits of a place are for the position inside of an include.
const placeBits = 32

// open says whether a code that the part lists may be one without a row.
func (p *part) open() bool { return p.system == nil || p.system.grammar != nil || !p.system.Complete() }

// has says whether a literal is in a value set.
func (c *compiler) has(s *Set, url, code string) bool {
	in := func(p *part, exclude bool) bool { return c.partHas(p, url, code, exclude) }
	return slices.ContainsFunc(s.includes, func(p *part) bool { return in(p, false) }) &&
		!slices.ContainsFunc(s.excludes, func(p *part) bool { return in(p, true) })
}

func (c *compiler) partHas(p *part, url, code string, exclude bool) bool {
	if p.url != "" {
		if p.url != url || c.skip[url] {
			return false
		}
		switch {
		case p.enumerated:
			same := func(l listed) bool {
				return l.code == code || p.system != nil && p.system.sameCode(l.code, code)
			}
			if !slices.ContainsFunc(p.listed, same) || p.system != nil && p.system.grammar != nil && !p.system.grammar.valid(code) {
				return false
			}
		case p.system == nil:
			// Of a code system that is not here nobody knows the codes; left out as a whole, it is left out.
			if !exclude || p.filters != nil {
				return false
			}
		case p.system.grammar != nil:
			if !p.passes(code) {
				return false
			}
		default:
			if !exclude || p.filters != nil {
				return false
			}
		}
	}
	for _, s := range p.sets {
		if !c.has(s, url, code) {
			return false
		}
	}
	return true
}
