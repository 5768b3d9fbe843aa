package resources

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"kiln/auth"
	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/storage"
)

// maxRecords is how many patients a page of $everything of several looks through: one that finds little in the records of
// so many is short, and the next goes on behind them.
const maxRecords = 100

// mostTogether is how many records are looked for at once, where those before had little in them.
const mostTogether = 16

// everythingOfAll answers Patient/$everything: the records of all patients that the caller may search for.
// Spec: FHIR R4 patient-operation-everything.html ("all patients that the user associated with the request has access to").
//
// Errors: Invalid; Forbidden for who may not search Patients.
func (s *Service) everythingOfAll(ctx context.Context, c *call) (*Response, error) {
	return s.everythingOfSeveral(ctx, c, &search.Query{Types: []string{"Patient"}, Count: -1})
}

// everythingOfGroup answers Group/[id]/$everything: the records of the patients who are in the group now.
// Spec: FHIR R4 group-operation-everything.html.
//
// Errors: NotFound, Gone; Invalid; Forbidden for who may not search Patients.
func (s *Service) everythingOfGroup(ctx context.Context, c *call) (*Response, error) {
	ctx = s.store.WithinTime(ctx)
	read, err := s.Do(ctx, Request{Interaction: Read, Type: c.Type, ID: c.ID, Principal: c.Principal})
	if err != nil {
		return nil, err
	}
	group, err := fhir.ParseJSON(read.Version.Content)
	if err != nil {
		return nil, fhir.NewError(fhir.Internal, fhir.CodeException, "A stored resource cannot be read").Because(err)
	}
	var ids []string
	for member := range group.Get("member").Items() {
		if id := s.patientReferred(member.Get("entity").GetText("reference")); id != "" && s.stillIn(member) {
			ids = append(ids, id)
		}
	}
	return s.everythingOfSeveral(ctx, c, &search.Query{Types: []string{"Patient"}, Where: []search.Expr{withIDs("Patient", ids...)}, Count: -1})
}

// stillIn says whether a member of a Group is one now.
func (s *Service) stillIn(member *fhir.Node) bool {
	if inactive := member.Get("inactive"); inactive != nil && inactive.Text == "true" {
		return false
	}
	end, ok := fhir.ParseDateTime(member.Get("period").GetText("end"), s.store.Zone())
	return !ok || end.End().After(s.now())
}

// patientReferred is the id of the Patient of this server that a reference names, or "".
func (s *Service) patientReferred(text string) string {
	ref, ok := fhir.ParseReference(text, s.isType)
	if !ok || ref.Type != "Patient" || ref.Base != "" && ref.Base != s.options.Base {
		return ""
	}
	return ref.ID
}

// recordsPlace is where a page of $everything of several patients ends.
type recordsPlace struct {
	// Window is where the patients begin that the page looked through; nil for the first of all.
	Window *storage.SearchMark `json:"w,omitempty"`
	// After is the id of the last patient whose record is done.
	After string `json:"a,omitempty"`
	// Within is the place in the records of those up to Through, which were looked for together; nil where none is begun.
	Through string              `json:"t,omitempty"`
	Within  *storage.SearchMark `json:"m,omitempty"`
}

// everythingOfSeveral gives the records of the patients that a query finds, by their ids, and each resource with the first
// whose it is.
func (s *Service) everythingOfSeveral(ctx context.Context, c *call, patients *search.Query) (*Response, error) {
	r := *c.Request
	e, err := s.readEverything(&r, c)
	if err != nil {
		return nil, err
	}
	for _, action := range []auth.Actions{auth.Read, auth.Search} {
		if err := permitted(ctx, action, "Patient"); err != nil {
			return nil, err
		}
	}
	ctx = acting(ctx, auth.Search)
	patients.Sort = []search.Sort{{Param: search.Param{Code: "_id", Kind: search.Token}}}
	e.patients = patients
	place := &recordsPlace{}
	if err := s.openPlace(&r, e, place); err != nil {
		return nil, err
	}
	matches, next, err := s.walkRecords(ctx, e, place)
	if err != nil {
		return nil, err
	}
	answer := &Bundle{Type: "searchset", Links: []Link{{"self", e.self}}}
	for _, v := range matches {
		if e.wants(v) {
			answer.Entries = append(answer.Entries, Entry{Version: v, Mode: "match"})
		}
	}
	if next == nil && e.cursor == "" && e.inside {
		n := int64(len(answer.Entries))
		answer.Total = &n
	}
	if err := s.addBeside(ctx, e, matches, answer); err != nil {
		return nil, err
	}
	if next != nil || e.cursor != "" {
		answer.Links = append(answer.Links, Link{"first", e.self})
	}
	if next != nil {
		payload, err := json.Marshal(next)
		if err != nil {
			return nil, err
		}
		join := "?"
		if strings.Contains(e.self, "?") {
			join = "&"
		}
		answer.Links = append(answer.Links, Link{"next", e.self + join + "_cursor=" + s.store.Seal(cursorPurpose(&r, "records", e.self), payload)})
	}
	return &Response{Bundle: answer}, nil
}

