package storage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// AuditReport is what a look through the whole audit log found.
type AuditReport struct {
	// Entries and Events are how many were looked at, Waiting how many entries are not in the chain yet.
	Entries, Events, Waiting int64
	// Position and Head are the end of the chain. Whoever keeps them elsewhere can tell later that nothing before was
	// taken away: VerifyAudit compares.
	Position int64
	Head     string
	// Break says what is wrong at the first place where something is; "" for nothing.
	Break string
	// Foreign are AuditEvents that the chain does not know: those of others, brought by import, or forged ones.
	Foreign int64
}

const (
	// As many places as have 500 entries, or one.
	sqlVerifyChain = `
SELECT c.position, c.entry, c.events, c.hash, c.lines, e.recorded, e.entry, e.lines FROM (
  SELECT *, lag(position, 1, $1) OVER (ORDER BY position) AS before FROM public.audit_chain WHERE position > $1 ORDER BY position LIMIT 500) c
LEFT JOIN public.audit_entry e ON e.id = c.entry
WHERE c.before < $1 + 500 ORDER BY c.position`
	sqlVerifyEvents = `SELECT id, content, literal FROM public.resource WHERE rk = ANY($1) AND type = 'AuditEvent'`
	sqlForeign      = `
SELECT (SELECT count(*) FROM public.search_index WHERE type = $1) - (SELECT coalesce(sum(cardinality(events)), 0) FROM public.audit_chain)`
	// What was slipped in below: the worker has been past it.
	sqlSlipped = `SELECT min(e.id) FROM public.audit_entry e WHERE e.id <= (SELECT low FROM public.audit_progress)
AND NOT EXISTS (SELECT FROM public.audit_chain c WHERE c.entry = e.id)`
)

// VerifyAudit computes the chain anew from its beginning and compares entries and AuditEvents with it. With kept, the
// Position and Head of an earlier report, it also tells whether the chain still goes through there.
func (s *Store) VerifyAudit(ctx context.Context, keptPosition int64, keptHead string) (*AuditReport, error) {
	r := &AuditReport{}
	head := make([]byte, sha256.Size)
	for r.Break == "" {
		places, err := s.chainPage(ctx, r.Position)
		if err != nil {
			return nil, translate(err)
		}
		if len(places) == 0 {
			break
		}
		digests, err := s.eventDigests(ctx, places)
		if err != nil {
			return nil, translate(err)
		}
		for _, p := range places {
			if r.Break = p.fault(r.Position, head, digests); r.Break != "" {
				break
			}
			before := r.Position
			head, r.Position = p.hash, p.position
			r.Entries += p.position - before
			r.Events += int64(len(p.events))
			if before < keptPosition && (keptPosition < p.position || keptPosition == p.position && hex.EncodeToString(head) != keptHead) {
				r.Break = fmt.Sprintf("position %d: the chain does not go through the head that was kept; it was written anew", keptPosition)
				break
			}
		}
	}
	r.Head = hex.EncodeToString(head)
	if r.Break == "" && keptPosition > r.Position {
		r.Break = fmt.Sprintf("position %d: the chain ends here, and reached to %d before; its end was cut off", r.Position, keptPosition)
	}
	return r, translate(s.besideChain(ctx, r))
}

// besideChain looks for what the chain does not know.
func (s *Store) besideChain(ctx context.Context, r *AuditReport) error {
	var slipped *int64
	batch := &pgx.Batch{}
	batch.Queue(sqlSlipped).QueryRow(func(row pgx.Row) error { return row.Scan(&slipped) })
	batch.Queue(sqlForeign, s.Registry().TypeNumber("AuditEvent")).QueryRow(func(row pgx.Row) error { return row.Scan(&r.Foreign) })
	if err := s.pool.SendBatch(ctx, batch).Close(); err != nil {
		return err
	}
	if slipped != nil && r.Break == "" {
		r.Break = fmt.Sprintf("entry %d: it was slipped in where the chain had passed", *slipped)
	}
	if r.Break != "" {
		return nil
	}
	var err error
	r.Waiting, _, err = s.AuditBacklog(ctx)
	return err
}

