package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"kiln/internal/config"
	"kiln/internal/embedpg"
	"kiln/migrations"
)

// db is the database that a command works on.
type db struct {
	url string
	own *embedpg.Server // nil when somebody else runs the server
}

// openDatabase reaches the database of the settings: the one they name, else Kiln's own. With share a command that
// finds a Kiln serving on the data folder works on that one's database beside it; without it that is an error.
// The schema is left as it is. Call close when done.
func openDatabase(ctx context.Context, c config.Database, share bool, log *slog.Logger) (*db, error) {
	if c.DatabaseURL != "" {
		url := string(c.DatabaseURL)
		return &db{url: url}, checkDatabase(ctx, url, log)
	}
	own, err := embedpg.Start(ctx, embedpg.Options{
		DataDir: c.DataDir,
		BinDir:  c.PostgresDir,
		Fetch:   c.PostgresFetch,
		User:    c.PostgresUser,
		Logger:  log,
	})
	var inUse *embedpg.InUseError
	if share && errors.As(err, &inUse) {
		if url, ok := embedpg.Running(c.DataDir); ok {
			log.Info("using the database of the Kiln that runs on this data folder", "pid", inUse.PID)
			return &db{url: url}, nil
		}
	}
	if err != nil {
		return nil, err
	}
	log.Debug("PostgreSQL runs", "version", own.Version())
	return &db{url: own.URL(), own: own}, nil
}

// migrated is openDatabase, and then the schema is brought up to date.
func openMigrated(ctx context.Context, c config.Database, share bool, log *slog.Logger) (*db, error) {
	d, err := openDatabase(ctx, c, share, log)
	if err != nil {
		return nil, err
	}
	applied, err := migrations.Up(ctx, d.url)
	if err != nil {
		d.close(log)
		return nil, err
	}
	for _, m := range applied {
		log.Info("applied migration", "name", m.Name)
	}
	return d, nil
}

// Kiln's own server is started again when it ends by itself, but not more often than maxRestarts in restartWindow: then
// something is wrong that another start does not heal.
const (
	maxRestarts   = 5
	restartWindow = time.Minute
)

// keep watches over the server if it is Kiln's own, until ctx ends. The error says that it cannot be kept running.
func (d *db) keep(ctx context.Context, log *slog.Logger) error {
	if d.own == nil {
		<-ctx.Done()
		return nil
	}
	var restarts []time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.own.Done():
		}
		if ctx.Err() != nil {
			return nil
		}
		restarts = slices.DeleteFunc(append(restarts, time.Now()), func(t time.Time) bool { return time.Since(t) > restartWindow })
		if len(restarts) > maxRestarts {
			return fmt.Errorf("PostgreSQL ended by itself %d times in %v; postgres.log in the data folder says why", len(restarts), restartWindow)
		}
		log.Error("PostgreSQL ended by itself; postgres.log in the data folder says why. Starting it again")
		if err := d.own.Restart(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		log.Info("PostgreSQL runs again")
	}
}

// close stops the server if it is Kiln's own. It takes as long as the server needs to write everything, a minute at
// most.
func (d *db) close(log *slog.Logger) {
	if d == nil || d.own == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := d.own.Stop(ctx); err != nil {
		log.Error("stop PostgreSQL", "error", err)
	}
}

// checkDatabase waits up to 15 s for a server that does not answer yet, as when both were started together, and
// refuses one that Kiln cannot work with.
func checkDatabase(ctx context.Context, url string, log *slog.Logger) error {
	deadline := time.Now().Add(15 * time.Second)
	for try := 0; ; try++ {
		conn, err := pgx.Connect(ctx, url)
		if err == nil {
			defer conn.Close(context.WithoutCancel(ctx))
			return checkServer(ctx, conn)
		}
		var parse *pgconn.ParseConfigError
		var refused *pgconn.PgError
		wait := !errors.As(err, &parse) && (!errors.As(err, &refused) || strings.HasPrefix(refused.Code, "57P")) // starting, stopping
		if !wait || time.Now().After(deadline) || ctx.Err() != nil {
			return fmt.Errorf("KILN_DATABASE_URL: %w", err)
		}
		if try == 0 {
			log.Info("waiting for the database")
		}
		time.Sleep(250 * time.Millisecond)
	}
}

func checkServer(ctx context.Context, conn *pgx.Conn) error {
	var number, version, encoding string
	err := conn.QueryRow(ctx, "SELECT current_setting('server_version_num'), current_setting('server_version'), current_setting('server_encoding')").
		Scan(&number, &version, &encoding)
	if err != nil {
		return fmt.Errorf("KILN_DATABASE_URL: %w", err)
	}
	if n, err := strconv.Atoi(number); err != nil || n < 140000 {
		return fmt.Errorf("KILN_DATABASE_URL: the server is PostgreSQL %s; Kiln needs 14 or newer", version)
	}
	if encoding != "UTF8" {
		return fmt.Errorf("KILN_DATABASE_URL: the database has the encoding %s; Kiln needs UTF8", encoding)
	}
	return nil
}
