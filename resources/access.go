package resources

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"

	"kiln/auth"
	"kiln/conformance"
	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/storage"
)

// rights are what one principal may do, an access for each action. They hold for one state of the policy and of the
// definitions.
type rights struct {
	principal auth.Principal
	actions   map[auth.Actions]*right
}

type right struct {
	restriction *search.Restriction
	access      *storage.Access
	// types are auth.Allowed.
	types map[string]bool
}

type rightsKey struct{}

// rightsCache keeps the rights of callers who come again, which most do within seconds.
type rightsCache struct {
	mu    sync.RWMutex
	of    rightsState
	known map[string]*rights
}

// rightsState is what rights hold for.
type rightsState struct {
	policy   *auth.Policy
	rules    int64
	registry *conformance.Registry
}

// keep keeps rights that hold for a state; anew begins with that state. What was worked out while it was followed by another counts for the
// request that began before, and no longer.
func (c *rightsCache) keep(of rightsState, anew bool, key string, r *rights) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case anew || c.of == of && len(c.known) > maxRights:
		c.of, c.known = of, map[string]*rights{}
	case c.of != of:
		return
	}
	c.known[key] = r
}

// maxRights bounds rightsCache; beyond it, the cache begins anew.
const maxRights = 2000

// identified finds out who asks and gives a context that carries what that principal may do. Whatever a Service does
// for a caller begins with it. Storage shows what may be read; acting changes that to another action.
//
// Errors: Unauthenticated for nobody.
func (s *Service) identified(ctx context.Context, p *auth.Principal) (context.Context, error) {
	if !p.Known() {
		glass := p.BreakGlass
		*p = s.options.Anonymous
		p.BreakGlass = glass
	}
	if !p.Known() {
		return nil, fhir.NewError(fhir.Unauthenticated, fhir.CodeLogin, "This server answers only to callers who show a token")
	}
	if !p.Expires.IsZero() && !s.now().Before(p.Expires) {
		return nil, fhir.NewError(fhir.Unauthenticated, fhir.CodeExpired, "The token has expired")
	}
	if p.IsOperator() {
		return storage.WithAccess(ctx, storage.Everything()), nil
	}
	if err := s.stillActing(ctx, p); err != nil {
		return nil, err
	}
	r, err := s.rightsOf(p)
	if err != nil {
		return nil, err
	}
	return acting(context.WithValue(ctx, rightsKey{}, r), auth.Read), nil
}

// stillActing takes out of a principal with several records those that a RelatedPerson does not open now: what it sees of a
// visit of several patients, whose parties it is and what its paging links are for goes by all of them together.
func (s *Service) stillActing(ctx context.Context, p *auth.Principal) error {
	if len(p.Others) == 0 {
		return nil
	}
	var related []string
	for _, link := range append([]auth.Record{{Link: p.FHIRUser}}, p.Others...) {
		if id, is := strings.CutPrefix(link.Link, "RelatedPerson/"); is {
			related = append(related, id)
		}
	}
	if related == nil {
		return nil
	}
	patients, err := s.store.Identity().Represented(ctx, related)
	if err != nil {
		return err
	}
	over := func(link, patient string) bool {
		id, is := strings.CutPrefix(link, "RelatedPerson/")
		return is && patients[id] != patient
	}
	if over(p.FHIRUser, p.Represents) {
		p.Represents = ""
	}
	p.Others = slices.DeleteFunc(slices.Clone(p.Others), func(r auth.Record) bool { return over(r.Link, r.Patient) })
	return nil
}

// acting is a context in which storage shows what an action may be done with.
func acting(ctx context.Context, action auth.Actions) context.Context {
	r, ok := ctx.Value(rightsKey{}).(*rights)
	if !ok {
		return ctx // an operator's, or nobody's
	}
	return storage.WithAccess(ctx, r.actions[action].access)
}

// permitted says whether the caller may do an action with any resource of a type; "" for a type is any type at all.
//
// Errors: Forbidden. It depends on the request alone, never on what is stored.
func permitted(ctx context.Context, action auth.Actions, typ string) error {
	r, ok := ctx.Value(rightsKey{}).(*rights)
	if !ok || r.actions[action].types[typ] {
		return nil
	}
	what := typ
	if what == "" {
		what = "any resource"
	}
	return forbidden("The token and the role of this caller do not allow to " + actionNames[action] + " " + what)
}

