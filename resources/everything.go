package resources

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"kiln/auth"
	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/storage"
)

// notOfCare are dates of people, not of what was done for them: start and end do not look at them.
var notOfCare = []string{"_lastUpdated", "birthdate", "death-date"}

// everything answers Patient/$everything and Encounter/$everything: what is in the compartment, and behind it what
// that refers to and belongs to nobody, such as practitioners, and where it all comes from (Provenance).
// Spec: FHIR R4 patient-operation-everything.html, encounter-operation-everything.html.
//
// Errors: NotFound, Gone; Invalid; Forbidden for who may not search.
func (s *Service) everything(ctx context.Context, c *call) (*Response, error) {
	ctx = s.store.WithinTime(ctx)
	r := *c.Request
	if r.ID == "" {
		return s.everythingOfAll(ctx, c)
	}
	if _, err := s.Do(ctx, Request{Interaction: Read, Type: r.Type, ID: r.ID, Principal: r.Principal}); err != nil {
		return nil, err
	}
	e, err := s.readEverything(&r, c)
	if err != nil {
		return nil, err
	}
	if err := permitted(ctx, auth.Search, ""); err != nil {
		return nil, err
	}
	ctx = acting(ctx, auth.Search)
	answer := &Bundle{Type: "searchset", Links: []Link{{"self", e.self}}}
	r.Query = ""
	mark, err := s.openMark(&r, e.self, e.cursor)
	if err != nil {
		return nil, err
	}
	page, err := s.store.Search(ctx, nil, e.query, e.size, mark)
	if err != nil {
		return nil, err
	}
	answer.Entries = make([]Entry, 0, len(page.Matches))
	for _, v := range page.Matches {
		if e.wants(v) {
			answer.Entries = append(answer.Entries, Entry{Version: v, Mode: "match"})
		}
	}
	if page.Complete && e.inside {
		n := int64(len(answer.Entries))
		answer.Total = &n
	}
	if err := s.addBeside(ctx, e, page.Matches, answer); err != nil {
		return nil, err
	}
	s.pageLinks(&r, answer, e.self, strings.Contains(e.self, "?"), page)
	return &Response{Bundle: answer}, nil
}

// addBeside adds to a page what stands beside its matches.
func (s *Service) addBeside(ctx context.Context, e *whole, matches []*storage.Version, answer *Bundle) error {
	added, cut, err := s.beside(ctx, e, matches)
	if err != nil {
		return err
	}
	for _, v := range added {
		answer.Entries = append(answer.Entries, Entry{Version: v, Mode: "include"})
	}
	if cut {
		answer.Issues = append(answer.Issues, fhir.Issue{Severity: fhir.SeverityWarning, Code: fhir.CodeTooCostly,
			Text: fmt.Sprintf("Only the first %d resources that this page refers to are here; ask for smaller pages with _count to get all.", s.limits.MaxIncluded)})
	}
	return nil
}

// whole is one call of $everything, read.
type whole struct {
	// query finds the members of the compartment; nil where patients finds those in whose compartments they are.
	query, patients *search.Query
	// compartment is its type, subject its id with query, memberTypes are the types looked for in it, care narrows them to a time.
	compartment string
	subject     string
	memberTypes []string
	care        []search.Expr
	catalog     catalog
	size        int
	// self is the URL of the first page.
	self, cursor string
	// types are those asked for; nil for all. inside says that all of them are types of members.
	types   []string
	members map[string]bool
	inside  bool
	since   time.Time
}

// wants says whether a resource is of the types, and as new, as the caller asked for.
func (e *whole) wants(v *storage.Version) bool {
	return e.wantsType(v.Type) && (e.since.IsZero() || v.LastUpdated.After(e.since))
}

func (e *whole) wantsType(typ string) bool { return e.types == nil || slices.Contains(e.types, typ) }

func (s *Service) readEverything(r *Request, c *call) (*whole, error) {
	e := &whole{size: min(s.limits.EverythingPageSize, s.limits.MaxPageSize), members: map[string]bool{}, inside: true, cursor: c.cursor,
		compartment: r.Type, catalog: catalog{registry: s.store.Registry()}}
	if r.Type == "Group" {
		e.compartment = "Patient"
	}
	catalog := e.catalog
	faults := &fhir.Error{Kind: fhir.Invalid}
	var applied []search.Pair
	for _, a := range c.arguments {
		applied = append(applied, search.Pair{Name: a.name, Value: a.value.Text})
		switch a.name {
		case "_type":
			for name := range strings.SplitSeq(a.value.Text, ",") {
				if !s.isType(name) {
					faults.Issues = append(faults.Issues, fhir.Issue{Severity: fhir.SeverityError, Code: fhir.CodeCodeInvalid,
						Text: quote(name) + " is not a resource type of FHIR R4", Expression: []string{a.at}})
				}
				e.types = append(e.types, name)
			}
		case "_count":
			if e.size = a.number(); e.size < 1 {
				faults.Issues = append(faults.Issues, fhir.Issue{Severity: fhir.SeverityError, Code: fhir.CodeValue,
					Text: "_count must be 1 at least", Expression: []string{a.at}})
			}
			e.size = min(e.size, s.limits.MaxPageSize)
		case "_since":
			// It is no condition of the query: what is new may stand beside what is old, as Provenance does.
			e.since, _, _ = historyTime(a.value.Text)
		}
	}
	if len(faults.Issues) > 0 {
		return nil, faults
	}
	e.self = strings.TrimSuffix(r.Type+"/"+r.ID, "/") + "/$everything" + query(applied)
	var types []string
	for _, t := range catalog.ResourceTypes() {
		if t == auditEventType && !slices.Contains(e.types, t) {
			e.members[t] = true // the log of who looked at the record is no part of it, but where it is asked for
			continue
		}
		if t == e.compartment || len(catalog.CompartmentParams(e.compartment, t)) > 0 {
			e.members[t] = true
			types = append(types, t)
		}
	}
	for _, t := range e.types {
		e.inside = e.inside && e.members[t]
	}
	if e.inside && e.types != nil { // what refers to the others is looked at for their sake
		types = slices.DeleteFunc(types, func(t string) bool { return !e.wantsType(t) })
	}
	e.memberTypes = types
	var err error
	if e.care, err = s.duringCare(types, c.text("start"), c.text("end"), catalog); err != nil {
		return nil, err
	}
	if r.Type == e.compartment && r.ID != "" {
		e.query, e.subject = e.of(r.ID), r.ID
	}
	return e, nil
}

