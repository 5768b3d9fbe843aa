package terminology

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"kiln/conformance"
	"kiln/fhir"
)

// Form is part of the hash of what is loaded: it changes with whatever changes the rows that the same definitions make.
const Form = "kiln terminology 1"

// officialLock is the advisory lock under which the official definitions are loaded: "term" in ASCII.
const officialLock = 0x7465726d

const (
	sqlLoaded     = `SELECT official FROM terminology`
	sqlSetLoaded  = `INSERT INTO terminology (official) VALUES ($1) ON CONFLICT (only_row) DO UPDATE SET official = EXCLUDED.official`
	sqlLoadLock   = `SELECT pg_advisory_xact_lock($1)`
	sqlDropLoaded = `
WITH s AS (DELETE FROM code_system WHERE source = 'O' RETURNING key),
a AS (DELETE FROM concept USING s WHERE system = s.key), b AS (DELETE FROM concept_property USING s WHERE system = s.key),
c AS (DELETE FROM concept_designation USING s WHERE system = s.key),
v AS (DELETE FROM value_set WHERE source = 'O'), m AS (DELETE FROM concept_map WHERE source = 'O' RETURNING key)
DELETE FROM concept_map_element USING m WHERE map = m.key`
)

// Conn is a connection or a pool of them.
type Conn interface {
	Begin(context.Context) (pgx.Tx, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// LoadOfficial puts the code systems, value sets and concept maps of FHIR R4 into the tables, unless they are there
// already in this form: then it costs one query. Several servers may call it at once. It returns whether it loaded.
func LoadOfficial(ctx context.Context, conn Conn) (loaded bool, err error) {
	sum := sha256.Sum256([]byte(Form + " " + conformance.DefinitionsHash()))
	current := func(q interface {
		QueryRow(context.Context, string, ...any) pgx.Row
	}) (bool, error) {
		var have []byte
		err := q.QueryRow(ctx, sqlLoaded).Scan(&have)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return false, fmt.Errorf("terminology: what is loaded: %w", err)
		}
		return bytes.Equal(have, sum[:]), nil
	}
	if ok, err := current(conn); ok || err != nil {
		return false, err
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		return false, fmt.Errorf("terminology: load the definitions: %w", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	if _, err := tx.Exec(ctx, "SELECT set_config('statement_timeout', '0', true)"); err != nil {
		return false, fmt.Errorf("terminology: load the definitions: %w", err)
	}
	if _, err := tx.Exec(ctx, sqlLoadLock, int64(officialLock)); err != nil {
		return false, fmt.Errorf("terminology: load the definitions: %w", err)
	}
	if ok, err := current(tx); ok || err != nil { // somebody else has done it meanwhile
		return false, err
	}
	if err := loadOfficial(ctx, tx); err != nil {
		return false, fmt.Errorf("terminology: load the definitions: %w", err)
	}
	if _, err := tx.Exec(ctx, sqlSetLoaded, sum[:]); err != nil {
		return false, fmt.Errorf("terminology: load the definitions: %w", err)
	}
	return true, tx.Commit(ctx)
}

func loadOfficial(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, sqlDropLoaded); err != nil {
		return err
	}
	now := time.Now().UTC()
	concepts, elements := newConceptTables(), elementTable()
	systems := table{name: "code_system", columns: []string{"key", "source", "id", "url", "version", "content", "case_sensitive",
		"value_set", "concepts", "hash", "stored", "definition"}}
	sets := table{name: "value_set", columns: []string{"key", "source", "id", "url", "version", "stored", "definition"}}
	maps := table{name: "concept_map", columns: []string{"key", "source", "id", "url", "version", "source_scope", "target_scope", "stored"}}
	err := conformance.EachTerminology(func(n *fhir.Node) error {
		typ, url, version := n.ResourceType(), n.GetText("url"), n.GetText("version")
		key := keyOf(SourceOfficial, typ, url, version, n.ID())
		switch typ {
		case "CodeSystem":
			s, err := readCodeSystem(n, SourceOfficial, key)
			if err != nil {
				return fmt.Errorf("%s: %w", n.ID(), err)
			}
			systems.add(s.row(now)...)
			for i := range s.concepts {
				concepts.add(key, s.hierarchy, &s.concepts[i])
			}
		case "ValueSet":
			n.Remove("text")
			sets.add(key, SourceOfficial, n.ID(), url, version, now, n.JSON())
		case "ConceptMap":
			maps.add(mapRow(key, SourceOfficial, n, now)...)
			for _, e := range mapElements(n) {
				elements.add(e.row(key)...)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, t := range append(concepts.all(), &systems, &sets, &maps, elements) {
		if err := t.copyTo(ctx, tx); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
	}
	return settle(ctx, tx)
}
