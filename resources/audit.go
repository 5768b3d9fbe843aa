package resources

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"kiln/auth"
	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/storage"
)

// This file notes what every request did or was refused. What changes something is noted by the transaction that
// changes it (Service.write); everything else before the answer goes out. docs/audit.md tells the rules.

// trail follows one request until all that it did is written.
type trail struct {
	request *Request
	// batch says that entries of a batch run inside, each with a trail of its own. Whatever else runs inside is part of the
	// request.
	batch bool
	// written says that a transaction has written what the request did.
	written bool
	pending []storage.AuditEntry
	// seen are the compartments of what a request looked at that then failed.
	seen []int64
}

// sees notes what a request has looked at, should it fail.
func (t *trail) sees(list []*storage.Version) {
	for _, v := range list {
		if t != nil {
			t.seen = append(t.seen, v.Compartments...)
		}
	}
}

type trailKey struct{}

func trailOf(ctx context.Context) *trail {
	t, _ := ctx.Value(trailKey{}).(*trail)
	return t
}

// audited performs a request and sees to it that the log tells of it. A request that the log cannot tell of has no
// answer.
func (s *Service) audited(ctx context.Context, r *Request) (*Response, error) {
	outer := trailOf(ctx)
	if !s.options.Audit || outer != nil && !outer.batch {
		return s.perform(ctx, r)
	}
	if outer == nil {
		s.asked.Add(1)
	}
	t := &trail{request: r}
	resp, err := s.perform(context.WithValue(ctx, trailKey{}, t), r)
	switch {
	case err != nil:
		refusal := s.refusal(ctx, r, err)
		refusal.Compartments = append(refusal.Compartments, t.seen...)
		slices.Sort(refusal.Compartments)
		refusal.Compartments = slices.Compact(refusal.Compartments)
		t.pending = s.bounded(append(t.pending, refusal), "", r.Principal.Known())
	case !t.written && !t.batch && t.pending == nil:
		t.pending = s.entriesOf(ctx, r, resp)
	case !t.written && !t.batch:
		t.pending = append(t.pending, s.entriesOf(ctx, r, resp)...)
	}
	if outer != nil {
		outer.pending = append(outer.pending, t.pending...)
		return resp, err
	}
	if fault := s.store.Audit(ctx, t.pending...); fault != nil && err == nil {
		return nil, fault
	}
	return resp, err
}

// auditIn queues what a request did in the transaction that does it.
func (s *Service) auditIn(ctx context.Context, tx *storage.Tx, resp *Response) {
	t := trailOf(ctx)
	if t == nil || t.batch {
		return
	}
	list := s.entriesOf(ctx, t.request, resp)
	if resp != nil && resp.attested != nil {
		e := s.entry(ctx, &Request{Interaction: Create, Principal: t.request.Principal})
		concerns(&e, resp.attested)
		list = append(list, e)
	}
	blank := s.entry(ctx, &Request{Interaction: t.request.Interaction, Principal: t.request.Principal})
	tx.Audit(witness(list, tx.Written(), blank)...)
}

// auditDone says that what auditIn queued has been committed.
func auditDone(ctx context.Context) {
	if t := trailOf(ctx); t != nil && !t.batch {
		t.written = true
	}
}

// Refused notes a request that was refused before the service saw it: no token, a body that cannot be read. r says what
// is known of it.
func (s *Service) Refused(ctx context.Context, r Request, err error) error {
	if !s.options.Audit {
		return nil
	}
	if !r.Principal.Known() {
		r.Principal = s.options.Anonymous
	}
	return s.store.Audit(context.WithoutCancel(ctx), s.bounded([]storage.AuditEntry{s.refusal(ctx, &r, err)}, "", r.Principal.Known())...)
}

// anonymousRefusals is how many refusals of a kind a second a server notes one by one of callers whom it does not know.
// Beyond, it counts them, and the next that is noted tells how many there were: nobody can fill the disk without a token.
// Kinds are requests, and each act by itself, so that a flood of one does not hide another.
const anonymousRefusals = 20

type refusals struct {
	mu    sync.Mutex
	kinds map[string]*refusalCount
}

type refusalCount struct {
	second          int64
	noted, withheld int
}

