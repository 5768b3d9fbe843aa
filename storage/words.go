package storage

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"
)

// This file sees to it that search_index.tokens has the terms of all words. Servers before version 320 of the schema write none; where one
// still runs, what it has written is found by search_text until it is indexed anew. What it writes is noticed within pendingEvery; until
// then searches by words miss it.

// unhashedAtOnce is up to how many resources are ordered to be indexed anew at once.
const unhashedAtOnce = 10_000

const (
	// sqlAllHashed reads an index that is empty then; without an order PostgreSQL might read the table, which it may take to be half unhashed.
	sqlAllHashed = `(SELECT rk FROM search_text WHERE NOT hashed ORDER BY rk LIMIT 1) IS NULL`
	sqlUnhashed  = `SELECT NOT (` + sqlAllHashed + `) AND NOT EXISTS (SELECT FROM reindex_job WHERE status <> 'completed')`

	// sqlHash orders it, and forgets words of what is no longer there.
	sqlHash = `
WITH t AS MATERIALIZED (SELECT rk FROM search_text WHERE NOT hashed LIMIT $1),
k AS MATERIALIZED (SELECT t.rk, coalesce(i.rk, c.container) AS resource
  FROM t LEFT JOIN search_index i USING (rk) LEFT JOIN search_contained c ON c.rk = t.rk),
gone AS (DELETE FROM search_text s USING k WHERE s.rk = k.rk AND NOT s.hashed AND k.resource IS NULL),
old AS (UPDATE search_index x SET generation = generation - 1 FROM (SELECT DISTINCT resource FROM k) k WHERE x.rk = k.resource RETURNING x.type)
INSERT INTO reindex_job (generation, types)
SELECT s.generation, u.types FROM search_parameter_set s, (SELECT array_agg(DISTINCT type) AS types FROM old) u WHERE u.types IS NOT NULL`

	// sqlWordsIndexed says that there is the index of words that older servers search, and nothing else that needs it.
	sqlWordsIndexed = `SELECT to_regclass('search_text_words') IS NOT NULL AND ` + sqlAllHashed + `
  AND (SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = 'search_text'::regclass)`
	// sqlDropWords waits for whoever reads the table, and nobody waits for it.
	sqlDropWords = `DROP INDEX CONCURRENTLY IF EXISTS search_text_words`
)

// HashWords orders terms for words that have none, and drops the index that found them before, once all have. The order
// is one of Reindexes; until it is done, all servers search for texts as before.
func (s *Store) HashWords(ctx context.Context) error {
	var unhashed, indexed bool
	if err := s.pool.QueryRow(ctx, sqlUnhashed).Scan(&unhashed); err != nil {
		return err
	}
	if unhashed {
		return s.Write(asSystem(ctx), func(tx *Tx) error {
			tx.exec(sqlHash, unhashedAtOnce)
			tx.TouchParameters()
			return nil
		})
	}
	if err := s.pool.QueryRow(ctx, sqlWordsIndexed).Scan(&indexed); err != nil || !indexed {
		return err
	}
	return s.alone(ctx, reindexLock, func(conn *pgxpool.Conn) error {
		_, err := conn.Exec(ctx, sqlDropWords)
		return err
	})
}
