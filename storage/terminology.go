package storage

import (
	"context"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"kiln/fhir"
	"kiln/storage/terminology"
)

// Terminology returns what answers questions about codes, for one request of the caller in ctx. With tx it sees what
// that transaction has written. Options.Visible and Options.Fail are the store's.
func (s *Store) Terminology(ctx context.Context, tx *Tx, o terminology.Options) (*terminology.Resolver, error) {
	run, err := s.runner(ctx, tx)
	if err != nil {
		return nil, err
	}
	return s.resolver(ctx, run, o)
}

func (s *Store) resolver(ctx context.Context, run *runner, o terminology.Options) (*terminology.Resolver, error) {
	if err := s.loaded(ctx); err != nil {
		return nil, err
	}
	o.Fail = translate
	if !run.access.everything {
		o.Visible = func(ctx context.Context, _ terminology.Reader, keys []int64) (map[int64]bool, error) {
			return run.readable(ctx, keys)
		}
	}
	return terminology.NewResolver(codeReader{run}, o), nil
}

// codeReader reads the tables of codes, which belong to the server: of what stored definitions say in them, a Resolver
// asks readable first.
type codeReader struct{ run *runner }

func (c codeReader) ready(ctx context.Context) error {
	if c.run.tx == nil {
		return nil
	}
	c.run.tx.begin()
	c.run.tx.elevate()
	return c.run.tx.flush(ctx)
}

// Query runs one statement.
func (c codeReader) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	if c.run.tx != nil {
		return c.run.tx.conn.Query(ctx, sql, args...)
	}
	return reader{c.run.store.pool}.Query(ctx, sql, args...)
}

// Send runs several.
func (c codeReader) Send(ctx context.Context, b *pgx.Batch) error {
	if err := c.ready(ctx); err != nil {
		return err
	}
	if c.run.tx != nil {
		return c.run.tx.conn.SendBatch(ctx, b).Close()
	}
	return reader{c.run.store.pool}.Send(ctx, b)
}

const sqlReadable = `SELECT r.rk FROM resource r WHERE r.rk = ANY($1)`

// readable says which of some definitions the caller may read.
func (r *runner) readable(ctx context.Context, keys []int64) (map[int64]bool, error) {
	seen := map[int64]bool{}
	err := r.rows(ctx, func(rows pgx.Rows) error {
		list, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		for _, rk := range list {
			seen[rk] = true
		}
		return err
	}, sqlReadable, keys)
	return seen, err
}

// ResourceKey is what the terminology tables call a CodeSystem, ValueSet or ConceptMap resource.
func (s *Store) ResourceKey(typ, id string) int64 { return s.hash.Resource(typ, id) }

// StartTerminology begins to make sure that the official code systems, value sets and concept maps are in the database.
// Mostly they are; else it takes a second or two, and until then questions about codes wait, and nothing else does. It
// is called once, before the store is used. done is told the outcome of each try: err is nil for the last one.
func (s *Store) StartTerminology(ctx context.Context, done func(loaded bool, err error)) {
	s.loading = make(chan struct{})
	s.background(ctx, s.loadTerminology, s.loading, done)
}

// background runs load until it succeeds, then closes ready; or until the store is closed.
func (s *Store) background(ctx context.Context, load func(context.Context) (bool, error), ready chan struct{}, done func(loaded bool, err error)) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := s.stop
	s.stop = func() { cancel(); stop() }
	s.watching.Go(func() {
		for {
			loaded, err := load(ctx)
			if ctx.Err() != nil {
				return
			}
			done(loaded, err)
			if loaded {
				debug.FreeOSMemory() // what it took is not needed again
			}
			if err == nil {
				close(ready)
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(5 * time.Second):
			}
		}
	})
}

// connect opens a connection of its own: those of the pool may all be held by requests that wait for what is loaded.
func (s *Store) connect(ctx context.Context) (*pgx.Conn, error) {
	return pgx.ConnectConfig(ctx, s.pool.Config().ConnConfig)
}

