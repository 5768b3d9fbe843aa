package resources

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"kiln/auth"
	"kiln/storage/identity"
)

// errNoRights says that whoever asked for a Subscription is no longer there, or may not do it any more.
var errNoRights = errors.New("the subscriber may not read this any more")

// asOwner is a context with the rights that the owner of a Subscription has now: an account that was closed or lost a
// role, or a client that was removed, sees nothing more, whatever it was given once.
//
// Errors: errNoRights.
func (s *Service) asOwner(ctx context.Context, stored []byte, types []string) (context.Context, error) {
	var o owner
	if err := json.Unmarshal(stored, &o); err != nil {
		return nil, err
	}
	if o.Operator {
		return everything(ctx), nil
	}
	p := o.principal()
	roles := o.Roles
	if o.User != "" {
		account, err := s.store.Identity().Account(ctx, o.User)
		if errors.Is(err, identity.ErrNotFound) || err == nil && account.Disabled {
			return nil, errNoRights
		}
		if err != nil {
			return nil, err
		}
		roles = slices.DeleteFunc(roles, func(r string) bool { return !account.Has(r) })
	} else if _, err := s.store.Identity().Client(ctx, o.Client); errors.Is(err, identity.ErrNotFound) {
		return nil, errNoRights
	} else if err != nil {
		return nil, err
	}
	for _, r := range roles {
		p.Roles = append(p.Roles, auth.Role(r))
	}
	p.Scopes, _ = auth.ParseScopes(o.Scope)
	if err := s.stillActing(ctx, &p); err != nil {
		return nil, err
	}
	r, err := s.rightsOf(&p)
	if err != nil {
		return nil, errNoRights
	}
	ctx = context.WithValue(ctx, rightsKey{}, r)
	for _, typ := range types {
		for _, action := range []auth.Actions{auth.Search, auth.Read} {
			if permitted(ctx, action, typ) != nil {
				return nil, errNoRights
			}
		}
	}
	return acting(ctx, auth.Read), nil
}
