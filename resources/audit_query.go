package resources

import (
	"slices"
	"strings"

	"kiln/fhir/search"
	"kiln/storage"
)

// concealed stands for what a patient may not read in a query.
const concealed = "withheld"

// plainParameters shape an answer or speak of times and types: they name nobody.
var plainParameters = []string{"_sort", "_count", "_include", "_revinclude", "_include:iterate", "_revinclude:iterate", "_summary", "_elements",
	"_total", "_format", "_pretty", "_lastUpdated", "_since", "_at", "_type", "_profile", "_security", "_tag"}

// openTargets are the types whose resources a patient may read of anyway.
var openTargets = []string{"Practitioner", "PractitionerRole", "Organization", "Location", "HealthcareService"}

// queryFor is the query of an entry as the AuditEvent for one patient tells it. The patient may read that event, and the
// query may name others: values that could do so are withheld, unless the patient asked.
func (s *Service) queryFor(e *storage.AuditEntry, patient string) string {
	if e.Query == "" || e.FHIRUser == "Patient/"+patient {
		return e.Query
	}
	target, query, has := strings.Cut(e.Query, "?")
	method, path, _ := strings.Cut(target, " ")
	rest := strings.TrimPrefix(path, s.options.Base+"/")
	parts := strings.Split(rest, "/")
	if len(parts) > 1 && (parts[0] != "Patient" || parts[1] != patient) && parts[1] != "_history" && !strings.HasPrefix(parts[1], "$") {
		if e.Target != parts[0]+"/"+parts[1] { // that stands in the event anyway
			parts[1] = concealed
		}
	}
	text := method + " " + s.options.Base + "/" + strings.Join(parts, "/")
	if !has {
		return text
	}
	typ := parts[0]
	if len(parts) == 3 { // a compartment
		typ = parts[2]
	}
	pairs, err := search.ParsePairs(query)
	if err != nil {
		return text + "?" + concealed
	}
	changed := false
	for i, p := range pairs {
		if !s.harmless(typ, p, patient) {
			pairs[i].Value, changed = concealed, true
		}
	}
	if !changed {
		return text + "?" + query
	}
	return text + "?" + search.Encode(pairs)
}

// harmless says whether a parameter says nothing of anybody but one patient.
func (s *Service) harmless(typ string, p search.Pair, patient string) bool {
	if slices.Contains(plainParameters, p.Name) {
		return true
	}
	own := true
	for value := range strings.SplitSeq(p.Value, ",") {
		id, is := strings.CutPrefix(strings.TrimPrefix(value, s.options.Base+"/"), "Patient/")
		own = own && id == patient && (is || p.Name == "patient" || p.Name == "_id" && typ == "Patient")
	}
	if own {
		return true
	}
	code, modifier, _ := strings.Cut(p.Name, ":")
	def := s.registry.SearchParameter(typ, code)
	if def == nil {
		return false
	}
	switch def.Type {
	case search.Date, search.Number, search.Quantity:
		return code != "birthdate" && code != "death-date"
	case search.Token:
		return modifier == "" && !slices.Contains([]string{"_id", "identifier", "email", "phone", "telecom"}, code) && !strings.HasSuffix(code, "identifier")
	case search.Reference:
		for value := range strings.SplitSeq(p.Value, ",") {
			target, _, _ := strings.Cut(strings.TrimPrefix(value, s.options.Base+"/"), "/")
			if !slices.Contains(openTargets, target) {
				return false
			}
		}
		return modifier == "" || slices.Contains(openTargets, modifier)
	}
	return false
}
