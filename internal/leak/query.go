package leak

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/resources"
)

// search makes a search of a type.
func (w *World) search(r *rand.Rand, typ string) Ask {
	a := Ask{Request: resources.Request{Interaction: resources.SearchType, Type: typ}}
	for range 1 + r.IntN(2) {
		if r.IntN(6) > 0 {
			a.Params = append(a.Params, w.where(r, typ))
		}
	}
	a.Params = append(a.Params, w.shape(r, typ)...)
	return a
}

// where is one condition on a type.
func (w *World) where(r *rand.Rand, typ string) Param {
	n := w.of(r, typ)
	switch r.IntN(10) {
	case 0, 1, 2:
		if p, ok := w.chain(r, typ, 1+r.IntN(2)); ok {
			return p
		}
	case 3, 4, 5:
		if p, ok := w.has(r, typ, 1+r.IntN(2)); ok {
			return p
		}
	case 6:
		if n == nil {
			break
		}
		p := w.condition(r, n)
		if def := w.registry.SearchParameter(typ, p.Name); def != nil && (def.Type == search.Token || def.Type == search.String) {
			return Param{"_filter", p.Name + " eq " + quoted(p.Value), p.Name + " eq " + p.Of}
		}
	case 7:
		if list := w.of(r, "List"); list != nil {
			return Param{Name: "_list", Value: list.ID()}
		}
	case 8:
		if n != nil {
			return Param{pick(r, []string{"_text", "_content"}), word(r, n), "a word of " + keyOf(n)}
		}
	}
	if n == nil {
		return fixed("_lastUpdated=gt2000-01-01")[0]
	}
	p := w.condition(r, n)
	p.Name = w.modified(r, typ, p.Name)
	return p
}

// modified puts a modifier behind a name now and then.
func (w *World) modified(r *rand.Rand, typ, name string) string {
	def := w.registry.SearchParameter(typ, name)
	if def == nil || r.IntN(4) > 0 {
		return name
	}
	switch def.Type {
	case search.Token:
		return name + ":not"
	case search.String:
		return name + pick(r, []string{":exact", ":contains"})
	}
	return name
}

// chain asks about what a resource of the type refers to, with a true answer for one resource of the sample.
func (w *World) chain(r *rand.Rand, typ string, steps int) (p Param, ok bool) {
	n := w.of(r, typ)
	if n == nil {
		return p, false
	}
	var names []string
	for range steps {
		var next *fhir.Node
		params := w.registry.SearchParameters(n.ResourceType())
		for range 20 {
			def := pick(r, params)
			if def.Type != search.Reference || def.Expression == "" {
				continue
			}
			for _, v := range w.oracle.Values(n, def.Code) {
				if key, known := w.local(v); known {
					next = w.byKey[key]
				}
			}
			if next != nil {
				names = append(names, def.Code+":"+next.ResourceType())
				break
			}
		}
		if next == nil {
			break
		}
		n = next
	}
	if len(names) == 0 {
		return p, false
	}
	p = w.condition(r, n)
	p.Name = strings.Join(append(names, p.Name), ".")
	return p, true
}

// has asks about what refers to resources of the type, with a true answer for one resource of the sample.
func (w *World) has(r *rand.Rand, typ string, steps int) (p Param, ok bool) {
	n := w.of(r, typ)
	if n == nil {
		return p, false
	}
	name := ""
	for range steps {
		edges := w.referrers[keyOf(n)]
		if len(edges) == 0 {
			break
		}
		e := pick(r, edges)
		name += "_has:" + e.from.ResourceType() + ":" + e.param + ":"
		n = e.from
	}
	if name == "" {
		return p, false
	}
	p = w.condition(r, n)
	p.Name = name + p.Name
	return p, true
}

// shape are parameters that shape the answer.
func (w *World) shape(r *rand.Rand, typ string) (list []Param) {
	add := func(one string) { list = append(list, fixed(one)...) }
	if r.IntN(3) == 0 {
		add(fmt.Sprintf("_count=%d", 1+r.IntN(4)))
	}
	switch r.IntN(8) {
	case 0:
		add("_total=accurate")
	case 1:
		add("_summary=count")
	case 2:
		add(pick(r, []string{"_summary=true", "_summary=text", "_elements=id,status", "_summary=data"}))
	}
	if r.IntN(12) == 0 {
		add(pick(r, []string{"_contained=true", "_contained=both"}))
	}
	if r.IntN(3) == 0 {
		var keys []string
		for range 1 + r.IntN(2) {
			def := pick(r, w.registry.SearchParameters(typ))
			if def.Expression != "" && def.Type != search.Composite && def.Type != search.Special {
				keys = append(keys, pick(r, []string{"", "-"})+def.Code)
			}
		}
		if keys != nil {
			add("_sort=" + strings.Join(keys, ","))
		}
	}
	for range r.IntN(3) {
		add(w.include(r, typ))
	}
	return list
}

func (w *World) include(r *rand.Rand, typ string) string {
	iterate := pick(r, []string{"", "", ":iterate"})
	switch r.IntN(6) {
	case 0:
		return "_include" + iterate + "=*"
	case 1:
		return "_revinclude" + iterate + "=*"
	}
	if r.IntN(2) == 0 {
		if n := w.of(r, typ); n != nil {
			if edges := w.referrers[typ+"/"+n.ID()]; len(edges) > 0 {
				e := pick(r, edges)
				return "_revinclude" + iterate + "=" + e.from.ResourceType() + ":" + e.param
			}
		}
	}
	for range 20 {
		def := pick(r, w.registry.SearchParameters(typ))
		if def.Type == search.Reference && def.Expression != "" {
			return "_include" + iterate + "=" + typ + ":" + def.Code
		}
	}
	return "_include=" + typ + ":*"
}