// of finds the members of the compartments of resources.
func (e *whole) of(ids ...string) *search.Query {
	var members search.Or
	for _, id := range ids {
		for _, t := range e.memberTypes {
			members = append(members, &search.Member{Compartment: e.compartment, ID: id, Type: t, Params: e.catalog.CompartmentParams(e.compartment, t)})
		}
	}
	return &search.Query{Types: e.memberTypes, Where: append([]search.Expr{members}, e.care...), Count: -1}
}

// duringCare is the condition that something has a date between start and end, or has no date at all; nil for none.
func (s *Service) duringCare(types []string, start, end string, catalog catalog) ([]search.Expr, error) {
	if start == "" && end == "" {
		return nil, nil
	}
	var dated search.Or
	for _, t := range types {
		undated := search.And{&search.IsType{Type: t}}
		for _, def := range catalog.registry.SearchParameters(t) {
			if def.Type != search.Date || !Offered(def) || slices.Contains(notOfCare, def.Code) {
				continue
			}
			pairs := []search.Pair{}
			if start != "" {
				pairs = append(pairs, search.Pair{Name: def.Code, Value: "ge" + start})
			}
			if end != "" {
				pairs = append(pairs, search.Pair{Name: def.Code, Value: "le" + end})
			}
			one, err := search.Parse(pairs, catalog, search.Options{Types: []string{t}, Now: s.now(), Zone: s.store.Zone()})
			if err != nil {
				return nil, err
			}
			dated = append(dated, append(search.And{&search.IsType{Type: t}}, one.Where...))
			undated = append(undated, &search.Missing{Type: t, Param: catalog.paramOf(def), Missing: true})
		}
		dated = append(dated, undated)
	}
	return []search.Expr{dated}, nil
}

// beside finds what the members of a page refer to and is in no compartment of this kind, so that it is no part of
// another's record; and the Provenance of the members, unless it is one and has its own place.
func (s *Service) beside(ctx context.Context, e *whole, matches []*storage.Version) (found []*storage.Version, cut bool, err error) {
	if !e.inside || e.types == nil {
		if found, cut, err = s.store.Referred(ctx, nil, matches, e.members, s.limits.MaxIncluded); err != nil {
			return nil, false, err
		}
	}
	const provenance = "Provenance"
	if e.wantsType(provenance) {
		var member *storage.Key // what makes a Provenance a member, where that is all
		if e.members[provenance] && e.subject != "" && e.care == nil {
			member = &storage.Key{Type: e.compartment, ID: e.subject}
		}
		list, more, err := s.store.Provenances(ctx, matches, member, s.limits.MaxIncluded)
		if err != nil {
			return nil, false, err
		}
		if e.members[provenance] && member == nil {
			if list, err = s.withoutMembers(ctx, e, provenance, list); err != nil {
				return nil, false, err
			}
		}
		found, cut = append(found, list...), cut || more
	}
	found = slices.DeleteFunc(found, func(v *storage.Version) bool { return !e.wants(v) })
	return found, cut, nil
}

// withoutMembers leaves out what some page has as one of its members.
func (s *Service) withoutMembers(ctx context.Context, e *whole, typ string, list []*storage.Version) ([]*storage.Version, error) {
	of := e.query
	if of == nil {
		named, err := s.recordsAmong(ctx, e, s.patientsNamed(list...))
		if err != nil || len(named) == 0 {
			return list, err
		}
		of = e.of(named...)
	}
	return s.without(ctx, of, list)
}

// without leaves out of a list what a query finds.
func (s *Service) without(ctx context.Context, q *search.Query, list []*storage.Version) ([]*storage.Version, error) {
	if len(list) == 0 {
		return list, nil
	}
	var these search.Or
	for _, v := range list {
		these = append(these, withIDs(v.Type, v.ID))
	}
	found, err := s.store.Keys(ctx, nil, &search.Query{Types: q.Types, Where: append(slices.Clone(q.Where), these)}, len(list))
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(list), func(v *storage.Version) bool { return slices.Contains(found, storage.Key{Type: v.Type, ID: v.ID}) }), nil
}

// withIDs is the condition of being one of some resources.
func withIDs(typ string, ids ...string) *search.Match {
	m := &search.Match{Type: typ, Param: search.Param{Code: "_id", Kind: search.Token}}
	for _, id := range ids {
		m.Values = append(m.Values, search.Value{Code: id})
	}
	return m
}
