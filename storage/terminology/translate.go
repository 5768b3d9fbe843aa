package terminology

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"kiln/fhir"
)

// TranslateQuery is what $translate asks.
type TranslateQuery struct {
	// Map is the key of one concept map; nil for all that fit.
	Map *int64
	// Node is a ConceptMap at hand, instead.
	Node *fhir.Node
	// URL and Version name a map, instead.
	URL, Version string
	// Source and Target are the value sets that the map must be from and to; TargetSystem the code system that is
	// wanted. "" asks nothing.
	Source, Target, TargetSystem string
	Coding                       Coding
	Reverse                      bool
}

// Translation is one thing that a code translates to. Code is "" for an element that is said to have no counterpart.
type Translation struct {
	Equivalence            string
	System, Version        string
	Code, Display, Comment string
	Product, DependsOn     *fhir.Node
	// Map is the canonical URL of the concept map, where it has one.
	Map string
}

// MaxTranslations is how many translations one answer holds.
const MaxTranslations = 1000

const elementColumns = `e.source_system, e.source_code, e.target_system, e.target_version, coalesce(e.target_code, ''), coalesce(e.target_display, ''),
  e.equivalence, coalesce(e.comment, ''), e.depends_on, e.product, e.unmapped`

const (
	sqlMaps = `
SELECT m.key, m.source, m.url, m.version, coalesce(m.source_scope, ''), coalesce(m.target_scope, '') FROM concept_map m
WHERE ($1::bigint IS NULL OR m.key = $1) AND ($2 = '' OR m.url = $2) AND ($3 = '' OR m.version = $3)
AND ($1::bigint IS NOT NULL OR $2 <> '' OR m.key IN (
  SELECT e.map FROM concept_map_element e WHERE e.source_code IN ($4, '') AND NOT $5 OR e.target_code = $4 AND $5))
ORDER BY m.url, m.version, m.key`
	sqlElements = `
SELECT e.map, ` + elementColumns + ` FROM concept_map_element e
WHERE e.map = ANY($1) AND (NOT $3 AND e.source_code IN ($2, '') OR $3 AND e.target_code = $2) ORDER BY e.map, e.position LIMIT $4`
	sqlMapByID = `SELECT key FROM concept_map WHERE id = $1 AND source <> 'R'`
)

// OfficialMap returns the key of the ConceptMap of FHIR R4 with an id; ok is false where there is none.
func (r *Resolver) OfficialMap(ctx context.Context, id string) (key int64, ok bool, err error) {
	err = r.query(ctx, sqlMapByID, []any{id}, func(rows pgx.Rows) error { ok = true; return rows.Scan(&key) })
	return key, ok, err
}

type conceptMap struct {
	key                  int64
	source               string
	url, version         string
	sourceSet, targetSet string
}

// Translate finds what a code translates to, or in reverse what translates to it.
//
// Errors: NotFound for a map that is named and not here.
//
// A map that hands what it does not map to another one is followed there, MaxMaps maps far.
func (r *Resolver) Translate(ctx context.Context, q TranslateQuery) ([]Translation, error) {
	return r.translate(ctx, q, 1)
}

// MaxMaps is how many concept maps may hand a code on to each other.
const MaxMaps = 5

