package resources

import (
	"context"

	"kiln/auth"
	"kiln/fhir"
	"kiln/storage"
)

// identified finds out who asks and gives a context in which storage shows what that principal may see. Whatever a
// Service does for a caller begins with it.
//
// Errors: Unauthenticated for nobody.
func (s *Service) identified(ctx context.Context, p *auth.Principal) (context.Context, error) {
	if !p.Known() {
		*p = s.options.Anonymous
	}
	if !p.Known() {
		return nil, fhir.NewError(fhir.Unauthenticated, fhir.CodeLogin, "This server answers only to callers who show a token")
	}
	if p.IsOperator() {
		return storage.WithAccess(ctx, storage.Everything()), nil
	}
	return nil, fhir.NewError(fhir.Forbidden, fhir.CodeForbidden, "This caller has no rights here")
}

// administers is identified for what only administrators may do and see, such as reindex jobs: they tell how many
// resources there are of what.
//
// Errors: Unauthenticated; Forbidden.
func (s *Service) administers(ctx context.Context, p *auth.Principal) (context.Context, error) {
	ctx, err := s.identified(ctx, p)
	if err != nil {
		return nil, err
	}
	if !p.IsOperator() && !p.Has(auth.RoleAdmin) {
		return nil, fhir.NewError(fhir.Forbidden, fhir.CodeForbidden, "Only administrators may do this")
	}
	return ctx, nil
}