// bounded leaves out what anonymousRefusals bounds. kind is an act, "" for requests.
func (s *Service) bounded(list []storage.AuditEntry, kind string, known bool) []storage.AuditEntry {
	if known {
		return list
	}
	s.refusals.mu.Lock()
	defer s.refusals.mu.Unlock()
	if s.refusals.kinds == nil {
		s.refusals.kinds = map[string]*refusalCount{}
	}
	c := s.refusals.kinds[kind]
	if c == nil {
		c = &refusalCount{}
		s.refusals.kinds[kind] = c
	}
	if now := s.now().Unix(); now != c.second {
		c.second, c.noted = now, 0
	}
	if c.noted >= anonymousRefusals {
		c.withheld += len(list)
		return nil
	}
	c.noted += len(list)
	if c.withheld > 0 && len(list) > 0 {
		list[0].Detail += " and " + strconv.Itoa(c.withheld) + " more before"
		c.withheld = 0
	}
	return list
}

// entry is what is known of a request before it is performed.
func (s *Service) entry(ctx context.Context, r *Request) storage.AuditEntry {
	e := storage.AuditEntry{Recorded: s.now().UTC(), Act: string(r.Interaction), Operation: r.Operation}
	if r.Operation != "" {
		e.Act = string(Operate) // also where the service goes on with it as a create or update
	}
	who(&e, &r.Principal)
	e.Request, e.Address = RequestID(ctx), clientAddress(ctx)
	if r.Type != "" && r.ID != "" && fhir.ValidID(r.ID) {
		e.Target = r.Type + "/" + r.ID
	} else {
		e.Type = r.Type
	}
	e.Query = s.queryText(r)
	e.Patients = s.namedPatients(r)
	return e
}

// who writes the caller into an entry: ids and names, never a token.
func who(e *storage.AuditEntry, p *auth.Principal) {
	e.User, e.Name, e.FHIRUser, e.Client, e.Token, e.Purpose = p.User, p.Name, p.FHIRUser, p.Client, p.Token, p.Purpose
	for _, role := range p.Roles {
		e.Roles = append(e.Roles, string(role))
	}
	if p.BreakGlass != nil {
		e.Purpose = p.BreakGlass.Purpose
	}
}

// maxAuditQuery is how much of a query the log keeps.
const maxAuditQuery = 16 << 10

// methods are those of the requests that have criteria or parameters.
var methods = map[Interaction]string{Create: "POST", Update: "PUT", Patch: "PATCH", Delete: "DELETE"}

// queryText is the search, or the criteria, of a request; "" for none.
func (s *Service) queryText(r *Request) string {
	method, query := methods[r.Interaction], r.Query
	if method == "" {
		method = "GET"
	}
	path := r.Type
	switch r.Interaction {
	case SearchType, SearchSystem:
		path = searchPath(*r)
	case HistoryType, HistorySystem, HistoryInstance:
		path = historyPath(r)
	case Create:
		query = r.IfNoneExist
	case Operate:
		if r.ID != "" {
			path += "/" + r.ID
		}
		path = strings.TrimPrefix(path+"/$"+r.Operation, "/")
	case Batch, Transaction:
		return ""
	default:
		if r.ID != "" { // the parameters of a read shape its answer
			return ""
		}
	}
	switch r.Interaction {
	case SearchType, SearchSystem, HistoryType, HistorySystem:
	default:
		if query == "" {
			return ""
		}
	}
	if query != "" {
		path += "?" + query
	}
	text := method + " " + s.options.Base + "/" + path
	return text[:min(len(text), maxAuditQuery)]
}

// namedPatients are the ids of the patients that a request names itself, whether they exist or not.
func (s *Service) namedPatients(r *Request) (ids []string) {
	add := func(id string) {
		if fhir.ValidID(id) && !slices.Contains(ids, id) && len(ids) < maxNamed {
			ids = append(ids, id)
		}
	}
	reference := func(text string) {
		if id, is := strings.CutPrefix(strings.TrimPrefix(text, s.options.Base+"/"), "Patient/"); is {
			add(id)
		}
	}
	if r.Type == "Patient" && r.ID != "" {
		add(r.ID)
	}
	if r.Compartment == "Patient" {
		add(r.CompartmentID)
	}
	if r.Interaction == Operate && r.Body != nil && r.Body.ResourceType() == "Parameters" {
		for p := range r.Body.Get("parameter").Items() {
			reference(p.Get("valueReference").GetText("reference"))
			if n := p.Get("resource"); n != nil && n.ResourceType() == "Patient" {
				add(n.ID())
			}
		}
	}
	if r.Query == "" || r.ID != "" && r.Interaction != Operate {
		return ids
	}
	pairs, err := search.ParsePairs(r.Query)
	if err != nil {
		return ids
	}
	for _, p := range pairs {
		for value := range strings.SplitSeq(p.Value, ",") {
			if reference(value); p.Name == "patient" || p.Name == "patient:Patient" || p.Name == "_id" && r.Type == "Patient" {
				add(value)
			}
		}
	}
	return ids
}

// maxNamed is how many patients one request can name for the log.
const maxNamed = 100

