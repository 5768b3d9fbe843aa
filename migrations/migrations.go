// Package migrations holds the database schema as numbered SQL files, and applies them.
//
// A file is NNNN_name.sql with a "-- +goose Up" and a "-- +goose Down" part. Released files never change; a new number
// changes what they made. The tables of the job queue come from River's migrations (river.go). This package imports nothing
// of Kiln's.
package migrations

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

// FS holds the migrations.
//
//go:embed *.sql
var FS embed.FS

// Migration is one file and its state in a database.
type Migration struct {
	Version int64
	Name    string
	Applied time.Time // zero: pending
}

// Up applies what is pending, each file in its own transaction unless it says otherwise, and returns what it applied.
// Several may call it at once on one database: they take turns.
func Up(ctx context.Context, url string) ([]Migration, error) {
	var applied []Migration
	err := with(ctx, url, func(p *goose.Provider, db *sql.DB) error {
		return locked(ctx, db, func() error {
			results, err := p.Up(ctx)
			now := time.Now().UTC()
			for _, r := range results {
				applied = append(applied, Migration{Version: r.Source.Version, Name: path.Base(r.Source.Path), Applied: now})
			}
			return err
		})
	})
	return applied, err
}

// DownTo takes back every migration above version, newest first; 0 takes back all. Whatever those tables held is gone.
func DownTo(ctx context.Context, url string, version int64) error {
	return with(ctx, url, func(p *goose.Provider, db *sql.DB) error {
		return locked(ctx, db, func() error {
			_, err := p.DownTo(ctx, version)
			return err
		})
	})
}

// Status lists all migrations, oldest first.
func Status(ctx context.Context, url string) ([]Migration, error) {
	var all []Migration
	err := with(ctx, url, func(p *goose.Provider, _ *sql.DB) error {
		states, err := p.Status(ctx)
		for _, s := range states {
			m := Migration{Version: s.Source.Version, Name: path.Base(s.Source.Path)}
			if s.State == goose.StateApplied {
				m.Applied = s.AppliedAt.UTC()
			}
			all = append(all, m)
		}
		return err
	})
	return all, err
}

// Files returns the names and contents of all migrations, in order: what identifies the schema they make.
func Files() (names []string, contents [][]byte, err error) {
	names, err = fs.Glob(FS, "*.sql")
	for _, name := range names {
		content, readErr := FS.ReadFile(name)
		err = errors.Join(err, readErr)
		contents = append(contents, content)
	}
	for _, part := range riverParts {
		statements, readErr := riverSQL("up", part.first, part.last)
		err = errors.Join(err, readErr)
		names, contents = append(names, part.name), append(contents, []byte(strings.Join(statements, ";\n")))
	}
	return names, contents, err
}

func with(ctx context.Context, url string, do func(*goose.Provider, *sql.DB) error) error {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return errors.New("migrations: the database URL cannot be read") // its text may hold the password
	}
	config.RuntimeParams["application_name"] = "kiln migrate"
	config.RuntimeParams["statement_timeout"] = "0"
	db := stdlib.OpenDB(*config)
	defer db.Close()
	if err := db.PingContext(ctx); err != nil {
		return fmt.Errorf("migrations: connect: %w", err)
	}
	// Files of one release may come to a developer's database out of order; each stands by itself.
	p, err := goose.NewProvider(goose.DialectPostgres, db, FS, goose.WithAllowOutofOrder(true), goose.WithGoMigrations(river()...))
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	if err := do(p, db); err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	return nil
}

// lockKey is the advisory lock under which the schema changes: "kiln" in ASCII.
const lockKey = 0x6b696c6e

// locked calls do while holding the lock. It asks again and again instead of waiting in the database, since a waiting
// statement would keep CREATE INDEX CONCURRENTLY from ever ending.
func locked(ctx context.Context, db *sql.DB, do func() error) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	for {
		var got bool
		if err := conn.QueryRowContext(ctx, "SELECT pg_try_advisory_lock($1)", lockKey).Scan(&got); err != nil {
			return fmt.Errorf("lock: %w", err)
		}
		if got {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	defer conn.ExecContext(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1)", lockKey)
	return do()
}
