package storage

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"kiln/fhir"
)

const (
	sqlChainLock = `SELECT pg_try_advisory_xact_lock(7264, 0)`
	sqlChainHead = `SELECT position, hash FROM public.audit_chain ORDER BY position DESC LIMIT 1`
	// What is in no place of the chain yet. Rows that become visible late have small numbers: hence low, and not the last.
	// As many rows as have $1 entries.
	sqlUnchained = `
SELECT id, recorded, entry, lines FROM (
  SELECT e.id, e.recorded, e.entry, e.lines, sum(coalesce(e.lines, 1)) OVER (ORDER BY e.id) - coalesce(e.lines, 1) AS before FROM public.audit_entry e
  WHERE e.id > (SELECT low FROM public.audit_progress)
    AND NOT EXISTS (SELECT FROM public.audit_chain c WHERE c.entry = e.id AND c.entry > (SELECT low FROM public.audit_progress))
  ORDER BY e.id LIMIT $1) r
WHERE before < $1 ORDER BY id`
	sqlPatientIDs = `SELECT rk, id FROM public.resource WHERE rk = ANY($1) AND type = 'Patient'`
	// Before sqlUnchained: whether all that there will ever be up to mark can be seen by then.
	sqlSettled = `SELECT mark, mark_xid <= pg_snapshot_xmin(pg_current_snapshot()) FROM public.audit_progress`
	// After it, where it was so: all up to $1 are in the chain, as far as they are there. low goes as far as to the mark, so that a
	// backlog is not gone through anew for each batch, and from there on the next mark is set. Who has an entry up to that had a number
	// of its transaction before this one did.
	sqlProgress = `
UPDATE public.audit_progress SET low = greatest(low, least(mark, $1)),
  mark = CASE WHEN mark <= $1 THEN (SELECT coalesce(max(entry), 0) FROM public.audit_chain) ELSE mark END,
  mark_xid = CASE WHEN mark <= $1 THEN pg_current_xact_id() ELSE mark_xid END`
)

// ChainAudit takes rows of entries that are not in the chain yet until it has limit entries, makes AuditEvents of them and binds both to all that
// went before, and Provenances of what they have written. Servers do it in turn; where another one is at it, or nothing is left, it
// takes none. events and provenances make the resources of one entry, whose Patients are all known by then.
func (s *Store) ChainAudit(ctx context.Context, limit int, events, provenances func(*AuditEntry) []*fhir.Node) (n int, err error) {
	err = s.Write(asSystem(ctx), func(tx *Tx) error {
		tx.unlisted = true
		n, err = tx.chainAudit(ctx, limit, events, provenances)
		return err
	})
	return n, err
}

func (tx *Tx) chainAudit(ctx context.Context, limit int, events, provenances func(*AuditEntry) []*fhir.Node) (int, error) {
	var mine, settled bool
	var mark, position int64
	head := make([]byte, sha256.Size)
	tx.begin()
	tx.queue.Queue(sqlChainLock).QueryRow(func(row pgx.Row) error { return row.Scan(&mine) })
	if err := tx.flush(ctx); err != nil || !mine {
		return 0, err
	}
	var list []*AuditEntry
	tx.queue.Queue(sqlSettled).QueryRow(func(row pgx.Row) error { return row.Scan(&mark, &settled) })
	tx.queue.Queue(sqlChainHead).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			if err := rows.Scan(&position, &head); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	var rows []auditChained
	var texts []string
	tx.queue.Queue(sqlUnchained, limit).Query(func(found pgx.Rows) error {
		for found.Next() {
			r, text := auditChained{}, ""
			if err := found.Scan(&r.id, &r.recorded, &text, &r.lines); err != nil {
				return err
			}
			times, parts := entriesOfRow(r.recorded, text, r.lines)
			for i := range parts {
				list = append(list, &AuditEntry{ID: r.id, Recorded: times[i]})
			}
			texts, r.end = append(texts, parts...), len(list)
			rows = append(rows, r)
		}
		return found.Err()
	})
	if err := tx.flush(ctx); err != nil {
		return 0, err
	}
	for i, e := range list {
		if err := json.Unmarshal([]byte(withoutNull.Replace(texts[i])), e); err != nil {
			// Somebody else has written it. It is part of the log nevertheless, as far as it can be told.
			*e = AuditEntry{ID: e.ID, Recorded: e.Recorded, Act: "unreadable", Outcome: "8"}
		}
	}
	if err := tx.namePatients(ctx, list); err != nil {
		return 0, err
	}
	var prepared []*Prepared
	made := make([]int, len(list)) // how many of prepared are of the entry
	for i, e := range list {
		for _, n := range events(e) {
			p, err := tx.store.prepare(n, wordless)
			if err != nil {
				return 0, err
			}
			prepared = append(prepared, p)
			made[i]++
		}
	}
	if len(prepared) > 0 {
		if _, err := tx.InsertAll(ctx, prepared, MethodCreate); err != nil {
			return 0, err
		}
	}
	chain := &tableRows{table: "audit_chain", columns: []string{"position", "entry", "events", "hash", "lines"}}
	i := 0
	for _, r := range rows {
		ids := make([]string, 0, r.end-i)
		var lines []byte
		for ; i < r.end; i++ {
			var digests [][]byte
			for _, p := range prepared[:made[i]] {
				ids, digests = append(ids, p.Node.ID()), append(digests, nodeDigest(p.Node))
			}
			prepared = prepared[made[i]:]
			head = chainHash(head, r.id, list[i].Recorded, texts[i], digests)
			position++
			if r.lines != nil {
				lines = append(binary.BigEndian.AppendUint32(lines, uint32(made[i])), head[:chainMark]...)
			}
		}
		chain.add(position, r.id, ids, head, lines)
	}
	if chain.count > 0 {
		if err := tx.Flush(ctx); err != nil {
			return 0, err
		}
		if err := copyAll(ctx, tx.conn.Conn(), chain); err != nil {
			return 0, err
		}
	}
	if settled {
		reached := int64(math.MaxInt64) // there are no others
		if len(list) >= limit {
			reached = rows[len(rows)-1].id
		}
		tx.exec(sqlProgress, reached)
	}
	return len(list), tx.testify(ctx, list, provenances)
}

