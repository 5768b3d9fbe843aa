package identity

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// What the methods of Store fail with, beside failures of the database.
var (
	ErrNotFound = errors.New("identity: not found")
	ErrExists   = errors.New("identity: exists already")
	// ErrUsed is for what works once and was taken before: a code, a refresh token, an assertion, a launch.
	ErrUsed = errors.New("identity: used already")
)

// Store is the identity tables of one database. It is safe for concurrent use.
type Store struct {
	pool *pgxpool.Pool
	now  func() time.Time
}

// New makes a Store on a migrated database. now is the clock; nil is time.Now.
func New(pool *pgxpool.Pool, now func() time.Time) *Store {
	if now == nil {
		now = time.Now
	}
	return &Store{pool: pool, now: now}
}

// Open connects to a migrated database, for commands that need nothing but identities. Call close when done.
func Open(ctx context.Context, url string) (s *Store, close func(), err error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, nil, errors.New("identity: the database URL cannot be read") // its text may hold the password
	}
	config.MaxConns = 2
	config.ConnConfig.RuntimeParams["application_name"] = "kiln command"
	config.ConnConfig.RuntimeParams["timezone"] = "UTC"
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, nil, fmt.Errorf("identity: open pool: %w", err)
	}
	return New(pool, nil), pool.Close, nil
}

// Hash is how a secret is found again.
func Hash(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}

type txKey struct{}

// Begin opens a transaction that the methods join which get the returned context: within that of ctx, where there is one.
// Commit or Rollback must follow.
func (s *Store) Begin(ctx context.Context) (context.Context, error) {
	begin := s.pool.Begin
	if tx, ok := ctx.Value(txKey{}).(pgx.Tx); ok {
		begin = tx.Begin
	}
	tx, err := begin(ctx)
	if err != nil {
		return ctx, fmt.Errorf("identity: begin: %w", err)
	}
	return context.WithValue(ctx, txKey{}, tx), nil
}

// Apart is ctx without its transaction, for what must stay whatever becomes of that.
func Apart(ctx context.Context) context.Context { return context.WithValue(ctx, txKey{}, nil) }

// Commit ends the transaction of ctx.
func (s *Store) Commit(ctx context.Context) error {
	if tx, ok := ctx.Value(txKey{}).(pgx.Tx); ok {
		return tx.Commit(ctx)
	}
	return errors.New("identity: commit outside of a transaction")
}

// Rollback undoes the transaction of ctx; after Commit it does nothing.
func (s *Store) Rollback(ctx context.Context) error {
	if tx, ok := ctx.Value(txKey{}).(pgx.Tx); ok {
		if err := tx.Rollback(context.WithoutCancel(ctx)); err != nil && !errors.Is(err, pgx.ErrTxClosed) {
			return err
		}
	}
	return nil
}

// querier is a pool or a transaction.
type querier interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func (s *Store) on(ctx context.Context) querier {
	if tx, ok := ctx.Value(txKey{}).(pgx.Tx); ok {
		return tx
	}
	return s.pool
}

// exec runs a statement and says how many rows it touched.
func (s *Store) exec(ctx context.Context, what, sql string, args ...any) (int64, error) {
	tag, err := s.on(ctx).Exec(ctx, sql, args...)
	return tag.RowsAffected(), translate(what, err)
}

// maxRings is how often a statement that waited in a ring is run.
const maxRings = 5

// ends is exec for a statement that ends tokens. With them go the rows of opened, which those who end treatments delete as well, in another order: whoever waits
// in a ring with them begins again, within a transaction from a savepoint, and holds nothing meanwhile.
func (s *Store) ends(ctx context.Context, what, sql string, args ...any) (n int64, err error) {
	for range maxRings {
		var pg *pgconn.PgError
		if n, err = s.endsOnce(ctx, what, sql, args); !errors.As(err, &pg) || pg.Code != "40P01" {
			break
		}
	}
	return n, err
}

func (s *Store) endsOnce(ctx context.Context, what, sql string, args []any) (int64, error) {
	if _, within := ctx.Value(txKey{}).(pgx.Tx); !within {
		return s.exec(ctx, what, sql, args...)
	}
	ctx, err := s.Begin(ctx)
	if err != nil {
		return 0, err
	}
	defer s.Rollback(ctx)
	n, err := s.exec(ctx, what, sql, args...)
	if err != nil {
		return 0, err
	}
	return n, s.Commit(ctx)
}

// must is exec for a statement that has to touch a row.
func (s *Store) must(ctx context.Context, what, sql string, args ...any) error {
	n, err := s.exec(ctx, what, sql, args...)
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	return err
}

// row runs a query for one row.
func (s *Store) row(ctx context.Context, what, sql string, args []any, into ...any) error {
	return translate(what, s.on(ctx).QueryRow(ctx, sql, args...).Scan(into...))
}

func translate(what string, err error) error {
	var pg *pgconn.PgError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, pgx.ErrNoRows):
		return ErrNotFound
	case errors.As(err, &pg) && pg.Code == "23505":
		return ErrExists
	case errors.As(err, &pg) && (pg.Code == "23503" || pg.Code == "22021" || pg.Code == "22P02"):
		// A row that it hangs on went away meanwhile, or the value is none that could have been stored.
		return ErrNotFound
	}
	return fmt.Errorf("identity: %s: %w", what, err)
}

const sqlNote = `INSERT INTO audit_entry (recorded, entry) VALUES ($1, $2)`

// Note writes an entry of the audit log: storage.AuditEntry, as text.
func (s *Store) Note(ctx context.Context, recorded time.Time, entry string) error {
	return s.must(ctx, "note", sqlNote, recorded, entry)
}
