package storage

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"kiln/fhir"
)

// Proof is what must hold for a caller to see anything: that the access token still exists and has not expired. It is
// asked in the same round trip as the first read of a request. So revoking a token counts from the next request on, on
// every node, and costs no round trip of its own.
type Proof struct {
	hash    []byte
	now     time.Time
	settled atomic.Bool
}

// NewProof makes the proof of a token, by its hash, for one request at now.
func NewProof(hash []byte, now time.Time) *Proof { return &Proof{hash: hash, now: now} }

// Settled says whether a read has asked. Where none had to, the token is still to be looked up.
func (p *Proof) Settled() bool { return p.settled.Load() }

type proofKey struct{}

// WithProof returns a context in which reads fail unless the proof holds.
func WithProof(ctx context.Context, p *Proof) context.Context {
	return context.WithValue(ctx, proofKey{}, p)
}

const sqlProof = `EXISTS (SELECT FROM visible.access_token WHERE hash = $1 AND expires > $2)`

// proven says whether no proof is to be given any more.
func proven(ctx context.Context) bool {
	p, ok := ctx.Value(proofKey{}).(*Proof)
	return !ok || p.Settled()
}

// introduce begins the batch of a read with who asks: the settings of a, nil for none, and the question whether the token
// still holds, where that is to be proven, in one statement. It returns what tells the answer once the batch was read.
// Errors of that: Unauthenticated.
func introduce(ctx context.Context, batch *pgx.Batch, a *Access) func() error {
	p, ok := ctx.Value(proofKey{}).(*Proof)
	switch {
	case (!ok || p.Settled()) && a == nil:
		return func() error { return nil }
	case !ok || p.Settled():
		a.declare(batch, false)
		return func() error { return nil }
	}
	sql, args := "SELECT "+sqlProof, []any{p.hash, p.now}
	var holds bool
	columns := []any{&holds}
	if a != nil {
		var settings string
		settings, args = a.declaration(args, false)
		sql += ", " + settings
		columns = append(columns, make([]any, len(a.names))...)
	}
	batch.Queue(sql, args...).QueryRow(func(row pgx.Row) error { return row.Scan(columns...) })
	return func() error {
		if !holds {
			return fhir.NewError(fhir.Unauthenticated, fhir.CodeLogin, "The access token has expired or was revoked").Coded("invalid-token")
		}
		p.settled.Store(true)
		return nil
	}
}
