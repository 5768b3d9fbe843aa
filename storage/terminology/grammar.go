package terminology

import (
	"regexp"
	"strings"

	"kiln/conformance"
	"kiln/fhir/ucum"
)

// grammar is a code system whose codes are built by rules, so that nobody can list them.
type grammar interface {
	caseSensitive() bool
	valid(code string) bool
	// filter says whether a code passes a filter; known is false for a filter that this grammar has not.
	filter(f filter, code string) (passes, known bool)
	// all is the URL of the value set of all its codes, "" for none.
	all() string
}

// grammarOf returns the grammar of a code system, or nil.
func grammarOf(system string) grammar {
	switch system {
	case UCUM:
		return units{}
	case "urn:ietf:bcp:13":
		return mediaTypes{}
	case "urn:ietf:bcp:47":
		return languages{}
	}
	return nil
}

// grammarSystems are the code systems with a grammar.
var grammarSystems = []string{UCUM, "urn:ietf:bcp:13", "urn:ietf:bcp:47"}

// units are the codes of UCUM.
type units struct{}

func (units) caseSensitive() bool    { return true }
func (units) valid(code string) bool { return ucum.Comparable(code, code) }
func (units) all() string            { return UCUM + "/vs" }

// filter: canonical = a unit, for all units that measure the same (FHIR R4 ucum.html#filters).
func (units) filter(f filter, code string) (passes, known bool) {
	return ucum.Comparable(code, f.value), f.property == "canonical" && f.op == "="
}

// mediaTypes are those of BCP 13.
type mediaTypes struct{}

func (mediaTypes) caseSensitive() bool { return false }
func (mediaTypes) all() string         { return "" }

func (mediaTypes) filter(filter, string) (passes, known bool) { return false, false }

func (mediaTypes) valid(code string) bool { return conformance.IsMediaType(code) }

// languages are the tags of BCP 47: well-formed ones, as RFC 5646 section 2.2.9 calls them.
type languages struct{}

func (languages) caseSensitive() bool { return false }
func (languages) all() string         { return "" }

func (languages) filter(filter, string) (passes, known bool) { return false, false }

func (languages) valid(code string) bool { return languageTag.MatchString(code) }

var languageTag = regexp.MustCompile(`(?i)^(?:(?:[a-z]{2,3}(?:-[a-z]{3}){0,3}|[a-z]{4}|[a-z]{5,8})(?:-[a-z]{4})?(?:-(?:[a-z]{2}|[0-9]{3}))?` +
	`(?:-(?:[a-z0-9]{5,8}|[0-9][a-z0-9]{3}))*(?:-[a-wy-z0-9](?:-[a-z0-9]{2,8})+)*(?:-x(?:-[a-z0-9]{1,8})+)?|x(?:-[a-z0-9]{1,8})+)$`)

// sameCode compares codes as their system does.
func (s *System) sameCode(a, b string) bool {
	return a == b || !s.CaseSensitive && strings.EqualFold(a, b)
}

// passes says whether a code of a grammar passes the filters of a part.
func (p *part) passes(code string) bool {
	for _, f := range p.filters {
		if ok, known := p.system.grammar.filter(f, code); !ok || !known {
			return false
		}
	}
	return p.system.grammar.valid(code)
}