// chainPlace is one place of the chain with the row of entries that should be there.
type chainPlace struct {
	position, entry int64
	events          []string
	hash            []byte
	lines           []byte // nil: the place is of one entry
	recorded        *time.Time
	text            *string
	entries         *int32 // audit_entry.lines
}

func (s *Store) chainPage(ctx context.Context, after int64) ([]chainPlace, error) {
	rows, err := s.pool.Query(ctx, sqlVerifyChain, after)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (p chainPlace, err error) {
		return p, row.Scan(&p.position, &p.entry, &p.events, &p.hash, &p.lines, &p.recorded, &p.text, &p.entries)
	})
}

func (s *Store) eventDigests(ctx context.Context, places []chainPlace) (map[string][]byte, error) {
	var rks []int64
	for _, p := range places {
		for _, id := range p.events {
			rks = append(rks, s.hash.Resource("AuditEvent", id))
		}
	}
	rows, err := s.pool.Query(ctx, sqlVerifyEvents, rks)
	if err != nil {
		return nil, err
	}
	digests := make(map[string][]byte, len(rks))
	var id string
	var content []byte
	var literal *string
	_, err = pgx.ForEachRow(rows, []any{&id, &content, &literal}, func() (err error) {
		if literal != nil {
			content = []byte(*literal)
		}
		if content != nil {
			digests[id], err = contentDigest(content)
		}
		return err
	})
	return digests, err
}

// fault says what is wrong with a place, "" for nothing.
func (p *chainPlace) fault(before int64, head []byte, digests map[string][]byte) string {
	count := int64(1)
	if p.lines != nil {
		count = int64(len(p.lines) / chainLine)
	}
	at := fmt.Sprintf("position %d, entry %d: ", p.position, p.entry)
	const changed = "the entry, one of its AuditEvents or the chain was changed"
	switch {
	case p.position != before+count:
		return fmt.Sprintf("position %d: it is missing in the chain", before+1)
	case p.text == nil:
		return at + "the entry is missing"
	case p.lines == nil:
		digest, missing := digestsOf(p.events, digests)
		if missing != "" {
			return at + missing
		}
		if !bytes.Equal(chainHash(head, p.entry, *p.recorded, *p.text, digest), p.hash) {
			return at + changed
		}
		return ""
	}
	times, entries := entriesOfRow(*p.recorded, *p.text, new(int32))
	left := p.events
	for i := range entries {
		at := fmt.Sprintf("position %d, entry %d, line %d: ", before+int64(i)+1, p.entry, i+1)
		if i >= int(count) {
			return at + "it was slipped in"
		}
		mark := p.lines[i*chainLine : (i+1)*chainLine]
		made := int(binary.BigEndian.Uint32(mark))
		if made > len(left) {
			return at + changed
		}
		digest, missing := digestsOf(left[:made], digests)
		if missing != "" {
			return at + missing
		}
		left = left[made:]
		if head = chainHash(head, p.entry, times[i], entries[i], digest); !bytes.Equal(head[:chainMark], mark[4:]) {
			return at + changed
		}
	}
	switch {
	case len(entries) < int(count):
		return fmt.Sprintf("position %d, entry %d, line %d: the entry is missing", before+int64(len(entries))+1, p.entry, len(entries)+1)
	case len(left) > 0 || len(p.lines)%chainLine > 0 || !bytes.Equal(head, p.hash) || p.entries == nil || int64(*p.entries) != count || !p.recorded.Equal(times[0]):
		return at + changed
	}
	return ""
}

// digestsOf are those of AuditEvents, or what is missing.
func digestsOf(ids []string, digests map[string][]byte) (list [][]byte, missing string) {
	for _, id := range ids {
		digest := digests[id]
		if digest == nil {
			return nil, "AuditEvent/" + id + " is missing"
		}
		list = append(list, digest)
	}
	return list, ""
}
