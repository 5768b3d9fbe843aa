package resources

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"kiln/auth"
	"kiln/conformance"
	"kiln/fhir"
	"kiln/fhir/search"
)

// TestSearch_of_anything asks for combinations that nobody thought of, as callers of every kind, and wants an answer or a refusal that
// says why of each, and of the page behind the first. KILN_RANDOM_SEARCHES asks for more of them, KILN_RANDOM_SEED for others.
func TestSearch_of_anything(t *testing.T) {
	t.Parallel()
	setting := func(name string, otherwise int) int {
		if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
			return n
		}
		return otherwise
	}
	w := newWard(t)
	for _, body := range []string{
		`{"resourceType":"List","id":"some","status":"current","mode":"working","entry":[{"item":{"reference":"Patient/anna"}}]}`,
		`{"resourceType":"Group","id":"study","type":"person","actual":true,"member":[{"entity":{"reference":"Patient/ben"}}]}`,
		`{"resourceType":"Location","id":"here","name":"Here","position":{"latitude":10,"longitude":10}}`,
	} {
		w.put(body)
	}
	callers := []auth.Principal{auth.System(), admin("user/*.cruds"), backend("system/*.rs"), doctor("treats", "user/*.rs"), doctor("stranger", "user/Observation.rs?category=laboratory user/Patient.rs"),
		patientApp("anna", "patient/*.rs"), patientApp("ben", "patient/Observation.rs?category=vital-signs patient/Patient.rs")}
	seed := setting("KILN_RANDOM_SEED", 3)
	a := anything{rand.New(rand.NewPCG(uint64(seed), 3)), w.store.Registry()}
	for range setting("KILN_RANDOM_SEARCHES", 3000) {
		r := a.search()
		r.Principal, r.Lenient = callers[a.IntN(len(callers))], a.IntN(3) == 0
		what := fmt.Sprintf("%s %s %s%s?%s lenient=%t", describeCaller(r.Principal), r.Compartment, r.CompartmentID, r.Type, r.Query, r.Lenient)
		for page := range 3 {
			resp, err := w.Do(t.Context(), r)
			if kind := fhir.KindOf(err); err != nil && !slices.Contains([]fhir.Kind{fhir.Invalid, fhir.Unprocessable, fhir.TooCostly, fhir.NotSupported, fhir.Forbidden, fhir.NotFound}, kind) || err != nil && page > 0 {
				t.Errorf("%s: page %d: %s", what, page, describe(err))
			}
			if err != nil {
				break
			}
			next := linkOf(resp.Bundle, "next")
			if next == "" {
				break
			}
			_, r.Query, _ = strings.Cut(next, "?")
		}
	}
}

func describeCaller(p auth.Principal) string { return p.Client + " " + p.FHIRUser + " " + p.Patient }

// anything makes searches up.
type anything struct {
	*rand.Rand
	registry *conformance.Registry
}

func (a anything) pick(from ...string) string { return from[a.IntN(len(from))] }

// typ is often one of those that there is something of.
func (a anything) typ() string {
	if a.IntN(2) == 0 {
		return a.pick("Patient", "Observation", "Encounter", "Provenance", "Device", "Location", "Practitioner")
	}
	return a.pick(a.registry.Schema().Resources...)
}

// param is one of a kind that comes as often as each other kind; words are one.
func (a anything) param(typ string) *conformance.SearchParameter {
	kinds := map[string][]*conformance.SearchParameter{}
	for _, p := range a.registry.SearchParameters(typ) {
		kind := string(p.Type)
		if p.Code == "_text" || p.Code == "_content" {
			kind = "words"
		}
		kinds[kind] = append(kinds[kind], p)
	}
	list := kinds[a.pick(slices.Sorted(maps.Keys(kinds))...)]
	return list[a.IntN(len(list))]
}

// reference is often that to the patient.
func (a anything) reference(typ string) *conformance.SearchParameter {
	if p := a.registry.SearchParameter(typ, "patient"); p != nil && a.IntN(2) == 0 {
		return p
	}
	return a.param(typ)
}

