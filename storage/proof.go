package storage

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"kiln/fhir"
)

// Proof is what must hold for a caller to see anything: that the access token still exists and has not expired. It is
// asked in the same round trip as the first read of a request. So revoking a token counts from the next request on, on
// every node, and costs no round trip of its own.
type Proof struct {
	hash    []byte   // lies in room, where it is as long as hashes are
	room    [32]byte // so that a proof is one piece of memory
	now     time.Time
	settled atomic.Bool
}

// NewProof makes the proof of a token, by its hash, for one request at now.
func NewProof(hash []byte, now time.Time) *Proof {
	p := &Proof{now: now}
	p.hash = append(p.room[:0], hash...)
	return p
}

// Settled says whether a read has asked. Where none had to, the token is still to be looked up.
func (p *Proof) Settled() bool { return p.settled.Load() }

type proofKey struct{}

// WithProof returns a context in which reads fail unless the proof holds.
func WithProof(ctx context.Context, p *Proof) context.Context {
	return context.WithValue(ctx, proofKey{}, p)
}

// sqlProof has proofArguments.
const (
	sqlProof       = `EXISTS (SELECT FROM visible.access_token WHERE hash = $1 AND expires > $2)`
	proofArguments = 2
)

// toProve is the proof that is still to be given, if there is one.
func toProve(ctx context.Context) (p *Proof, proves bool) {
	p, ok := ctx.Value(proofKey{}).(*Proof)
	return p, ok && !p.Settled()
}

// settle takes the answer. Errors: Unauthenticated.
func (p *Proof) settle(holds bool) error {
	if !holds {
		return fhir.NewError(fhir.Unauthenticated, fhir.CodeLogin, "The access token has expired or was revoked").Coded("invalid-token")
	}
	p.settled.Store(true)
	return nil
}

// introduce begins the batch of a read with who asks: the settings of the caller, the question whether the token still holds, where that
// is to be proven, and whether something is withheld, where ctx asks that, in one statement. It returns what tells the answers once the batch
// was read.
// Errors of that: Unauthenticated.
func (r *runner) introduce(ctx context.Context, batch *pgx.Batch) func() error {
	p, proves := toProve(ctx)
	if r.access.everything {
		if !proves {
			return func() error { return nil }
		}
		var holds bool
		batch.Queue("SELECT "+sqlProof, p.hash, p.now).QueryRow(func(row pgx.Row) error { return row.Scan(&holds) })
		return func() error { return p.settle(holds) }
	}
	w := questionOf(ctx, r.access)
	d := r.says(proves, false, w != nil)
	if w != nil {
		d.args[d.question] = w.patient
	}
	var holds, withheld bool
	columns := make([]any, 0, 3)
	if proves {
		d.args[0], d.args[1] = p.hash, p.now
		columns = append(columns, &holds)
	}
	if columns = append(columns, nil); w != nil {
		columns = append(columns, &withheld)
	}
	if len(columns) == 1 {
		batch.Queue(d.sql, d.args...)
		return func() error { return nil }
	}
	batch.Queue(d.sql, d.args...).QueryRow(func(row pgx.Row) error { return row.Scan(columns...) })
	return func() error {
		if proves {
			if err := p.settle(holds); err != nil {
				return err
			}
		}
		if w != nil {
			w.is.Store(withheld)
			w.answered.Store(true)
		}
		return nil
	}
}

// says is the declaration for what r reads, with arguments of its own.
func (r *runner) says(proves, plainly, asks bool) declaration {
	how := 0
	if proves {
		how |= withProof
	}
	if len(r.about) > 0 && r.access.asksAbout() {
		how |= aboutPatients
	}
	if plainly {
		how |= withPlain
	}
	if asks {
		how |= withQuestion
	}
	d := r.access.asks[how]
	if d.args = slices.Clone(d.args); how&aboutPatients != 0 {
		d.args[d.about] = r.about
	}
	return d
}

// introduced reads a version, or none, in one statement with who asks and the proof of the token: a batch of two costs as much again
// as the read. sql is one of Access.reads. Where it gives no row at all, the proof is still to be given.
//
// Errors: Unauthenticated.
func (r *runner) introduced(ctx context.Context, p *Proof, sql string, args []any) (*Version, error) {
	pool, said, joined := r.store.pool, make([]any, proofArguments), r.store.reads[sql]
	if !r.access.everything {
		pool, said, joined = r.store.guarded, r.access.asks[withProof].args, r.access.reads[sql]
	}
	all := append(slices.Clone(said), args...)
	all[0], all[1] = p.hash, p.now
	rows, err := reader{pool}.Query(ctx, joined, all...)
	if err != nil {
		return nil, translate(err)
	}
	defer rows.Close()
	var v *Version
	asked, holds := false, false
	for rows.Next() {
		asked = true
		if rows.RawValues()[1] != nil { // else there is nothing of a version
			v, err = scanVersion(rows, &holds)
		} else {
			err = rows.Scan(append([]any{&holds}, make([]any, len(rows.RawValues())-1)...)...)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := rows.Err(); err != nil || !asked {
		return nil, translate(err)
	}
	if err := p.settle(holds); err != nil {
		return nil, err
	}
	return v, nil
}
