package storage

import (
	"cmp"
	"fmt"
	"slices"

	"kiln/fhir"
	"kiln/fhir/path"
	"kiln/fhir/search"
)

// displayEntry is one text of a coded value. Texts repeat, so each is kept once, in search_display; resources carry its
// marker among their hashes, beside the codes.
type displayEntry struct {
	marker int64
	param  int32
	value  string
}

// displays adds the texts that token:text looks at: CodeableConcept.text, Coding.display and Identifier.type.text (FHIR
// R4 search.html#token).
func (ix *Indexer) displays(row *indexRow, p *paramPlan, e path.Element) {
	add := func(s string) {
		folded := foldIndexed(s)
		if folded == "" {
			return
		}
		d := displayEntry{ix.hash.Term(p.def.Key, termDisplay, folded, ""), int32(p.def.Key), folded}
		if !slices.Contains(row.displays, d) {
			row.displays = append(row.displays, d)
		}
		if p.rare {
			row.refs = append(row.refs, d.marker)
		} else {
			row.tokens = append(row.tokens, d.marker)
		}
	}
	n := e.Value
	switch e.Type.Name {
	case "CodeableConcept":
		add(n.GetText("text"))
		for c := range n.Get("coding").Items() {
			add(c.GetText("display"))
		}
	case "Coding":
		add(n.GetText("display"))
	case "Identifier":
		add(n.At("type").GetText("text"))
	}
}

// unknownMarkers says whether the shape, some text or some label of a resource may not be known to the database yet.
func (s *Store) unknownMarkers(row *indexRow) bool {
	return !s.shapes.known(row.shapeMarker) || slices.ContainsFunc(row.displays, func(d displayEntry) bool { return !s.shapes.known(d.marker) }) ||
		slices.ContainsFunc(row.marks, func(e labelEntry) bool { return !s.shapes.known(e.marker()) }) ||
		slices.ContainsFunc(row.sorts, func(e sortEntry) bool { return !s.sortTexts.known(s.sortMarker(e)) })
}

const sqlDisplays = `INSERT INTO public.search_display (marker, param, value)
SELECT m, p, v FROM unnest($1::bigint[], $2::integer[], $3::text[]) AS u(m, p, v) ON CONFLICT DO NOTHING`

// declareDisplays queues the texts of resources about to be written, in one order for all transactions.
func (tx *Tx) declareDisplays(list ...*Prepared) {
	fresh := map[int64]displayEntry{}
	for _, p := range list {
		for _, row := range p.rows() {
			for _, d := range row.displays {
				if !tx.store.shapes.known(d.marker) {
					fresh[d.marker] = d
				}
			}
		}
	}
	if len(fresh) == 0 {
		return
	}
	entries := make([]displayEntry, 0, len(fresh))
	for _, d := range fresh {
		entries = append(entries, d)
	}
	slices.SortFunc(entries, func(a, b displayEntry) int { return cmp.Compare(a.marker, b.marker) })
	markers, params, values := make([]int64, len(entries)), make([]int32, len(entries)), make([]string, len(entries))
	for i, d := range entries {
		markers[i], params[i], values[i] = d.marker, d.param, d.value
	}
	tx.exec(sqlDisplays, markers, params, values)
	tx.newShapes = append(tx.newShapes, markers...)
}

// display answers token:text: a text that begins so.
func (c *compiler) display(m *search.Match, p *paramPlan, x string) (string, error) {
	column := x + ".tokens"
	if p.rare {
		column = x + ".refs"
	}
	param := c.arg(int32(p.def.Key), "integer")
	any, err := disjunction(m.Values, func(v search.Value) (string, error) {
		folded := foldIndexed(v.Raw)
		if folded == "" {
			return "false", nil
		}
		return c.prefix(folded), nil
	})
	return fmt.Sprintf("%s && ARRAY(SELECT s.marker FROM search_display s WHERE s.param = %s AND %s)", column, param, any), err
}

// canonicalTerm is what a resource with a canonical URL carries, and, salted, whatever refers to it by that URL: the
// same arithmetic as that of row keys, so chains and includes work across canonical references. A reference without a
// version leads to every version; one with a version to that one.
func (ix *Indexer) canonicalTerm(canonical string) int64 {
	return ix.hash.Term(0, termCanonical, canonical, "")
}

// ownCanonicals are the terms of a resource that has a canonical URL.
func (ix *Indexer) ownCanonicals(row *indexRow, n *fhir.Node) {
	url := n.GetText("url")
	if url == "" || ix.registry.SearchParameter(n.ResourceType(), "url") == nil {
		return
	}
	row.refs = append(row.refs, ix.canonicalTerm(url))
	if version := n.GetText("version"); version != "" {
		row.refs = append(row.refs, ix.canonicalTerm(url+"|"+version))
	}
}
