package resources

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash"
	"io"
	"time"

	"kiln/fhir"
	"kiln/storage"
)

// write runs work in a transaction. With an Idempotency-Key, work that was done before is not done again: the caller
// gets the answer that it would have got then. The answer is recorded in the same transaction as the work, so it is
// there exactly when the work is.
//
// Errors: BusinessRule where the key was used for another request.
func (s *Service) write(ctx context.Context, r *Request, fingerprint []byte, work func(*storage.Tx) (*Response, error)) (*Response, error) {
	var resp *Response
	var open []*unanswered
	var notes []any
	try := func(again bool) error {
		return s.store.Write(ctx, func(tx *storage.Tx) (err error) {
			open, notes = nil, nil
			if again {
				tx.Note(asked{})
			}
			resp, err = s.once(ctx, tx, r, fingerprint, func(tx *storage.Tx) (*Response, error) {
				resp, err := work(tx)
				if open = questions(tx); err == nil && len(open) > 0 {
					err = errUnanswered
				}
				if err == nil {
					err = s.attest(ctx, tx, r, resp)
				}
				return resp, err
			})
			if notes = tx.Noted(); err != nil {
				return err
			}
			s.auditIn(ctx, tx, resp)
			return nil
		})
	}
	err := try(false)
	var budget asking
	for errors.Is(err, errUnanswered) {
		// Nothing is held while payers are asked: then all is done again, with their answers. What they say of one coverage may
		// make the next one count.
		if err = s.askFor(ctx, open, &budget); err == nil {
			err = try(budget.over)
		}
	}
	if err != nil {
		return nil, s.withAlternatives(ctx, err)
	}
	auditDone(ctx)
	s.afterwards(ctx, notes)
	return resp, nil
}

// once is one try of write.
func (s *Service) once(ctx context.Context, tx *storage.Tx, r *Request, fingerprint []byte, work func(*storage.Tx) (*Response, error)) (*Response, error) {
	if r.IdempotencyKey == "" {
		resp, err := work(tx)
		if err != nil {
			return nil, err
		}
		return resp, s.settle(ctx, tx)
	}
	key := idempotencyKey(r)
	known, err := tx.Recall(ctx, key)
	if err != nil {
		return nil, err
	}
	if known != nil {
		return s.replay(ctx, tx, r, fingerprint, known)
	}
	resp, err := work(tx)
	if err != nil {
		return nil, err
	}
	if err = s.settle(ctx, tx); err != nil {
		return nil, err
	}
	content, err := json.Marshal(remember(resp))
	if err != nil {
		return nil, err
	}
	tx.Record(key, storage.Answer{Request: fingerprint, Content: content})
	return resp, nil
}

func idempotencyKey(r *Request) []byte {
	h := sha256.New()
	hashText(h, r.Principal.Caller())
	hashText(h, r.IdempotencyKey)
	return h.Sum(nil)
}

// AnswersKept is how long a request with an Idempotency-Key can be sent again.
const AnswersKept = 7 * 24 * time.Hour

// fingerprint tells requests apart that carry the same Idempotency-Key. It must be taken before the body is changed;
// without a key there is none.
func (s *Service) fingerprint(_ context.Context, r *Request) []byte {
	if r.IdempotencyKey == "" {
		return nil
	}
	h := sha256.New()
	for _, text := range []string{string(r.Interaction), r.Operation, r.Type, r.ID, r.Query, r.IfMatch, r.IfNoneMatch, r.IfNoneExist, string(r.JSONPatch)} {
		hashText(h, text)
	}
	if r.Body != nil {
		hashNode(h, r.Body)
	}
	if r.Provenance != nil {
		hashNode(h, r.Provenance)
	}
	return h.Sum(nil)
}

func hashText(h hash.Hash, s string) {
	var size [8]byte
	h.Write(binary.LittleEndian.AppendUint64(size[:0], uint64(len(s))))
	io.WriteString(h, s)
}

