package terminology_test

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"kiln/fhir"
	"kiln/storage/terminology"
)

// The oracle: value sets as sets of codes, made by walking the JSON, one code at a time.
type oracle struct {
	systems, sets map[string]*fhir.Node
}

type member struct{ system, code string }

func (o *oracle) set(n *fhir.Node) map[member]bool {
	all := map[member]bool{}
	compose := n.Get("compose")
	for p := range compose.Get("include").Items() {
		maps.Copy(all, o.part(p))
	}
	for p := range compose.Get("exclude").Items() {
		for m := range o.part(p) {
			delete(all, m)
		}
	}
	if inactive := compose.Get("inactive"); inactive != nil && inactive.Text == "false" {
		for m := range all {
			if n := o.concept(m); n != nil && truth(n, "inactive") {
				delete(all, m)
			}
		}
	}
	return all
}

func (o *oracle) part(n *fhir.Node) map[member]bool {
	var all map[member]bool
	if system := n.GetText("system"); system != "" {
		all = map[member]bool{}
		for code, c := range o.concepts(system) {
			if o.listed(n, code) && o.passes(n, system, code, c) {
				all[member{system, code}] = true
			}
		}
		if o.systems[system] == nil {
			for c := range n.Get("concept").Items() {
				all[member{system, c.GetText("code")}] = true
			}
		}
	}
	for v := range n.Get("valueSet").Items() {
		other := o.set(o.sets[v.Text])
		if all == nil {
			all = other
			continue
		}
		for m := range all {
			if !other[m] {
				delete(all, m)
			}
		}
	}
	return all
}

func (o *oracle) listed(n *fhir.Node, code string) bool {
	if n.Get("concept") == nil {
		return true
	}
	for c := range n.Get("concept").Items() {
		if c.GetText("code") == code {
			return true
		}
	}
	return false
}

func (o *oracle) concepts(system string) map[string]*fhir.Node {
	all := map[string]*fhir.Node{}
	for c := range o.systems[system].Get("concept").Items() {
		all[c.GetText("code")] = c
	}
	return all
}

func (o *oracle) concept(m member) *fhir.Node { return o.concepts(m.system)[m.code] }

func values(c *fhir.Node, property string) []string {
	var list []string
	for p := range c.Get("property").Items() {
		if p.GetText("code") == property {
			for i := range p.Kids {
				if strings.HasPrefix(p.Kids[i].Name, "value") {
					list = append(list, p.Kids[i].Text)
				}
			}
		}
	}
	return list
}

func truth(c *fhir.Node, property string) bool { return slices.Contains(values(c, property), "true") }

// below says whether a code is another one, or below it.
func (o *oracle) below(system, code, top string) bool {
	if code == top {
		return true
	}
	for _, parent := range values(o.concepts(system)[code], "parent") {
		if o.below(system, parent, top) {
			return true
		}
	}
	return false
}

func (o *oracle) passes(n *fhir.Node, system, code string, c *fhir.Node) bool {
	for f := range n.Get("filter").Items() {
		property, value := f.GetText("property"), f.GetText("value")
		have := values(c, property)
		if property == "code" || property == "concept" {
			have = []string{code}
		}
		in := slices.ContainsFunc(have, func(v string) bool { return slices.Contains(strings.Split(value, ","), v) })
		ok := false
		switch f.GetText("op") {
		case "=":
			ok = slices.Contains(have, value)
		case "is-a":
			ok = o.below(system, code, value)
		case "descendent-of":
			ok = code != value && o.below(system, code, value)
		case "is-not-a":
			ok = !o.below(system, code, value)
		case "generalizes":
			ok = o.below(system, value, code)
		case "in":
			ok = in
		case "not-in":
			ok = !in
		case "exists":
			ok = (len(have) > 0) == (value == "true")
		case "regex":
			re := regexp.MustCompile("^(?:" + value + ")$")
			ok = slices.ContainsFunc(have, re.MatchString)
		}
		if !ok {
			return false
		}
	}
	return true
}

