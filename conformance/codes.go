package conformance

import (
	_ "embed"
	"slices"
	"strings"
	"sync"
)

//go:embed definitions/codes.tsv
var codesTable string

// CodeSet is the full list of codes of a value set. It is immutable.
type CodeSet struct {
	members []member // in the order of code, then system
}

type member struct{ code, system string }

func (m member) compare(o member) int {
	if c := strings.Compare(m.code, o.code); c != 0 {
		return c
	}
	return strings.Compare(m.system, o.system)
}

// Has says whether the value set holds the code of that system. Codes compare exactly.
func (c *CodeSet) Has(system, code string) bool {
	_, ok := slices.BinarySearchFunc(c.members, member{code, system}, member.compare)
	return ok
}

// HasCode says whether the value set holds the code of any system, as an element of type code asks.
func (c *CodeSet) HasCode(code string) bool { return len(c.named(code)) > 0 }

// System returns the system of a code, or "" when the value set does not hold it, or holds it from several systems.
// It gives the elements of type code the system that a token search may ask for.
func (c *CodeSet) System(code string) string {
	if found := c.named(code); len(found) == 1 {
		return found[0].system
	}
	return ""
}

// Codes returns all codes in alphabetical order, for messages. A code of several systems is there once.
func (c *CodeSet) Codes() []string {
	codes := make([]string, len(c.members))
	for i, m := range c.members {
		codes[i] = m.code
	}
	return slices.Compact(codes)
}

func (c *CodeSet) named(code string) []member {
	i, _ := slices.BinarySearchFunc(c.members, member{code: code}, member.compare)
	end := i
	for end < len(c.members) && c.members[end].code == code {
		end++
	}
	return c.members[i:end]
}

type codeTables struct {
	sets      map[string]*CodeSet
	sensitive map[string]bool
}

// loadCodes is a cache of a pure function of the embedded table. It is read when first asked for.
var loadCodes = sync.OnceValue(func() codeTables { return readCodes(codesTable) })

// readCodes reads the records that internal/gen/codes.go describes.
func readCodes(table string) codeTables {
	t := codeTables{sets: map[string]*CodeSet{}, sensitive: map[string]bool{}}
	var set *CodeSet
	for line := range strings.Lines(table) {
		switch f := splitFields(strings.TrimSuffix(line, "\n")); f[0] {
		case "V":
			set = &CodeSet{}
			t.sets[f[1]] = set
		case "S":
			set.members = slices.Grow(set.members, len(f)-2)
			for _, code := range f[2:] {
				set.members = append(set.members, member{code, f[1]})
			}
		case "Y":
			t.sensitive[f[1]] = f[2] == "1"
		}
	}
	for _, set := range t.sets {
		slices.SortFunc(set.members, member.compare)
	}
	return t
}

// BindingCodes returns the codes of a value set that a base definition binds with strength required; the URL may carry
// |version. It is nil when the value set is another one, or when its codes cannot be listed: media types, UCUM units,
// the LOINC answer list LL379-9.
//
// Currencies are those of ISO 4217 as the specification listed them in 2019, and what ISO has added since: the binding is
// to the whole of ISO 4217, so refusing a newer code would refuse a valid resource.
func (r *Registry) BindingCodes(valueSetURL string) *CodeSet {
	url, _, _ := strings.Cut(valueSetURL, "|")
	return loadCodes().sets[url]
}

// CaseSensitive says whether the codes of a system differ by case (CodeSystem.caseSensitive). known is false for a
// system that the definitions lack or that does not say.
func (r *Registry) CaseSensitive(system string) (sensitive, known bool) {
	sensitive, known = loadCodes().sensitive[system]
	return sensitive, known
}
