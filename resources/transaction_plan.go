package resources

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"

	"kiln/fhir"
	"kiln/storage"
)

// maxFaults is how many issues a failed transaction tells at most.
const maxFaults = 100

// plan reads and validates all entries of a transaction. It needs no database.
//
// Errors: with the issues of all entries that have some.
func (s *Service) plan(ctx context.Context, list []fhir.Node, r *Request) (*transaction, error) {
	t := &transaction{Service: s, entries: make([]*txEntry, len(list)), provenance: r.Provenance}
	t.links = links{service: s, named: make(map[string]*txEntry, len(list)), byCriteria: map[string]*txEntry{}}
	faults := make([]error, len(list))
	ctx = sharingCodes(ctx)
	inParallel(len(list), func(i int) {
		e := &txEntry{i: i}
		t.entries[i] = e
		if e.req, e.fullURL, faults[i] = s.parseEntry(&list[i]); faults[i] == nil {
			e.req.Lenient, e.req.TimeZone, e.req.Principal = r.Lenient, r.TimeZone, r.Principal
			if _, faults[i] = authorize(ctx, &e.req); faults[i] == nil {
				faults[i] = s.auditEventsAreOurs(&e.req)
			}
			if faults[i] == nil {
				faults[i] = s.planEntry(ctx, e)
			}
		}
	})
	if err := together(faults); err != nil {
		return nil, err
	}
	for _, e := range t.entries {
		if err := t.name(e); err != nil {
			return nil, err
		}
		switch {
		case e.criteria != "" && e.req.Interaction != Delete:
			t.late = true
		case e.criteria == "" && e.req.Interaction == Create:
			e.key = storage.Key{Type: e.req.Type, ID: e.made}
		case e.criteria == "":
			e.key = storage.Key{Type: e.req.Type, ID: e.req.ID}
		}
	}
	for _, e := range t.entries {
		if e.req.Interaction == Create || e.req.Interaction == Update {
			t.scan(e, e.req.Body)
		}
	}
	for i := range t.slots {
		if t.slots[i].version && t.slots[i].target.req.Interaction != Create {
			t.late = true
		}
	}
	return t, nil
}

// planEntry checks what can be checked of one entry by itself, and gives new resources their ids.
func (s *Service) planEntry(ctx context.Context, e *txEntry) error {
	r := &e.req
	switch {
	case r.Interaction == Operate:
		return fhir.NewError(fhir.NotSupported, fhir.CodeNotSupported,
			"Operations cannot be part of a transaction; call $"+r.Operation+" by itself, or in a batch").At("request.url")
	case !r.Interaction.writes():
		return nil
	case r.Interaction == Create && r.IfNoneExist != "":
		e.criteria = normalCriteria(r.Type, r.IfNoneExist)
	case r.Interaction != Create && r.ID == "":
		e.criteria = normalCriteria(r.Type, r.Query)
	}
	if r.Interaction != Create && r.Interaction != Update {
		return nil
	}
	if err := checkBody(r.Body, r.Type); err != nil {
		return err
	}
	switch {
	case r.Interaction == Create:
		e.made = s.options.NewID()
		r.Body.Set("id", fhir.Str(e.made))
		if err := s.attribute(ctx, r); err != nil {
			return err
		}
	case r.ID != "":
		if err := takeID(r.Body, r.ID); err != nil {
			return err
		}
	default:
		if e.own = r.Body.ID(); e.own != "" {
			if err := checkOwnID(r.Type, e.own); err != nil {
				return err
			}
		}
		if e.made = e.own; e.made == "" {
			e.made = s.options.NewID()
			r.Body.Set("id", fhir.Str(e.made))
		}
	}
	var err error
	e.issues, err = s.validate(ctx, nil, r.Body)
	return err
}

// name notes what an entry's resource is called by others. Two entries may not have one name, nor the same criteria.
func (t *transaction) name(e *txEntry) error {
	if e.criteria != "" {
		if other := t.byCriteria[e.criteria]; other != nil {
			return sameIdentity(other, e, "what "+quote(e.criteria)+" matches")
		}
		t.byCriteria[e.criteria] = e
	}
	if e.fullURL == "" || !e.req.Interaction.writes() || e.req.Interaction == Delete {
		return nil
	}
	if other := t.named[e.fullURL]; other != nil {
		return sameIdentity(other, e, "the fullUrl "+quote(e.fullURL))
	}
	t.named[e.fullURL] = e
	if strings.HasPrefix(e.fullURL, "http") {
		if ref, ok := fhir.ParseReference(e.fullURL, t.isType); ok {
			e.base = ref.Base
		}
	}
	return nil
}

// sameIdentity is the error of two entries that concern one resource.
func sameIdentity(a, b *txEntry, what string) *fhir.Error {
	e := fhir.NewError(fhir.Invalid, fhir.CodeDuplicate, entryPath(a.i)+" and "+entryPath(b.i)+" both stand for "+what+
		"; in a transaction each resource may be written once").Coded("same-identity")
	return e.At(entryPath(a.i), entryPath(b.i))
}

// together makes one error of the faults of entries, nil where there are none.
func together(faults []error) error {
	var all *fhir.Error
	for i, err := range faults {
		var e *fhir.Error
		switch {
		case err == nil:
			continue
		case !errors.As(err, &e):
			return err
		case all == nil:
			all = &fhir.Error{Kind: e.Kind}
		}
		all.Issues = append(all.Issues, atEntryIssues(e.Issues, i)...)
		if len(all.Issues) > maxFaults {
			all.Issues = append(all.Issues[:maxFaults], fhir.Issue{
				Severity: fhir.SeverityInformation, Code: fhir.CodeInformational, Text: "There are more issues; these are the first"})
			break
		}
	}
	if all == nil {
		return nil
	}
	return all
}

// inParallel calls work for 0 to n-1, on up to four processors.
func inParallel(n int, work func(i int)) {
	workers := min(runtime.GOMAXPROCS(0), 4, n/16)
	if workers < 2 {
		for i := range n {
			work(i)
		}
		return
	}
	var next atomic.Int64
	var wait sync.WaitGroup
	var broken atomic.Value
	for range workers {
		wait.Go(func() {
			defer func() {
				if r := recover(); r != nil {
					broken.Store(fmt.Sprintf("%v\n%s", r, debug.Stack()))
				}
			}()
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				work(i)
			}
		})
	}
	wait.Wait()
	if r := broken.Load(); r != nil {
		panic(r) // where whoever serves the request can catch it
	}
}
