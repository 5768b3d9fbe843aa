package storage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"kiln/conformance"
	"kiln/fhir"
)

// This file puts the definitions that the server has built in among the resources, so that what a CapabilityStatement
// names can be read and found. They have no place in the histories of types and of the system, and none in exports:
// nobody has written them.

// definitionsForm is part of the hash of what is loaded: it changes with whatever changes the rows that the same definitions make.
const definitionsForm = "kiln definitions 1"

// definitionsLock is the advisory lock under which they are loaded: "defs" in ASCII.
const definitionsLock = 0x64656673

// definitionsBatch bounds what is held in memory: the JSON of the resources that are prepared together.
const definitionsBatch = 2 << 20

// published is when FHIR 4.0.1 was: the lastUpdated of its definitions, so that whoever asks for what is new is not told of them.
var published = time.Date(2019, 10, 31, 22, 29, 23, 356e6, time.UTC)

const (
	sqlDefined    = `SELECT loaded FROM definition_set`
	sqlSetDefined = `INSERT INTO definition_set (loaded) VALUES ($1) ON CONFLICT (only_row) DO UPDATE SET loaded = EXCLUDED.loaded`
	sqlUndefine   = `
WITH gone AS (
  DELETE FROM resource WHERE method = 'O' AND rk IN (SELECT rk FROM search_index WHERE type = ANY($1)) RETURNING rk),
inside AS (DELETE FROM search_contained s USING gone WHERE s.container = gone.rk RETURNING s.rk),
every AS (SELECT rk FROM gone UNION ALL SELECT rk FROM inside),
a AS (DELETE FROM search_string s USING every e WHERE s.rk = e.rk), b AS (DELETE FROM search_date s USING every e WHERE s.rk = e.rk),
c AS (DELETE FROM search_number s USING every e WHERE s.rk = e.rk), d AS (DELETE FROM search_composite s USING every e WHERE s.rk = e.rk),
e AS (DELETE FROM search_text s USING every e WHERE s.rk = e.rk), f AS (DELETE FROM search_code s USING gone WHERE s.rk = gone.rk),
g AS (DELETE FROM search_identifier s USING gone WHERE s.rk = gone.rk)
DELETE FROM search_index s USING gone WHERE s.rk = gone.rk`
	sqlIDsTaken = `SELECT rk FROM resource WHERE rk = ANY($1)`
)

// StartDefinitions begins to make sure that the built-in definitions are among the resources. Mostly they are; else it takes
// some seconds, and until then those who ask for them wait (Defined), and nothing else does. It is called once,
// after StartTerminology and before the store is used. done is told the outcome of each try: err is nil for the last one.
func (s *Store) StartDefinitions(ctx context.Context, done func(loaded bool, err error)) {
	s.defining = make(chan struct{})
	s.background(ctx, func(ctx context.Context) (bool, error) {
		if err := s.loaded(ctx); err != nil { // one after the other: nobody waits for definitions as much as for codes
			return false, err
		}
		return s.loadDefinitions(ctx)
	}, s.defining, done)
}

// Defined waits until the built-in definitions are among the resources, and says whether they are; not longer than ctx lives.
func (s *Store) Defined(ctx context.Context) bool {
	if s.defining == nil {
		return true
	}
	select {
	case <-s.defining:
		return true
	case <-ctx.Done():
		return false
	}
}

// loadDefinitions loads them unless they are there already in this form: then it costs one query. Several servers may
// call it at once. What a client stored under the same id before stays as it is.
func (s *Store) loadDefinitions(ctx context.Context) (bool, error) {
	sum := sha256.Sum256([]byte(definitionsForm + " " + conformance.PublishedHash()))
	conn, err := s.connect(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	here := func() (bool, error) {
		var have []byte
		err := conn.QueryRow(ctx, sqlDefined).Scan(&have)
		if errors.Is(err, pgx.ErrNoRows) {
			return false, nil
		}
		return bytes.Equal(have, sum[:]), err
	}
	if ok, err := here(); ok || err != nil {
		return false, err
	}
	loaded := false
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT set_config('statement_timeout', '0', true), pg_advisory_xact_lock($1)`, int64(definitionsLock)); err != nil {
			return err
		}
		if ok, err := here(); ok || err != nil { // somebody else has done it meanwhile
			return err
		}
		l := definitionLoad{store: s, tx: tx, by: s.indexer.Load()}
		if err := l.all(ctx); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, sqlSetDefined, sum[:])
		loaded = err == nil
		return err
	})
	if err != nil {
		if outdated(err) {
			err = errors.Join(err, s.RefreshParameters(ctx))
		}
		return false, fmt.Errorf("storage: load the definitions: %w", err)
	}
	if loaded {
		_, err = s.MergePending(ctx)
	}
	return loaded, err
}

// definitionLoad is one transaction that loads the definitions.
type definitionLoad struct {
	store *Store
	tx    pgx.Tx
	by    *Indexer
	list  []*Prepared
	bytes int
}

func (l *definitionLoad) all(ctx context.Context) error {
	if _, err := l.tx.Exec(ctx, sqlCheckGeneration, l.by.generation); err != nil {
		return err
	}
	var numbers []int16
	for _, typ := range l.by.registry.Schema().Resources {
		if conformance.Publishes(typ) {
			numbers = append(numbers, l.by.registry.TypeNumber(typ))
		}
	}
	if _, err := l.tx.Exec(ctx, sqlUndefine, numbers); err != nil {
		return err
	}
	err := conformance.EachDefinition(func(n *fhir.Node) error {
		row, err := l.by.row(n)
		if err != nil {
			return fmt.Errorf("%s/%s: %w", n.ResourceType(), n.ID(), err)
		}
		l.list = append(l.list, &Prepared{Node: n, rk: l.store.hash.Resource(n.ResourceType(), n.ID()), row: row, by: l.by})
		if l.bytes += len(n.JSON()); l.bytes < definitionsBatch {
			return nil
		}
		return l.flush(ctx)
	})
	if err != nil {
		return err
	}
	return l.flush(ctx)
}

// flush writes the resources prepared so far, but those whose ids are taken.
func (l *definitionLoad) flush(ctx context.Context) error {
	rks := make([]int64, len(l.list))
	for i, p := range l.list {
		rks[i] = p.rk
	}
	rows, err := l.tx.Query(ctx, sqlIDsTaken, rks)
	if err != nil {
		return err
	}
	taken, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return err
	}
	fresh := make([]*Prepared, 0, len(l.list))
	for _, p := range l.list {
		if !slices.Contains(taken, p.rk) {
			fresh = append(fresh, p)
		}
	}
	l.list, l.bytes = l.list[:0], 0
	if err := l.store.DeclareShapes(ctx, fresh...); err != nil {
		return err
	}
	tables, _ := (&Tx{store: l.store, now: published}).copyRows(fresh, MethodOfficial)
	tables = slices.DeleteFunc(tables, func(t *tableRows) bool { return t.table == "resource_change" })
	return copyAll(ctx, l.tx.Conn(), tables...)
}
