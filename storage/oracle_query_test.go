package storage_test

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
	"pgregory.net/rapid"

	"kiln/conformance"
	"kiln/fhir"
	"kiln/fhir/path"
	"kiln/fhir/search"
	"kiln/internal/oracle"
)

// asker makes random queries that have a chance to match: their values come from the resources.
type asker struct {
	t         *rapid.T
	registry  *conformance.Registry
	oracle    *oracle.Oracle
	resources []*fhir.Node
	// lists keeps, for a type, its parameters that some resource has a value for; values those values.
	lists  map[string][]*conformance.SearchParameter
	values map[*conformance.SearchParameter][]sample
}

// sample is a value of a parameter, and the resource that it stands in.
type sample struct {
	n *fhir.Node
	v path.Element
}

// survey reads the resources once for all queries.
func (a *asker) survey() {
	a.lists, a.values = map[string][]*conformance.SearchParameter{}, map[*conformance.SearchParameter][]sample{}
	for _, typ := range populated {
		for _, def := range a.registry.SearchParameters(typ) {
			if def.Expression == "" || def.Type == search.Special && def.Code != "near" {
				continue
			}
			for _, n := range a.resources {
				for _, n := range append([]*fhir.Node{n}, a.oracle.Inside(n)...) {
					if n.ResourceType() != typ {
						continue
					}
					for _, v := range a.oracle.Values(n, def.Code) {
						a.values[def] = append(a.values[def], sample{n, v})
					}
				}
			}
			if len(a.values[def]) > 0 {
				a.lists[typ] = append(a.lists[typ], def)
			}
		}
	}
}

func (a *asker) chance(percent int) bool { return rapid.IntRange(0, 99).Draw(a.t, "chance") < percent }

func (a *asker) parameter(typ string) *conformance.SearchParameter {
	var codes []string
	for _, def := range a.lists[typ] {
		codes = append(codes, def.Code)
	}
	return a.registry.SearchParameter(typ, pick(a.t, codes...))
}

func (a *asker) sample(def *conformance.SearchParameter) sample {
	return a.values[def][rapid.IntRange(0, len(a.values[def])-1).Draw(a.t, "sample")]
}

// several draws some types and tells which parameters all of them have.
func (a *asker) several() (codes, types []string) {
	for range rapid.IntRange(2, 3).Draw(a.t, "types") {
		if typ := pick(a.t, populated...); !slices.Contains(types, typ) {
			types = append(types, typ)
		}
	}
	for _, def := range a.lists[types[0]] {
		if !slices.ContainsFunc(types, func(typ string) bool {
			other := a.registry.SearchParameter(typ, def.Code)
			return other == nil || other.Type != def.Type
		}) {
			codes = append(codes, def.Code)
		}
	}
	return codes, types
}

// queryOf makes a search with the parameters named, with values of type typ.
func (a *asker) queryOf(typ string, codes []string) []search.Pair {
	all := a.lists[typ]
	if all == nil {
		return nil
	}
	defer func() { a.lists[typ] = all }()
	a.lists[typ] = nil
	for _, def := range all {
		if slices.Contains(codes, def.Code) {
			a.lists[typ] = append(a.lists[typ], def)
		}
	}
	if a.lists[typ] == nil {
		return nil
	}
	var pairs []search.Pair
	for range rapid.IntRange(1, 2).Draw(a.t, "conditions") {
		pairs = append(pairs, a.condition(typ, 0))
	}
	if a.chance(60) {
		pairs = append(pairs, search.Pair{Name: "_sort", Value: pick(a.t, "_id", "-_id", "_lastUpdated", "-_lastUpdated", "_profile", "-_source,_id", "-_tag")})
	}
	return pairs
}

// query makes the conditions and the order of a search of typ.
func (a *asker) query(typ string) []search.Pair {
	var pairs []search.Pair
	for range rapid.SampledFrom([]int{1, 1, 1, 2, 2, 3}).Draw(a.t, "conditions") {
		pairs = append(pairs, a.condition(typ, 2))
	}
	if a.chance(60) {
		pairs = append(pairs, search.Pair{Name: "_sort", Value: a.sort(typ, pairs)})
	}
	return pairs
}

