package storage

import (
	"context"
	"crypto/sha256"
	"strings"
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

const sqlKeepMessage = `
INSERT INTO kept_message (id, made, about, recipient, address, language, title, body)
VALUES ($1::text::uuid, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING`

// KeepMessage keeps a message, once, until Forget clears it.
func (s *Store) KeepMessage(ctx context.Context, m KeptMessage) error {
	_, err := s.pool.Exec(ctx, sqlKeepMessage, m.ID, s.options.Now().UTC(), m.About, m.Recipient, m.Address, m.Language, m.Title, m.Body)
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

// MessageLimit is how many messages one address is sent at most, within an hour and within a day.
type MessageLimit struct{ Hour, Day int }

const messageDay = 24 * time.Hour

const (
	// One after the other for one address, so that several workers do not count the same messages.
	sqlMessageLock = `SELECT pg_advisory_xact_lock(7266, hashtext(encode($1::bytea, 'hex')))`
	sqlMessageSent = `SELECT at FROM message_sent WHERE address = $1 AND at > $2 AND id <> $3::text::uuid ORDER BY at DESC LIMIT $4`
	sqlMessageSend = `INSERT INTO message_sent (id, address, at) VALUES ($1::text::uuid, $2, $3) ON CONFLICT (id) DO UPDATE SET at = EXCLUDED.at`
)

// TakeMessage counts a message, which is about to be sent, towards the limit of its address; the same message counts once.
// Where the limit is reached it returns the time from which on there may be room again, else the zero time.
func (s *Store) TakeMessage(ctx context.Context, id, address string, limit MessageLimit) (wait time.Time, err error) {
	now := s.options.Now().UTC()
	digest := sha256.Sum256([]byte(strings.ToLower(address))) // the table tells nobody's address
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, sqlMessageLock, digest[:]); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, sqlMessageSent, digest[:], now.Add(-messageDay), id, limit.Day)
		if err != nil {
			return err
		}
		sent, err := pgx.CollectRows(rows, pgx.RowTo[time.Time])
		if err != nil {
			return err
		}
		if wait = limit.room(sent, now); wait.IsZero() {
			_, err = tx.Exec(ctx, sqlMessageSend, id, digest[:], now)
		}
		return err
	})
	return wait, translate(err)
}

// room is when there is room for one more after those that were sent in the last day, newest first; zero for at once.
func (l MessageLimit) room(sent []time.Time, now time.Time) (wait time.Time) {
	for _, bound := range []struct {
		most   int
		within time.Duration
	}{{l.Hour, time.Hour}, {l.Day, messageDay}} {
		if len(sent) < bound.most {
			continue
		}
		if free := sent[bound.most-1].Add(bound.within); free.After(now) && free.After(wait) {
			wait = free.UTC()
		}
	}
	return wait
}
