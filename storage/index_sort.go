package storage

import (
	"fmt"
	"slices"
	"strings"

	"kiln/conformance"
	"kiln/fhir"
	"kiln/fhir/path"
	"kiln/fhir/search"
	"kiln/storage/fold"
)

// sortEntry is a text that a resource is sorted by. Texts repeat, so search_sort_text has each once for a parameter; the resources
// with it are found by the hashes that they carry for searches.
type sortEntry struct {
	param int32
	value string
}

// sortTexts yields the texts that one value of a token or reference parameter sorts by: those that jsonPaths leads to.
func sortTexts(e path.Element, yield func(string)) {
	some := func(s string) {
		if s != "" {
			yield(s)
		}
	}
	if e.IsSystem() {
		some(e.Text())
		return
	}
	if e.Value == nil || e.Type == nil {
		return
	}
	switch n := e.Value; e.Type.Name {
	case "CodeableConcept":
		for c := range n.Get("coding").Items() {
			some(c.GetText("code"))
		}
	case "Coding":
		some(n.GetText("code"))
	case "Identifier", "ContactPoint":
		some(n.GetText("value"))
	case "Reference":
		some(n.GetText("reference"))
	default:
		if n.Kind == fhir.String || n.Kind == fhir.Bool || n.Kind == fhir.Number {
			some(n.Text)
		}
	}
}

// listsSortTexts says whether search_sort_text has all texts that resources with a value are sorted by: where sortTexts and jsonPaths
// agree on them, and where they are few enough that keeping them costs a write little. Resources that list many others (the results of
// a report, what a Provenance is about) or many codes (those of a CodeSystem) would bring a text for each.
func listsSortTexts(registry *conformance.Registry, def *conformance.SearchParameter) bool {
	schema := registry.Schema()
	switch {
	case def.Expression == deceased:
		return true
	case def.Type != search.Token && def.Type != search.Reference || def.Expression == "":
		return false
	}
	resolved, branches := 0, 0
	for branch := range strings.SplitSeq(def.Expression, "|") {
		if branches++; len(branchPaths(schema, strings.TrimSpace(branch))) == 0 || whereOther.MatchString(branch) { // what was written before has no such texts
			return false
		}
		if whereResolvesTo.MatchString(branch) {
			resolved++
		}
	}
	if resolved > 0 && resolved != branches {
		return false
	}
	many, plain := false, false
	known := steps(schema, def, func(e *fhir.Element, types []string, last bool) {
		many = many || e.Max != 1
		for _, t := range types {
			plain = plain || last && schema.Type(t) != nil && schema.Type(t).Kind == fhir.Primitive
		}
	})
	if def.Type == search.Reference {
		return known && (!many || def.Targets != nil && !slices.ContainsFunc(def.Targets, func(t string) bool { return !isActor(t) }))
	}
	return !many || !plain || implicitCodes(registry, def) != nil
}

// areIdentifiers says whether the values of a parameter are identifiers.
func areIdentifiers(schema *fhir.Schema, def *conformance.SearchParameter) bool {
	all := def.Type == search.Token
	some := steps(schema, def, func(_ *fhir.Element, types []string, last bool) {
		all = all && (!last || slices.Equal(types, []string{"Identifier"}))
	})
	return some && all
}

// identified adds the text of an identifier.
func (row *indexRow) identified(p *paramPlan, e path.Element) {
	sortTexts(e, func(text string) {
		if s := (sortEntry{int32(p.def.Key), fold.Cut(text, MaxStringIndexed)}); !slices.Contains(row.identifiers, s) {
			row.identifiers = append(row.identifiers, s)
		}
	})
}

// isActor says whether a type is one of who does something, for whom, where and with what: much refers to each of them.
func isActor(typ string) bool {
	return isFrequentTarget(typ) || slices.Contains([]string{"Patient", "RelatedPerson", "CareTeam", "Group"}, typ)
}

// sortsOnly are the types that the references of a parameter must name to be sorted by; nil for any. A reference to a contained
// resource names none.
func sortsOnly(def *conformance.SearchParameter) (types []string) {
	for _, m := range whereResolvesTo.FindAllStringSubmatch(def.Expression, -1) {
		types = append(types, m[1])
	}
	return types
}

