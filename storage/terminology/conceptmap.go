package terminology

import (
	"strings"
	"time"

	"kiln/fhir"
)

// mapElement is one target of one element of a ConceptMap, or the unmapped part of one of its groups.
type mapElement struct {
	position                     int32
	sourceSystem, sourceCode     string
	targetSystem, targetVersion  string
	targetCode, targetDisplay    string
	equivalence, comment         string
	dependsOn, product, unmapped *fhir.Node
}

// mapElements reads a ConceptMap.
func mapElements(n *fhir.Node) []mapElement {
	var list []mapElement
	add := func(e mapElement) {
		e.position = int32(len(list))
		list = append(list, e)
	}
	for g := range n.Get("group").Items() {
		base := mapElement{sourceSystem: g.GetText("source"), targetSystem: g.GetText("target"), targetVersion: g.GetText("targetVersion")}
		for e := range g.Get("element").Items() {
			one := base
			if one.sourceCode = e.GetText("code"); one.sourceCode == "" {
				continue
			}
			if e.Get("target") == nil {
				one.equivalence = "unmatched"
				add(one)
			}
			for t := range e.Get("target").Items() {
				to := one
				to.targetCode, to.targetDisplay = t.GetText("code"), t.GetText("display")
				to.equivalence, to.comment = t.GetText("equivalence"), t.GetText("comment")
				to.dependsOn, to.product = t.Get("dependsOn"), t.Get("product")
				add(to)
			}
		}
		if u := g.Get("unmapped"); u != nil {
			base.unmapped = u
			add(base)
		}
	}
	return list
}

func elementTable() *table {
	return &table{name: "concept_map_element",
		columns: []string{"map", "position", "source_system", "source_code", "target_system", "target_version", "target_code",
			"target_display", "equivalence", "comment", "depends_on", "product", "unmapped"},
		casts: []string{"bigint", "integer", "text", "text", "text", "text", "text", "text", "text", "text", "jsonb", "jsonb", "jsonb"}}
}

func (e *mapElement) row(key int64) []any {
	return []any{key, e.position, e.sourceSystem, e.sourceCode, e.targetSystem, e.targetVersion, nullable(e.targetCode),
		nullable(e.targetDisplay), e.equivalence, nullable(e.comment), jsonOf(e.dependsOn), jsonOf(e.product), jsonOf(e.unmapped)}
}

// mapRow is what sqlAddMap takes.
func mapRow(key int64, source string, n *fhir.Node, now time.Time) []any {
	return []any{key, source, n.ID(), n.GetText("url"), n.GetText("version"), nullable(scope(n, "source")), nullable(scope(n, "target")), now}
}

// scope reads source[x] or target[x]: the value set that a map is from or to.
func scope(n *fhir.Node, which string) string {
	if url := n.GetText(which + "Canonical"); url != "" {
		return url
	}
	return strings.TrimSpace(n.GetText(which + "Uri"))
}