func (s *Store) loadTerminology(ctx context.Context) (bool, error) {
	conn, err := s.connect(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return terminology.LoadOfficial(ctx, conn)
}

// loaded waits until the official definitions are in the database.
//
// Errors: Transient where that takes longer than the request may.
func (s *Store) loaded(ctx context.Context) error {
	if s.loading == nil {
		return nil
	}
	select {
	case <-s.loading:
		return nil
	case <-ctx.Done():
		return transient("The code systems of FHIR are being loaded; try again.", ctx.Err())
	}
}

// define queues what a resource says about codes, where it does, as part of the write of it.
func (tx *Tx) define(p *Prepared, v *Version) {
	if p.codes != nil {
		p.codes.Queue(tx.exec, v.LastUpdated)
	}
}

// forget queues the removal of what an earlier version said about codes.
func (tx *Tx) forget(typ string, rk int64) {
	if terminology.Holds(typ) {
		terminology.Forget(tx.exec, typ, rk)
	}
}

const sqlByKey = `SELECT ` + versionColumns + ` FROM resource r WHERE r.rk = $1 AND r.content IS NOT NULL`

// valueSet finds a value set by its canonical URL, or by the reference of a stored one.
//
// Errors: NotFound.
func (s *Store) valueSet(ctx context.Context, run *runner, ix *Indexer, r *terminology.Resolver, name string) (*terminology.Set, error) {
	ref, ok := ix.parseReference(name)
	if !ok || ref.Type != "ValueSet" || ref.Base != "" || ref.ID == "" {
		return r.Set(ctx, name)
	}
	key := s.hash.Resource(ref.Type, ref.ID)
	if may, err := r.May(ctx, key); err != nil || !may {
		return nil, noSuchSet(name, err)
	}
	found, err := collect(ctx, run, sqlByKey, key)
	if err != nil {
		return nil, translate(err)
	}
	for _, v := range found {
		if v.ID == ref.ID && v.Type == ref.Type { // hashes alone decide nothing
			n, err := fhir.ParseJSON(v.Content)
			if err != nil {
				return nil, err
			}
			return r.SetOf(ctx, n)
		}
	}
	return nil, noSuchSet(name, nil)
}

func noSuchSet(name string, err error) error {
	if err != nil {
		return err
	}
	return fhir.NewError(fhir.NotFound, fhir.CodeNotFound, "This server does not have the value set "+strconv.Quote(name)+".")
}

// searchCodes are what the codes of a token with :in, :not-in, :above or :below are looked up with.
type searchCodes interface {
	// in lists the codes of a value set; an empty code is all of its system.
	in(name string, limit int) ([]terminology.Coding, error)
	// along lists a code and what is above, or below, it.
	along(system, code string, above bool, limit int) ([]string, error)
}

// storedCodes is searchCodes on the tables.
type storedCodes struct {
	ctx   context.Context
	store *Store
	run   *runner
	ix    *Indexer
}

func (c storedCodes) in(name string, limit int) ([]terminology.Coding, error) {
	r, err := c.store.resolver(c.ctx, c.run, terminology.Options{})
	if err != nil {
		return nil, err
	}
	set, err := c.store.valueSet(c.ctx, c.run, c.ix, r, name)
	if err != nil {
		return nil, err
	}
	return r.Terms(c.ctx, set, limit)
}

func (c storedCodes) along(system, code string, above bool, limit int) ([]string, error) {
	r, err := c.store.resolver(c.ctx, c.run, terminology.Options{})
	if err != nil {
		return nil, err
	}
	s, err := r.NeedSystem(c.ctx, system, "")
	if err != nil {
		return nil, err
	}
	walk := r.Below
	if above {
		walk = r.Above
	}
	return walk(c.ctx, s, code, limit)
}
