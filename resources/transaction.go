package resources

import (
	"cmp"
	"context"
	"slices"

	"kiln/auth"
	"kiln/fhir"
	"kiln/storage"
)

// transaction performs all entries or none. FHIR R4 http.html#trules asks for the order DELETE, POST, PUT and PATCH,
// GET. As no two entries may concern one resource, the writes among themselves have no order that anybody could see,
// except through criteria: those are looked up before the first write, all at the same state. So the writes go out
// sorted, which keeps similar transactions from deadlocks, and the reads come last.
//
// Errors: whatever an entry fails with, its expressions beginning with Bundle.entry[i].
func (s *Service) transaction(ctx context.Context, r Request, list []fhir.Node) (*Response, error) {
	fingerprint := s.fingerprint(ctx, &r)
	t, err := s.plan(ctx, list, &r)
	if err != nil {
		return nil, err
	}
	if !t.late {
		if err := t.ready(ctx, nil); err != nil {
			return nil, err
		}
		if err := s.store.DeclareShapes(ctx, t.prepared()...); err != nil {
			return nil, err
		}
	}
	return s.write(ctx, &r, fingerprint, func(tx *storage.Tx) (*Response, error) { return t.run(ctx, tx) })
}

// transaction is a Bundle on its way. What run finds out belongs to one try: the next one finds it out again.
type transaction struct {
	*Service
	entries []*txEntry
	links
	// provenance is that of the header X-Provenance; nil for none.
	provenance *fhir.Node
	// late says that ids or versions are only known inside of the transaction, so that references can only be resolved
	// there, and resources only be prepared there.
	late bool
}

// txEntry is one entry of a transaction.
type txEntry struct {
	i   int
	req Request
	// fullURL is what other entries call the resource, base the server part of it where it is a RESTful URL.
	fullURL, base string
	// criteria are those of a conditional write, in their normal form; "" for none.
	criteria string
	// own is the id that the body of a conditional update came with, made the one that a new resource gets.
	own, made string
	issues    []fhir.Issue

	// From here on it is what one try found.

	// key is the resource that the entry stands for. The ID is "" for a conditional delete.
	key storage.Key
	// matched are the resources that criteria found.
	matched []storage.Key
	// old holds the current versions of what the entry writes, locked; of a conditional create that has its resource
	// already, that resource.
	old      map[storage.Key]*storage.Version
	prepared *storage.Prepared
	resp     *Response
	// ruled says that the rule of its type has more to say than to others of a run.
	ruled bool
}

// part is the place of a write in a transaction.
type part struct {
	path string
	of   *transaction
}

// writes says whether the transaction writes a resource by an entry of its own.
func (p *part) writes(key storage.Key) bool {
	return p != nil && slices.ContainsFunc(p.of.entries, func(e *txEntry) bool { return e.req.Interaction.writes() && e.key == key })
}

// place is an element of the written resource, as errors name it.
func (p *part) place(element string) string {
	if p == nil {
		return element
	}
	return p.path + belowEntry(element)
}

// exists says whether a conditional create found its resource.
func (e *txEntry) exists() bool { return e.req.Interaction == Create && len(e.matched) > 0 }

// ready resolves all references and prepares all resources. tx is nil outside of the transaction.
func (t *transaction) ready(ctx context.Context, tx *storage.Tx) error {
	if err := t.resolve(ctx, tx, t.conditionals); err != nil {
		return err
	}
	if err := t.rewrite(t.slots); err != nil {
		return err
	}
	faults := make([]error, len(t.entries))
	inParallel(len(t.entries), func(i int) {
		e := t.entries[i]
		if e.prepared = nil; e.req.Interaction != Create && e.req.Interaction != Update || e.exists() {
			return
		}
		if e.req.Interaction == Update {
			e.req.Body.Set("id", fhir.Str(e.key.ID))
		}
		e.prepared, faults[i] = t.store.Prepare(e.req.Body)
	})
	for i, err := range faults {
		if err != nil {
			return atEntry(err, i)
		}
	}
	return nil
}

func (t *transaction) prepared() []*storage.Prepared {
	var list []*storage.Prepared
	for _, e := range t.entries {
		if e.prepared != nil {
			list = append(list, e.prepared)
		}
	}
	return list
}

// A transaction sends what it has queued when it is this much, so that the queue of a large Bundle stays small.
const (
	flushStatements = 500
	flushBytes      = 4 << 20
)

// New resources go out by COPY from minBulk on, bulkSize at a time; fewer go out with the other writes.
const (
	minBulk  = 64
	bulkSize = 500
)

// writeRank puts last what has rules that look at others: an Appointment takes the time of those whom a Schedule of the
// same transaction may name, and a Slot that comes with it says what the Appointment has made of it. A Binary and a Provenance
// belong to whom what they refer to belongs.
var writeRank = map[string]int{"Schedule": 1, "Appointment": 2, "Slot": 3, "AppointmentResponse": 4, "Binary": 5, "Provenance": 6}

