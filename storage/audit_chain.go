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
	"time"

	"github.com/jackc/pgx/v5"

	"kiln/fhir"
)

const (
	sqlChainLock = `SELECT pg_try_advisory_xact_lock(7264, 0)`
	sqlChainHead = `SELECT position, hash FROM public.audit_chain ORDER BY position DESC LIMIT 1`
	// What is in no place of the chain yet. Rows that become visible late have small numbers: hence low, and not the last.
	sqlUnchained = `
SELECT e.id, e.recorded, e.entry FROM public.audit_entry e
WHERE e.id > (SELECT low FROM public.audit_progress)
  AND NOT EXISTS (SELECT FROM public.audit_chain c WHERE c.entry = e.id AND c.entry > (SELECT low FROM public.audit_progress))
ORDER BY e.id LIMIT $1`
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

// ChainAudit takes up to limit entries that are not in the chain yet, makes AuditEvents of them and binds both to all that
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
	var texts []string
	tx.queue.Queue(sqlUnchained, limit).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			e, text := &AuditEntry{}, ""
			if err := rows.Scan(&e.ID, &e.Recorded, &text); err != nil {
				return err
			}
			list, texts = append(list, e), append(texts, text)
		}
		return rows.Err()
	})
	if err := tx.flush(ctx); err != nil {
		return 0, err
	}
	for i, e := range list {
		if err := json.Unmarshal([]byte(texts[i]), e); err != nil {
			// Somebody else has written it. It is part of the log nevertheless, as far as it can be told.
			*e = AuditEntry{ID: e.ID, Recorded: e.Recorded, Act: "unreadable", Outcome: "8"}
		}
	}
	if err := tx.namePatients(ctx, list); err != nil {
		return 0, err
	}
	chain := &tableRows{table: "audit_chain", columns: []string{"position", "entry", "events", "hash"}}
	var prepared []*Prepared
	var digests [][]byte // of prepared
	counts := make([]int, len(list))
	for i, e := range list {
		for _, n := range events(e) {
			p, err := tx.store.prepare(n, wordless)
			if err != nil {
				return 0, err
			}
			prepared = append(prepared, p)
			counts[i]++
		}
	}
	if len(prepared) > 0 {
		if _, err := tx.InsertAll(ctx, prepared, MethodCreate); err != nil {
			return 0, err
		}
		for _, p := range prepared {
			digests = append(digests, nodeDigest(p.Node))
		}
	}
	for i, e := range list {
		ids := make([]string, counts[i])
		for j := range ids {
			ids[j] = prepared[j].Node.ID()
		}
		position++
		head = chainHash(head, e.ID, e.Recorded, texts[i], digests[:counts[i]])
		chain.add(position, e.ID, ids, head)
		prepared, digests = prepared[counts[i]:], digests[counts[i]:]
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
		if len(list) == limit {
			reached = list[limit-1].ID
		}
		tx.exec(sqlProgress, reached)
	}
	return len(list), tx.testify(ctx, list, provenances)
}

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
	sum := sha256.Sum256(appendCanonical(make([]byte, 0, 4096), n, ""))
	return sum[:]
}

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
	}
	slices.SortFunc(order, func(x, y int) int { return strings.Compare(n.Kids[x].Name, n.Kids[y].Name) })
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
SELECT count(*), coalesce(extract(epoch FROM clock_timestamp() - min(e.recorded)), 0) FROM public.audit_entry e
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