// sort makes the order of a search with some conditions. A composite is two keys or more, of eight.
func (a *asker) sort(typ string, where []search.Pair) string {
	var keys []string
	many := 1
	for range rapid.IntRange(1, 3).Draw(a.t, "keys") {
		def := a.parameter(typ)
		if many += max(1, len(def.Components)); many > search.MaxSortKeys {
			break
		}
		if def.Type == search.Special && !slices.ContainsFunc(where, func(p search.Pair) bool { return p.Name == def.Code }) {
			continue
		}
		keys = append(keys, pick(a.t, "", "-")+def.Code)
	}
	if len(keys) == 0 || a.chance(50) {
		keys = append(keys, pick(a.t, "", "-")+"_id")
	}
	return strings.Join(keys, ",")
}

func (a *asker) condition(typ string, depth int) search.Pair {
	def := a.parameter(typ)
	if depth > 0 && a.chance(15) {
		if pair, ok := a.has(typ, depth-1); ok {
			return pair
		}
	}
	if a.chance(8) {
		return search.Pair{Name: def.Code + ":missing", Value: pick(a.t, "true", "false")}
	}
	if def.Type == search.Reference && depth > 0 && a.chance(40) {
		if pair, ok := a.chain(def, depth-1); ok {
			return pair
		}
	}
	modifier := ""
	if list := map[search.Kind][]string{
		search.String: {"exact", "contains"}, search.Token: {"not", "not", "of-type"},
		search.Reference: {"identifier"}, search.URI: {"above", "below"},
	}[def.Type]; list != nil && a.chance(35) {
		modifier = pick(a.t, list...)
	}
	if def.Type == search.Reference && modifier == "" && a.chance(20) {
		modifier = "type"
	}
	var values []string
	for range rapid.SampledFrom([]int{1, 1, 1, 2, 3, 7}).Draw(a.t, "values") {
		s := a.sample(def)
		v := a.value(def, modifier, s)
		if modifier == "type" {
			typ, id, _ := strings.Cut(v, "/")
			if !slices.Contains(def.Targets, typ) {
				continue
			}
			if len(values) > 0 && !strings.HasPrefix(values[0], typ+"/") {
				continue
			}
			v = typ + "/" + id
		}
		if v != "" {
			values = append(values, v)
		}
	}
	if len(values) == 0 {
		return search.Pair{Name: def.Code + ":missing", Value: "false"}
	}
	switch modifier {
	case "":
		return search.Pair{Name: def.Code, Value: strings.Join(values, ",")}
	case "type":
		to, _, _ := strings.Cut(values[0], "/")
		for i := range values {
			if a.chance(50) {
				values[i] = strings.TrimPrefix(values[i], to+"/")
			}
		}
		modifier = to
	}
	return search.Pair{Name: def.Code + ":" + modifier, Value: strings.Join(values, ",")}
}

func (a *asker) chain(def *conformance.SearchParameter, depth int) (search.Pair, bool) {
	var targets []string
	for _, typ := range populated {
		if slices.Contains(def.Targets, typ) && a.lists[typ] != nil {
			targets = append(targets, typ)
		}
	}
	if targets == nil {
		return search.Pair{}, false
	}
	target := rapid.SampledFrom(targets).Draw(a.t, "target")
	inner := a.condition(target, depth)
	if len(def.Targets) == 1 && a.chance(50) {
		return search.Pair{Name: def.Code + "." + inner.Name, Value: inner.Value}, true
	}
	return search.Pair{Name: def.Code + ":" + target + "." + inner.Name, Value: inner.Value}, true
}

func (a *asker) has(typ string, depth int) (search.Pair, bool) {
	type way struct{ source, code string }
	var ways []way
	for _, source := range populated {
		for _, def := range a.lists[source] {
			if def.Type == search.Reference && slices.Contains(def.Targets, typ) {
				ways = append(ways, way{source, def.Code})
			}
		}
	}
	if ways == nil {
		return search.Pair{}, false
	}
	w := ways[rapid.IntRange(0, len(ways)-1).Draw(a.t, "referrer")]
	inner := a.condition(w.source, depth)
	return search.Pair{Name: "_has:" + w.source + ":" + w.code + ":" + inner.Name, Value: inner.Value}, true
}

