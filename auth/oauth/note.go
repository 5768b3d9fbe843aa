package oauth

import (
	"context"
	"errors"
	"fmt"

	"kiln/auth"
	"kiln/storage/identity"
)

// Event is something that the audit log keeps.
type Event struct {
	Principal auth.Principal
	// Action is one of the Act constants; Refused says that it did not happen.
	Action  string
	Refused bool
	// Detail says what it was about: a client id, a username.
	Detail string
	// Patient is whose record it concerns; "" for none.
	Patient string
}

// What an Event can be about.
const (
	ActLogin        = "login"
	ActLogout       = "logout"
	ActGrant        = "grant"
	ActRevoke       = "revoke"
	ActToken        = "token"
	ActLaunch       = "launch"
	ActRegister     = "register-client"
	ActCredential   = "change-credential"
	ActUnfit        = "token-refused"         // a token or code that opens nothing, or does no more
	ActClient       = "client-authentication" // that failed
	ActOperatorCall = "operator-command"
	ActJoin         = "register-patient"
	ActJudge        = "decide-registration"
	ActAuthorize    = "authorize" // an authorization request, before anybody signs in; noted where it is refused
	ActIntrospect   = "introspect"
	ActUserInfo     = "userinfo"
	ActAdminister   = "administration" // a page of administrators; noted where it is refused
)

// unnoted is why nothing happened: the audit log could not be written, and what it does not tell of must not be.
type unnoted struct{ cause error }

func (e *unnoted) Error() string { return fmt.Sprintf("oauth: write the audit log: %v", e.cause) }
func (e *unnoted) Unwrap() error { return e.cause }

// note has the audit log tell of something before the answer goes out: a refusal, or what another transaction did. Within
// the transaction of ctx, if there is one.
func (s *Server) note(ctx context.Context, e Event) error {
	if err := s.options.Audit(ctx, e); err != nil {
		return &unnoted{err}
	}
	return nil
}

// named is the client that a stranger's request names. One that is registered is told of, and proves nothing by it: what else
// stands in the place of an id may be anything, a secret too.
func (s *Server) named(ctx context.Context, id string) (auth.Principal, error) {
	c, err := s.store.Client(ctx, id)
	if errors.Is(err, identity.ErrNotFound) {
		return auth.Principal{Name: "a client that is not registered"}, nil
	}
	if err != nil {
		return auth.Principal{}, err
	}
	return auth.Principal{Client: c.ID, Name: c.Name}, nil
}

// reasonOf says in a few words of our own why something was refused: texts for clients may repeat what they sent. "" is for a
// fault of ours, which is no refusal.
func reasonOf(err error) string {
	if p := (*problem)(nil); errors.As(err, &p) {
		return p.title
	}
	if b := (*bearerError)(nil); errors.As(err, &b) {
		return b.text
	}
	e, fault := tell(err)
	if fault {
		return ""
	}
	return e.Code
}

// noted does work in one transaction with the entry that tells of it: neither is there without the other. work may complete
// the event.
func (s *Server) noted(ctx context.Context, e *Event, work func(context.Context) error) error {
	ctx, err := s.store.Begin(ctx)
	if err != nil {
		return err
	}
	defer s.store.Rollback(ctx)
	if err := work(ctx); err != nil {
		return err
	}
	if err := s.note(ctx, *e); err != nil {
		return err
	}
	return s.store.Commit(ctx)
}
