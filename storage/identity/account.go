package identity

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Account is a person who signs in.
type Account struct {
	ID       string
	Username string
	// Password is argon2id in PHC form; "" for none.
	Password string
	Roles    []string
	// FHIRUser are the resources that the account stands for, such as Practitioner/7; the first is the fhirUser claim.
	FHIRUser []string
	// TOTP is the sealed seed of one-time codes; nil for none. TOTPStep is the last step that was used.
	TOTP     []byte
	TOTPStep int64
	Disabled bool
	Created  time.Time
}

// Has says whether the account has a role.
func (a *Account) Has(role string) bool { return slices.Contains(a.Roles, role) }

// Linked returns the resource of a type that the account stands for, as Type/id, or "".
func (a *Account) Linked(resourceType string) string {
	for _, ref := range a.FHIRUser {
		if strings.HasPrefix(ref, resourceType+"/") {
			return ref
		}
	}
	return ""
}

const accountColumns = `id::text, username, coalesce(password, ''), roles, fhir_user, totp, totp_step, disabled, created`

func scanAccount(row pgx.CollectableRow) (*Account, error) {
	a := new(Account)
	err := row.Scan(&a.ID, &a.Username, &a.Password, &a.Roles, &a.FHIRUser, &a.TOTP, &a.TOTPStep, &a.Disabled, &a.Created)
	return a, err
}

func (s *Store) account(ctx context.Context, where string, arg any) (*Account, error) {
	rows, _ := s.on(ctx).Query(ctx, "SELECT "+accountColumns+" FROM account WHERE "+where, arg)
	a, err := pgx.CollectExactlyOneRow(rows, scanAccount)
	if err != nil {
		return nil, translate("read account", err)
	}
	return a, nil
}

// Account finds an account by its id.
func (s *Store) Account(ctx context.Context, id string) (*Account, error) {
	return s.account(ctx, "id = $1::text::uuid", id)
}

// AccountNamed finds an account by its name, in whatever case.
func (s *Store) AccountNamed(ctx context.Context, username string) (*Account, error) {
	return s.account(ctx, "lower(username) = lower($1)", username)
}

// Accounts lists all accounts by name.
func (s *Store) Accounts(ctx context.Context) ([]*Account, error) {
	rows, _ := s.on(ctx).Query(ctx, "SELECT "+accountColumns+" FROM account ORDER BY lower(username)")
	all, err := pgx.CollectRows(rows, scanAccount)
	return all, translate("list accounts", err)
}

// AccountsOf lists the accounts that stand for a resource, Type/id.
func (s *Store) AccountsOf(ctx context.Context, reference string) ([]*Account, error) {
	rows, _ := s.on(ctx).Query(ctx, "SELECT "+accountColumns+" FROM account WHERE fhir_user @> ARRAY[$1]", reference)
	list, err := pgx.CollectRows(rows, scanAccount)
	return list, translate("list accounts of a resource", err)
}

// AddAccount makes an account and gives it an id. Errors: ErrExists.
func (s *Store) AddAccount(ctx context.Context, a *Account) error {
	a.ID = uuid.Must(uuid.NewV7()).String()
	if a.FHIRUser == nil {
		a.FHIRUser = []string{}
	}
	return s.row(ctx, "add account", `
INSERT INTO account (id, username, password, roles, fhir_user) VALUES ($1::text::uuid, $2, nullif($3, ''), $4, $5)
RETURNING created`, []any{a.ID, a.Username, a.Password, a.Roles, a.FHIRUser}, &a.Created)
}

// SetFHIRUser says which resources an account stands for. What it granted while it stood for others is revoked.
func (s *Store) SetFHIRUser(ctx context.Context, id string, references []string) error {
	if err := s.must(ctx, "set links", `UPDATE account SET fhir_user = $2 WHERE id = $1::text::uuid`, id, references); err != nil {
		return err
	}
	return s.endAccount(ctx, id)
}