func hashNode(h hash.Hash, n *fhir.Node) {
	var head [9]byte
	head[0] = byte(n.Kind)
	h.Write(binary.LittleEndian.AppendUint64(head[:1], uint64(len(n.Kids))))
	hashText(h, n.Name)
	hashText(h, n.Text)
	for i := range n.Kids {
		hashNode(h, &n.Kids[i])
	}
}

// remembered is what is kept of a Response, to tell it again: which versions it spoke of, not their content. Reads and
// searches inside of a transaction are done again instead.
type remembered struct {
	Interaction Interaction  `json:"i,omitempty"`
	Type        string       `json:"t,omitempty"`
	ID          string       `json:"id,omitempty"`
	Version     int          `json:"v,omitempty"`
	Created     bool         `json:"c,omitempty"`
	Unchanged   bool         `json:"u,omitempty"`
	Deleted     int          `json:"d,omitempty"`
	Issues      []fhir.Issue `json:"o,omitempty"`
	Entries     []remembered `json:"e,omitempty"`
}

func remember(resp *Response) remembered {
	m := remembered{Created: resp.Created, Unchanged: resp.Unchanged, Deleted: resp.Deleted, Issues: resp.Issues}
	if v := resp.Version; v != nil {
		m.Type, m.ID, m.Version = v.Type, v.ID, v.Number
	}
	if resp.Bundle != nil {
		for _, e := range resp.Bundle.Entries {
			entry := remembered{}
			if e.Interaction.writes() && e.Response != nil {
				entry = remember(e.Response)
			}
			entry.Interaction = e.Interaction
			m.Entries = append(m.Entries, entry)
		}
	}
	return m
}

// writes says whether an interaction changes anything.
func (i Interaction) writes() bool {
	switch i {
	case Create, Update, Patch, Delete:
		return true
	}
	return false
}

// replay gives the answer to a request that was performed before.
func (s *Service) replay(ctx context.Context, tx *storage.Tx, r *Request, fingerprint []byte, known *storage.Answer) (*Response, error) {
	if string(known.Request) != string(fingerprint) {
		return nil, fhir.NewError(fhir.BusinessRule, fhir.CodeDuplicate,
			"This Idempotency-Key was used for another request; take a new one for each request").Coded("idempotency-key-reused")
	}
	var m remembered
	if err := json.Unmarshal(known.Content, &m); err != nil {
		return nil, fhir.NewError(fhir.Internal, fhir.CodeException, "A recorded answer cannot be read").Because(err)
	}
	if r.Interaction != Transaction {
		return s.retell(ctx, tx, &m)
	}
	answer := &Bundle{Type: "transaction-response", Entries: make([]Entry, len(m.Entries))}
	entries := r.Body.Get("entry")
	i := 0
	for node := range entries.Items() {
		entry := &answer.Entries[i]
		entry.Interaction = m.Entries[i].Interaction
		req, _, err := s.parseEntry(node)
		if err == nil {
			req.Lenient, req.TimeZone, req.Principal = r.Lenient, r.TimeZone, r.Principal
			entry.asked = &req
			if entry.Interaction.writes() {
				entry.Response, err = s.retell(ctx, tx, &m.Entries[i])
			} else {
				entry.Response, err = s.readEntry(ctx, tx, req)
			}
		}
		if err != nil {
			return nil, atEntry(err, i)
		}
		i++
	}
	return &Response{Bundle: answer}, nil
}

func (s *Service) retell(ctx context.Context, tx *storage.Tx, m *remembered) (*Response, error) {
	resp := &Response{Created: m.Created, Unchanged: m.Unchanged, Deleted: m.Deleted, Issues: m.Issues}
	if m.Version == 0 {
		return resp, nil
	}
	v, err := s.version(ctx, tx, storage.Key{Type: m.Type, ID: m.ID}, m.Version)
	if v == nil && err == nil { // made by this caller with rights that this token has not
		err = notFound(storage.Key{Type: m.Type, ID: m.ID})
	}
	resp.Version = v
	return resp, err
}
