package storage

import (
	"context"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// This file is the bulk path: many resources in by COPY, all out in one pass, and what kiln import remembers.

// Copy stores the first versions of resources that do not exist yet, in one transaction, by COPY. It is for making a
// database from nothing: it takes no locks, and when a resource exists already it fails and stores none of them.
func (s *Store) Copy(ctx context.Context, list []*Prepared) error {
	if err := s.DeclareShapes(ctx, list...); err != nil {
		return err
	}
	write := &Tx{store: s}
	write.stampNow()
	rows, versions := write.copyRows(list, MethodCreate)
	for i, p := range list {
		write.define(p, versions[i])
	}
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return translate(err)
	}
	defer conn.Release()
	generation := s.indexer.Load().generation
	for _, p := range list {
		generation = min(generation, p.by.generation)
	}
	return translate(pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, sqlBeginWrite, generation, write.now.UnixMilli()); err != nil {
			return err
		}
		if err := copyAll(ctx, tx.Conn(), rows...); err != nil {
			return err
		}
		if write.queue.Len() == 0 {
			return nil
		}
		return tx.SendBatch(ctx, &write.queue).Close()
	}))
}

// copyRows are the rows of first versions, and those versions.
func (tx *Tx) copyRows(list []*Prepared, method string) ([]*tableRows, []*Version) {
	resource := &tableRows{table: "resource", columns: []string{"rk", "type", "id", "version", "last_updated", "method", "content", "literal", "type_number", "compartments", "labels"}}
	change := &tableRows{table: "resource_change", columns: []string{"last_updated", "type", "rk", "version", "compartments", "labels"}}
	index := newIndexTables()
	versions := make([]*Version, len(list))
	care, roles, consent, withheld, proxies := accessTables()
	for i, p := range list {
		v := tx.stamp(p, nil, method)
		versions[i] = v
		resource.add(p.rk, v.Type, v.ID, int32(1), v.LastUpdated, method[:1], jsonText(v.Content), literalOf(p.Node, v.Content),
			p.row.typ, p.row.compartments, p.row.labels)
		if !tx.unlisted {
			change.add(v.LastUpdated, p.row.typ, p.rk, int32(1), p.row.compartments, p.row.labels)
		}
		index.add(p.rk, p.row, v.LastUpdated, p.by.generation)
		tx.copyAccess(care, roles, consent, withheld, proxies, p)
	}
	return append(append([]*tableRows{resource, change}, index.all()...), care, roles, consent, withheld, proxies), versions
}

// indexTables are the rows of resources in search_index and its side tables.
type indexTables struct {
	index, text, identifier, date, number, composite, codes, words, place, contained *tableRows
}

func newIndexTables() *indexTables {
	return &indexTables{
		index:      &tableRows{table: "search_index", columns: []string{"rk", "type", "last_updated", "patient", "date_low", "date_high", "tokens", "refs", "generation", "compartments", "labels"}},
		text:       &tableRows{table: "search_string", columns: []string{"param", "value", "rk"}},
		identifier: &tableRows{table: "search_identifier", columns: []string{"param", "value", "rk"}},
		date:       &tableRows{table: "search_date", columns: []string{"param", "low", "high", "rk"}},
		number:     &tableRows{table: "search_number", columns: []string{"param", "low", "high", "units", "canonical", "canonical_low", "canonical_high", "rk"}},
		composite: &tableRows{table: "search_composite", columns: []string{"param", "tokens", "value", "date_low", "date_high",
			"low", "high", "canonical_low", "canonical_high", "low2", "high2", "rk"}},
		codes:     &tableRows{table: "search_code", columns: []string{"term", "date_low", "rk", "value", "patient", "state"}},
		words:     &tableRows{table: "search_text", columns: []string{"rk", "words", "hashed"}},
		place:     &tableRows{table: "search_position", columns: []string{"rk", "latitude", "longitude"}},
		contained: &tableRows{table: "search_contained", columns: []string{"rk", "container", "id", "type", "last_updated", "patient", "date_low", "date_high", "tokens", "refs"}},
	}
}

func (t *indexTables) all() []*tableRows {
	return []*tableRows{t.index, t.text, t.identifier, t.date, t.number, t.composite, t.codes, t.words, t.place, t.contained}
}

// add adds the rows of one resource, as it was updated at a time.
func (t *indexTables) add(rk int64, row *indexRow, updated time.Time, generation int32) {
	low, high := mainDateColumns(row)
	t.index.add(rk, row.typ, updated, row.patient, low, high, row.tokens, row.refs, generation, row.compartments, row.labels)
	t.values(rk, row)
	for _, c := range row.contained {
		low, high := mainDateColumns(c.row)
		t.contained.add(c.rk, rk, c.id, c.row.typ, updated, c.row.patient, low, high, c.row.tokens, c.row.refs)
		t.values(c.rk, c.row)
	}
}

