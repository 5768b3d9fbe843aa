package leak

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"

	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/resources"
)

// Read makes one request that reads: any interaction, operation and kind of search that shows what is stored.
func (w *World) Read(r *rand.Rand) Ask {
	n := w.one(r)
	typ, id := n.ResourceType(), n.ID()
	if r.IntN(12) == 0 {
		id = "nothing-has-this-id"
	}
	switch r.IntN(24) {
	case 0:
		return Ask{Request: resources.Request{Interaction: resources.Read, Type: typ, ID: id}}
	case 1:
		return Ask{Request: resources.Request{Interaction: resources.VRead, Type: typ, ID: id, Version: fmt.Sprint(1 + r.IntN(3))}}
	case 2:
		return w.history(r, resources.Request{Interaction: resources.HistoryInstance, Type: typ, ID: id})
	case 3:
		return w.history(r, resources.Request{Interaction: resources.HistoryType, Type: typ})
	case 4:
		return w.history(r, resources.Request{Interaction: resources.HistorySystem})
	case 5:
		return w.compartment(r)
	case 6:
		return w.system(r)
	case 7:
		return w.operation(r)
	case 8:
		return w.batch(r)
	default:
		return w.search(r, typ)
	}
}

func (w *World) history(r *rand.Rand, request resources.Request) Ask {
	a := Ask{Request: request}
	if r.IntN(2) == 0 {
		a.Params = append(a.Params, fmt.Sprintf("_count=%d", r.IntN(6)))
	}
	if r.IntN(4) == 0 {
		a.Params = append(a.Params, pick(r, []string{"_since=2020-01-01", "_at=2026", "_since=2030-01-01"}))
	}
	return a
}

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
func (w *World) where(r *rand.Rand, typ string) string {
	switch r.IntN(10) {
	case 0, 1, 2:
		if name, value, ok := w.chain(r, typ, 1+r.IntN(2)); ok {
			return pair(name, value)
		}
	case 3, 4, 5:
		if name, value, ok := w.has(r, typ, 1+r.IntN(2)); ok {
			return pair(name, value)
		}
	case 6:
		if n := w.of(r, typ); n != nil {
			if name, value, ok := w.condition(r, n); ok {
				if def := w.registry.SearchParameter(typ, name); def != nil && (def.Type == search.Token || def.Type == search.String) {
					return pair("_filter", name+" eq "+quoted(value))
				}
			}
		}
	case 7:
		if list := w.of(r, "List"); list != nil {
			return pair("_list", list.ID())
		}
	case 8:
		if n := w.of(r, typ); n != nil {
			return pair(pick(r, []string{"_text", "_content"}), word(r, n))
		}
	}
	n := w.of(r, typ)
	if n == nil {
		return "_lastUpdated=gt2000-01-01"
	}
	name, value, _ := w.condition(r, n)
	return pair(w.modified(r, typ, name), value)
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
func (w *World) chain(r *rand.Rand, typ string, steps int) (name, value string, ok bool) {
	n := w.of(r, typ)
	if n == nil {
		return "", "", false
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
		return "", "", false
	}
	last, value, ok := w.condition(r, n)
	return strings.Join(append(names, last), "."), value, ok
}

// has asks about what refers to resources of the type, with a true answer for one resource of the sample.
func (w *World) has(r *rand.Rand, typ string, steps int) (name, value string, ok bool) {
	n := w.of(r, typ)
	if n == nil {
		return "", "", false
	}
	for range steps {
		edges := w.referrers[n.ResourceType()+"/"+n.ID()]
		if len(edges) == 0 {
			break
		}
		e := pick(r, edges)
		name += "_has:" + e.from.ResourceType() + ":" + e.param + ":"
		n = e.from
	}
	if name == "" {
		return "", "", false
	}
	last, value, ok := w.condition(r, n)
	return name + last, value, ok
}

// shape are parameters that shape the answer.
func (w *World) shape(r *rand.Rand, typ string) (list []string) {
	add := func(one string) { list = append(list, one) }
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

// compartment searches in the compartment of anybody.
func (w *World) compartment(r *rand.Rand) Ask {
	owner := w.of(r, pick(r, []string{"Patient", "Patient", "Encounter", "Practitioner", "RelatedPerson", "Device"}))
	if owner == nil {
		owner = w.one(r)
	}
	a := Ask{Request: resources.Request{Interaction: resources.SearchType, Compartment: owner.ResourceType(), CompartmentID: owner.ID(), Type: pick(r, w.types)}}
	if r.IntN(2) == 0 {
		a.Interaction, a.Type = resources.SearchSystem, ""
	} else {
		a.Params = w.shape(r, a.Type)
	}
	return a
}

// system searches several types.
func (w *World) system(r *rand.Rand) Ask {
	a := Ask{Request: resources.Request{Interaction: resources.SearchSystem}}
	types := pick(r, w.types)
	for range r.IntN(3) {
		if t := pick(r, w.types); !strings.Contains(types, t) {
			types += "," + t
		}
	}
	a.Params = append(a.Params, "_type="+types)
	if r.IntN(2) == 0 {
		a.Params = append(a.Params, pair("_content", word(r, w.one(r))))
	}
	if r.IntN(2) == 0 {
		a.Params = append(a.Params, pick(r, []string{"_sort=_lastUpdated", "_sort=-_id", "_total=accurate", "_summary=count", "_count=3"}))
	}
	return a
}

// operation runs an operation that reads.
func (w *World) operation(r *rand.Rand) Ask {
	n := w.one(r)
	run := func(code string, n *fhir.Node, params ...string) Ask {
		return Ask{Request: resources.Request{Interaction: resources.Operate, Operation: code, Type: n.ResourceType(), ID: n.ID(), Safe: true}, Params: params}
	}
	switch r.IntN(9) {
	case 0, 1:
		if p := w.of(r, "Patient"); p != nil {
			return run("everything", p, pick(r, [][]string{nil, {"_count=3"}, {"_since=2000-01-01T00:00:00Z"}, {"_type=Observation,Patient,Practitioner"}, {"start=2000-01-01", "end=2024-06-01"}})...)
		}
	case 2:
		if e := w.of(r, "Encounter"); e != nil {
			return run("everything", e)
		}
	case 3:
		if c := w.of(r, "Composition"); c != nil {
			return run("document", c)
		}
	case 4:
		return run("diff", n, pick(r, [][]string{nil, {"from=1", "to=2"}, {"from=1"}})...)
	case 5:
		return run("validate", n)
	case 6:
		if c := pick(r, w.terminology()); c != nil {
			switch c.ResourceType() {
			case "ValueSet":
				return run("expand", c)
			case "CodeSystem":
				return Ask{Request: resources.Request{Interaction: resources.Operate, Operation: "lookup", Type: "CodeSystem", Safe: true},
					Params: []string{pair("system", c.GetText("url")), "code=" + url.QueryEscape(firstCode(c))}}
			}
		}
	case 7:
		return Ask{Request: resources.Request{Interaction: resources.Operate, Operation: pick(r, []string{"reindex-status", "everything", "meta"}), Safe: true}}
	}
	return run("meta", n)
}

func (w *World) terminology() []*fhir.Node {
	list := append([]*fhir.Node{nil}, w.byType["ValueSet"]...)
	return append(list, w.byType["CodeSystem"]...)
}

func firstCode(c *fhir.Node) string {
	for concept := range c.Get("concept").Items() {
		return concept.GetText("code")
	}
	return "none"
}

// batch asks several things at once.
func (w *World) batch(r *rand.Rand) Ask {
	kind, interaction := "batch", resources.Batch
	if r.IntN(3) == 0 {
		kind, interaction = "transaction", resources.Transaction
	}
	var entries []string
	for range 1 + r.IntN(3) {
		a := w.search(r, pick(r, w.types))
		target := a.Type + "?" + strings.Join(a.Params, "&")
		switch r.IntN(3) {
		case 0:
			n := w.one(r)
			target = n.ResourceType() + "/" + n.ID()
		case 1:
			n := w.one(r)
			target = n.ResourceType() + "/" + n.ID() + "/_history/1"
		}
		entries = append(entries, `{"request":{"method":"GET","url":`+jsonText(target)+`}}`)
	}
	return Ask{Request: resources.Request{Interaction: interaction},
		Body: `{"resourceType":"Bundle","type":"` + kind + `","entry":[` + strings.Join(entries, ",") + `]}`}
}

func jsonText(s string) string { n := fhir.Str(s); return string(n.JSON()) }

func pair(name, value string) string { return url.QueryEscape(name) + "=" + url.QueryEscape(value) }

func quoted(s string) string { return `"` + strings.NewReplacer(`\`, ``, `"`, ``).Replace(s) + `"` }

// word is a word of the text of a resource.
func word(r *rand.Rand, n *fhir.Node) string {
	var words []string
	n.Walk(func(n *fhir.Node) bool {
		if n.Kind == fhir.String && n.Name != "reference" {
			for _, w := range strings.FieldsFunc(n.Text, func(c rune) bool { return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z') }) {
				if len(w) > 3 {
					words = append(words, w)
				}
			}
		}
		return true
	})
	if len(words) == 0 {
		return "nothing"
	}
	return pick(r, words)
}
