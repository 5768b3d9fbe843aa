package resources

import (
	"context"

	"kiln/fhir"
	"kiln/storage"
)

// update makes the next version of a resource, or its first where there is none. After a delete the versions go on.
// Spec: FHIR R4 http.html#update, #upsert.
//
// Errors: Invalid (id), Unprocessable, Precondition (If-Match, If-None-Match).
func (s *Service) update(ctx context.Context, r Request) (*Response, error) {
	if err := checkBody(r.Body, r.Type); err != nil {
		return nil, err
	}
	if r.ID == "" {
		return s.conditionalUpdate(ctx, r)
	}
	fingerprint := s.fingerprint(ctx, &r)
	if err := takeID(r.Body, r.ID); err != nil {
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
	key := storage.Key{Type: r.Type, ID: r.ID}
	return s.write(ctx, &r, fingerprint, func(tx *storage.Tx) (*Response, error) {
		locked, err := tx.Lock(ctx, key)
		if err != nil {
			return nil, err
		}
		return s.updateLocked(ctx, tx, &r, p, locked[key], issues)
	})
}

func (s *Service) updateLocked(ctx context.Context, tx *storage.Tx, r *Request, p *storage.Prepared, old *storage.Version, issues []fhir.Issue) (*Response, error) {
	if err := checkConditions(r, old); err != nil {
		return nil, err
	}
	resp, err := s.put(ctx, tx, r, p, old, storage.MethodUpdate)
	if err != nil {
		return nil, err
	}
	resp.Issues = append(issues, resp.Issues...)
	return resp, nil
}

// conditionalUpdate updates the one resource that criteria find, or makes it where they find none.
// Spec: FHIR R4 http.html#cond-update.
//
// Errors: as update; Precondition where several match; Conflict where none matches, and the id in the body belongs to
// a resource that the criteria do not find.
func (s *Service) conditionalUpdate(ctx context.Context, r Request) (*Response, error) {
	fingerprint := s.fingerprint(ctx, &r)
	own := r.Body.ID()
	if own == "" {
		r.Body.Set("id", fhir.Str(s.options.NewID()))
	} else if err := checkOwnID(r.Type, own); err != nil {
		return nil, err
	}
	made := r.Body.ID()
	issues, err := s.validate(ctx, nil, r.Body)
	if err != nil {
		return nil, err
	}
	return s.write(ctx, &r, fingerprint, func(tx *storage.Tx) (*Response, error) {
		if err := tx.LockCriteria(ctx, normalCriteria(r.Type, r.Query)); err != nil {
			return nil, err
		}
		found, err := s.matchLocked(ctx, tx, r.Type, r.Query, 1)
		if err != nil {
			return nil, err
		}
		var old *storage.Version
		id := made
		switch {
		case len(found) > 0:
			if old, id = found[0], found[0].ID; own != "" && own != id {
				return nil, otherID(r.Type, id)
			}
		case own != "":
			key := storage.Key{Type: r.Type, ID: own}
			locked, err := tx.Lock(ctx, key)
			if err != nil {
				return nil, err
			}
			if old = locked[key]; old != nil && !old.Deleted {
				return nil, takenID(key)
			}
		}
		r.Body.Set("id", fhir.Str(id))
		p, err := s.store.Prepare(r.Body)
		if err != nil {
			return nil, err
		}
		return s.updateLocked(ctx, tx, &r, p, old, issues)
	})
}

func checkOwnID(typ, id string) error {
	if !fhir.ValidID(id) {
		return fhir.NewError(fhir.Invalid, fhir.CodeValue, quote(id)+
			" cannot be the id of a resource: 1 to 64 letters, digits, '-' and '.' are allowed").At(typ + ".id").Coded("bad-id")
	}
	return nil
}

func otherID(typ, id string) *fhir.Error {
	return fhir.NewError(fhir.Invalid, fhir.CodeValue, "The criteria match "+typ+"/"+id+
		", but the resource carries another id; leave the id out or make it the same").At(typ + ".id").Coded("id-mismatch")
}

func takenID(key storage.Key) *fhir.Error {
	return fhir.NewError(fhir.Conflict, fhir.CodeConflict, "The criteria match nothing, but "+key.Type+"/"+key.ID+
		" exists; the resource cannot be made under its id").At(key.Type + ".id").Coded("id-taken")
}
