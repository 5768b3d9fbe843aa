package resources

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"kiln/auth"
	"kiln/conformance"
	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/resources/scheduling"
	"kiln/storage"
)

// search answers search-type, search-system and compartment searches.
func (s *Service) search(ctx context.Context, r Request) (*Response, error) {
	ctx = s.store.WithinTime(ctx)
	issues := append(s.lacking(ctx, &r), s.unlogged(ctx, &r)...)
	resp, err := s.searchIn(ctx, nil, r)
	if err == nil && resp.Bundle != nil {
		resp.Bundle.Issues = append(resp.Bundle.Issues, issues...)
	}
	return resp, err
}

// searchIn is search inside a transaction, where tx is not nil.
func (s *Service) searchIn(ctx context.Context, tx *storage.Tx, r Request) (*Response, error) {
	q, err := s.parseSearch(ctx, r)
	if err != nil {
		return nil, err
	}
	if q.Count > s.limits.MaxPageSize {
		q.Count = s.limits.MaxPageSize
		for i := range q.Applied { // the links say what really ran
			if q.Applied[i].Name == "_count" {
				q.Applied[i].Value = strconv.Itoa(q.Count)
			}
		}
	}
	path := searchPath(r)
	answer := &Bundle{Type: "searchset", Issues: q.Issues}
	self := path + query(q.Applied)
	answer.Links = append(answer.Links, Link{"self", self})
	if q.Explain {
		if err := s.explain(ctx, &r, q, answer); err != nil {
			return nil, err
		}
	}
	size := q.Count
	if size < 0 {
		size = s.limits.DefaultPageSize
	}
	if q.Count == 0 || q.Summary == "count" {
		total, err := s.store.Count(ctx, tx, q, 0)
		answer.Total = &total
		return &Response{Bundle: answer}, err
	}
	mark, err := s.openMark(&r, self, q.Cursor)
	if err != nil {
		return nil, err
	}
	page, err := s.store.Search(ctx, tx, q, size, mark)
	if err != nil {
		return nil, err
	}
	if mark != nil { // a later page has a link of its own
		answer.Links[0].URL = withCursor(self, len(q.Applied) > 0, q.Cursor)
	}
	included, cut, err := s.store.Include(ctx, tx, page.Matches, q.Includes, s.limits.MaxIncluded)
	if err != nil {
		return nil, err
	}
	if cut {
		answer.Issues = append(answer.Issues, fhir.Issue{Severity: fhir.SeverityWarning, Code: fhir.CodeTooCostly,
			Text: fmt.Sprintf("Only the first %d included resources of this page are here; ask for smaller pages with _count to get all.", s.limits.MaxIncluded)})
	}
	if err := s.total(ctx, tx, q, page, answer); err != nil {
		return nil, err
	}
	answer.Entries = make([]Entry, 0, len(page.Matches)+len(included))
	for _, v := range page.Matches {
		answer.Entries = append(answer.Entries, Entry{Version: v, Mode: "match"})
	}
	for _, v := range included {
		answer.Entries = append(answer.Entries, Entry{Version: v, Mode: "include"})
	}
	for i := range answer.Entries {
		if answer.Entries[i].Version, err = s.subset(answer.Entries[i].Version, q.Summary, q.Elements); err != nil {
			return nil, err
		}
	}
	s.pageLinks(&r, answer, self, len(q.Applied) > 0, page)
	return &Response{Bundle: answer}, nil
}

// total sets Bundle.total where it is asked for, or known for free.
func (s *Service) total(ctx context.Context, tx *storage.Tx, q *search.Query, page *storage.SearchPage, answer *Bundle) error {
	switch {
	case q.Total == "none":
	case page.Complete:
		n := int64(len(page.Matches))
		answer.Total = &n
	case q.Total == "accurate", q.Total == "estimate":
		n, err := s.store.Count(ctx, tx, q, 0)
		answer.Total = &n
		return err
	}
	return nil
}

