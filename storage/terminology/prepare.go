package terminology

import (
	"time"

	"kiln/fhir"
)

// Prepared is a CodeSystem, ValueSet or ConceptMap resource, ready to be put into the tables. Making it needs no
// database.
type Prepared struct {
	typ      string
	key      int64
	n        *fhir.Node
	system   *codeSystem
	elements *table
}

// Holds says whether a resource type has a place in the tables.
func Holds(typ string) bool { return typ == "CodeSystem" || typ == "ValueSet" || typ == "ConceptMap" }

// Prepare reads a resource; nil for one of another type. key is its row key. The node must not change any more, its
// meta apart.
//
// Errors: a code system whose hierarchy goes in circles (Unprocessable) or is too large (TooCostly).
func Prepare(n *fhir.Node, key int64) (*Prepared, error) {
	p := &Prepared{typ: n.ResourceType(), key: key, n: n}
	switch p.typ {
	case "CodeSystem":
		var err error
		p.system, err = readCodeSystem(n, SourceResource, key)
		return p, err
	case "ConceptMap":
		p.elements = elementTable()
		for _, e := range mapElements(n) {
			p.elements.add(e.row(key)...)
		}
		return p, nil
	case "ValueSet":
		return p, nil
	}
	return nil, nil
}

const (
	sqlForgetSystem = `
WITH a AS (DELETE FROM concept WHERE system = $1), b AS (DELETE FROM concept_property WHERE system = $1),
c AS (DELETE FROM concept_designation WHERE system = $1)
DELETE FROM code_system WHERE key = $1`
	sqlForgetSet = `DELETE FROM value_set WHERE key = $1`
	sqlForgetMap = `WITH e AS (DELETE FROM concept_map_element WHERE map = $1) DELETE FROM concept_map WHERE key = $1`
	sqlAddSystem = `
INSERT INTO code_system (key, source, id, url, version, content, case_sensitive, value_set, concepts, hash, stored, definition)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`
	sqlAddSet = `INSERT INTO value_set (key, source, id, url, version, stored, definition) VALUES ($1, $2, $3, $4, $5, $6, $7)`
	sqlAddMap = `
INSERT INTO concept_map (key, source, id, url, version, source_scope, target_scope, stored) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`
)

// Forget queues the removal of what a resource put into the tables.
func Forget(exec func(sql string, args ...any), typ string, key int64) {
	switch typ {
	case "CodeSystem":
		exec(sqlForgetSystem, key)
	case "ValueSet":
		exec(sqlForgetSet, key)
	case "ConceptMap":
		exec(sqlForgetMap, key)
	}
}

// Queue hands the rows of the resource to exec. What an earlier version of it left must be forgotten before. One
// without a URL has no rows: nobody can ask for it by its URL, and by its id the resource itself is read.
func (p *Prepared) Queue(exec func(sql string, args ...any), now time.Time) {
	url, version := p.n.GetText("url"), p.n.GetText("version")
	if url == "" && p.typ != "ConceptMap" {
		return
	}
	switch p.typ {
	case "CodeSystem":
		exec(sqlAddSystem, p.system.row(now)...)
		t := newConceptTables()
		for i := range p.system.concepts {
			t.add(p.key, p.system.hierarchy, &p.system.concepts[i])
		}
		for _, one := range t.all() {
			one.queue(exec)
		}
	case "ValueSet":
		exec(sqlAddSet, p.key, SourceResource, p.n.ID(), url, version, now, nil)
	case "ConceptMap":
		exec(sqlAddMap, mapRow(p.key, SourceResource, p.n, now)...)
		p.elements.queue(exec)
	}
}

// row is what sqlAddSystem takes.
func (s *codeSystem) row(now time.Time) []any {
	return []any{s.key, s.source, s.id, s.n.GetText("url"), s.n.GetText("version"), s.n.GetText("content"), s.caseSensitive(),
		nullable(s.n.GetText("valueSet")), int32(len(s.concepts)), s.hash, now, s.definition()}
}