// values adds the rows of one resource in the tables of values.
func (t *indexTables) values(rk int64, row *indexRow) {
	low, _ := mainDateColumns(row)
	for i, param := range row.stringParams {
		t.text.add(param, row.stringValues[i], rk)
	}
	for _, e := range row.identifiers {
		t.identifier.add(e.param, e.value, rk)
	}
	for _, term := range row.codes {
		t.codes.add(term, low, rk, row.value, row.patient, (*string)(nil))
	}
	for _, term := range row.listed {
		t.codes.add(term, low, rk, (*float64)(nil), (*int64)(nil), row.state)
	}
	if row.words != "" {
		t.words.add(rk, wordsText(row.words), true)
	}
	if at := row.position; at != nil {
		t.place.add(rk, at.latitude, at.longitude)
	}
	for _, d := range row.dates {
		t.date.add(d.param, timestamp(d.low), timestamp(d.high), rk)
	}
	for _, n := range row.numbers {
		unit, canonicalLow, canonicalHigh := n.canonical.columns()
		t.number.add(n.param, numericText(n.low), numericText(n.high), n.units, unit, canonicalLow, canonicalHigh, rk)
	}
	for _, c := range row.composites {
		t.tuple(rk, c)
	}
}

func (t *indexTables) tuple(rk int64, c compositeEntry) {
	var dateLow, dateHigh pgtype.Timestamptz
	if c.date != nil {
		dateLow, dateHigh = timestamp(c.date.low), timestamp(c.date.high)
	}
	var low, high, low2, high2 numericText
	var canonicalLow, canonicalHigh *float64
	tokens := c.tokens
	if len(c.numbers) > 0 {
		low, high = numericText(c.numbers[0].low), numericText(c.numbers[0].high)
		var unit *int64
		if unit, canonicalLow, canonicalHigh = c.numbers[0].canonical.columns(); unit != nil {
			tokens = append(tokens, *unit)
		}
	}
	if len(c.numbers) > 1 {
		low2, high2 = numericText(c.numbers[1].low), numericText(c.numbers[1].high)
	}
	if tokens == nil {
		tokens = []int64{}
	}
	t.composite.add(c.param, tokens, c.value, dateLow, dateHigh, low, high, canonicalLow, canonicalHigh, low2, high2, rk)
}

const sqlEach = `
SELECT x.last_updated, x.rk, r.type, r.id, r.version, r.last_updated, r.method, r.content, r.literal, r.compartments
FROM (SELECT last_updated, rk FROM search_index WHERE type = $1 AND (last_updated, rk) > ($2, $3)
  ORDER BY last_updated, rk LIMIT 500) x
JOIN resource r USING (rk) WHERE r.content IS NOT NULL ORDER BY x.last_updated, x.rk`

// Each calls visit for every current resource of the types, type by type, oldest first, but for the definitions that every
// server has built in. All are as they were at one moment. It holds one connection and reads page by page.
func (s *Store) Each(ctx context.Context, types []string, visit func(*Version) error) error {
	tx, err := s.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return translate(err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	for _, typ := range types {
		number := s.Registry().TypeNumber(typ)
		after, row := beginningOfTime, int64(math.MinInt64)
		for more := true; more; {
			more = false
			rows, err := tx.Query(ctx, sqlEach, number, timestamp(after), row)
			if err != nil {
				return translate(err)
			}
			for rows.Next() {
				v, err := scanVersion(rows, &after, &row)
				if err == nil && v.Method != MethodOfficial {
					err = visit(v)
				}
				if err != nil {
					rows.Close()
					return err
				}
				more = true
			}
			if rows.Close(); rows.Err() != nil {
				return translate(rows.Err())
			}
		}
	}
	return nil
}

// ImportFile is what is known of a file that kiln import has worked on.
type ImportFile struct {
	Finished bool
	// Done and Split hold chunks by the entry they begin at; see the table import_file.
	Done, Split []int32
}

const sqlImportFile = `
INSERT INTO import_file (hash, path) VALUES ($1, $2) ON CONFLICT (hash) DO UPDATE SET path = EXCLUDED.path
RETURNING finished IS NOT NULL, done, split`

// ImportFile begins the work on a file, or tells how far it came before. Hash is the SHA-256 of its content.
func (s *Store) ImportFile(ctx context.Context, hash []byte, path string) (f ImportFile, err error) {
	err = s.pool.QueryRow(ctx, sqlImportFile, hash, path).Scan(&f.Finished, &f.Done, &f.Split)
	return f, translate(err)
}

const sqlImportMark = `
UPDATE import_file SET done = done || $2::integer[], split = split || $3::integer[],
  finished = CASE WHEN $4 THEN now() ELSE finished END WHERE hash = $1`

// sqlNoWait has the transaction not wait until the disk has it.
const sqlNoWait = `SELECT set_config('synchronous_commit', 'off', true)`

// MarkImport adds to what is known of a file. It does not wait for the disk: of what a crash of PostgreSQL takes away, the import
// does the same again, which changes nothing.
func (s *Store) MarkImport(ctx context.Context, hash []byte, more ImportFile) error {
	done, split := more.Done, more.Split
	if done == nil {
		done = []int32{}
	}
	if split == nil {
		split = []int32{}
	}
	batch := &pgx.Batch{} // one transaction
	batch.Queue(sqlNoWait)
	batch.Queue(sqlImportMark, hash, done, split, more.Finished)
	return translate(s.pool.SendBatch(ctx, batch).Close())
}

// Hasher is how the keys of this database are made: for kiln bench, which writes its statements by hand.
func (s *Store) Hasher() Hasher { return s.hash }
