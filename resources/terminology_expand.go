package resources

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"kiln/fhir"
	"kiln/storage/terminology"
)

// expand is ValueSet/$expand. Spec: FHIR R4 valueset-operation-expand.html.
//
// Errors: NotFound for a value set or code system that is not here; TooCostly for an expansion that needs pages.
func (s *Service) expand(ctx context.Context, c *call) (*Response, error) {
	o, err := expandOptions(c)
	if err != nil {
		return nil, err
	}
	r, err := s.resolver(ctx, c)
	if err != nil {
		return nil, err
	}
	set, err := s.valueSet(ctx, c, r)
	if err != nil {
		return nil, err
	}
	x, err := r.Expand(ctx, set, o)
	if err != nil {
		return nil, err
	}
	n := s.expansion(c, set, x, o)
	return &Response{Resource: &n}, nil
}

func expandOptions(c *call) (o terminology.ExpandOptions, err error) {
	o = terminology.ExpandOptions{
		Filter: strings.TrimSpace(c.text("filter")), Count: -1,
		ActiveOnly: c.is("activeOnly"), SelectableOnly: c.is("excludeNotForUI"),
		Designations: c.is("includeDesignations") || c.first("designation") != nil, Language: c.text("displayLanguage"),
	}
	for name, into := range map[string]*int{"offset": &o.Offset, "count": &o.Count} {
		if a := c.first(name); a != nil {
			if *into, err = strconv.Atoi(a.value.Text); err != nil || *into < 0 {
				return o, fhir.NewError(fhir.Invalid, fhir.CodeValue, name+" cannot be "+quote(a.value.Text)).At(a.at)
			}
		}
	}
	if o.Offset > 0 && o.Count < 0 {
		o.Count = terminology.MaxExpansion
	}
	for _, a := range c.all("exclude-system") {
		if o.ExcludeSystems == nil {
			o.ExcludeSystems = map[string]bool{}
		}
		url, _, _ := strings.Cut(a.value.Text, "|")
		o.ExcludeSystems[url] = true
	}
	nested := c.first("excludeNested")
	o.Nested = nested != nil && nested.value.Text == "false" && o.Count < 0 && o.Filter == ""
	return o, nil
}

// recorded are the arguments that affect what an expansion holds.
var recorded = []string{"offset", "count", "filter", "activeOnly", "includeDesignations", "designation", "displayLanguage",
	"excludeNested", "excludeNotForUI", "exclude-system", "system-version", "check-system-version", "force-system-version"}

// unclosed marks an expansion that may lack codes (FHIR R4 extension-valueset-unclosed.html).
const unclosed = "http://hl7.org/fhir/StructureDefinition/valueset-unclosed"

// expansion writes the ValueSet that answers.
func (s *Service) expansion(c *call, set *terminology.Set, x *terminology.Expansion, o terminology.ExpandOptions) fhir.Node {
	n := fhir.Obj(fhir.Str("ValueSet").As("resourceType"))
	if set.Node != nil {
		for _, m := range set.Node.Kids {
			if slices.Contains([]string{"resourceType", "text", "contained", "expansion"}, m.Name) || m.Name == "compose" && !c.is("includeDefinition") {
				continue
			}
			n.Set(m.Name, m)
		}
	} else {
		n.Set("url", fhir.Str(set.URL))
	}
	if n.Get("status") == nil {
		n.Set("status", fhir.Str("active"))
	}
	e := fhir.Obj()
	var parameters []fhir.Node
	if len(x.Partial)+len(x.Missing)+len(x.Broken) > 0 {
		e.Set("extension", fhir.Arr(fhir.Obj(fhir.Str(unclosed).As("url"), fhir.Boolean(true).As("valueBoolean"))))
	}
	for _, a := range c.arguments {
		if slices.Contains(recorded, a.name) {
			parameters = append(parameters, fhir.Obj(fhir.Str(a.name).As("name"), recordedValue(a.value)))
		}
	}
	note := func(name, value string) {
		parameters = append(parameters, fhir.Obj(fhir.Str(name).As("name"), fhir.Str(value).As("valueUri")))
	}
	versions := map[string]int{}
	for _, system := range x.Used {
		versions[system.URL]++
		if system.Version != "" {
			note("version", system.URL+"|"+system.Version)
		}
	}
	for _, system := range x.Partial {
		note("incomplete-system", system.URL)
	}
	for _, url := range x.Missing {
		note("unknown-system", url)
	}
	for _, url := range x.Broken {
		note("incomplete-value-set", url)
	}
	e.Set("identifier", fhir.Str("urn:uuid:"+uuid.NewString()))
	e.Set("timestamp", fhir.Str(fhir.FormatInstant(s.now())))
	e.Set("total", fhir.Num(strconv.FormatInt(x.Total, 10)))
	if o.Count >= 0 {
		e.Set("offset", fhir.Num(strconv.Itoa(o.Offset)))
	}
	if len(parameters) > 0 {
		e.Set("parameter", fhir.Arr(parameters...))
	}
	w := memberWriter{c: c, options: o, versions: versions}
	var list []fhir.Node
	if o.Nested {
		list = w.nested(x.Members)
	} else {
		for i := range x.Members {
			list = append(list, w.member(&x.Members[i]))
		}
	}
	if len(list) > 0 {
		e.Set("contains", fhir.Arr(list...))
	}
	n.Set("expansion", e)
	return n
}

