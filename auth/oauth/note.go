package oauth

import (
	"context"
	"fmt"

	"kiln/auth"
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
	ActUnfit        = "token-refused"         // a code or refresh token that opens nothing, or does no more
	ActClient       = "client-authentication" // that failed
	ActOperatorCall = "operator-command"
	ActJoin         = "register-patient"
	ActJudge        = "decide-registration"
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