// openPlace reads the place that a paging link carries; without one it stays that of the first page. Errors: Invalid.
func (s *Service) openPlace(r *Request, e *whole, place *recordsPlace) error {
	if e.cursor == "" {
		return nil
	}
	r.Query = ""
	payload, ok := s.store.Open(cursorPurpose(r, "records", e.self), e.cursor)
	if !ok || json.Unmarshal(payload, place) != nil {
		return fhir.NewError(fhir.Invalid, fhir.CodeValue,
			"The paging link is not one of this server for this query; begin again with the first page.")
	}
	return nil
}

// walkRecords goes on behind a place until a page is full or maxRecords patients are looked through. next is the place
// behind that; nil at the end.
func (s *Service) walkRecords(ctx context.Context, e *whole, place *recordsPlace) (matches []*storage.Version, next *recordsPlace, err error) {
	window, err := s.store.Search(ctx, nil, e.patients, maxRecords, place.Window)
	if err != nil {
		return nil, nil, err
	}
	var ids []string
	for _, v := range window.Matches {
		if v.ID > place.After {
			ids = append(ids, v.ID)
		}
	}
	for together := 1; len(ids) > 0 && len(matches) < e.size; together = min(2*together, mostTogether) {
		these := ids[:min(together, len(ids))]
		if place.Within != nil { // the same as on the page before, but for those who are gone
			n, _ := slices.BinarySearch(ids, place.Through+"\x00")
			if these = ids[:n]; n == 0 {
				place.Through, place.Within = "", nil
				continue
			}
		}
		page, err := s.store.Search(ctx, nil, e.of(these...), e.size-len(matches), place.Within)
		if err != nil {
			return nil, nil, err
		}
		kept, err := s.notBefore(ctx, e, these[0], page.Matches)
		if err != nil {
			return nil, nil, err
		}
		matches = append(matches, kept...)
		if page.Next != nil {
			place.Through, place.Within = these[len(these)-1], page.Next
			continue
		}
		place.After, place.Through, place.Within = these[len(these)-1], "", nil
		ids = ids[len(these):]
	}
	switch {
	case len(ids) > 0:
		return matches, place, nil
	case window.Next != nil:
		return matches, &recordsPlace{Window: window.Next}, nil
	}
	return matches, nil, nil
}

// notBefore leaves out what came with the record of a patient whose id is before first: a visit of two, for instance.
func (s *Service) notBefore(ctx context.Context, e *whole, first string, list []*storage.Version) ([]*storage.Version, error) {
	earlier := slices.DeleteFunc(s.patientsNamed(list...), func(id string) bool { return id >= first })
	earlier, err := s.recordsAmong(ctx, e, earlier)
	if err != nil || len(earlier) == 0 {
		return list, err
	}
	return s.without(ctx, e.of(earlier...), list)
}

// recordsAmong are those of some patients whose records $everything of several gives the caller.
func (s *Service) recordsAmong(ctx context.Context, e *whole, ids []string) (found []string, err error) {
	if len(ids) == 0 {
		return nil, nil
	}
	keys, err := s.store.Keys(ctx, nil, &search.Query{Types: e.patients.Types, Where: append(slices.Clone(e.patients.Where), withIDs("Patient", ids...))}, len(ids))
	for _, k := range keys {
		found = append(found, k.ID)
	}
	return found, err
}

// patientsNamed are the ids of the Patients that some resources are or name anywhere, and the other ids of those people.
func (s *Service) patientsNamed(list ...*storage.Version) (ids []string) {
	const name = "Patient/"
	for _, v := range list {
		if v.Type == "Patient" {
			ids = append(ids, v.ID)
		}
		text := string(v.Content)
		for {
			_, behind, more := strings.Cut(text, name)
			if !more {
				break
			}
			text = behind
			end := strings.IndexFunc(text, func(c rune) bool {
				return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '.'
			})
			if end > 0 && fhir.ValidID(text[:end]) {
				ids = append(ids, text[:end])
			}
		}
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	return append(ids, s.store.OtherIDs(ids)...)
}