func str(name, text string) fhir.Node { return fhir.Str(text).As(name) }

// systemGen draws a code system whose concepts name their parents, earlier ones.
func systemGen(t *rapid.T, url string) *fhir.Node {
	n := rapid.IntRange(1, 10).Draw(t, "concepts")
	var list []fhir.Node
	for i := range n {
		var properties []fhir.Node
		add := func(code string, v fhir.Node) { properties = append(properties, fhir.Obj(str("code", code), v)) }
		if i > 0 {
			for _, p := range rapid.SliceOfNDistinct(rapid.IntRange(0, i-1), 0, min(i, 2), rapid.ID).Draw(t, "parents") {
				add("parent", str("valueCode", codeName(p)))
			}
		}
		if rapid.IntRange(0, 3).Draw(t, "inactive") == 0 {
			add("inactive", fhir.Boolean(true).As("valueBoolean"))
		}
		for range rapid.IntRange(0, 2).Draw(t, "colours") {
			add("colour", str("valueString", rapid.SampledFrom([]string{"red", "green", "blue"}).Draw(t, "colour")))
		}
		c := fhir.Obj(str("code", codeName(i)), str("display", "Concept "+codeName(i)))
		if len(properties) > 0 {
			c.Set("property", fhir.Arr(properties...))
		}
		list = append(list, c)
	}
	s := fhir.Obj(str("resourceType", "CodeSystem"), str("url", url), str("content", "complete"), fhir.Arr(list...).As("concept"))
	return &s
}

func codeName(i int) string { return "c" + fmt.Sprint(i) }

func filterGen(t *rapid.T, system *fhir.Node) fhir.Node {
	some := codeName(rapid.IntRange(0, len(system.Get("concept").Kids)-1).Draw(t, "value"))
	colour := rapid.SampledFrom([]string{"red", "green", "blue", "red,blue", "grey"}).Draw(t, "colours")
	one := func(property, op, value string) fhir.Node {
		return fhir.Obj(str("property", property), str("op", op), str("value", value))
	}
	switch op := rapid.SampledFrom([]string{"is-a", "descendent-of", "is-not-a", "generalizes", "=", "parent", "in", "not-in", "colour", "colour in", "colour not-in", "exists", "regex", "colour regex"}).Draw(t, "op"); op {
	case "in", "not-in":
		return one("concept", op, some+",c1,c99")
	case "=":
		return one("code", op, some)
	case "parent":
		return one("parent", "=", some)
	case "colour":
		return one("colour", "=", colour)
	case "colour in", "colour not-in":
		return one("colour", op[7:], colour)
	case "exists":
		return one("colour", op, rapid.SampledFrom([]string{"true", "false"}).Draw(t, "exists"))
	case "regex":
		return one("code", op, rapid.SampledFrom([]string{"c[0-4]", "c", ".*[13579]", "(c1|c2).*"}).Draw(t, "regex"))
	case "colour regex":
		return one("colour", "regex", rapid.SampledFrom([]string{"re.", "e", ".*e.*"}).Draw(t, "regex"))
	default:
		return one("concept", op, some)
	}
}

func partGen(t *rapid.T, systems []*fhir.Node, imports []string) fhir.Node {
	p := fhir.Obj()
	kind := rapid.IntRange(0, 5).Draw(t, "part")
	if kind == 5 && len(imports) == 0 {
		kind = 0
	}
	if kind < 5 {
		s := systems[rapid.IntRange(0, len(systems)-1).Draw(t, "system")]
		p.Set("system", fhir.Str(s.GetText("url")))
		switch kind {
		case 0:
		case 1:
			var list []fhir.Node
			for _, i := range rapid.SliceOfN(rapid.IntRange(0, 11), 1, 5).Draw(t, "listed") {
				list = append(list, fhir.Obj(str("code", codeName(i))))
			}
			p.Set("concept", fhir.Arr(list...))
		case 2:
			p.Set("system", fhir.Str("http://absent"))
			p.Set("concept", fhir.Arr(fhir.Obj(str("code", codeName(rapid.IntRange(0, 2).Draw(t, "absent"))))))
		default:
			p.Set("filter", fhir.Arr(filterGen(t, s)))
			if kind == 4 {
				p.Set("filter", fhir.Arr(filterGen(t, s), filterGen(t, s)))
			}
		}
	}
	if kind == 5 || len(imports) > 0 && rapid.IntRange(0, 3).Draw(t, "import") == 0 {
		var list []fhir.Node
		for _, url := range rapid.SliceOfNDistinct(rapid.SampledFrom(imports), 1, min(2, len(imports)), rapid.ID).Draw(t, "imports") {
			list = append(list, fhir.Str(url))
		}
		p.Set("valueSet", fhir.Arr(list...))
	}
	return p
}

