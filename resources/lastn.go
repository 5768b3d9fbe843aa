package resources

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"kiln/auth"
	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/storage"
)

// maxLastN is how many Observations $lastn looks through; they are read to find which codes are one.
const maxLastN = 5000

// lastn answers Observation/$lastn: of what the search parameters find, the newest max of each code, and those that are as
// old as the last of them. Codes that some Observation has beside each other are one.
// Spec: FHIR R4 observation-operation-lastn.html.
//
// Errors: Invalid for parameters, or without a patient; TooCostly where more than maxLastN are found; Forbidden for who may
// not search Observations.
func (s *Service) lastn(ctx context.Context, c *call) (*Response, error) {
	const typ = "Observation"
	if err := permitted(ctx, auth.Search, typ); err != nil {
		return nil, err
	}
	ctx = s.store.WithinTime(acting(ctx, auth.Search))
	criteria, err := lastnCriteria(c.criteria)
	if err != nil {
		return nil, err
	}
	n := 1
	if a := c.first("max"); a != nil {
		n = a.number()
	}
	r := *c.Request
	r.Interaction, r.Operation, r.Body = SearchType, "", nil
	r.Query = search.Encode(append(slices.Clone(criteria), search.Pair{Name: "_sort", Value: "-date"}))
	q, err := s.parseSearch(ctx, r)
	if err != nil {
		return nil, err
	}
	found, err := s.upTo(ctx, q, maxLastN)
	if err != nil {
		return nil, err
	}
	self := append(criteria, search.Pair{Name: "max", Value: strconv.Itoa(n)})
	answer := &Bundle{Type: "searchset", Issues: q.Issues, Links: []Link{{"self", typ + "/$lastn" + query(self)}}}
	groups, err := groupedByCode(found)
	if err != nil {
		return nil, err
	}
	for _, group := range groups {
		for i, o := range group {
			if i >= n && !o.at.Equal(group[n-1].at) {
				break
			}
			answer.Entries = append(answer.Entries, Entry{Version: o.version, Mode: "match"})
		}
	}
	total := int64(len(answer.Entries))
	answer.Total = &total
	return &Response{Bundle: answer}, nil
}

// lastnCriteria reads the search parameters of a call. Errors: Invalid.
func lastnCriteria(query string) ([]search.Pair, error) {
	pairs, err := search.ParsePairs(query)
	if err != nil {
		return nil, err
	}
	subject := false
	for _, p := range pairs {
		name, _, _ := strings.Cut(p.Name, ":")
		switch name {
		case "patient", "subject":
			subject = true
		case "_sort", "_count", "_cursor", "_total", "_summary", "_elements", "_contained", "_containedType", "_include", "_revinclude", "_explain":
			return nil, fhir.NewError(fhir.Invalid, fhir.CodeNotSupported, "$lastn takes what an Observation is searched by, and no "+quote(name)+
				": its answer has an order and a number of its own").At("http." + name)
		}
	}
	if !subject {
		return nil, fhir.NewError(fhir.Invalid, fhir.CodeRequired, "$lastn needs patient or subject, as in Observation/$lastn?patient=Patient/1&category=vital-signs").
			At("http.patient")
	}
	return pairs, nil
}

// upTo gives all that a search finds, in its order. Errors: TooCostly where it is more than limit.
func (s *Service) upTo(ctx context.Context, q *search.Query, limit int) (found []*storage.Version, err error) {
	for mark := (*storage.SearchMark)(nil); ; {
		page, err := s.store.Search(ctx, nil, q, s.limits.MaxPageSize, mark)
		if err != nil {
			return nil, err
		}
		if found = append(found, page.Matches...); len(found) > limit {
			return nil, fhir.NewError(fhir.TooCostly, fhir.CodeTooCostly, fmt.Sprintf("More than %d resources match; make the criteria more precise, by code, category or date", limit)).
				Coded("too-costly")
		}
		if mark = page.Next; mark == nil {
			return found, nil
		}
	}
}

// observed is an Observation with its time; the zero time where it has none.
type observed struct {
	version *storage.Version
	at      time.Time
}

// groupedByCode groups Observations, the newest first, by what was observed, the group with the newest first. One with
// neither code nor text is a group by itself.
func groupedByCode(list []*storage.Version) ([][]observed, error) {
	// parent leads from each code to one that it is the same as, and at last to that which stands for all of them.
	parent := map[string]string{}
	root := func(code string) string {
		for parent[code] != code {
			parent[code] = parent[parent[code]]
			code = parent[code]
		}
		return code
	}
	first := make([]string, len(list))
	times := make([]time.Time, len(list))
	for i, v := range list {
		n, err := fhir.ParseJSON(v.Content)
		if err != nil {
			return nil, err
		}
		times[i] = observationTime(n)
		for _, code := range observedCodes(n.Get("code"), v.ID) {
			if parent[code] == "" {
				parent[code] = code
			}
			if first[i] == "" {
				first[i] = code
			}
			parent[root(code)] = root(first[i])
		}
	}
	place := map[string]int{}
	var groups [][]observed
	for i, v := range list {
		at, known := place[root(first[i])]
		if !known {
			at = len(groups)
			place[root(first[i])] = at
			groups = append(groups, nil)
		}
		groups[at] = append(groups[at], observed{v, times[i]})
	}
	return groups, nil
}

// observedCodes are what an Observation is grouped by, at least one: its Codings, else its text, else its id.
func observedCodes(code *fhir.Node, id string) (list []string) {
	for coding := range code.Get("coding").Items() {
		if c := coding.GetText("code"); c != "" {
			list = append(list, "c"+coding.GetText("system")+"|"+c)
		}
	}
	switch text := code.GetText("text"); {
	case len(list) > 0:
	case text != "":
		list = []string{"t" + text}
	default:
		list = []string{"i" + id}
	}
	return list
}

// observationTime is when something was observed, or began to be.
func observationTime(n *fhir.Node) time.Time {
	for _, text := range []string{n.GetText("effectiveDateTime"), n.GetText("effectiveInstant"), n.Get("effectivePeriod").GetText("start"), n.Get("effectivePeriod").GetText("end")} {
		if d, ok := fhir.ParseDateTime(text, nil); ok {
			return d.Time
		}
	}
	return time.Time{}
}
