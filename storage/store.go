package storage

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"kiln/conformance"
	"kiln/storage/identity"
)

// Options are what a Store needs beside its database.
type Options struct {
	URL string
	// Base is the FHIR base URL: references below it are stored as they are, and found as local ones.
	Base string
	// Zone is where dates without an offset are read; nil is UTC.
	Zone *time.Location
	// PoolSize is the number of connections; zero is 10.
	PoolSize int
	// StatementTimeout ends a statement that runs longer; zero is 30 s.
	StatementTimeout time.Duration
	// MaxPageBytes bounds the content of the versions on one page, and again of what is included beside; zero is 64 MiB. A page ends
	// before it has more, and has a next. One version is always shown.
	MaxPageBytes int
	Registry     *conformance.Registry
	// ReindexBatch is how many resources a reindex takes at once, ReindexPause how long it rests in between; zero is 500,
	// and a quarter of the time that the batch took.
	ReindexBatch int
	ReindexPause time.Duration
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// Unrestricted lets calls see everything whose context has no Access: for commands such as import, and for tests. A
	// server that others can reach must leave it out.
	Unrestricted bool
	// AuditJournal is a folder of this machine where the log keeps what changes nothing, for a moment, on its way to the
	// database (audit_carry.go); "" is none.
	AuditJournal string
	// ReadOnly makes the database refuse every write: for a look at data that must stay as it is.
	ReadOnly bool
	// Rehearse makes each transaction of Write do all its work and then roll back, and is ReadOnly beside: for finding out
	// what a write would answer on data that must stay as it is.
	Rehearse bool
}

// Store keeps resources in one PostgreSQL database. It is safe for concurrent use.
type Store struct {
	pool      *pgxpool.Pool // for the server itself and for who may do everything
	guarded   *pgxpool.Pool // for callers: in the role kiln_access, with the views of the schema visible in front
	log       *pgxpool.Pool // one connection for the audit log of what changes nothing
	hash      Hasher
	cursor    []byte
	indexer   atomic.Pointer[Indexer]
	rules     atomic.Pointer[accessRules]
	profiles  atomic.Pointer[profiles]
	options   Options
	reads     map[string]string // what Access.reads are, for who sees everything
	texts     textCache
	shapes    shapeCache
	sortTexts shapeCache
	sorting   sortBounds
	clearing  clearing
	treating  treating
	auditor   auditor
	journal   *auditJournal // nil for none
	// shown is the time up to which histories have been shown, as far as this server has heard; see history.go.
	shown atomic.Int64
	// changed is the state of search_parameter_set that indexer was made for; refreshing guards it.
	refreshing sync.Mutex
	changed    int64
	stop       context.CancelFunc
	wake       chan struct{} // a reindex has been ordered
	watching   sync.WaitGroup
	jobs       *jobClient
	loading    chan struct{} // closed when the official code systems are in the database; nil: nobody waits for that
	defining   chan struct{} // the same of the definitions among the resources
}