// fence keeps others from all time that the transaction takes or gives back, as far as its content says: two Bundles with the same
// doctors in another order would each wait for the other.
func (t *transaction) fence(tx *storage.Tx) {
	var whose storage.Whose
	entries := 0
	for _, e := range t.entries {
		if !e.req.Interaction.writes() || e.req.Type != "Appointment" && e.req.Type != "Slot" {
			continue
		}
		entries++
		key := e.key.Type + "/" + e.key.ID
		if e.req.Type == "Slot" {
			whose.Slots = append(whose.Slots, key)
			whose.Schedules = append(whose.Schedules, t.local(e.req.Body.Get("schedule")))
			continue
		}
		if end := instant(e.req.Body.Get("end")); !end.IsZero() && !end.After(t.now()) {
			continue // what has been takes nobody's time
		}
		whose.Appointments = append(whose.Appointments, key)
		for ref := range e.req.Body.Get("slot").Items() {
			whose.Slots = append(whose.Slots, t.local(ref))
		}
		for p := range e.req.Body.Get("participant").Items() {
			whose.Actors = append(whose.Actors, t.local(p.Get("actor")))
		}
	}
	if entries > 1 { // one alone puts up its own, when it knows whose time it takes
		tx.Fence(whose)
	}
}

// run performs the transaction once.
func (t *transaction) run(ctx context.Context, tx *storage.Tx) (*Response, error) {
	t.fence(tx)
	if err := t.identify(ctx, tx); err != nil {
		return nil, err
	}
	if t.late {
		if err := t.ready(ctx, tx); err != nil {
			return nil, err
		}
		tx.DeclareShapes(t.prepared()...)
	}
	if err := tx.Inherit(ctx, t.prepared()...); err != nil {
		return nil, err
	}
	for _, e := range t.entries {
		if e.prepared != nil && e.old[e.key] == nil { // what is there already, the rules look at
			tx.Brings(e.prepared)
		}
	}
	var writes, reads []*txEntry
	for _, e := range t.entries {
		e.req.part = &part{entryPath(e.i), t}
		if e.resp, e.ruled = nil, false; e.req.Interaction.writes() {
			writes = append(writes, e)
		} else {
			reads = append(reads, e)
		}
	}
	slices.SortFunc(writes, func(a, b *txEntry) int {
		return cmp.Or(writeRank[a.key.Type]-writeRank[b.key.Type], compareKeys(a.key, b.key))
	})
	if err := t.insertAll(ctx, tx, writes); err != nil {
		return nil, err
	}
	size, answered := 0, 0
	for i, e := range writes {
		if e.resp == nil {
			if err := t.insertRun(ctx, tx, writes[i:]); err != nil {
				return nil, err
			}
		}
		if e.resp != nil {
			continue
		}
		var err error
		if e.resp, err = t.apply(ctx, tx, e); err != nil {
			return nil, atEntry(err, e.i)
		}
		if v := e.resp.Version; v != nil {
			size += len(v.Content)
		}
		if e.req.Interaction == Patch { // all others have come in the request, which is bounded
			if answered += e.resp.size(); answered >= t.limits.MaxBatchBytes {
				return nil, atEntry(t.fits(answered), e.i)
			}
		}
		if tx.Pending() >= flushStatements || size >= flushBytes {
			if err := tx.Flush(ctx); err != nil {
				return nil, err
			}
			size = 0
		}
	}
	for _, e := range reads {
		var err error
		if err = t.fits(answered); err == nil {
			e.resp, err = t.readEntry(ctx, tx, e.req)
		}
		if err != nil {
			return nil, atEntry(err, e.i)
		}
		answered += e.resp.size()
	}
	answer := &Bundle{Type: "transaction-response", Entries: make([]Entry, len(t.entries))}
	for i, e := range t.entries {
		e.resp.Issues = atEntryIssues(e.resp.Issues, i)
		answer.Entries[i] = Entry{Interaction: e.req.Interaction, Response: e.resp, asked: &e.req}
	}
	return &Response{Bundle: answer}, nil
}

// insertAll writes the new resources of a large transaction. Their ids are new too, so nobody waits for them.
func (t *transaction) insertAll(ctx context.Context, tx *storage.Tx, writes []*txEntry) error {
	var fresh []*txEntry
	for _, e := range writes {
		if rule, ruled := t.rules[e.req.Type]; e.req.Interaction == Create && !e.exists() && (!ruled || rule.brought != nil) {
			fresh = append(fresh, e)
		}
	}
	if len(fresh) < minBulk {
		return nil
	}
	fresh, err := t.brought(ctx, tx, fresh)
	if err != nil {
		return err
	}
	return t.bulk(ctx, tx, fresh, storage.MethodCreate)
}