func (r *Resolver) translate(ctx context.Context, q TranslateQuery, depth int) ([]Translation, error) {
	if depth > MaxMaps {
		return nil, tooCostly("More than %d concept maps hand the code on to each other.", MaxMaps)
	}
	var list []Translation
	follow := func(m *conceptMap, elements []mapElement) error {
		found, others := translate(m, elements, q)
		list = append(list, found...)
		for _, url := range others {
			next := TranslateQuery{TargetSystem: q.TargetSystem, Coding: q.Coding}
			next.URL, next.Version, _ = strings.Cut(url, "|")
			more, err := r.translate(ctx, next, depth+1)
			if err != nil {
				return err
			}
			list = append(list, more...)
		}
		return nil
	}
	if q.Node != nil {
		own := conceptMap{url: q.Node.GetText("url"), version: q.Node.GetText("version")}
		err := follow(&own, mapElements(q.Node))
		return list, err
	}
	var maps []conceptMap
	err := r.query(ctx, sqlMaps, []any{q.Map, q.URL, q.Version, q.Coding.Code, q.Reverse}, func(rows pgx.Rows) error {
		var m conceptMap
		err := rows.Scan(&m.key, &m.source, &m.url, &m.version, &m.sourceSet, &m.targetSet)
		maps = append(maps, m)
		return err
	})
	if err != nil {
		return nil, err
	}
	if maps, err = visible(ctx, r, maps, func(m conceptMap) (int64, string) { return m.key, m.source }); err != nil {
		return nil, err
	}
	if q.Map != nil || q.URL != "" {
		if len(maps) == 0 {
			return nil, fhir.NewError(fhir.NotFound, fhir.CodeNotFound, fmt.Sprintf("This server does not have the concept map %q.", canonical(q.URL, q.Version))).Coded("concept-map-missing")
		}
		if q.URL != "" { // the last of several versions
			last := maps[0]
			for _, m := range maps[1:] {
				if CompareVersions(m.version, last.version) >= 0 {
					last = m
				}
			}
			maps = []conceptMap{last}
		}
	}
	from, to := q.Source, q.Target
	if q.Reverse {
		from, to = to, from
	}
	byKey := map[int64]*conceptMap{}
	var keys []int64
	for i := range maps {
		if m := &maps[i]; fits(m.sourceSet, from) && fits(m.targetSet, to) {
			byKey[m.key] = m
			keys = append(keys, m.key)
		}
	}
	elements := map[int64][]mapElement{}
	err = r.query(ctx, sqlElements, []any{keys, q.Coding.Code, q.Reverse, MaxTranslations}, func(rows pgx.Rows) error {
		var key int64
		var e mapElement
		var depends, product, unmapped []byte
		err := rows.Scan(&key, &e.sourceSystem, &e.sourceCode, &e.targetSystem, &e.targetVersion, &e.targetCode, &e.targetDisplay,
			&e.equivalence, &e.comment, &depends, &product, &unmapped)
		if err != nil {
			return err
		}
		for _, one := range []struct {
			data []byte
			n    **fhir.Node
		}{{depends, &e.dependsOn}, {product, &e.product}, {unmapped, &e.unmapped}} {
			if one.data != nil {
				if *one.n, err = fhir.ParseJSON(one.data); err != nil {
					return err
				}
			}
		}
		elements[key] = append(elements[key], e)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		if err := follow(byKey[key], elements[key]); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// fits says whether a value set that a map names is the one asked for; versions count where both have one.
func fits(have, want string) bool {
	if want == "" || have == want {
		return true
	}
	haveURL, haveVersion, _ := strings.Cut(have, "|")
	wantURL, wantVersion, _ := strings.Cut(want, "|")
	return haveURL == wantURL && (haveVersion == "" || wantVersion == "")
}

// translate applies the elements of one map. others are the maps that it hands the code on to.
func translate(m *conceptMap, elements []mapElement, q TranslateQuery) (list []Translation, others []string) {
	mapped := map[[2]string]bool{} // source and target system of groups that have the code
	// A group that names no code system is for whatever its map is for: it counts where the map itself was asked for.
	named := q.Map != nil || q.Node != nil || q.URL != ""
	system := func(have string) bool {
		return q.Coding.System == "" || have == q.Coding.System || have == "" && named
	}
	add := func(t Translation) {
		if q.TargetSystem == "" || t.System == q.TargetSystem || t.Code == "" {
			t.Map = m.url
			if m.url != "" {
				t.Map = canonical(m.url, m.version)
			}
			list = append(list, t)
		}
	}
	for _, e := range elements {
		switch {
		case q.Reverse:
			if e.targetCode == q.Coding.Code && system(e.targetSystem) && e.sourceCode != "" {
				add(Translation{Equivalence: reversed(e.equivalence), System: e.sourceSystem, Code: e.sourceCode, Comment: e.comment, DependsOn: e.product, Product: e.dependsOn})
			}
		case e.unmapped == nil && e.sourceCode == q.Coding.Code && system(e.sourceSystem):
			mapped[[2]string{e.sourceSystem, e.targetSystem}] = true
			add(Translation{Equivalence: e.equivalence, System: e.targetSystem, Version: e.targetVersion, Code: e.targetCode,
				Display: e.targetDisplay, Comment: e.comment, Product: e.product, DependsOn: e.dependsOn})
		}
	}
	for _, e := range elements {
		if e.unmapped == nil || q.Reverse || !system(e.sourceSystem) || mapped[[2]string{e.sourceSystem, e.targetSystem}] {
			continue
		}
		switch e.unmapped.GetText("mode") {
		case "provided":
			add(Translation{Equivalence: "equal", System: e.targetSystem, Version: e.targetVersion, Code: q.Coding.Code, Display: q.Coding.Display})
		case "other-map":
			others = append(others, e.unmapped.GetText("url"))
		case "fixed":
			add(Translation{Equivalence: "inexact", System: e.targetSystem, Version: e.targetVersion,
				Code: e.unmapped.GetText("code"), Display: e.unmapped.GetText("display")})
		}
	}
	return list, others
}

// reversed is the equivalence seen from the other side: it says how the target relates to the source (FHIR R4
// codesystem-concept-map-equivalence.html).
func reversed(equivalence string) string {
	switch equivalence {
	case "wider":
		return "narrower"
	case "narrower":
		return "wider"
	case "subsumes":
		return "specializes"
	case "specializes":
		return "subsumes"
	}
	return equivalence
}