// value makes a value to ask for out of one that is there; "" when none comes to mind.
func (a *asker) value(def *conformance.SearchParameter, modifier string, s sample) string {
	n := s.v.Value
	switch def.Type {
	case search.Token:
		return a.token(s.v, modifier)
	case search.String:
		return a.text(s.v, modifier)
	case search.Reference:
		return a.reference(n, modifier)
	case search.URI:
		return a.uri(n.Text, modifier)
	case search.Date:
		return a.date(s.v)
	case search.Number, search.Quantity:
		return a.number(s.v, def.Type == search.Quantity)
	case search.Special:
		degrees := func(name string, bound float64) string {
			if f, err := strconv.ParseFloat(n.GetText(name), 64); err == nil && math.Abs(f) <= bound {
				return n.GetText(name)
			}
			return "0.3"
		}
		return degrees("latitude", 90) + "|" + degrees("longitude", 180) + pick(a.t, "", "|0", "|11", "|1300|km", "|5000", "|30000")
	case search.Composite:
		var parts []string
		for i, c := range def.Components {
			from := s
			if a.chance(20) { // of another element or resource: together they rarely match
				from = a.sample(def)
			}
			list := a.oracle.Parts(from.n, def.Code, i, from.v)
			if len(list) == 0 {
				return ""
			}
			part := a.value(c.Param, "", sample{from.n, list[rapid.IntRange(0, len(list)-1).Draw(a.t, "part")]})
			if part == "" {
				return ""
			}
			parts = append(parts, part)
		}
		return strings.Join(parts, "$")
	}
	return ""
}