// withoutNull puts the replacement character where an entry has the escape of U+0000, which stands in what some clients send and in
// no resource that PostgreSQL stores: the log would come no further. An escaped backslash before u0000 is none.
var withoutNull = strings.NewReplacer(`\\`, `\\`, `\u0000`, `\ufffd`)

// auditChained is a row of audit_entry that gets its place in the chain.
type auditChained struct {
	id       int64
	recorded time.Time
	lines    *int32
	end      int // of its entries in the list of all
}

// entriesOfRow are the entries of a row with their times. What is no line is an entry of the row's time, as it stands there.
func entriesOfRow(recorded time.Time, text string, lines *int32) (times []time.Time, entries []string) {
	if lines == nil {
		return []time.Time{recorded}, []string{text}
	}
	times, entries = make([]time.Time, 0, *lines), make([]string, 0, *lines)
	for line := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n") {
		at, entry, err := parseAuditLine(line)
		if err != nil {
			at, entry = recorded, line
		}
		times, entries = append(times, at), append(entries, entry)
	}
	return times, entries
}

// A place of the chain for several entries keeps for each of them, beside how many AuditEvents it led to, chainMark bytes of the
// hash after it.
const (
	chainMark = 8
	chainLine = 4 + chainMark
)

// namePatients finds the ids of the patients whose records entries touched.
func (tx *Tx) namePatients(ctx context.Context, list []*AuditEntry) error {
	var rks []int64
	for _, e := range list {
		rks = append(rks, e.Compartments...)
	}
	if rks = unique(rks); len(rks) == 0 {
		return nil
	}
	ids := make(map[int64]string, len(rks))
	if err := tx.system(ctx, func(rows pgx.Rows) error {
		var rk int64
		var id string
		_, err := pgx.ForEachRow(rows, []any{&rk, &id}, func() error { ids[rk] = id; return nil })
		return err
	}, sqlPatientIDs, rks); err != nil {
		return err
	}
	for _, e := range list {
		for _, rk := range e.Compartments {
			if id := ids[rk]; id != "" && !slices.Contains(e.Patients, id) {
				e.Patients = append(e.Patients, id)
			}
		}
	}
	return nil
}

// chainHash is the hash of one place of the chain: of the place before, the entry as it is written, and the contents of the
// AuditEvents made of it.
func chainHash(before []byte, id int64, recorded time.Time, entry string, events [][]byte) []byte {
	h := sha256.New()
	h.Write(before)
	var fixed [24]byte
	binary.BigEndian.PutUint64(fixed[:], uint64(id))
	binary.BigEndian.PutUint64(fixed[8:], uint64(recorded.UnixMicro()))
	binary.BigEndian.PutUint64(fixed[16:], uint64(len(entry)))
	h.Write(fixed[:])
	h.Write([]byte(entry))
	for _, digest := range events {
		h.Write(digest)
	}
	return h.Sum(nil)
}

// contentDigest is the same for all ways to write one JSON value: the order of members does not count.
func contentDigest(content []byte) ([]byte, error) {
	n, err := fhir.ParseJSON(content)
	if err != nil {
		return nil, fmt.Errorf("storage: read an AuditEvent: %w", err)
	}
	return nodeDigest(n), nil
}

