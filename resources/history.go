package resources

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/storage"
)

// history gives the versions of a resource, of a type or of everything, newest first, with the deletes among them.
// Spec: FHIR R4 http.html#history.
//
// Errors: NotFound for a resource that never was; Invalid for parameters.
func (s *Service) history(ctx context.Context, tx *storage.Tx, r Request) (*Response, error) {
	h, err := s.parseHistory(&r)
	if err != nil {
		return nil, err
	}
	ctx = s.store.WithinTime(ctx)
	read := func(q storage.HistoryQuery) (*storage.HistoryPage, error) {
		if tx == nil {
			return s.store.History(ctx, q)
		}
		return tx.History(ctx, q)
	}
	narrows := s.store.Narrows(ctx, h.Type)
	var page *storage.HistoryPage
	if narrows {
		page, err = s.narrowedHistory(ctx, h.HistoryQuery, read)
	} else {
		page, err = read(h.HistoryQuery)
	}
	if err != nil {
		return nil, err
	}
	if r.ID != "" && (narrows || len(page.Versions) == 0) { // by scopes that look at the content: it must be visible as it is now
		key := storage.Key{Type: r.Type, ID: r.ID}
		if v, err := s.current(ctx, tx, key); err != nil || v == nil {
			if err == nil {
				err = notFound(key)
			}
			return nil, err
		}
	}
	answer := &Bundle{Type: "history", Total: &page.Total, Issues: h.issues}
	answer.Links = append(answer.Links, Link{"self", h.self})
	if page.Next != nil {
		payload, err := json.Marshal(page.Next)
		if err != nil {
			return nil, err
		}
		token := s.store.Seal(cursorPurpose(&r, "history", h.self), payload)
		answer.Links = append(answer.Links, Link{"first", h.self}, Link{"next", h.self + joint(h.self) + "_cursor=" + token})
	}
	if narrows {
		answer.Total = nil // it counts what the scopes of the token leave out
	}
	for _, v := range page.Versions {
		if v, err = s.subset(v, h.summary, h.elements); err != nil {
			return nil, err
		}
		answer.Entries = append(answer.Entries, Entry{Version: v})
	}
	return &Response{Bundle: answer}, nil
}

// narrowedHistory is a page of what granular scopes let through. It reads on until the page is full: how much they leave
// out must not show in its length.
func (s *Service) narrowedHistory(ctx context.Context, q storage.HistoryQuery, read func(storage.HistoryQuery) (*storage.HistoryPage, error)) (*storage.HistoryPage, error) {
	page := &storage.HistoryPage{}
	limit := q.Limit
	q.Limit = max(limit+1, s.limits.DefaultPageSize)
	for limit > 0 {
		more, err := read(q)
		if err != nil {
			return nil, err
		}
		kept, _, err := s.store.Narrowed(ctx, more.Versions)
		if err != nil {
			return nil, err
		}
		i := 0
		for j, v := range more.Versions {
			if i == len(kept) || kept[i] != v {
				continue
			}
			if i++; len(page.Versions) == limit {
				page.Next = &page.Marks[limit-1]
				return page, nil
			}
			page.Versions, page.Marks = append(page.Versions, v), append(page.Marks, more.Marks[j])
		}
		if q.After = more.Next; q.After == nil {
			break
		}
	}
	return page, nil
}

func joint(url string) string {
	if strings.Contains(url, "?") {
		return "&"
	}
	return "?"
}

// historyRequest is a history with its parameters read.
type historyRequest struct {
	storage.HistoryQuery
	// self is the URL of the first page, as it was understood.
	self     string
	summary  string
	elements []string
	issues   []fhir.Issue
}

func (s *Service) parseHistory(r *Request) (*historyRequest, error) {
	pairs, err := search.ParsePairs(r.Query)
	if err != nil {
		return nil, err
	}
	h := &historyRequest{HistoryQuery: storage.HistoryQuery{Type: r.Type, ID: r.ID, Limit: s.limits.DefaultPageSize}}
	if h.summary, h.elements, err = search.ParseSubset(r.Query); err != nil {
		return nil, err
	}
	var applied []search.Pair
	var faults []fhir.Issue
	var token string
	seen := map[string]bool{}
	for _, p := range pairs {
		fault := func(code, text string) {
			faults = append(faults, fhir.Issue{Severity: fhir.SeverityError, Code: code, Text: text, Expression: []string{"http." + p.Name}})
		}
		if seen[p.Name] {
			fault(fhir.CodeInvalid, p.Name+" stands twice")
			continue
		}
		ok := true
		switch p.Name {
		case "_since":
			h.Since, _, ok = historyTime(p.Value)
		case "_at":
			h.From, h.Until, ok = historyTime(p.Value)
		case "_count":
			h.Limit, err = strconv.Atoi(p.Value)
			ok = err == nil && h.Limit >= 0
			h.Limit = min(h.Limit, s.limits.MaxPageSize)
		case "_sort":
			ok = p.Value == "-_lastUpdated"
		case "_cursor":
			token = p.Value
			continue
		case "_format", "_pretty":
			continue
		case "_summary", "_elements": // ParseSubset has read them
		default:
			text := "A history has no parameter " + quote(p.Name) + "; it has _since, _at, _count and _sort=-_lastUpdated"
			if !r.Lenient {
				fault(fhir.CodeNotSupported, text)
			} else {
				h.issues = append(h.issues, fhir.Issue{Severity: fhir.SeverityWarning, Code: fhir.CodeNotSupported, Text: text + "; it was ignored"})
			}
			continue
		}
		if seen[p.Name] = true; !ok {
			fault(fhir.CodeValue, fmt.Sprintf("%s cannot be %s", p.Name, quote(p.Value)))
		}
		applied = append(applied, p)
	}
	if len(faults) > 0 {
		return nil, &fhir.Error{Kind: fhir.Invalid, Issues: faults}
	}
	if h.summary == "count" {
		h.Limit = 0
	}
	h.self = historyPath(r) + query(applied)
	if token != "" {
		payload, ok := s.store.Open(cursorPurpose(r, "history", h.self), token)
		h.After = &storage.HistoryMark{}
		if !ok || json.Unmarshal(payload, h.After) != nil {
			return nil, fhir.NewError(fhir.Invalid, fhir.CodeValue,
				"The paging link is not one of this server for this history; begin again with the first page")
		}
	}
	return h, nil
}

// historyTime reads the time of a parameter as the stretch it covers. A plus sign of an offset that was sent without
// escaping arrives as a space.
func historyTime(s string) (from, until time.Time, ok bool) {
	d, ok := fhir.ParseDateTime(strings.Replace(s, " ", "+", 1), nil)
	if !ok {
		return from, until, false
	}
	return d.Time, d.End(), true
}

func historyPath(r *Request) string {
	path := "_history"
	if r.ID != "" {
		path = r.ID + "/" + path
	}
	if r.Type != "" {
		path = r.Type + "/" + path
	}
	return path
}
