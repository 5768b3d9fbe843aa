package storage

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// KeptMessage is a message that nobody was sent, for want of a mail server.
type KeptMessage struct {
	ID               string
	Made             time.Time
	About, Recipient string
	// Address is where it would have gone.
	Address, Language, Title, Body string
}

// keepMessages is how long they are kept.
const keepMessages = 30 * 24 * time.Hour

const sqlKeepMessage = `
WITH old AS (DELETE FROM kept_message WHERE made < $9)
INSERT INTO kept_message (id, made, about, recipient, address, language, title, body)
VALUES ($1::text::uuid, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING`

// KeepMessage keeps a message, once, and forgets those older than 30 days.
func (s *Store) KeepMessage(ctx context.Context, m KeptMessage) error {
	now := s.options.Now().UTC()
	_, err := s.pool.Exec(ctx, sqlKeepMessage, m.ID, now, m.About, m.Recipient, m.Address, m.Language, m.Title, m.Body, now.Add(-keepMessages))
	return translate(err)
}

const sqlKeptMessages = `
SELECT id::text, made, about, recipient, address, language, title, body FROM kept_message ORDER BY made DESC, id DESC LIMIT $1`

// KeptMessages lists the newest. It is for administrators.
func (s *Store) KeptMessages(ctx context.Context, limit int) ([]KeptMessage, error) {
	rows, err := s.pool.Query(ctx, sqlKeptMessages, limit)
	if err != nil {
		return nil, translate(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[KeptMessage])
	return list, translate(err)
}