// What the database answers is what the oracle says: the members of value sets, page by page, and of every code
// whether it is one.
func TestCompose_oracle(t *testing.T) {
	t.Parallel()
	db := official(t)
	ctx := context.Background()
	rapid.Check(t, func(rt *rapid.T) {
		o := &oracle{systems: map[string]*fhir.Node{}, sets: map[string]*fhir.Node{}}
		var systems, all []*fhir.Node
		for _, url := range []string{"http://one", "http://two"} {
			s := systemGen(rt, url)
			o.systems[url], systems, all = s, append(systems, s), append(all, s)
		}
		var imports []string
		var last *fhir.Node
		for i := range 3 {
			var include, exclude []fhir.Node
			for range rapid.IntRange(1, 3).Draw(rt, "includes") {
				include = append(include, partGen(rt, systems, imports))
			}
			for range rapid.IntRange(0, 2).Draw(rt, "excludes") {
				exclude = append(exclude, partGen(rt, systems, imports))
			}
			compose := fhir.Obj(fhir.Arr(include...).As("include"))
			if exclude != nil {
				compose.Set("exclude", fhir.Arr(exclude...))
			}
			if rapid.IntRange(0, 3).Draw(rt, "active") == 0 {
				compose.SetFirst("inactive", fhir.Boolean(false))
			}
			url := fmt.Sprintf("http://set/%d", i)
			n := fhir.Obj(str("resourceType", "ValueSet"), str("url", url), compose.As("compose"))
			o.sets[url], last, imports, all = &n, &n, append(imports, url), append(all, &n)
		}
		store(t, db, all...)
		want := o.set(last)

		r := terminology.NewResolver(terminology.Direct{Connection: db}, terminology.Options{})
		set, err := r.Set(ctx, last.GetText("url"))
		if err != nil {
			rt.Fatalf("%v", err)
		}
		size := rapid.IntRange(1, 7).Draw(rt, "page")
		got := map[member]bool{}
		for offset, total := 0, 1; offset < total; offset += size {
			x, err := r.Expand(ctx, set, terminology.ExpandOptions{Offset: offset, Count: size})
			if err != nil {
				rt.Fatalf("%v", err)
			}
			if total = int(x.Total); len(x.Members) != min(size, total-offset) {
				rt.Fatalf("%d members of %d at %d", len(x.Members), total, offset)
			}
			for _, m := range x.Members {
				if got[member{m.System, m.Code}] {
					rt.Fatalf("%s|%s comes twice", m.System, m.Code)
				}
				got[member{m.System, m.Code}] = true
			}
		}
		if !maps.Equal(got, want) {
			rt.Fatalf("expand: got %v, want %v", got, want)
		}
		for _, system := range []string{"http://one", "http://two", "http://absent"} {
			for i := range 12 {
				q := terminology.Coding{System: system, Code: codeName(i)}
				f, err := terminology.NewResolver(terminology.Direct{Connection: db}, terminology.Options{}).Validate(ctx, set, q, "")
				if err != nil {
					rt.Fatalf("%v: %v", q, err)
				}
				if f.Member != want[member{system, q.Code}] {
					rt.Fatalf("%v: member %v, want %v", q, f.Member, !f.Member)
				}
			}
		}
	})
}