// recordedValue is an argument as ValueSet.expansion.parameter.value[x], which has fewer types than operations have.
func recordedValue(v *fhir.Node) fhir.Node {
	switch v.Name {
	case "valueString", "valueBoolean", "valueInteger", "valueDecimal", "valueUri", "valueCode", "valueDateTime":
		return *v
	case "valueCanonical", "valueUrl":
		return v.As("valueUri")
	}
	return v.As("valueString")
}

// memberWriter writes ValueSet.expansion.contains.
type memberWriter struct {
	c        *call
	options  terminology.ExpandOptions
	versions map[string]int // of the code systems that took part
}

func (w *memberWriter) member(m *terminology.Member) fhir.Node {
	n := fhir.Obj(fhir.Str(m.System).As("system"))
	if m.System == "" {
		n = fhir.Obj()
	}
	if m.Abstract {
		n.Set("abstract", fhir.Boolean(true))
	}
	if m.Inactive {
		n.Set("inactive", fhir.Boolean(true))
	}
	if m.Version != "" && w.versions[m.System] > 1 {
		n.Set("version", fhir.Str(m.Version))
	}
	n.Set("code", fhir.Str(m.Code))
	if m.Display != "" {
		n.Set("display", fhir.Str(m.Display))
	}
	if w.options.Designations {
		var list []fhir.Node
		for _, d := range m.Designations {
			if w.wanted(&d) {
				list = append(list, designationNode(&d))
			}
		}
		if len(list) > 0 {
			n.Set("designation", fhir.Arr(list...))
		}
	}
	return n
}

// wanted says whether the tokens of the designation arguments ask for one: by its language, urn:ietf:bcp:47|de, or by
// its use.
func (w *memberWriter) wanted(d *terminology.Designation) bool {
	tokens := w.c.texts("designation")
	if len(tokens) == 0 {
		return true
	}
	return slices.ContainsFunc(tokens, func(token string) bool {
		system, code, ok := strings.Cut(token, "|")
		if !ok {
			system, code = "", token
		}
		if (system == "" || system == "urn:ietf:bcp:47") && strings.EqualFold(d.Language, code) {
			return true
		}
		return d.Use.GetText("code") == code && (system == "" || d.Use.GetText("system") == system)
	})
}

func designationNode(d *terminology.Designation) fhir.Node {
	n := fhir.Obj()
	if d.Language != "" {
		n.Set("language", fhir.Str(d.Language))
	}
	if d.Use != nil {
		n.Set("use", *d.Use)
	}
	n.Set("value", fhir.Str(d.Value))
	return n
}

// nested puts each member below the first of its parents that is a member too.
func (w *memberWriter) nested(members []terminology.Member) []fhir.Node {
	children := make([][]int, len(members))
	places := map[[2]int64]int{}
	for i := range members {
		if system, number, ok := members[i].Place(); ok {
			places[[2]int64{system, number}] = i
		}
	}
	var roots []int
	for i := range members {
		parent := -1
		for _, p := range members[i].Above() {
			if at, ok := places[p]; ok {
				parent = at
				break
			}
		}
		if parent < 0 {
			roots = append(roots, i)
		} else {
			children[parent] = append(children[parent], i)
		}
	}
	var write func(list []int) []fhir.Node
	write = func(list []int) []fhir.Node {
		var out []fhir.Node
		for _, i := range list {
			n := w.member(&members[i])
			if below := write(children[i]); len(below) > 0 {
				n.Set("contains", fhir.Arr(below...))
			}
			out = append(out, n)
		}
		return out
	}
	return write(roots)
}