// Open connects to a migrated database.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Zone == nil {
		o.Zone = time.UTC
	}
	o.ReadOnly = o.ReadOnly || o.Rehearse
	if o.PoolSize == 0 {
		o.PoolSize = 10
	}
	if o.StatementTimeout == 0 {
		o.StatementTimeout = 30 * time.Second
	}
	config, err := pgxpool.ParseConfig(o.URL)
	if err != nil {
		return nil, fmt.Errorf("storage: the database URL cannot be read") // its text may hold the password
	}
	config.MaxConns = int32(o.PoolSize)
	config.ConnConfig.StatementCacheCapacity = 256
	set := config.ConnConfig.RuntimeParams
	set["application_name"] = "kiln"
	set["timezone"] = "UTC"
	// The statements are planned for disks that find a page as fast as the next, and for memory that holds most: PostgreSQL's default is for
	// others, and reads whole indexes where a few pages tell. A database URL may say otherwise.
	if set["random_page_cost"] == "" {
		set["random_page_cost"] = "1.1"
	}
	set["statement_timeout"] = fmt.Sprint(o.StatementTimeout.Milliseconds())
	// Half of it goes to waiting for others: who waits longer is told so, and not that the query is too costly.
	set["lock_timeout"] = fmt.Sprint(o.StatementTimeout.Milliseconds() / 2)
	set["idle_in_transaction_session_timeout"] = "60000"
	// Who waited for another sees what it did, whatever the database or its user have for a default: locks are no use else.
	set["default_transaction_isolation"] = "read committed"
	set["jit"] = "off"
	set["max_parallel_workers_per_gather"] = "0"  // cores are for other requests; starting workers costs more than a search
	set["plan_cache_mode"] = "force_generic_plan" // see runner.go
	if o.ReadOnly {
		set["default_transaction_read_only"] = "on"
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("storage: open pool: %w", err)
	}
	config = config.Copy()
	config.ConnConfig.RuntimeParams["role"] = "kiln_access"
	config.ConnConfig.RuntimeParams["search_path"] = "visible, public"
	// The rule looks at small tables for each row; before those are analyzed, the planner would read them whole each time.
	config.ConnConfig.RuntimeParams["enable_seqscan"] = "off"
	guarded, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		pool.Close()
		return nil, fmt.Errorf("storage: open pool: %w", err)
	}
	config = config.Copy()
	delete(config.ConnConfig.RuntimeParams, "role")
	delete(config.ConnConfig.RuntimeParams, "search_path")
	config.MaxConns = 1
	// Reads do not wait for the disk: docs/audit.md says what a crash of PostgreSQL may cost.
	config.ConnConfig.RuntimeParams["synchronous_commit"] = "off"
	log, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		pool.Close()
		guarded.Close()
		return nil, fmt.Errorf("storage: open pool: %w", err)
	}
	s := &Store{pool: pool, guarded: guarded, log: log, options: o, sorting: sortBounds{fewSorted, MaxSortTexts, MaxSortedByContent, textAlone, valuesAtOnce, fewTreated, nearTreated, manyTreated}, wake: make(chan struct{}, 1), reads: operatorReads()}
	if s.jobs, err = river.NewClient(s.jobDriver(), &river.Config{}); err != nil {
		s.closePools()
		return nil, fmt.Errorf("storage: %w", err)
	}
	if err := s.loadInstance(ctx); err != nil {
		s.closePools()
		return nil, err
	}
	s.indexer.Store(NewIndexer(s.hash, o.Registry, o.Base, o.Zone))
	if err := s.RefreshParameters(ctx); err != nil {
		s.closePools()
		return nil, err
	}
	if o.AuditJournal != "" {
		if err := s.openJournal(ctx, o.AuditJournal); err != nil {
			s.closePools()
			return nil, err
		}
	}
	watch, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.watching.Go(func() { s.watchParameters(watch) })
	return s, nil
}

// Zone is where dates without an offset are read.
func (s *Store) Zone() *time.Location { return s.options.Zone }

// Close stops what runs in the background and gives the connections back; it waits for those in use.
func (s *Store) Close() {
	s.stop()
	s.watching.Wait()
	if s.journal != nil {
		s.journal.close()
	}
	s.closePools()
}

func (s *Store) closePools() {
	s.pool.Close()
	s.guarded.Close()
	s.log.Close()
}

// Ping says whether the database answers.
func (s *Store) Ping(ctx context.Context) error { return s.pool.Ping(ctx) }

// Registry returns the definitions that the index is built for: the official ones and those of clients. It is another
// one after each change.
func (s *Store) Registry() *conformance.Registry { return s.indexer.Load().registry }

const sqlInstance = `
WITH made AS (
  INSERT INTO instance (hash_key, cursor_key) SELECT $1, $2 WHERE NOT EXISTS (SELECT FROM instance)
  ON CONFLICT DO NOTHING RETURNING hash_key, cursor_key)
SELECT hash_key, cursor_key FROM instance UNION ALL SELECT hash_key, cursor_key FROM made LIMIT 1`

const sqlKnownInstance = `SELECT hash_key, cursor_key FROM instance LIMIT 1`

func (s *Store) loadInstance(ctx context.Context) error {
	fresh := make([]byte, 48)
	rand.Read(fresh)
	var hashKey, cursorKey []byte
	// Another server may make the row between our look and our insert: then the second try sees it.
	for range 3 {
		sql, args := sqlInstance, []any{fresh[:16], fresh[16:]}
		if s.options.ReadOnly {
			sql, args = sqlKnownInstance, nil
		}
		err := s.pool.QueryRow(ctx, sql, args...).Scan(&hashKey, &cursorKey)
		if err == nil {
			s.hash, s.cursor = newHasher(hashKey), cursorKey
			return s.noticeRestore(ctx)
		}
		if err != pgx.ErrNoRows {
			return fmt.Errorf("storage: read instance: %w", err)
		}
	}
	return fmt.Errorf("storage: the instance row cannot be made")
}

// Identity is the store of accounts, clients and tokens in the same database, on the same connections.
func (s *Store) Identity() *identity.Store { return identity.New(s.pool, s.options.Now) }
