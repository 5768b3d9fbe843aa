package terminology

import "context"

// Terms lists the codes of a value set for a search. An empty code stands for all codes of a system, known here or not:
// that is how a code system that is not here in full, or is large, appears where the value set has all of it.
//
// Errors: as Expand.
func (r *Resolver) Terms(ctx context.Context, s *Set, limit int) ([]Coding, error) {
	var list []Coding
	skip := map[string]bool{}
	for url := range wholes(s, limit) {
		list = append(list, Coding{System: url})
		skip[url] = true
	}
	x, err := r.Expand(ctx, s, ExpandOptions{Count: -1, Limit: limit, ExcludeSystems: skip})
	if err != nil {
		return nil, err
	}
	if len(x.Partial) > 0 {
		return nil, notFull(x.Partial[0])
	}
	if len(x.Broken) > 0 {
		return nil, noSet(x.Broken[0])
	}
	for _, m := range x.Members {
		list = append(list, Coding{System: m.System, Code: m.Code})
	}
	return list, nil
}

// wholes are the code systems that a value set has all codes of, and that need not, or cannot, be listed.
func wholes(s *Set, limit int) map[string]bool {
	all := map[string]bool{}
	for _, p := range s.includes {
		switch {
		case p.url == "" && len(p.sets) == 1:
			for url := range wholes(p.sets[0], limit) {
				all[url] = true
			}
		case p.url != "" && !p.enumerated && p.filters == nil && len(p.sets) == 0 && !s.activeOnly:
			if p.open() || p.system.Concepts > limit {
				all[p.url] = true
			}
		}
	}
	for _, p := range s.excludes {
		delete(all, p.url)
		for _, o := range p.sets {
			eachPart(o, func(q *part) { delete(all, q.url) })
		}
	}
	if s.activeOnly {
		clear(all)
	}
	return all
}
