package resources

import (
	"slices"

	"kiln/fhir/search"
	"kiln/resources/records"
)

// withoutRetracted leaves what was entered in error out of the chronological record: a search of several types that is
// sorted by date. Other searches find it.
func (s *Service) withoutRetracted(q *search.Query, c catalog) error {
	for _, life := range records.Table() {
		if q.Types != nil && !slices.Contains(q.Types, life.Type) {
			continue
		}
		name := "status:not"
		if life.Status == "clinicalStatus" {
			name = "verification-status:not"
		}
		one, err := search.Parse([]search.Pair{{Name: name, Value: string(records.EnteredInError)}}, c,
			search.Options{Types: []string{life.Type}, ConditionsOnly: true, Now: s.now()})
		if err != nil {
			return err
		}
		q.Where = append(q.Where, one.Where...)
	}
	return nil
}