func (a anything) value(p *conformance.SearchParameter) string {
	if a.IntN(4) == 0 {
		return a.pick("", "a", "|", "a|b|c", "gt", "ne2020", "'", `"`, `\`, "%", "_", "a,b,,c", "a$b", "$", "#a", "urn:uuid:x", "(a", "a b", "NOT a", "true", "🙂", "1e400", "2020-02-30", strings.Repeat("x", 600))
	}
	prefix := a.pick("", "", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap")
	switch p.Type {
	case search.Date:
		return prefix + a.pick("2024", "2024-01", "2024-01-01", "2024-01-02T10:00:00Z", "1970")
	case search.Number:
		return prefix + a.pick("1", "0.5", "100", "1e2")
	case search.Quantity:
		return prefix + a.pick("5.4", "5|http://unitsofmeasure.org|mg", "5||mg")
	case search.Reference:
		return a.pick("Patient/anna", "anna", "Patient/ben", "Observation/a1", "http://x/Patient/1", "Practitioner/treats", "Patient/anna/_history/1", "http://x/y|1")
	case search.Token:
		return a.pick("final", "http://loinc.org|code-a1", "code-a1", "http://loinc.org|", "|final", "laboratory", "anna", "AMB")
	case search.Special:
		return a.pick("10|10|5|km", "10|10")
	case search.Composite:
		var parts []string
		for _, c := range p.Components {
			if c.Param != nil {
				parts = append(parts, a.value(c.Param))
			}
		}
		return strings.Join(parts, "$")
	case search.URI:
		return a.pick("http://x/y", "urn:oid:1.2", "http://x")
	}
	return a.pick("a", "Apple", "Berry", "cl", "Clinic", "code a1")
}

func (a anything) modifier() string {
	return a.pick("", "", "", "", ":missing", ":not", ":exact", ":contains", ":text", ":in", ":not-in", ":above", ":below", ":of-type", ":identifier", ":Patient")
}

// condition is a parameter of a type, with a value; some are chains.
func (a anything) condition(typ string, depth int) (name, value string) {
	p := a.param(typ)
	switch n := a.IntN(10); {
	case n < 3 && depth < 3:
		p, target := a.reference(typ), a.typ()
		if len(p.Targets) > 0 && a.IntN(4) > 0 {
			target = a.pick(p.Targets...)
		}
		name, value = a.condition(target, depth+1)
		return p.Code + a.pick("", ":"+target) + "." + name, value
	case n == 3 && depth < 3:
		from := a.typ()
		name, value = a.condition(from, depth+1)
		return "_has:" + from + ":" + a.reference(from).Code + ":" + name, value
	case n == 4:
		return a.pick("_in", "_list"), a.pick("List/some", "Group/study", "some", "List/some,Group/study")
	case n == 5 && depth == 0:
		return "_filter", a.pick("", "not ") + "(" + p.Code + " " + a.pick("eq", "ne", "co", "sw", "ew", "gt", "lt", "ge", "le", "ap", "sa", "eb", "pr", "po", "ss", "sb", "in", "ni", "re") + ` "` +
			strings.NewReplacer(`"`, "", `\`, "").Replace(a.value(p)) + `")`
	}
	if value = a.value(p); a.IntN(6) == 0 {
		value += "," + a.value(p)
	}
	if name = p.Code + a.modifier(); strings.HasSuffix(name, ":missing") {
		value = a.pick("true", "false")
	}
	return name, value
}

func (a anything) search() Request {
	r := Request{Interaction: SearchType, Type: a.typ()}
	typ := r.Type
	var pairs []search.Pair
	add := func(name, value string) { pairs = append(pairs, search.Pair{Name: name, Value: value}) }
	switch a.IntN(10) {
	case 0:
		r.Compartment, r.CompartmentID = "Patient", a.pick("anna", "ben")
	case 1:
		r.Compartment, r.CompartmentID, r.Type = "Practitioner", "treats", ""
	case 2:
		r.Type = ""
		add("_type", a.pick(typ, typ+","+a.typ()))
	}
	if r.Type == "" {
		r.Interaction = SearchSystem
	}
	for range 1 + a.IntN(2) {
		add(a.condition(typ, 0))
	}
	if a.IntN(4) == 0 {
		add("_sort", a.pick("", "-")+a.param(typ).Code+a.pick("", ",_id", ",-_lastUpdated", ","+a.param(typ).Code))
	}
	for range a.IntN(3) {
		switch a.IntN(8) {
		case 0:
			add("_include", a.pick("*", typ+":*", typ+":"+a.param(typ).Code))
		case 1:
			from := a.typ()
			add("_revinclude", a.pick("*", from+":"+a.param(from).Code))
		case 2:
			add("_contained", a.pick("true", "both"))
		case 3:
			add("_total", a.pick("accurate", "estimate", "none"))
		case 4:
			add("_summary", a.pick("true", "text", "data", "count"))
		case 5:
			add("_elements", "id,foo")
		case 6:
			add("_timezone", "Asia/Kathmandu")
		default:
			add("_count", a.pick("0", "1", "2", "1000"))
		}
	}
	if r.Query = search.Encode(pairs); a.IntN(2) == 0 {
		r.Query += "&_count=1"
	}
	return r
}
