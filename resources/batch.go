package resources

import (
	"context"
	"fmt"
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
	size := 0
	for i := range entries {
		entry := &answer.Entries[i]
		req, _, err := s.parseEntry(&entries[i])
		entry.Interaction = req.Interaction
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = s.fits(size)
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
		if req.Interaction != Create && req.Interaction != Update { // those have come in the request, which is bounded
			size += entry.Response.size()
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

// fits refuses what comes after an answer of so many bytes.
//
// Errors: TooCostly.
func (s *Service) fits(size int) error {
	if size < s.limits.MaxBatchBytes {
		return nil
	}
	return fhir.NewError(fhir.TooCostly, fhir.CodeTooCostly,
		fmt.Sprintf("The answers to the entries before have %d bytes or more; this was not done. Send it in another Bundle", s.limits.MaxBatchBytes)).Coded("too-costly")
}

// size is about how many bytes the resources of a response take, 0 for nil.
func (r *Response) size() (n int) {
	if r == nil {
		return 0
	}
	if r.Version != nil {
		n = len(r.Version.Content)
	}
	if r.Resource != nil {
		n += sizeOf(r.Resource)
	}
	if r.Bundle != nil {
		for _, e := range r.Bundle.Entries {
			if n += e.Response.size(); e.Version != nil {
				n += len(e.Version.Content)
			}
		}
	}
	return n
}

// sizeOf is about how many bytes a node takes, written out.
func sizeOf(n *fhir.Node) int {
	size := len(n.Name) + len(n.Text) + len(`"":"",`)
	for i := range n.Kids {
		size += sizeOf(&n.Kids[i])
	}
	return size
}
