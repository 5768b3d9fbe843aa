package resources

import (
	"context"

	"kiln/auth"
	"kiln/fhir"
	"kiln/storage"
)

// create makes a resource under an id of ours; an id that the client sent does not count. With If-None-Exist it makes
// one only where the criteria find none, whoever else tries at the same time. Spec: FHIR R4 http.html#create, #ccreate.
//
// Errors: Invalid, Unprocessable, Precondition (several match).
func (s *Service) create(ctx context.Context, r Request) (*Response, error) {
	if err := checkBody(r.Body, r.Type); err != nil {
		return nil, err
	}
	fingerprint := s.fingerprint(ctx, &r)
	r.Body.Set("id", fhir.Str(s.options.NewID()))
	if err := s.attribute(ctx, &r); err != nil {
		return nil, err
	}
	issues, err := s.validate(ctx, nil, r.Body)
	if err != nil {
		return nil, err
	}
	p, err := s.store.Prepare(r.Body)
	if err != nil {
		return nil, err
	}
	return s.write(ctx, &r, fingerprint, func(tx *storage.Tx) (*Response, error) {
		if r.IfNoneExist != "" {
			existing, err := s.existing(ctx, tx, r.Type, r.IfNoneExist)
			if err != nil || existing != nil {
				return existing, err
			}
		}
		resp, err := s.put(ctx, tx, &r, p, nil, storage.MethodCreate)
		if err != nil {
			return nil, err
		}
		resp.Issues = append(issues, resp.Issues...)
		return resp, nil
	})
}

// existing is the answer of a conditional create that finds its resource, or nil where it is to make one. It holds
// others with the same criteria back until the transaction ends.
func (s *Service) existing(ctx context.Context, tx *storage.Tx, typ, query string) (*Response, error) {
	ctx = acting(ctx, auth.Search)
	if err := tx.LockCriteria(ctx, normalCriteria(typ, query)); err != nil {
		return nil, err
	}
	// A resource found may be deleted before it is read: then it is looked for again.
	for range 3 {
		key, err := s.matchOne(ctx, tx, typ, query)
		if err != nil || key == nil {
			return nil, err
		}
		v, err := s.current(ctx, tx, *key)
		if err != nil {
			return nil, err
		}
		if v != nil && !v.Deleted {
			return &Response{Version: v, existed: true}, nil
		}
	}
	return nil, fhir.NewError(fhir.Transient, fhir.CodeTransient,
		"Others keep changing which resources "+quote(typ+"?"+query)+" matches; try again")
}
