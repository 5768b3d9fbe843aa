package terminology_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"kiln/fhir"
	"kiln/internal/kilntest"
	"kiln/storage/terminology"
)

// official opens a database that has the official definitions.
func official(t testing.TB) *pgxpool.Pool { return pool(t, kilntest.TerminologyDB(t)) }

func pool(t testing.TB, url string) *pgxpool.Pool {
	t.Helper()
	p, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// store puts CodeSystems and ConceptMaps into the tables as a write would. ValueSets need their resource, which has
// none here; they are handed over whole.
func store(t testing.TB, p *pgxpool.Pool, list ...*fhir.Node) {
	t.Helper()
	batch := &pgx.Batch{}
	exec := func(sql string, args ...any) { batch.Queue(sql, args...) }
	for i, n := range list {
		key := int64(1000 + i)
		prepared, err := terminology.Prepare(n, key)
		if err != nil {
			t.Fatal(err)
		}
		terminology.Forget(exec, n.ResourceType(), key)
		prepared.Queue(exec, time.Now())
		if n.ResourceType() == "ValueSet" {
			batch.Queue("UPDATE value_set SET definition = $2 WHERE key = $1", key, n.JSON())
		}
	}
	if err := p.SendBatch(context.Background(), batch).Close(); err != nil {
		t.Fatal(err)
	}
}

func kind(err error) fhir.Kind { return fhir.KindOf(err) }
