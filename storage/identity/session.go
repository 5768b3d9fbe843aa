package identity

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// Session is a browser that is signed in.
type Session struct {
	// ID is the Hash of the cookie.
	ID      []byte
	Account string
	// Methods are how the account was proven (RFC 8176): pwd, otp, hwk, ext.
	Methods                []string
	Created, Seen, Expires time.Time
}

// AddSession records a sign-in.
func (s *Store) AddSession(ctx context.Context, one *Session) error {
	_, err := s.exec(ctx, "add session", `
INSERT INTO login_session (id, account, methods, created, seen, expires) VALUES ($1, $2::text::uuid, $3, $4, $4, $5)`,
		one.ID, one.Account, one.Methods, one.Created, one.Expires)
	return err
}

// Session finds a session that has neither expired nor been idle for longer than idle, with its account, which is not
// disabled. That it was used is recorded, at most once a minute, and more often where idle is short.
func (s *Store) Session(ctx context.Context, id []byte, idle time.Duration) (*Session, *Account, error) {
	one, now := &Session{ID: id}, s.now()
	err := s.row(ctx, "read session", `
SELECT l.account::text, l.methods, l.created, l.seen, l.expires FROM login_session l JOIN account a ON a.id = l.account
WHERE l.id = $1 AND l.expires > $2 AND l.seen > $3 AND NOT a.disabled`, []any{id, now, now.Add(-idle)},
		&one.Account, &one.Methods, &one.Created, &one.Seen, &one.Expires)
	if err != nil {
		return nil, nil, err
	}
	if now.Sub(one.Seen) > min(time.Minute, idle/10) {
		if _, err := s.exec(ctx, "touch session", `UPDATE login_session SET seen = $2 WHERE id = $1`, id, now); err != nil {
			return nil, nil, err
		}
	}
	account, err := s.Account(ctx, one.Account)
	return one, account, err
}

// Sessions lists the sessions of an account, newest first.
func (s *Store) Sessions(ctx context.Context, account string) ([]*Session, error) {
	rows, _ := s.on(ctx).Query(ctx, `
SELECT id, account::text, methods, created, seen, expires FROM login_session
WHERE account = $1::text::uuid AND expires > $2 ORDER BY seen DESC`, account, s.now())
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*Session, error) {
		one := new(Session)
		return one, row.Scan(&one.ID, &one.Account, &one.Methods, &one.Created, &one.Seen, &one.Expires)
	})
	return all, translate("list sessions", err)
}

// EndSession signs a browser out and revokes what was granted for as long as it was signed in.
func (s *Store) EndSession(ctx context.Context, id []byte) error {
	if _, err := s.exec(ctx, "end session", `DELETE FROM login_session WHERE id = $1`, id); err != nil {
		return err
	}
	_, err := s.ends(ctx, "revoke online grants", `DELETE FROM oauth_grant WHERE session = $1`, id)
	return err
}

// EndOtherSessions ends all sessions of an account but one.
func (s *Store) EndOtherSessions(ctx context.Context, account string, but []byte) error {
	if _, err := s.ends(ctx, "revoke online grants", `
DELETE FROM oauth_grant WHERE account = $1::text::uuid AND session IS NOT NULL AND session <> $2`, account, but); err != nil {
		return err
	}
	_, err := s.exec(ctx, "end sessions", `DELETE FROM login_session WHERE account = $1::text::uuid AND id <> $2`, account, but)
	return err
}

// FailedLogins counts the failures recorded for a subject since a time.
func (s *Store) FailedLogins(ctx context.Context, subject string, since time.Time) (n int, err error) {
	return n, s.row(ctx, "count failures", `SELECT count(*) FROM login_failure WHERE subject = $1 AND at > $2`, []any{Hash(subject), since}, &n)
}

// LoginFailed records a failure for each subject.
func (s *Store) LoginFailed(ctx context.Context, subjects ...string) error {
	for _, subject := range subjects {
		if _, err := s.exec(ctx, "record failure", `INSERT INTO login_failure VALUES ($1, $2)`, Hash(subject), s.now()); err != nil {
			return err
		}
	}
	return nil
}

// TakeBackFailure forgets one failure of a subject, the newest.
func (s *Store) TakeBackFailure(ctx context.Context, subject string) error {
	_, err := s.exec(ctx, "take back failure", `DELETE FROM login_failure WHERE ctid = (
SELECT ctid FROM login_failure WHERE subject = $1 ORDER BY at DESC LIMIT 1 FOR UPDATE SKIP LOCKED)`, Hash(subject))
	return err
}

// LoginSucceeded forgets the failures of a subject.
func (s *Store) LoginSucceeded(ctx context.Context, subject string) error {
	_, err := s.exec(ctx, "forget failures", `DELETE FROM login_failure WHERE subject = $1`, Hash(subject))
	return err
}
