package leak

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"strings"

	"kiln/conformance"
	"kiln/fhir"
	"kiln/fhir/path"
	"kiln/fhir/search"
	"kiln/internal/oracle"
)

// World is a sample of what a database holds, hidden or not: what requests are made of.
type World struct {
	registry *conformance.Registry
	nodes    []*fhir.Node
	types    []string // those that the sample has, sorted
	byType   map[string][]*fhir.Node
	byKey    map[string]*fhir.Node
	oracle   *oracle.Oracle
	// referrers are the references of the sample, by the key of their target.
	referrers map[string][]edge
}

// edge is a reference from one resource of the sample to another, by a search parameter.
type edge struct {
	from  *fhir.Node
	param string
}

// NewWorld makes a World of resources, which must have ids. What is asked of it depends on these and on the seed alone, so that a finding is found again:
// what was written at one moment comes in another order from each database.
func NewWorld(registry *conformance.Registry, base string, nodes []*fhir.Node) *World {
	nodes = slices.SortedFunc(slices.Values(nodes), func(a, b *fhir.Node) int { return cmp.Compare(keyOf(a), keyOf(b)) })
	w := &World{registry: registry, nodes: nodes, byType: map[string][]*fhir.Node{}, byKey: map[string]*fhir.Node{}, referrers: map[string][]edge{}}
	w.oracle = oracle.New(registry, nodes...)
	w.oracle.Base = base
	for _, n := range nodes {
		typ := n.ResourceType()
		if w.byType[typ] == nil {
			w.types = append(w.types, typ)
		}
		w.byType[typ] = append(w.byType[typ], n)
		w.byKey[keyOf(n)] = n
	}
	slices.Sort(w.types)
	for _, n := range nodes {
		for _, def := range registry.SearchParameters(n.ResourceType()) {
			if def.Type != search.Reference {
				continue
			}
			for _, v := range w.oracle.Values(n, def.Code) {
				if key, ok := w.local(v); ok {
					w.referrers[key] = append(w.referrers[key], edge{n, def.Code})
				}
			}
		}
	}
	return w
}

// local is the key of the resource of the sample that a reference leads to.
func (w *World) local(v path.Element) (string, bool) {
	if v.Value == nil {
		return "", false
	}
	text := strings.TrimPrefix(v.Value.GetText("reference"), w.oracle.Base+"/")
	text, _, _ = strings.Cut(text, "/_history/")
	return text, w.byKey[text] != nil
}

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

// one is any resource of the sample, each type as likely as the next.
func (w *World) one(r *rand.Rand) *fhir.Node { return pick(r, w.byType[pick(r, w.types)]) }

// of is a resource of a type; nil where there is none.
func (w *World) of(r *rand.Rand, typ string) *fhir.Node {
	if list := w.byType[typ]; len(list) > 0 {
		return pick(r, list)
	}
	return nil
}

// condition is a search parameter that n has, with a value that n matches: a question that tells of n.
func (w *World) condition(r *rand.Rand, n *fhir.Node) Param {
	params := w.registry.SearchParameters(n.ResourceType())
	for range 12 {
		def := pick(r, params)
		if def.Expression == "" {
			continue
		}
		values := w.oracle.Values(n, def.Code)
		if len(values) == 0 {
			continue
		}
		if text := asked(r, def, pick(r, values)); text != "" {
			p := Param{def.Code, text, def.Code + " of " + keyOf(n)}
			if def.Type == search.Reference {
				p.Of = ""
			}
			return p
		}
	}
	return Param{Name: "_id", Value: n.ID()}
}

func keyOf(n *fhir.Node) string { return n.ResourceType() + "/" + n.ID() }

// asked is a value of a resource as one would search for it; "" for what has no such form.
func asked(r *rand.Rand, def *conformance.SearchParameter, v path.Element) string {
	n := v.Value
	if n == nil {
		return ""
	}
	switch def.Type {
	case search.Token:
		switch n.Kind {
		case fhir.Object:
			if list := n.Get("coding"); list != nil && len(list.Kids) > 0 {
				n = &list.Kids[0]
			}
			code := cmp.Or(n.GetText("code"), n.GetText("value"))
			if system := n.GetText("system"); system != "" && code != "" && strings.Contains(system, ":") && r.IntN(2) == 0 {
				return escape(system) + "|" + escape(code)
			}
			return escape(code)
		default:
			return escape(n.Text)
		}
	case search.Reference:
		if n.Kind != fhir.Object {
			return escape(n.Text)
		}
		return escape(n.GetText("reference"))
	case search.String:
		for _, name := range []string{"family", "given", "text", "city", "line"} {
			if text := first(n.Get(name)); text != "" {
				return escape(text)
			}
		}
		if n.Kind == fhir.String {
			return escape(n.Text)
		}
	case search.Date:
		text := cmp.Or(n.Text, n.GetText("start"), n.GetText("end"))
		if len(text) < 4 {
			return ""
		}
		if len(text) > 10 && r.IntN(2) == 0 {
			text = text[:10]
		}
		return pick(r, []string{"", "ge", "le", "gt", "ne"}) + text
	case search.Number:
		return n.Text
	case search.Quantity:
		return n.GetText("value")
	case search.URI:
		return escape(n.Text)
	}
	return ""
}

func first(n *fhir.Node) string {
	if n == nil {
		return ""
	}
	for item := range n.Items() {
		return item.Text
	}
	return ""
}

// escape protects what has a meaning in a search value.
func escape(s string) string {
	return strings.NewReplacer(`\`, `\\`, `|`, `\|`, `,`, `\,`, `$`, `\$`).Replace(s)
}

// references are the resources, Type/id, that a parameter of a resource refers to. The resource need not be of the sample.
func (w *World) references(n *fhir.Node, code string) (keys []string) {
	for _, v := range oracle.New(w.registry, n).Values(n, code) {
		key, _ := w.local(v)
		keys = append(keys, key)
	}
	return keys
}
