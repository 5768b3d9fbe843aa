package identity

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"
)

// SigningKey signs id_tokens.
type SigningKey struct {
	KID string
	// Sealed is the private key, encrypted; Public is its JWK.
	Sealed     []byte
	Public     json.RawMessage
	ActiveFrom time.Time
	Retired    *time.Time
}

// SigningKeys lists the keys that have not been retired, newest first.
func (s *Store) SigningKeys(ctx context.Context) ([]*SigningKey, error) {
	rows, _ := s.on(ctx).Query(ctx, `
SELECT kid, sealed, public, active_from, retired FROM signing_key WHERE retired IS NULL OR retired > $1 ORDER BY active_from DESC, kid`, s.now())
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*SigningKey, error) {
		k := new(SigningKey)
		return k, row.Scan(&k.KID, &k.Sealed, &k.Public, &k.ActiveFrom, &k.Retired)
	})
	return all, translate("list keys", err)
}

// AddSigningKey adds a key, unless one was added since newest: then nothing happens, and the other one serves. The keys
// before it are retired at a given time.
func (s *Store) AddSigningKey(ctx context.Context, k *SigningKey, newest, retireOthers time.Time) error {
	ctx, err := s.Begin(ctx)
	if err != nil {
		return err
	}
	defer s.Rollback(ctx)
	if _, err := s.exec(ctx, "lock keys", `LOCK TABLE signing_key IN SHARE ROW EXCLUSIVE MODE`); err != nil {
		return err
	}
	n, err := s.exec(ctx, "add key", `
INSERT INTO signing_key (kid, sealed, public, active_from) SELECT $1, $2, $3, $4
WHERE NOT EXISTS (SELECT FROM signing_key WHERE active_from > $5)`, k.KID, k.Sealed, k.Public, k.ActiveFrom, newest)
	if err != nil || n == 0 {
		return err
	}
	if _, err := s.exec(ctx, "retire keys", `UPDATE signing_key SET retired = $2 WHERE kid <> $1 AND (retired IS NULL OR retired > $2)`, k.KID, retireOthers); err != nil {
		return err
	}
	return s.Commit(ctx)
}