// Represented returns the ids of the patients for whom RelatedPersons (ids) act now, by the id of the RelatedPerson.
func (s *Store) Represented(ctx context.Context, relatedPersons []string) (map[string]string, error) {
	rows, _ := s.on(ctx).Query(ctx, `
SELECT r.id, p.id FROM resource r JOIN proxy x ON x.source = r.rk JOIN resource p ON p.rk = x.patient
WHERE r.type = 'RelatedPerson' AND r.id = ANY($1) AND p.content IS NOT NULL AND visible.represents(r.rk, ARRAY[p.rk])`, relatedPersons)
	found := map[string]string{}
	var from, to string
	_, err := pgx.ForEachRow(rows, []any{&from, &to}, func() error { found[from] = to; return nil })
	return found, translate("find the represented", err)
}

// DisableAccount closes an account, or opens it again. Closing ends its sessions and revokes what it granted.
func (s *Store) DisableAccount(ctx context.Context, id string, disabled bool) error {
	if err := s.must(ctx, "disable account", `UPDATE account SET disabled = $2 WHERE id = $1::text::uuid`, id, disabled); err != nil || !disabled {
		return err
	}
	return s.endAccount(ctx, id)
}

// SetPassword changes the password, ends the account's sessions and revokes what it granted: whoever knew the old one
// is out.
func (s *Store) SetPassword(ctx context.Context, id, password string) error {
	if err := s.must(ctx, "set password", `UPDATE account SET password = $2 WHERE id = $1::text::uuid`, id, password); err != nil {
		return err
	}
	return s.endAccount(ctx, id)
}

func (s *Store) endAccount(ctx context.Context, id string) error {
	if _, err := s.exec(ctx, "end sessions", `DELETE FROM login_session WHERE account = $1::text::uuid`, id); err != nil {
		return err
	}
	_, err := s.ends(ctx, "revoke grants", `DELETE FROM oauth_grant WHERE account = $1::text::uuid`, id)
	return err
}

// SetTOTP sets or, with nil, removes the sealed seed of one-time codes. The code of a time step has shown that it works: it
// is used. With another seed there are no recovery codes.
func (s *Store) SetTOTP(ctx context.Context, id string, sealed []byte, step int64) error {
	if err := s.SetRecoveryCodes(ctx, id, nil); err != nil {
		return err
	}
	return s.must(ctx, "set totp", `UPDATE account SET totp = $2, totp_step = $3 WHERE id = $1::text::uuid`, id, sealed, step)
}

// SetRecoveryCodes replaces the recovery codes of an account, by their hashes.
func (s *Store) SetRecoveryCodes(ctx context.Context, id string, hashes [][]byte) error {
	if _, err := s.exec(ctx, "remove recovery codes", `DELETE FROM recovery_code WHERE account = $1::text::uuid`, id); err != nil {
		return err
	}
	_, err := s.exec(ctx, "add recovery codes", `INSERT INTO recovery_code (account, hash) SELECT $1::text::uuid, unnest($2::bytea[])`, id, hashes)
	return err
}

// UseRecoveryCode uses a recovery code up. Errors: ErrUsed where there is none with this hash.
func (s *Store) UseRecoveryCode(ctx context.Context, id string, hash []byte) error {
	n, err := s.exec(ctx, "use recovery code", `DELETE FROM recovery_code WHERE account = $1::text::uuid AND hash = $2`, id, hash)
	if err == nil && n == 0 {
		err = ErrUsed
	}
	return err
}

// RemoveFactors takes one-time codes and passkeys off an account, ends its sessions and revokes what it granted: whoever has
// the lost device is out, and its owner signs in with the password alone.
func (s *Store) RemoveFactors(ctx context.Context, id string) error {
	if err := s.SetTOTP(ctx, id, nil, 0); err != nil {
		return err
	}
	if _, err := s.exec(ctx, "remove passkeys", `DELETE FROM account_passkey WHERE account = $1::text::uuid`, id); err != nil {
		return err
	}
	return s.endAccount(ctx, id)
}

// UseTOTPStep records that the code of a time step was used. Errors: ErrUsed where it or a later one was used before.
func (s *Store) UseTOTPStep(ctx context.Context, id string, step int64) error {
	n, err := s.exec(ctx, "use totp", `UPDATE account SET totp_step = $2 WHERE id = $1::text::uuid AND totp_step < $2`, id, step)
	if err == nil && n == 0 {
		err = ErrUsed
	}
	return err
}