// names says whether the text of a reference names one of some types, as branchPaths asks for it.
func names(text string, types []string) bool {
	return slices.ContainsFunc(types, func(t string) bool { return strings.HasPrefix(text, t+"/") || strings.Contains(text, "/"+t+"/") })
}

// sorted adds the texts of one value, and says whether there are any.
func (ix *Indexer) sorted(row *indexRow, p *paramPlan, e path.Element) (some bool) {
	sortTexts(e, func(text string) {
		if len(p.sortsOnly) > 0 && !names(text, p.sortsOnly) {
			return
		}
		some = true
		s := sortEntry{int32(p.def.Key), fold.Cut(text, MaxStringIndexed)}
		if !slices.Contains(row.sorts, s) {
			row.sorts = append(row.sorts, s)
		}
		if s.value != text || p.def.Type == search.Reference && !ix.leadsFromText(text) {
			p.addTerm(row, ix.sortTerm(p, s.value))
		}
	})
	return some
}

// leadsFromText says whether the text of a reference tells the hash of what it leads to, whatever resource it stands in.
func (ix *Indexer) leadsFromText(text string) bool {
	ref, ok := ix.parseReference(text)
	return ok && ref.Fragment == "" && !ref.Container
}

func (p *paramPlan) addTerm(row *indexRow, term int64) {
	if p.termColumn() == "refs" {
		row.refs = append(row.refs, term)
	} else {
		row.tokens = append(row.tokens, term)
	}
}

// termColumn is the column of search_index with the hashes of the parameter's values.
func (p *paramPlan) termColumn() string {
	if p.rare || p.def.Type == search.Reference {
		return "refs"
	}
	return "tokens"
}

// sortTerm is the hash of what no search could ask for by the text alone. That of "" marks what has a value and no text.
func (ix *Indexer) sortTerm(p *paramPlan, value string) int64 {
	return ix.hash.Term(p.def.Key, termSortText, value, "")
}

// sortTerms are the hashes of which each resource with a text has one, and some without it may. It mirrors tokenTerms and reference.
func (ix *Indexer) sortTerms(p *paramPlan, value string) []int64 {
	own := ix.sortTerm(p, value)
	if p.def.Type == search.Token {
		return append(ix.askedTerms(nil, p.def.Key, search.Value{Code: value}), own)
	}
	terms := []int64{own, ix.hash.Term(p.def.Key, termURI, value, "")}
	if ref, ok := ix.parseReference(value); ok && ref.Type != "" && ref.Base == "" {
		terms = append(terms, ix.hash.Resource(ref.Type, ref.ID)^p.salt)
	}
	return terms
}

// sqlSortTexts has no constraint to lean on: two transactions with the same new text would wait for one another.
const sqlSortTexts = `INSERT INTO public.search_sort_text (param, value) SELECT u.p, u.v FROM unnest($1::integer[], $2::text[]) AS u(p, v)
WHERE NOT EXISTS (SELECT FROM public.search_sort_text o WHERE o.param = u.p AND o.value = u.v)`

// sortMarker is what the process remembers a text by.
func (s *Store) sortMarker(e sortEntry) int64 {
	return s.hash.Term(uint32(e.param), termSortText, e.value, "")
}

// declareSortTexts queues the texts of resources about to be written.
func (tx *Tx) declareSortTexts(list ...*Prepared) {
	var params []int32
	var values []string
	for _, p := range list {
		for _, e := range p.row.sorts {
			if m := tx.store.sortMarker(e); !tx.store.sortTexts.known(m) && !tx.newSortTexts[m] {
				if tx.newSortTexts == nil {
					tx.newSortTexts = map[int64]bool{}
				}
				tx.newSortTexts[m] = true
				params, values = append(params, e.param), append(values, e.value)
			}
		}
	}
	if len(params) > 0 {
		tx.exec(sqlSortTexts, params, values)
	}
}

// withoutText is the condition on x that it has no text of a parameter, as far as the index tells.
func (c *compiler) withoutText(p *paramPlan, typeArgument string) string {
	return fmt.Sprintf("x.tokens && (ARRAY(SELECT s.marker FROM search_shape s WHERE s.type = %s AND NOT s.params @> %s) || %s)",
		typeArgument, c.arg([]int32{int32(p.def.Key)}, "integer[]"), c.arg(c.ix.sortTerm(p, ""), "bigint"))
}
