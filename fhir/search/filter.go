package search

import "kiln/fhir"

// filter reads _filter (R4 search_filter.html).
func (p *parser) filter(string) bool {
	return p.unknown("_filter", "%s", "this server does not offer it yet.")
}

var _ = fhir.CodeNotSupported
