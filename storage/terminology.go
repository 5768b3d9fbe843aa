package storage

import (
	"context"
	"strings"

	"kiln/fhir"
)

const sqlCanonical = `
WITH m AS MATERIALIZED (SELECT x.rk FROM search_index x WHERE x.type = $1 AND x.refs @> $2)
SELECT ` + versionColumns + ` FROM m JOIN resource r USING (rk) WHERE r.content IS NOT NULL ORDER BY r.last_updated DESC LIMIT 20`

const sqlByKey = `SELECT ` + versionColumns + ` FROM resource r WHERE r.rk = $1 AND r.content IS NOT NULL`

// terminology finds a stored ValueSet or CodeSystem by canonical URL, with or without |version, or by Type/id. Of
// several versions it takes the one stored last. It returns nil where there is none.
func (s *Store) terminology(ctx context.Context, run runner, ix *Indexer, typ, url string) (*fhir.Node, error) {
	if ref, ok := ix.parseReference(url); ok && ref.Type == typ && ref.Base == "" && ref.ID != "" {
		found, err := collect(ctx, run, sqlByKey, s.hash.Resource(typ, ref.ID))
		return match(found, err, func(n *fhir.Node) bool { return n.ID() == ref.ID })
	}
	found, err := collect(ctx, run, sqlCanonical, ix.registry.TypeNumber(typ), []int64{ix.canonicalTerm(url)})
	bare, version, _ := strings.Cut(url, "|")
	return match(found, err, func(n *fhir.Node) bool {
		return n.GetText("url") == bare && (version == "" || n.GetText("version") == version)
	})
}

// match returns the first of the resources that fits; hashes alone decide nothing.
func match(found []*Version, err error, fits func(*fhir.Node) bool) (*fhir.Node, error) {
	if err != nil {
		return nil, translate(err)
	}
	for _, v := range found {
		n, err := fhir.ParseJSON(v.Content)
		if err != nil {
			return nil, err
		}
		if fits(n) {
			return n, nil
		}
	}
	return nil, nil
}
