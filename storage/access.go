package storage

import (
	"context"

	"kiln/fhir"
)

// Access is what one caller may see of the database. The zero value is nothing. It travels in the context of a request,
// so that no read can be written that does not have it: without one, every read fails.
type Access struct {
	// everything is for the server itself and for who may do all.
	everything bool
}

// Everything is the access of the server itself and of operators.
func Everything() *Access { return &Access{everything: true} }

type accessKey struct{}

// asSystem is for what the server does unasked, such as a reindex.
func asSystem(ctx context.Context) context.Context { return WithAccess(ctx, Everything()) }

// WithAccess returns a context in which reads and writes see what a lets them see.
func WithAccess(ctx context.Context, a *Access) context.Context {
	return context.WithValue(ctx, accessKey{}, a)
}

// access is what the context lets a caller see.
//
// Errors: Internal where nobody has said: a mistake in the program, and no reason to show anything.
func (s *Store) access(ctx context.Context) (*Access, error) {
	if a, ok := ctx.Value(accessKey{}).(*Access); ok && a != nil {
		return a, nil
	}
	if s.options.Unrestricted {
		return Everything(), nil
	}
	return nil, fhir.NewError(fhir.Internal, fhir.CodeException, "The server did not find out what this request may see")
}