var actionNames = map[auth.Actions]string{auth.Create: "create", auth.Read: "read", auth.Update: "update", auth.Delete: "delete", auth.Search: "search for"}

func forbidden(text string) *fhir.Error {
	return fhir.NewError(fhir.Forbidden, fhir.CodeForbidden, text)
}

// notYours refuses a write for what it would make of a resource. It says nothing about what is stored.
func notYours(typ string) *fhir.Error {
	return forbidden("This caller may not write this " + typ + ": it belongs to other patients or calendars, consents or labels keep it from the caller, or the scopes of the token leave it out").Coded("out-of-compartment")
}

func (s *Service) rightsOf(p *auth.Principal) (*rights, error) {
	rows, rules := s.store.AccessRules()
	registry := s.store.Registry()
	key := p.Fingerprint()
	c := &s.rights
	c.mu.RLock()
	known, of := c.known[key], c.of
	c.mu.RUnlock()
	fresh := of.policy != nil && of.rules == rules && of.registry == registry
	if fresh && known != nil {
		return known, nil
	}
	if !fresh {
		var list []auth.PolicyRule
		for _, row := range rows {
			list = append(list, auth.PolicyRule{Role: auth.Role(row.Role), Types: row.Types, Actions: auth.ActionsOf(row.Actions), Reach: auth.ParseReach(row.Reach)})
		}
		policy, err := auth.NewPolicy(list, registry)
		if err != nil {
			return nil, fhir.NewError(fhir.Internal, fhir.CodeException, "The policy of roles cannot be read").Because(err)
		}
		of = rightsState{policy, rules, registry}
	}
	r := &rights{principal: *p, actions: map[auth.Actions]*right{}}
	for _, action := range []auth.Actions{auth.Create, auth.Read, auth.Update, auth.Delete, auth.Search} {
		restriction, err := of.policy.Restriction(p, action, catalog{registry: registry})
		if err != nil {
			return nil, forbidden("The token has a scope that this server cannot apply").Because(err)
		}
		access, err := s.store.Access(restriction)
		if err != nil {
			return nil, forbidden("The token has a scope that this server cannot apply").Because(err)
		}
		r.actions[action] = &right{restriction, access, auth.Allowed(restriction)}
	}
	c.keep(of, !fresh, key, r)
	return r, nil
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
		return nil, forbidden("Only administrators may do this")
	}
	return ctx, nil
}

// authorize refuses an interaction whose action the caller may not do with any resource of its type, and gives the
// context in which storage shows what the interaction may look at.
//
// Errors: Forbidden.
func authorize(ctx context.Context, r *Request) (context.Context, error) {
	var needs []auth.Actions
	switch r.Interaction {
	case Read, VRead, HistoryInstance:
		needs = []auth.Actions{auth.Read}
	case SearchType, SearchSystem, HistoryType, HistorySystem:
		needs = []auth.Actions{auth.Search}
	case Create:
		if needs = []auth.Actions{auth.Create}; r.IfNoneExist != "" {
			needs = append(needs, auth.Search)
		}
	case Update:
		needs = []auth.Actions{auth.Update}
	case Patch: // it can test what it changes
		needs = []auth.Actions{auth.Update, auth.Read}
	case Delete:
		needs = []auth.Actions{auth.Delete}
	default:
		return ctx, nil
	}
	if r.Interaction.writes() && r.Interaction != Create && r.ID == "" {
		needs = append(needs, auth.Search)
	}
	for _, action := range needs {
		if err := permitted(ctx, action, r.Type); err != nil {
			return nil, err
		}
	}
	return acting(ctx, needs[0]), nil
}

// cursorPurpose binds a paging link to the query it was made for and to the rights of whom it was made for.
func cursorPurpose(r *Request, what, self string) string {
	return what + " " + strconv.Quote(r.Principal.Fingerprint()) + " " + self
}
