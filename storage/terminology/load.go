package terminology

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"kiln/fhir"
)

// Source is a code system as its publisher's files have it.
type Source interface {
	// About is the CodeSystem without its concepts: url, version, name, content and what else there is to say.
	About() *fhir.Node
	// Hash is of the content of the files: what was loaded with the same one need not be loaded again.
	Hash() []byte
	// Each calls do for every concept, in the same order each time. It is called twice: first for codes and parents, then
	// for everything. The concept is do's until it returns.
	Each(ctx context.Context, do func(*Concept) error) error
}

// MaxLoadedAncestors is how many pairs of a concept and an ancestor a loaded code system may have.
const MaxLoadedAncestors = 100_000_000

// loadChunk is how many concepts go into the database at once; it bounds the memory that a load takes.
const loadChunk = 2000

const (
	sqlLoadedHash = `SELECT hash FROM code_system WHERE key = $1`
	sqlLoadLocal  = `SELECT set_config('statement_timeout', '0', true), set_config('idle_in_transaction_session_timeout', '0', true)`
	sqlCount      = `UPDATE code_system SET concepts = $2 WHERE key = $1`
)

// Load puts a code system into the tables, in one transaction: an interrupted load leaves nothing, and one that is
// repeated with the same files does nothing. What was loaded of the same system and version is replaced. progress is
// told how many concepts are in. It returns the number of concepts, and whether they were there already.
func Load(ctx context.Context, conn Conn, source Source, progress func(concepts int)) (concepts int, already bool, err error) {
	about := source.About()
	key := keyOf(SourceLoaded, "CodeSystem", about.GetText("url"), about.GetText("version"))
	tx, err := conn.Begin(ctx)
	if err != nil {
		return 0, false, err
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	if _, err := tx.Exec(ctx, sqlLoadLocal); err != nil {
		return 0, false, err
	}
	if _, err := tx.Exec(ctx, sqlLoadLock, key); err != nil {
		return 0, false, err
	}
	var have []byte
	if err := tx.QueryRow(ctx, sqlLoadedHash, key).Scan(&have); err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return 0, false, err
	}
	if have != nil && bytes.Equal(have, source.Hash()) {
		return 0, true, nil
	}
	if _, err := tx.Exec(ctx, sqlForgetSystem, key); err != nil {
		return 0, false, err
	}
	if concepts, err = load(ctx, tx, key, source, progress); err != nil {
		return 0, false, err
	}
	if err := settle(ctx, tx); err != nil {
		return 0, false, err
	}
	return concepts, false, tx.Commit(ctx)
}

// settle makes the tables ready for questions after many rows: statistics, and indexes without a list of entries that
// still wait to be sorted in.
func settle(ctx context.Context, tx pgx.Tx) error {
	for _, sql := range []string{
		"ANALYZE code_system, concept, concept_property, concept_designation, value_set, concept_map_element",
		"SELECT gin_clean_pending_list('concept_parents'), gin_clean_pending_list('concept_ancestors'), gin_clean_pending_list('concept_words')",
	} {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

func load(ctx context.Context, tx pgx.Tx, key int64, source Source, progress func(int)) (int, error) {
	s := &codeSystem{key: key, source: SourceLoaded, n: source.About(), hash: source.Hash(), hierarchy: newHierarchy(key)}
	if s.id = s.n.ID(); s.id == "" {
		s.id = "loaded"
	}
	h := s.hierarchy
	err := source.Each(ctx, func(c *Concept) error {
		h.define(c.Code)
		for _, p := range c.Parents {
			h.link(c.Code, p)
		}
		return ctx.Err()
	})
	if err != nil {
		return 0, err
	}
	if err := h.close(MaxLoadedAncestors); err != nil {
		return 0, err
	}
	if _, err := tx.Exec(ctx, sqlAddSystem, s.row(time.Now().UTC())...); err != nil {
		return 0, err
	}
	tables, written := newConceptTables(), make([]bool, len(h.codes))
	count, waiting := 0, 0
	flush := func() error {
		for _, t := range tables.all() {
			if err := t.copyTo(ctx, tx); err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
		}
		waiting = 0
		progress(count)
		return nil
	}
	err = source.Each(ctx, func(c *Concept) error {
		place := h.numbers[c.Code]
		if written[place] {
			return nil
		}
		written[place] = true
		tables.add(key, h, c)
		count++
		if waiting++; waiting == loadChunk {
			return flush()
		}
		return nil
	})
	if err == nil {
		err = flush()
	}
	if err != nil {
		return 0, err
	}
	_, err = tx.Exec(ctx, sqlCount, key, count)
	return count, err
}

// Whole is a Source of a CodeSystem resource that is at hand.
type Whole struct {
	Node   *fhir.Node
	Digest []byte
}

// About is the resource itself; its concepts are left out of what is stored of it.
func (w Whole) About() *fhir.Node { return w.Node }

// Hash is the digest.
func (w Whole) Hash() []byte { return w.Digest }

// Each walks the concepts.
func (w Whole) Each(_ context.Context, do func(*Concept) error) error {
	s, err := readCodeSystem(w.Node, SourceLoaded, 0)
	if err != nil {
		return err
	}
	h := s.hierarchy
	for i := range s.concepts {
		c := &s.concepts[i]
		for _, p := range h.parents[h.numbers[c.Code]] {
			c.Parents = append(c.Parents, h.codes[p])
		}
		if err := do(c); err != nil {
			return err
		}
	}
	return nil
}

const sqlPutSet = sqlAddSet + ` ON CONFLICT (key) DO UPDATE SET definition = EXCLUDED.definition, stored = EXCLUDED.stored`

// LoadDefinition puts a ValueSet or ConceptMap that is no resource of a client into the tables; one of the same URL
// and version is replaced.
func LoadDefinition(ctx context.Context, conn Conn, n *fhir.Node) error {
	typ, url, version := n.ResourceType(), n.GetText("url"), n.GetText("version")
	if url == "" {
		return fhir.NewError(fhir.Invalid, fhir.CodeRequired, typ+"/"+n.ID()+" has no url")
	}
	key, now := keyOf(SourceLoaded, typ, url, version), time.Now().UTC()
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	switch typ {
	case "ValueSet":
		if _, err := tx.Exec(ctx, sqlPutSet, key, SourceLoaded, n.ID(), url, version, now, n.JSON()); err != nil {
			return err
		}
	case "ConceptMap":
		if _, err := tx.Exec(ctx, sqlForgetMap, key); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, sqlAddMap, mapRow(key, SourceLoaded, n, now)...); err != nil {
			return err
		}
		elements := elementTable()
		for _, e := range mapElements(n) {
			elements.add(e.row(key)...)
		}
		if err := elements.copyTo(ctx, tx); err != nil {
			return err
		}
	}
	return tx.Commit(ctx)
}
