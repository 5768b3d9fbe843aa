package storage

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Answer is what a request that carried an Idempotency-Key got.
type Answer struct {
	// Request is the SHA-256 of the request: the same key with another request is a mistake of the client.
	Request []byte
	// Content is the answer in a form that only the caller knows.
	Content []byte
}

const sqlRecall = `SELECT request, answer FROM idempotency WHERE key = $1`

// Recall makes transactions with the same key run one after the other, and returns the answer that an earlier one
// recorded, or nil. Key is 32 bytes.
func (tx *Tx) Recall(ctx context.Context, key []byte) (*Answer, error) {
	// A statement of its own: what it waits for is only visible to the statement after it.
	tx.begin()
	tx.exec(sqlLockCriteria, []int64{tx.store.hash.Term(0, 'k', string(key), "")})
	var found *Answer
	err := tx.system(ctx, func(rows pgx.Rows) error {
		for rows.Next() {
			found = &Answer{}
			if err := rows.Scan(&found.Request, &found.Content); err != nil {
				return err
			}
		}
		return rows.Err()
	}, sqlRecall, key)
	return found, err
}

const sqlRecord = `INSERT INTO idempotency (key, request, status, answer) VALUES ($1, $2, 0, $3)`

// Record queues the answer for Recall.
func (tx *Tx) Record(key []byte, a Answer) { tx.exec(sqlRecord, key, a.Request, a.Content) }
