package resources

import (
	"slices"
	"strings"

	"kiln/fhir/search"
)

// namesSome are parameters by which a caller says which resources of any status are meant, or follows all that changes.
var namesSome = []string{"status", "_id", "_lastUpdated", "_filter", "identifier"}

// listsByDefault says whether a search of Appointments is a list of those that people have: what was entered in error is not in
// it, by row 18 of the transition table. Whoever asks for a status, for certain appointments, or for what has changed, gets it.
func listsByDefault(pairs []search.Pair) bool {
	return !slices.ContainsFunc(pairs, func(p search.Pair) bool {
		name, _, _ := strings.Cut(p.Name, ":")
		return slices.Contains(namesSome, name)
	})
}
