package resources

import (
	"context"
	"strconv"
	"time"

	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/storage"
)

// read gives the current version of a resource. Within a transaction it sees what the transaction has written.
// Spec: FHIR R4 http.html#read, #cread.
//
// Errors: NotFound, Gone (with the deleted version in the Response).
func (s *Service) read(ctx context.Context, tx *storage.Tx, r Request) (*Response, error) {
	key := storage.Key{Type: r.Type, ID: r.ID}
	v, err := s.current(ctx, tx, key)
	if err != nil {
		return nil, err
	}
	return s.shown(&r, key, v)
}

// vread gives one version of a resource. Spec: FHIR R4 http.html#vread.
func (s *Service) vread(ctx context.Context, tx *storage.Tx, r Request) (*Response, error) {
	key := storage.Key{Type: r.Type, ID: r.ID}
	number, err := strconv.ParseInt(r.Version, 10, 32)
	if err != nil || strconv.FormatInt(number, 10) != r.Version || number < 1 {
		return nil, noVersion(key, r.Version)
	}
	v, err := s.version(ctx, tx, key, int(number))
	if err != nil {
		return nil, err
	}
	if v == nil {
		return nil, noVersion(key, r.Version)
	}
	return s.shown(&r, key, v)
}

func noVersion(k storage.Key, version string) *fhir.Error {
	return fhir.NewError(fhir.NotFound, fhir.CodeNotFound, k.Type+"/"+k.ID+" has no version "+quote(version))
}

// shown is the answer to a read that found v: as much of it as _summary or _elements ask for.
func (s *Service) shown(r *Request, key storage.Key, v *storage.Version) (*Response, error) {
	if v == nil {
		return nil, notFound(key)
	}
	resp := &Response{Version: v}
	if v.Deleted {
		return resp, gone(key)
	}
	switch {
	case r.IfNoneMatch != "":
		resp.NotModified = r.IfNoneMatch == "*" || r.IfNoneMatch == strconv.Itoa(v.Number)
	case !r.IfModifiedSince.IsZero():
		// The date of a header has whole seconds.
		resp.NotModified = !v.LastUpdated.Truncate(time.Second).After(r.IfModifiedSince)
	}
	summary, elements, err := search.ParseSubset(r.Query)
	if err == nil && summary == "count" {
		err = fhir.NewError(fhir.Invalid, fhir.CodeValue, "_summary=count is for searches and histories: a read finds one resource")
	}
	if err != nil {
		return nil, err
	}
	resp.Version, err = s.subset(v, summary, elements)
	return resp, err
}

// current reads a resource in tx, or outside of any transaction where tx is nil. nil stands for one that never existed
// or that the caller may not see.
func (s *Service) current(ctx context.Context, tx *storage.Tx, key storage.Key) (v *storage.Version, err error) {
	if tx == nil {
		v, err = s.store.Read(ctx, key.Type, key.ID)
	} else {
		var found map[storage.Key]*storage.Version
		found, err = tx.Read(ctx, key)
		v = found[key]
	}
	return v, err
}

func (s *Service) version(ctx context.Context, tx *storage.Tx, key storage.Key, number int) (v *storage.Version, err error) {
	if tx == nil {
		v, err = s.store.ReadVersion(ctx, key.Type, key.ID, number)
	} else {
		v, err = tx.ReadVersion(ctx, key.Type, key.ID, number)
	}
	if v, err = s.narrowed(ctx, v, err); v == nil || err != nil || !s.store.Narrows(ctx, key.Type) {
		return v, err
	}
	// By scopes that look at the content, the resource must be visible as it is now, too.
	if now, err := s.current(ctx, tx, key); now == nil || err != nil {
		return nil, err
	}
	return v, nil
}

func (s *Service) narrowed(ctx context.Context, v *storage.Version, err error) (*storage.Version, error) {
	if v == nil || err != nil {
		return v, err
	}
	kept, _, err := s.store.Narrowed(ctx, []*storage.Version{v})
	if err != nil || len(kept) == 0 {
		return nil, err
	}
	return v, nil
}