// nodeDigest is contentDigest of what n is as JSON.
func nodeDigest(n *fhir.Node) []byte {
	b := digestSlices.Get().(*[]byte)
	*b = appendCanonical((*b)[:0], n, "")
	sum := sha256.Sum256(*b)
	digestSlices.Put(b)
	return sum[:]
}

// digestSlices are slices at rest that canonical forms are written into.
var digestSlices = sync.Pool{New: func() any { b := make([]byte, 0, 8<<10); return &b }}

// appendCanonical writes a value called name as digests are made of it: kind, number of members, name and text, then the
// members by their names.
func appendCanonical(b []byte, n *fhir.Node, name string) []byte {
	b = strconv.AppendInt(b, int64(n.Kind), 10)
	b = strconv.AppendInt(append(b, ' '), int64(len(n.Kids)), 10)
	b = appendQuoted(append(b, ' '), name)
	b = appendQuoted(append(b, ' '), n.Text)
	b = append(b, '\n')
	if n.Kind != fhir.Object {
		for i := range n.Kids {
			b = appendCanonical(b, &n.Kids[i], "")
		}
		return b
	}
	var few [16]int
	order := few[:0]
	for i := range n.Kids {
		order = append(order, i)
		for k := i; k > 0 && len(n.Kids) <= len(few) && n.Kids[order[k]].Name < n.Kids[order[k-1]].Name; k-- {
			order[k], order[k-1] = order[k-1], order[k]
		}
	}
	if len(n.Kids) > len(few) {
		slices.SortFunc(order, func(x, y int) int { return strings.Compare(n.Kids[x].Name, n.Kids[y].Name) })
	}
	for _, i := range order {
		b = appendCanonical(b, &n.Kids[i], n.Kids[i].Name)
	}
	return b
}

// appendQuoted is strconv.AppendQuote, in a tenth of the time where nothing is to be escaped.
func appendQuoted(b []byte, text string) []byte {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return strconv.AppendQuote(b, text)
		}
	}
	return append(append(append(b, '"'), text...), '"')
}

const sqlAuditBacklog = `
SELECT coalesce(sum(coalesce(e.lines, 1)), 0), coalesce(extract(epoch FROM clock_timestamp() - min(e.recorded)), 0) FROM public.audit_entry e
WHERE e.id > (SELECT low FROM public.audit_progress)
  AND NOT EXISTS (SELECT FROM public.audit_chain c WHERE c.entry = e.id AND c.entry > (SELECT low FROM public.audit_progress))`

// AuditBacklog is how many entries are not in the chain yet, those in the journal of this server among them, and for how
// long the oldest has waited.
func (s *Store) AuditBacklog(ctx context.Context) (entries int64, behind time.Duration, err error) {
	var seconds float64
	err = reader{s.pool}.QueryRow(ctx, sqlAuditBacklog).Scan(&entries, &seconds)
	behind = time.Duration(max(seconds, 0) * float64(time.Second))
	if s.journal != nil {
		if n, since := s.journal.waiting(); n > 0 {
			entries, behind = entries+int64(n), max(behind, s.options.Now().Sub(since))
		}
	}
	return entries, behind, translate(err)
}

// The worker takes entries in the order of their numbers; one that becomes visible later with a smaller number has had no answer before.
const sqlAuditReached = `
SELECT coalesce((SELECT max(id) FROM public.audit_entry), 0), coalesce((SELECT max(entry) FROM public.audit_chain), 0)`

// auditPoll is how often AwaitAudit looks.
const auditPoll = 10 * time.Millisecond

// AwaitAudit waits until all that this server had noted when it was called, and all that others had brought into the database, is in the
// chain, or ctx ends, and says which. waits is called where there is something to wait for, once it is in the database.
func (s *Store) AwaitAudit(ctx context.Context, waits func()) (reached bool, err error) {
	pause := func() bool {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(auditPoll):
			return true
		}
	}
	if s.journal != nil {
		for kept, carried := s.journal.counts(); carried < kept; _, carried = s.journal.counts() {
			if !pause() {
				return false, nil
			}
		}
	}
	for target, last, chained := int64(-1), int64(0), int64(0); ; {
		if err := s.pool.QueryRow(ctx, sqlAuditReached).Scan(&last, &chained); err != nil {
			if ctx.Err() != nil {
				return false, nil
			}
			return false, translate(err)
		}
		if target < 0 {
			target = last
		}
		if chained >= target {
			return true, nil
		}
		waits()
		if !pause() {
			return false, nil
		}
	}
}
