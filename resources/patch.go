package resources

import (
	"context"

	"kiln/fhir"
	"kiln/storage"
)

// patch changes parts of a resource, by JSON Patch or FHIRPath Patch, named by its id or by criteria. The result must
// be as valid as a resource sent whole. Spec: FHIR R4 http.html#patch.
//
// Errors: NotFound, Gone, Invalid (the patch), Unprocessable (the patch or the result), Precondition.
func (s *Service) patch(ctx context.Context, r Request) (*Response, error) {
	fingerprint := s.fingerprint(ctx, &r)
	return s.write(ctx, &r, fingerprint, func(tx *storage.Tx) (*Response, error) {
		old, err := s.patchTarget(ctx, tx, &r)
		if err != nil {
			return nil, err
		}
		if err := s.keepsOthers(ctx, &r, old); err != nil {
			return nil, err
		}
		body, err := s.patched(&r, old)
		if err != nil {
			return nil, err
		}
		return s.putPatched(ctx, tx, &r, body, old)
	})
}

// patchTarget gives the version to patch, locked.
func (s *Service) patchTarget(ctx context.Context, tx *storage.Tx, r *Request) (*storage.Version, error) {
	if r.ID != "" {
		key := storage.Key{Type: r.Type, ID: r.ID}
		locked, err := tx.Lock(ctx, key)
		if err != nil {
			return nil, err
		}
		return locked[key], patchable(r, key, locked[key])
	}
	if err := tx.LockCriteria(ctx, normalCriteria(r.Type, r.Query)); err != nil {
		return nil, err
	}
	found, err := s.matchLocked(ctx, tx, r.Type, r.Query, 1)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, noMatch(r)
	}
	return found[0], checkConditions(r, found[0])
}

func noMatch(r *Request) *fhir.Error {
	return fhir.NewError(fhir.NotFound, fhir.CodeNotFound,
		"The criteria "+quote(r.Type+"?"+r.Query)+" match nothing, so there is nothing to patch")
}

func patchable(r *Request, key storage.Key, old *storage.Version) error {
	if err := checkConditions(r, old); err != nil {
		return err
	}
	switch {
	case old == nil:
		return notFound(key)
	case old.Deleted:
		return gone(key)
	}
	return nil
}

// patched is the resource after the patch. Its identity cannot be patched.
func (s *Service) patched(r *Request, old *storage.Version) (*fhir.Node, error) {
	doc, err := fhir.ParseJSON(old.Content)
	if err != nil {
		return nil, fhir.NewError(fhir.Internal, fhir.CodeException, "A stored resource cannot be read").Because(err)
	}
	var body *fhir.Node
	switch {
	case r.JSONPatch != nil:
		body, err = ApplyJSONPatch(doc, r.JSONPatch)
	case r.Body != nil:
		if faults := s.malformed(r.Body); len(faults) > 0 {
			return nil, &fhir.Error{Kind: fhir.Invalid, Issues: faults}
		}
		body, err = ApplyFHIRPathPatch(doc, r.Body, s.registry.Schema())
	default:
		err = fhir.NewError(fhir.Invalid, fhir.CodeRequired, "A patch is needed here, and none was sent")
	}
	if err != nil {
		return nil, err
	}
	if body.ResourceType() != old.Type || body.ID() != old.ID {
		return nil, fhir.NewError(fhir.Unprocessable, fhir.CodeInvalid, "A patch cannot change the type or the id of a resource").
			At(old.Type + ".id").Coded("id-mismatch")
	}
	return body, nil
}

// putPatched validates and queues the result of a patch.
func (s *Service) putPatched(ctx context.Context, tx *storage.Tx, r *Request, body *fhir.Node, old *storage.Version) (*Response, error) {
	if err := deadEnd(r, body, old); err != nil {
		return nil, err
	}
	issues, err := s.validate(ctx, tx, body)
	if err != nil {
		return nil, err
	}
	p, err := s.store.Prepare(body)
	if err != nil {
		return nil, err
	}
	resp, err := s.put(ctx, tx, r, p, old, storage.MethodPatch)
	if err != nil {
		return nil, err
	}
	resp.Issues = append(issues, resp.Issues...)
	return resp, nil
}
