package resources

import (
	"context"
	"net/url"
	"strconv"
	"strings"

	"kiln/fhir"
)

// everything is Patient/[id]/$everything and Encounter/[id]/$everything: the resource, all that is in its compartment,
// and what those refer to. It is the search of the compartment with everything included, so it pages like one and shows
// no more than one. Spec: FHIR R4 patient-operation-everything.html, encounter-operation-everything.html.
//
// Errors: as read of the patient or encounter; NotSupported for start and end.
func (s *Service) everything(ctx context.Context, c *call) (*Response, error) {
	for _, name := range []string{"start", "end"} {
		if a := c.first(name); a != nil {
			return nil, fhir.NewError(fhir.NotSupported, fhir.CodeNotSupported,
				"$everything does not narrow by dates of care here; search the types that have a date, or use _since").At(a.at)
		}
	}
	if _, err := s.Do(ctx, Request{Interaction: Read, Type: c.Type, ID: c.ID, Principal: c.Principal}); err != nil {
		return nil, err
	}
	query := url.Values{"_include": {"*"}}
	if types := c.texts("_type"); len(types) > 0 {
		query.Set("_type", strings.Join(types, ","))
		query.Del("_include") // who asks for types gets those
	}
	if since := c.text("_since"); since != "" {
		query.Set("_lastUpdated", "ge"+since)
	}
	// Without _count the whole record is one page, as far as pages go.
	count := s.limits.MaxPageSize
	if text := c.text("_count"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return nil, fhir.NewError(fhir.Invalid, fhir.CodeValue, "_count must be 1 or more").At(c.first("_count").at)
		}
		count = min(n, count)
	}
	query.Set("_count", strconv.Itoa(count))
	return s.Do(ctx, Request{Interaction: SearchSystem, Compartment: c.Type, CompartmentID: c.ID, Query: query.Encode(), Principal: c.Principal, Lenient: c.Lenient})
}
