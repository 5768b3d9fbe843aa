package resources

import (
	"context"
	"strconv"

	"kiln/fhir"
	"kiln/storage"
)

// batch performs entries one after the other, each as a request of its own: what becomes of one is nothing to the
// others. Spec: FHIR R4 http.html#batch.
//
// With an Idempotency-Key each entry that writes has a key of its own, made of that of the batch. A batch that is sent
// again after it was cut off in the middle does then only what was left.
func (s *Service) batch(ctx context.Context, r Request, entries []fhir.Node) (*Response, error) {
	t := trailOf(ctx)
	if t != nil {
		t.batch = true
	}
	if r.IdempotencyKey != "" {
		// Nothing is done here but to see that the same key came with the same Bundle.
		claim := r
		claim.Interaction = Batch
		nothing := func(*storage.Tx) (*Response, error) { return &Response{}, nil }
		if _, err := s.write(ctx, &claim, s.fingerprint(ctx, &r), nothing); err != nil {
			return nil, err
		}
	}
	answer := &Bundle{Type: "batch-response", Entries: make([]Entry, len(entries))}
	for i := range entries {
		entry := &answer.Entries[i]
		req, _, err := s.parseEntry(&entries[i])
		entry.Interaction = req.Interaction
		if err == nil {
			err = ctx.Err()
		}
		if err != nil && t != nil {
			req.Principal = r.Principal
			t.pending = append(t.pending, s.refusal(ctx, &req, err))
		}
		if err == nil {
			if r.IdempotencyKey != "" && req.Interaction.writes() {
				req.IdempotencyKey = r.IdempotencyKey + "#" + strconv.Itoa(i)
			}
			req.Lenient, req.TimeZone, req.Principal = r.Lenient, r.TimeZone, r.Principal
			entry.Response, err = s.Do(ctx, req)
		}
		if err != nil {
			entry.Err = atEntry(err, i)
		} else if entry.Response != nil {
			entry.Response.Issues = atEntryIssues(entry.Response.Issues, i)
		}
		entries[i].Kids = nil // done with: a large batch gives its memory back as it goes
	}
	return &Response{Bundle: answer}, nil
}