// entriesOf tells what a request did: an entry for each resource that it wrote, one for each entry of a transaction, one
// for everything else.
func (s *Service) entriesOf(ctx context.Context, r *Request, resp *Response) []storage.AuditEntry {
	e := s.entry(ctx, r)
	if resp == nil {
		return []storage.AuditEntry{e}
	}
	if b := resp.Bundle; b != nil && b.Type == "transaction-response" && r.Interaction == Transaction {
		var list []storage.AuditEntry
		for i := range b.Entries {
			if asked := b.Entries[i].asked; asked != nil {
				for _, part := range s.entriesOf(ctx, asked, b.Entries[i].Response) {
					part.Within = string(Transaction)
					list = append(list, part)
				}
			}
		}
		if len(list) > 0 {
			return list
		}
	}
	if len(resp.touched) > 1 {
		list := make([]storage.AuditEntry, len(resp.touched))
		for i, v := range resp.touched {
			list[i] = e
			concerns(&list[i], v)
		}
		return list
	}
	if v := resp.Version; v != nil {
		concerns(&e, v)
	}
	e.Compartments = append(e.Compartments, compartmentsIn(resp.Bundle)...)
	for _, v := range resp.holds {
		e.Compartments = append(e.Compartments, v.Compartments...)
	}
	slices.Sort(e.Compartments)
	e.Compartments = slices.Compact(e.Compartments)
	return []storage.AuditEntry{e}
}

// concerns says that an entry is about a version.
func concerns(e *storage.AuditEntry, v *storage.Version) {
	if typ, id, _ := strings.Cut(e.Target, "/"); typ != v.Type || id != v.ID { // who asked for it by its id has named it
		e.Target = v.Type + "/" + v.ID
	}
	e.Type, e.Version, e.Compartments = "", v.Number, slices.Clone(v.Compartments)
}

func compartmentsIn(b *Bundle) (list []int64) {
	if b == nil {
		return nil
	}
	for i := range b.Entries {
		if v := b.Entries[i].Version; v != nil {
			list = append(list, v.Compartments...)
		}
		if resp := b.Entries[i].Response; resp != nil && resp.Version != nil {
			list = append(list, resp.Version.Compartments...)
		}
	}
	return list
}

// The outcomes of http://terminology.hl7.org/CodeSystem/audit-event-outcome; success is left out.
const (
	outcomeMinor   = "4" // a refusal: the caller's to put right
	outcomeSerious = "8" // a fault of ours
)

// refusal is the entry of a request that failed. It tells codes, never the texts, which repeat what was sent.
func (s *Service) refusal(ctx context.Context, r *Request, err error) storage.AuditEntry {
	e := s.entry(ctx, r)
	e.Outcome = outcomeMinor
	var known *fhir.Error
	if !errors.As(err, &known) || known.Kind == fhir.Internal || known.Kind == fhir.Transient {
		e.Outcome = outcomeSerious
	}
	if known == nil || len(known.Issues) == 0 {
		e.Detail = fhir.CodeException
		return e
	}
	e.Detail = known.Issues[0].Code
	if d := known.Issues[0].Detail; d != "" {
		e.Detail += " " + d
	}
	return e
}

// ActEntry is the entry of something that is no request of FHIR: a sign-in, a grant. p says who, act is one of the Act
// constants. The caller writes it; wanted is false where the log is off.
func (s *Service) ActEntry(ctx context.Context, p auth.Principal, act string, refused bool, detail, patient string) (e storage.AuditEntry, wanted bool) {
	e = NewAct(s.now(), p, act, detail)
	e.Request, e.Address = RequestID(ctx), clientAddress(ctx)
	if refused {
		e.Outcome = outcomeMinor
	}
	if fhir.ValidID(patient) {
		e.Patients = []string{patient}
	}
	if refused && p.User == "" { // who merely names a client is nobody known: bounded as other refusals are
		bounded := s.bounded([]storage.AuditEntry{e}, act, false)
		if len(bounded) == 0 {
			return e, false
		}
		e = bounded[0]
	}
	return e, s.options.Audit
}

// maxActDetail is how much the log keeps of what an act was about, in bytes: people send what they like in forms.
const maxActDetail = 1 << 10

// NewAct is the entry of an act, for who writes it in a transaction of its own.
func NewAct(now time.Time, p auth.Principal, act, detail string) storage.AuditEntry {
	if len(detail) > maxActDetail {
		detail = strings.ToValidUTF8(detail[:maxActDetail], "") + "…"
	}
	e := storage.AuditEntry{Recorded: now.UTC(), Act: act, Detail: detail}
	who(&e, &p)
	return e
}