// parseSearch reads the query of a search request, with the compartment as a condition.
func (s *Service) parseSearch(ctx context.Context, r Request) (*search.Query, error) {
	pairs, err := search.ParsePairs(r.Query)
	if err != nil {
		return nil, err
	}
	var used []*conformance.SearchParameter
	c := catalog{s.store.Registry(), &used}
	if r.TimeZone != "" && !slices.ContainsFunc(pairs, func(p search.Pair) bool { return p.Name == "_timezone" }) {
		pairs = append(pairs, search.Pair{Name: "_timezone", Value: r.TimeZone}) // so that the links say which
	}
	o := search.Options{Lenient: r.Lenient, Now: s.now(), Zone: s.store.Zone()}
	if r.Type != "" && r.Type != "*" {
		o.Types = []string{r.Type}
	}
	var members search.Or
	if r.Compartment != "" {
		if all := c.registry.Compartments(); !slices.Contains(all, r.Compartment) {
			return nil, fhir.NewError(fhir.NotFound, fhir.CodeNotSupported, r.Compartment+" has no compartment; these have: "+strings.Join(all, ", "))
		}
		types := c.ResourceTypes()
		if o.Types != nil {
			types = o.Types
		}
		o.Open, o.Types = o.Types == nil, nil
		for _, t := range types {
			if params := c.CompartmentParams(r.Compartment, t); len(params) > 0 || t == r.Compartment {
				members = append(members, &search.Member{Compartment: r.Compartment, ID: r.CompartmentID, Type: t, Params: params})
				o.Types = append(o.Types, t)
			}
		}
		if len(members) == 0 {
			return nil, fhir.NewError(fhir.NotFound, fhir.CodeNotSupported,
				fmt.Sprintf("%s is not in the %s compartment.", r.Type, r.Compartment))
		}
	}
	q, err := search.Parse(pairs, c, o)
	if err == nil && r.Type == "Appointment" && listsByDefault(q.Applied) { // by what counts, as the links say it
		used = nil
		q, err = search.Parse(append(pairs, search.Pair{Name: "status:not", Value: string(scheduling.EnteredInError)}), c, o)
	}
	if err != nil {
		return nil, err
	}
	unfinished, err := s.unfinished(ctx, used)
	if err != nil {
		return nil, err
	}
	q.Issues = append(q.Issues, unfinished...)
	if q.Contained != "" && !s.store.Complete() {
		q.Issues = append(q.Issues, fhir.Issue{Severity: fhir.SeverityWarning, Code: fhir.CodeIncomplete, Detail: "index-building",
			Text: "The index is being completed after a new version of the server: resources inside of others that were here before may be missing"})
	}
	if members != nil {
		q.Where = append([]search.Expr{members}, q.Where...)
	}
	if q.Chronological() {
		return q, s.withoutRetracted(q, c)
	}
	return q, nil
}

// match finds the resources that meet the criteria of a conditional interaction, inside the transaction where tx is
// not nil.
//
// Errors: Invalid for unknown parameters, and for criteria that would match everything.
func (s *Service) match(ctx context.Context, tx *storage.Tx, typ, criteria string, limit int) ([]storage.Key, error) {
	ctx = acting(ctx, auth.Search)
	pairs, err := search.ParsePairs(criteria)
	if err != nil {
		return nil, err
	}
	var used []*conformance.SearchParameter
	q, err := search.Parse(pairs, catalog{s.store.Registry(), &used}, search.Options{Types: []string{typ}, ConditionsOnly: true, Now: s.now(), Zone: s.store.Zone()})
	if err != nil {
		return nil, err
	}
	if err := s.refuseUnfinished(ctx, used); err != nil {
		return nil, err
	}
	if len(q.Where) == 0 {
		return nil, fhir.NewError(fhir.Invalid, fhir.CodeRequired, "The criteria are empty: they would match every "+typ+".")
	}
	return s.store.Keys(ctx, tx, q, limit)
}

func searchPath(r Request) string {
	switch {
	case r.Compartment != "" && r.Type == "":
		return r.Compartment + "/" + r.CompartmentID + "/*"
	case r.Compartment != "":
		return r.Compartment + "/" + r.CompartmentID + "/" + r.Type
	default:
		return r.Type
	}
}

func query(pairs []search.Pair) string {
	if len(pairs) == 0 {
		return ""
	}
	return "?" + search.Encode(pairs)
}

// withCursor is the link to a page of a search.
func withCursor(self string, hasQuery bool, cursor string) string {
	if hasQuery {
		return self + "&_cursor=" + cursor
	}
	return self + "?_cursor=" + cursor
}

// pageLinks adds first, next and previous. A cursor belongs to the query it was made for.
func (s *Service) pageLinks(r *Request, answer *Bundle, self string, hasQuery bool, page *storage.SearchPage) {
	link := func(relation string, mark *storage.SearchMark) {
		payload, err := json.Marshal(mark)
		if err == nil {
			answer.Links = append(answer.Links, Link{relation, withCursor(self, hasQuery, s.store.Seal(cursorPurpose(r, "search", self), payload))})
		}
	}
	if page.Next != nil || page.Previous != nil {
		answer.Links = append(answer.Links, Link{"first", self})
	}
	if page.Next != nil {
		link("next", page.Next)
	}
	if page.Previous != nil {
		link("previous", page.Previous)
	}
}

func (s *Service) openMark(r *Request, self, token string) (*storage.SearchMark, error) {
	if token == "" {
		return nil, nil
	}
	payload, ok := s.store.Open(cursorPurpose(r, "search", self), token)
	mark := &storage.SearchMark{}
	if !ok || json.Unmarshal(payload, mark) != nil {
		return nil, fhir.NewError(fhir.Invalid, fhir.CodeValue,
			"The paging link is not one of this server for this query; begin again with the first page.")
	}
	return mark, nil
}
