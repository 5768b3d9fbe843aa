package bench

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"kiln/conformance"
	"kiln/migrations"
	"kiln/storage"
)

// database is one that was made to be measured. Those of a scale are kept, for the next run; what is written to goes
// into a copy.
type database struct {
	url    string
	scale  int
	pool   *pgxpool.Pool
	store  *storage.Store
	sample *sample
}

func (d *database) close() {
	d.store.Close()
	d.pool.Close()
}

// backends is the processor time that the processes of PostgreSQL for this database have used, those of the
// measurement itself apart. There are none where PostgreSQL runs on another machine.
func (d *database) backends(ctx context.Context) map[int]time.Duration {
	rows, err := d.pool.Query(ctx, sqlBackends)
	if err != nil {
		return nil
	}
	pids, _ := pgx.CollectRows(rows, pgx.RowTo[int])
	used := make(map[int]time.Duration, len(pids))
	for _, pid := range pids {
		used[pid] = cpuOf(pid)
	}
	return used
}

func (o *Options) urlOf(name string) (string, error) {
	u, err := url.Parse(o.DatabaseURL)
	if err != nil {
		return "", errors.New("bench: the database URL is not a postgres:// URL") // its text may hold the password
	}
	u.Path = "/" + name
	return u.String(), nil
}

const (
	sqlBackends = `SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()`
	sqlKnown    = `SELECT coalesce(shobj_description(oid, 'pg_database') = 'complete', false) FROM pg_database WHERE datname = $1`
	// VACUUM leaves the pending lists of the GIN indexes empty and the visibility map full, as autovacuum does in time.
	sqlTidy      = `VACUUM ANALYZE`
	sqlTidyTexts = `VACUUM ANALYZE search_string_value`
	// All searches find their pages in the buffers, as far as there are enough: what a scale costs is to be measured, and
	// not which pages were asked for first.
	sqlWarm = `SELECT sum(pg_prewarm(oid)) FROM (SELECT oid FROM pg_class
WHERE relkind IN ('r', 'i') AND relnamespace = 'public'::regnamespace ORDER BY relname LIKE 'search%', relname LIKE 'resource%' DESC) c`
)

// filled opens the database of a scale. It makes and fills it unless an earlier run did.
func (o *Options) filled(ctx context.Context, registry *conformance.Registry, p *population, scale int) (*database, error) {
	name := fmt.Sprintf("kiln_bench_%d", scale)
	complete := false
	err := o.admin(ctx, func(conn *pgx.Conn) error {
		if err := conn.QueryRow(ctx, sqlKnown, name).Scan(&complete); err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		if complete {
			return nil
		}
		return recreate(ctx, conn, name, "template0")
	})
	if err != nil {
		return nil, err
	}
	d, err := o.open(ctx, registry, name)
	if err != nil {
		return nil, err
	}
	if d.scale = scale; !complete {
		if err := generate(ctx, d.store, p, scale, o.Progress); err != nil {
			return nil, fmt.Errorf("generate: %w", err)
		}
		if _, err := d.pool.Exec(ctx, sqlTidy); err != nil {
			return nil, err
		}
		if _, err := d.pool.Exec(ctx, "COMMENT ON DATABASE "+name+" IS 'complete'"); err != nil {
			return nil, err
		}
	}
	// What an import does at its end, and a server in its first minutes.
	if err := d.store.OrderTexts(ctx, nil); err != nil {
		return nil, err
	}
	if _, err := d.store.MergePending(ctx); err != nil {
		return nil, err
	}
	if _, err := d.pool.Exec(ctx, sqlTidyTexts); err != nil {
		return nil, err
	}
	if _, err := d.pool.Exec(ctx, "CREATE EXTENSION IF NOT EXISTS pg_prewarm"); err == nil {
		if _, err := d.pool.Exec(ctx, sqlWarm); err != nil {
			return nil, err
		}
	}
	d.sample, err = readSample(ctx, d.pool, scale)
	return d, err
}

// copied opens a copy of a database, to write to. Nobody may be connected to the original meanwhile.
func (o *Options) copied(ctx context.Context, registry *conformance.Registry, from *database) (*database, error) {
	const name = "kiln_bench_copy"
	from.pool.Reset()
	from.store.Close()
	defer func() {
		if store, err := openStore(ctx, registry, from.url); err == nil {
			from.store = store
		}
	}()
	err := o.admin(ctx, func(conn *pgx.Conn) error {
		return recreate(ctx, conn, name, fmt.Sprintf("kiln_bench_%d", from.scale))
	})
	if err != nil {
		return nil, err
	}
	d, err := o.open(ctx, registry, name)
	if err != nil {
		return nil, err
	}
	d.scale, d.sample = from.scale, from.sample
	_, err = d.pool.Exec(ctx, "CHECKPOINT")
	return d, err
}

func (o *Options) drop(ctx context.Context, d *database) {
	d.close()
	err := o.admin(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "DROP DATABASE IF EXISTS kiln_bench_copy WITH (FORCE)")
		return err
	})
	if err != nil {
		fmt.Fprintln(o.Progress, "the copy could not be dropped:", err)
	}
}

func recreate(ctx context.Context, conn *pgx.Conn, name, template string) error {
	if _, err := conn.Exec(ctx, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)"); err != nil {
		return err
	}
	_, err := conn.Exec(ctx, "CREATE DATABASE "+name+" TEMPLATE "+template)
	return err
}

func (o *Options) admin(ctx context.Context, work func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, o.DatabaseURL)
	if err != nil {
		return errors.New("bench: the database cannot be opened")
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return work(conn)
}

func (o *Options) open(ctx context.Context, registry *conformance.Registry, name string) (d *database, err error) {
	d = &database{}
	if d.url, err = o.urlOf(name); err != nil {
		return nil, err
	}
	changed, err := migrations.Up(ctx, d.url)
	if err != nil {
		return nil, err
	}
	if d.store, err = openStore(ctx, registry, d.url); err != nil {
		return nil, err
	}
	if d.pool, err = pgxpool.New(ctx, d.url); err != nil {
		return nil, errors.New("bench: the database cannot be opened")
	}
	if len(changed) > 0 { // a migration may have rewritten what an earlier run filled
		_, err = d.pool.Exec(ctx, sqlTidy)
	}
	return d, err
}

func openStore(ctx context.Context, registry *conformance.Registry, url string) (*storage.Store, error) {
	return storage.Open(ctx, storage.Options{URL: url, Registry: registry, StatementTimeout: time.Hour, Unrestricted: true})
}