// insertRun writes the resources that a list of writes begins with, where they are many and new under ids of the client's: what
// an import brings. Others may be making the same ones, so they keep their place in the order of all writes.
func (t *transaction) insertRun(ctx context.Context, tx *storage.Tx, writes []*txEntry) error {
	n := 0
	for n < len(writes) && t.isNew(writes[n]) {
		n++
	}
	if n < minBulk {
		return nil
	}
	as, err := t.brought(ctx, tx, writes[:n])
	if err != nil {
		return err
	}
	for i, e := range writes[:n] {
		if i == len(as) || as[i] != e {
			e.ruled, n = true, i
			break
		}
	}
	if n < minBulk {
		return nil
	}
	return t.bulk(ctx, tx, writes[:n], storage.MethodUpdate)
}

// isNew says whether an entry makes a resource under an id that the client chose, and whoever runs the server asks for it.
func (t *transaction) isNew(e *txEntry) bool {
	rule, ruled := t.rules[e.req.Type]
	return e.resp == nil && !e.ruled && e.req.Interaction == Update && e.criteria == "" && e.req.IfMatch == "" && e.old[e.key] == nil &&
		e.req.Principal.IsOperator() && (!ruled || rule.brought != nil)
}

// bulk writes new resources by COPY.
func (t *transaction) bulk(ctx context.Context, tx *storage.Tx, fresh []*txEntry, method string) error {
	for part := range slices.Chunk(fresh, bulkSize) {
		list := make([]*storage.Prepared, len(part))
		for i, e := range part {
			list[i] = e.prepared
		}
		if err := t.permitAll(ctx, tx, part); err != nil {
			return err
		}
		versions, err := tx.InsertAll(ctx, list, method)
		if err != nil {
			return err
		}
		for i, e := range part {
			if err := t.checkSize(versions[i]); err != nil {
				return atEntry(err, e.i)
			}
			e.resp = &Response{Version: versions[i], Created: true, Issues: e.issues}
			if err := t.announceResult(ctx, &change{tx: tx, request: &e.req, key: e.key, after: e.prepared.Node}); err != nil {
				return atEntry(err, e.i)
			}
		}
	}
	return nil
}

// brought leaves out the resources whose rules have something to say.
func (t *transaction) brought(ctx context.Context, tx *storage.Tx, fresh []*txEntry) (list []*txEntry, err error) {
	for _, e := range fresh {
		rule, ruled := t.rules[e.req.Type]
		as := !ruled
		if ruled {
			if as, err = rule.brought(ctx, tx, &e.req, e.prepared.Node); err != nil {
				return nil, atEntry(err, e.i)
			}
		}
		if as {
			list = append(list, e)
		}
	}
	return list, nil
}

// permitAll says of resources that go out by COPY what put says of one.
func (t *transaction) permitAll(ctx context.Context, tx *storage.Tx, part []*txEntry) error {
	for _, e := range part {
		ok, err := tx.Permits(acting(ctx, auth.Create), e.prepared, nil)
		if err == nil && ok {
			ok, err = tx.SeesWhose(acting(ctx, auth.Read), e.prepared)
		}
		if err == nil && !ok {
			err = notYours(e.req.Type)
		}
		if source, target := t.store.MergedPatient(e.prepared); err == nil && source != "" {
			err = merged("Patient/"+source, "Patient/"+target)
		}
		if err != nil {
			return atEntry(err, e.i)
		}
	}
	return nil
}

// apply queues the writes of one entry.
func (t *transaction) apply(ctx context.Context, tx *storage.Tx, e *txEntry) (*Response, error) {
	ctx, err := authorize(ctx, &e.req)
	if err != nil {
		return nil, err
	}
	switch e.req.Interaction {
	case Create:
		if e.exists() {
			return &Response{Version: e.old[e.key], existed: true}, nil
		}
		resp, err := t.put(ctx, tx, &e.req, e.prepared, nil, storage.MethodCreate)
		if err != nil {
			return nil, err
		}
		resp.Issues = slices.Concat(e.issues, resp.Issues)
		return resp, nil
	case Update:
		return t.updateLocked(ctx, tx, &e.req, e.prepared, e.old[e.key], e.issues)
	case Delete:
		if e.criteria == "" {
			return t.deleteLocked(ctx, tx, &e.req, e.old[e.key])
		}
		found := make([]*storage.Version, len(e.matched))
		for i, key := range e.matched {
			found[i] = e.old[key]
		}
		return t.deleteAll(ctx, tx, &e.req, found)
	}
	old := e.old[e.key]
	if err := patchable(&e.req, e.key, old); err != nil {
		return nil, err
	}
	body, err := t.patched(&e.req, old)
	if err != nil {
		return nil, err
	}
	own := links{service: t.Service, named: t.named}
	own.scan(e, body)
	if err := t.resolve(ctx, tx, own.conditionals); err != nil {
		return nil, err
	}
	if err := t.rewrite(own.slots); err != nil {
		return nil, err
	}
	return t.putPatched(ctx, tx, &e.req, body, old)
}
