package identity

import (
	"context"
	"encoding/json"
	"time"
)

// Request is an authorization request on its way through sign-in and consent.
type Request struct {
	ID      []byte // the Hash of its handle
	Form    json.RawMessage
	Session []byte // nil until a session has seen it
	// Patient is the id that the user picked, Link which of the account's resources the user picked to act through; "" for none
	// yet.
	Patient, Link    string
	Created, Expires time.Time
}

// AddRequest records an authorization request.
func (s *Store) AddRequest(ctx context.Context, r *Request) error {
	_, err := s.exec(ctx, "add request", `INSERT INTO oauth_request (id, form, created, expires) VALUES ($1, $2, $3, $4)`,
		r.ID, r.Form, r.Created, r.Expires)
	return err
}

// Request finds a request that has not expired.
func (s *Store) Request(ctx context.Context, id []byte) (*Request, error) {
	r := &Request{ID: id}
	err := s.row(ctx, "read request", `
SELECT form, session, coalesce(patient, ''), coalesce(link, ''), created, expires FROM oauth_request WHERE id = $1 AND expires > $2`,
		[]any{id, s.now()}, &r.Form, &r.Session, &r.Patient, &r.Link, &r.Created, &r.Expires)
	return r, err
}

// BindRequest ties a request to the first session that sees it. Errors: ErrUsed where that was another.
func (s *Store) BindRequest(ctx context.Context, id, session []byte) error {
	n, err := s.exec(ctx, "bind request", `UPDATE oauth_request SET session = $2 WHERE id = $1 AND coalesce(session, $2) = $2`, id, session)
	if err == nil && n == 0 {
		err = ErrUsed
	}
	return err
}

// PickPatient records the patient that the user chose, and through which of the account's resources, "" for none.
func (s *Store) PickPatient(ctx context.Context, id []byte, patient, link string) error {
	return s.must(ctx, "pick patient", `UPDATE oauth_request SET patient = $2, link = nullif($3, '') WHERE id = $1`, id, patient, link)
}

// EndRequest removes a request that was decided. Errors: ErrUsed where it was decided before.
func (s *Store) EndRequest(ctx context.Context, id []byte) error {
	n, err := s.exec(ctx, "end request", `DELETE FROM oauth_request WHERE id = $1`, id)
	if err == nil && n == 0 {
		err = ErrUsed
	}
	return err
}

// Launch is a launch of an app from Kiln, waiting for the app to ask for authorization.
type Launch struct {
	ID      []byte // the Hash of the launch value
	Client  string
	Account string
	Context json.RawMessage
	Used    bool
	Expires time.Time
}

// AddLaunch records a launch.
func (s *Store) AddLaunch(ctx context.Context, l *Launch) error {
	_, err := s.exec(ctx, "add launch", `
INSERT INTO oauth_launch (id, client, account, context, expires) VALUES ($1, $2, $3::text::uuid, $4, $5)`,
		l.ID, l.Client, l.Account, l.Context, l.Expires)
	return err
}

// Launch finds a launch that has neither been used nor expired.
func (s *Store) Launch(ctx context.Context, id []byte) (*Launch, error) {
	l := &Launch{ID: id}
	err := s.row(ctx, "read launch", `
SELECT client, account::text, context, used, expires FROM oauth_launch WHERE id = $1 AND NOT used AND expires > $2`,
		[]any{id, s.now()}, &l.Client, &l.Account, &l.Context, &l.Used, &l.Expires)
	return l, err
}

// TakeLaunch marks a launch as used. Errors: ErrUsed.
func (s *Store) TakeLaunch(ctx context.Context, id []byte) error {
	n, err := s.exec(ctx, "take launch", `UPDATE oauth_launch SET used = true WHERE id = $1 AND NOT used AND expires > $2`, id, s.now())
	if err == nil && n == 0 {
		err = ErrUsed
	}
	return err
}

// UseAssertion records the jti of an assertion of a client until it expires. Errors: ErrUsed where it was seen before.
func (s *Store) UseAssertion(ctx context.Context, client, jti string, expires time.Time) error {
	n, err := s.exec(ctx, "use assertion", `INSERT INTO oauth_assertion VALUES ($1, $2) ON CONFLICT DO NOTHING`,
		Hash(client+"\x00"+jti), expires)
	if err == nil && n == 0 {
		err = ErrUsed
	}
	return err
}

// sweeps delete what nobody can use any more. Used refresh tokens stay until they expire: seen again, they tell a theft.
var sweeps = []string{
	`DELETE FROM oauth_grant g WHERE created < $1::timestamptz - interval '1 hour' AND NOT EXISTS (SELECT FROM oauth_token t WHERE t.grant_id = g.id)`,
	`DELETE FROM oauth_request WHERE expires < $1`,
	`DELETE FROM oauth_launch WHERE expires < $1`,
	`DELETE FROM oauth_assertion WHERE expires < $1`,
	`DELETE FROM login_session WHERE expires < $1`,
	`DELETE FROM login_failure WHERE at < $1::timestamptz - interval '1 day'`,
}

// sqlSweepTokens takes few at once: with a token go the patients that it opened, and whoever changes a treatment of these waits until it has ended.
const (
	sqlSweepTokens = `DELETE FROM oauth_token WHERE (hash, kind) IN (SELECT hash, kind FROM oauth_token WHERE expires < $1 LIMIT $2)`
	sweptAtOnce    = 100
)

// Sweep deletes what has expired.
func (s *Store) Sweep(ctx context.Context) error {
	for n := int64(sweptAtOnce); n == sweptAtOnce; {
		var err error
		if n, err = s.ends(ctx, "sweep", sqlSweepTokens, s.now(), sweptAtOnce); err != nil {
			return err
		}
	}
	for _, sql := range sweeps {
		if _, err := s.exec(ctx, "sweep", sql, s.now()); err != nil {
			return err
		}
	}
	return nil
}