var escaper = strings.NewReplacer(`\`, `\\`, `,`, `\,`, `$`, `\$`, `|`, `\|`)

func (a *asker) token(v path.Element, modifier string) string {
	n := v.Value
	if v.IsSystem() {
		if modifier == "of-type" {
			return ""
		}
		return v.Text()
	}
	coding := func(c *fhir.Node) (string, string) { return c.GetText("system"), c.GetText("code") }
	any := func(list *fhir.Node) *fhir.Node {
		if list == nil || len(list.Kids) == 0 {
			return &fhir.Node{}
		}
		return &list.Kids[rapid.IntRange(0, len(list.Kids)-1).Draw(a.t, "coding")]
	}
	if modifier == "of-type" {
		system, code := coding(any(n.At("type").Get("coding")))
		if v.TypeName() != "Identifier" || system == "" || code == "" || n.GetText("value") == "" {
			return ""
		}
		return escaper.Replace(system) + "|" + escaper.Replace(code) + "|" + escaper.Replace(n.GetText("value"))
	}
	var system, code string
	switch v.TypeName() {
	case "CodeableConcept":
		system, code = coding(any(n.Get("coding")))
	case "Coding":
		system, code = coding(n)
	case "Identifier":
		system, code = n.GetText("system"), n.GetText("value")
	case "ContactPoint":
		return escaper.Replace(n.GetText("value"))
	case "code":
		code = n.Text
		if a.chance(20) {
			system = "http://hl7.org/fhir/administrative-gender"
		}
	default:
		return escaper.Replace(n.Text)
	}
	switch rapid.IntRange(0, 9).Draw(a.t, "case") {
	case 0:
		code = strings.ToUpper(code)
	case 1:
		code = strings.ToLower(code)
	case 2:
		code = pick(a.t, poolCodes...)
	case 3:
		system = pick(a.t, poolSystems...)
	}
	system, code = escaper.Replace(system), escaper.Replace(code)
	switch rapid.IntRange(0, 3).Draw(a.t, "form") {
	case 0:
		if system != "" || code != "" {
			return system + "|" + code
		}
	case 1:
		if code != "" {
			return "|" + code
		}
	case 2:
		if system != "" {
			return system + "|"
		}
	}
	return code
}

func (a *asker) text(v path.Element, modifier string) string {
	var list []string
	v.Value.Walk(func(n *fhir.Node) bool {
		if n.Kind == fhir.String && strings.TrimSpace(n.Text) != "" {
			list = append(list, n.Text)
		}
		return true
	})
	if list == nil {
		return ""
	}
	runes := []rune(rapid.SampledFrom(list).Draw(a.t, "text"))
	from, to := 0, len(runes)
	if a.chance(60) {
		to = rapid.IntRange(1, len(runes)).Draw(a.t, "to")
	}
	if modifier == "contains" {
		from = rapid.IntRange(0, to-1).Draw(a.t, "from")
	}
	s := string(runes[from:to])
	switch rapid.IntRange(0, 5).Draw(a.t, "case") {
	case 0:
		s = strings.ToUpper(s)
	case 1:
		s = strings.ToLower(s)
	case 2:
		s = norm.NFD.String(s)
	case 3:
		s = strings.Map(func(r rune) rune {
			if unicode.Is(unicode.Mn, r) {
				return -1
			}
			return r
		}, norm.NFD.String(s))
	}
	return escaper.Replace(s)
}

func (a *asker) reference(n *fhir.Node, modifier string) string {
	if modifier == "identifier" {
		id := n.Get("identifier")
		if id == nil {
			return ""
		}
		system, value := escaper.Replace(id.GetText("system")), escaper.Replace(id.GetText("value"))
		switch {
		case value != "" && a.chance(30):
			return value
		case value != "" || system != "":
			return system + "|" + value
		}
		return ""
	}
	s := n.Text
	if n.Kind == fhir.Object {
		s = n.GetText("reference")
	}
	if s == "" || s[0] == '#' {
		return ""
	}
	local := strings.TrimPrefix(s, "http://localhost/fhir/")
	if modifier == "type" {
		if parts := strings.Split(local, "/"); len(parts) >= 2 && !strings.Contains(local, ":") {
			return parts[0] + "/" + parts[1]
		}
		return ""
	}
	if n.Kind == fhir.String {
		url, _, _ := strings.Cut(s, "|")
		return escaper.Replace(pick(a.t, s, url, s+"x"))
	}
	if strings.Contains(local, ":") {
		return escaper.Replace(s)
	}
	parts := strings.Split(local, "/")
	return pick(a.t, local, "http://localhost/fhir/"+local, "http://elsewhere.org/fhir/"+local, parts[0]+"/"+parts[1], parts[1],
		parts[0]+"/"+parts[1]+"/_history/2")
}

func (a *asker) uri(s, modifier string) string {
	switch modifier {
	case "below":
		if i := rapid.IntRange(1, len(s)).Draw(a.t, "cut"); a.chance(50) {
			s = s[:i]
		} else if i := strings.LastIndexByte(s, '/'); i > 0 {
			s = s[:i+rapid.IntRange(0, 1).Draw(a.t, "slash")]
		}
	case "above":
		s += pick(a.t, "", "/", "/x", "x", "/x/y")
	default:
		s = pick(a.t, s, s, s, s+"/", strings.ToUpper(s))
	}
	return escaper.Replace(s)
}

func (a *asker) prefix() string {
	return pick(a.t, "", "", "eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap")
}

func (a *asker) date(v path.Element) string {
	var list []string
	v.Value.Walk(func(n *fhir.Node) bool {
		if n.Kind == fhir.String && len(n.Text) >= 4 && unicode.IsDigit(rune(n.Text[0])) {
			list = append(list, n.Text)
		}
		return true
	})
	s := pick(a.t, append(poolTimes, poolDates[:8]...)...)
	if list != nil && a.chance(80) {
		s = rapid.SampledFrom(list).Draw(a.t, "date")
	}
	if cut := rapid.SampledFrom([]int{4, 7, 10, 16, 19, 99}).Draw(a.t, "precision"); cut < len(s) {
		s = s[:cut]
		if cut > 10 {
			s += pick(a.t, "Z", "+02:00", "-05:00", "")
		}
	}
	return a.prefix() + s
}

func (a *asker) number(v path.Element, quantity bool) string {
	var list []*fhir.Node
	v.Value.Walk(func(n *fhir.Node) bool {
		if n.Kind == fhir.Number {
			list = append(list, n)
		}
		return true
	})
	s := pick(a.t, poolNumbers...)
	if list != nil && a.chance(70) {
		s = list[rapid.IntRange(0, len(list)-1).Draw(a.t, "number")].Text
		if !strings.ContainsAny(s, ".e") && a.chance(30) {
			s += ".0"
		}
	}
	s = a.prefix() + s
	if !quantity {
		return s
	}
	switch rapid.IntRange(0, 6).Draw(a.t, "unit") {
	case 0, 1:
		return s
	case 2:
		return s + "||" + pick(a.t, "g", "mg", "Gramm", "mm[Hg]")
	case 3:
		return s + "|http://example.org/units|" + pick(a.t, "g", "lot")
	case 4:
		return s + "|http://unitsofmeasure.org|"
	}
	return s + "|http://unitsofmeasure.org|" + pick(a.t, append(poolUnits, "nonsense")...)
}
