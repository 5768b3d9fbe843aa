package identity

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Outside is who somebody is at an outside OpenID provider.
type Outside struct{ Issuer, Subject string }

// OutsideAccount finds the account that an identity at an outside provider signs in to.
func (s *Store) OutsideAccount(ctx context.Context, o Outside) (*Account, error) {
	var id string
	if err := s.row(ctx, "read identity", `SELECT account::text FROM account_outside WHERE issuer = $1 AND subject = $2`,
		[]any{o.Issuer, o.Subject}, &id); err != nil {
		return nil, err
	}
	return s.Account(ctx, id)
}

// LinkOutside lets an identity at an outside provider sign in to an account. Errors: ErrExists where it is linked already.
func (s *Store) LinkOutside(ctx context.Context, account string, o Outside) error {
	_, err := s.exec(ctx, "link identity", `INSERT INTO account_outside (issuer, subject, account) VALUES ($1, $2, $3::text::uuid)`,
		o.Issuer, o.Subject, account)
	return err
}

// UnlinkOutside takes that back, for all the account's identities at outside providers, and ends its sessions: some of
// them may have begun there. Errors: ErrNotFound where there are none.
func (s *Store) UnlinkOutside(ctx context.Context, account string) error {
	if err := s.must(ctx, "unlink identity", `DELETE FROM account_outside WHERE account = $1::text::uuid`, account); err != nil {
		return err
	}
	return s.endAccount(ctx, account)
}

// OutsideOf lists who an account is at outside providers.
func (s *Store) OutsideOf(ctx context.Context, account string) ([]Outside, error) {
	rows, _ := s.on(ctx).Query(ctx, `SELECT issuer, subject FROM account_outside WHERE account = $1::text::uuid ORDER BY issuer, subject`, account)
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Outside])
	return all, translate("list identities", err)
}
