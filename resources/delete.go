package resources

import (
	"context"

	"kiln/storage"
)

// delete makes the version that says a resource is gone. What is gone already, or never was, stays as it is, and that
// is no error: a delete may be repeated. Spec: FHIR R4 http.html#delete.
//
// Errors: Precondition (If-Match).
func (s *Service) delete(ctx context.Context, r Request) (*Response, error) {
	fingerprint := s.fingerprint(ctx, &r)
	if r.ID == "" {
		return s.conditionalDelete(ctx, r, fingerprint)
	}
	key := storage.Key{Type: r.Type, ID: r.ID}
	return s.write(ctx, &r, fingerprint, func(tx *storage.Tx) (*Response, error) {
		locked, err := tx.Lock(ctx, key)
		if err != nil {
			return nil, err
		}
		return s.deleteLocked(ctx, tx, &r, locked[key])
	})
}

func (s *Service) deleteLocked(ctx context.Context, tx *storage.Tx, r *Request, old *storage.Version) (*Response, error) {
	if err := checkConditions(r, old); err != nil {
		return nil, err
	}
	if old == nil || old.Deleted {
		return &Response{Version: old, existed: true}, nil
	}
	v, err := s.remove(ctx, tx, r, old)
	if err != nil {
		return nil, err
	}
	return &Response{Version: v, Deleted: 1}, nil
}

// conditionalDelete deletes what criteria find: one resource, or several where Options.MultipleDelete allows it.
// Spec: FHIR R4 http.html#3.1.0.7.1.
//
// Errors: Precondition where more match than may.
func (s *Service) conditionalDelete(ctx context.Context, r Request, fingerprint []byte) (*Response, error) {
	return s.write(ctx, &r, fingerprint, func(tx *storage.Tx) (*Response, error) {
		if err := tx.LockCriteria(ctx, normalCriteria(r.Type, r.Query)); err != nil {
			return nil, err
		}
		found, err := s.matchLocked(ctx, tx, r.Type, r.Query, s.deleteLimit())
		if err != nil {
			return nil, err
		}
		return s.deleteAll(ctx, tx, &r, found)
	})
}

// deleteLimit is how many resources one conditional delete may remove.
func (s *Service) deleteLimit() int {
	if s.options.MultipleDelete {
		return s.limits.MaxConditionalMatches
	}
	return 1
}

// deleteAll deletes resources that are locked. The answer names the version only where it is the only one.
func (s *Service) deleteAll(ctx context.Context, tx *storage.Tx, r *Request, found []*storage.Version) (*Response, error) {
	total := &Response{}
	for _, old := range found {
		resp, err := s.deleteLocked(ctx, tx, r, old)
		if err != nil {
			return nil, err
		}
		total.Deleted += resp.Deleted
		if resp.Deleted > 0 {
			total.touched = append(total.touched, resp.Version)
		}
		if total.Version = resp.Version; len(found) > 1 {
			total.Version = nil
		}
	}
	return total, nil
}
