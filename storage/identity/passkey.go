package identity

import (
	"context"
	"encoding/json"

	"github.com/jackc/pgx/v5"
)

// Passkey is a passkey of an account; Credential is what package webauthn needs of it.
type Passkey struct {
	ID         []byte
	Account    string
	Name       string
	Credential json.RawMessage
}

// AddPasskey records a passkey. Errors: ErrExists.
func (s *Store) AddPasskey(ctx context.Context, p *Passkey) error {
	_, err := s.exec(ctx, "add passkey", `INSERT INTO account_passkey (id, account, name, credential) VALUES ($1, $2::text::uuid, $3, $4)`,
		p.ID, p.Account, p.Name, p.Credential)
	return err
}

// Passkeys lists the passkeys of an account, oldest first.
func (s *Store) Passkeys(ctx context.Context, account string) ([]*Passkey, error) {
	rows, _ := s.on(ctx).Query(ctx, `SELECT id, account::text, name, credential FROM account_passkey WHERE account = $1::text::uuid ORDER BY created, id`, account)
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*Passkey, error) {
		p := new(Passkey)
		return p, row.Scan(&p.ID, &p.Account, &p.Name, &p.Credential)
	})
	return all, translate("list passkeys", err)
}

// UsedPasskey records the state of a passkey after a sign-in: its counter tells copies.
func (s *Store) UsedPasskey(ctx context.Context, id []byte, credential json.RawMessage) error {
	return s.must(ctx, "use passkey", `UPDATE account_passkey SET credential = $2 WHERE id = $1`, id, credential)
}

// RemovePasskey removes a passkey of an account.
func (s *Store) RemovePasskey(ctx context.Context, account string, id []byte) error {
	return s.must(ctx, "remove passkey", `DELETE FROM account_passkey WHERE account = $1::text::uuid AND id = $2`, account, id)
}
