package bench

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// sample is what the generator knows of the data, to ask for what is there and to check the answers.
type sample struct {
	patients     []patient
	observations []observation
	template     []byte // an Observation to write more of
}

type patient struct{ id, family, gender, birth, system, identifier string }

type observation struct{ id, patient, system, code, category, value, date string }

const sqlPatients = `
SELECT id, content #>> '{name,0,family}', content ->> 'gender', content ->> 'birthDate',
  coalesce(content #>> '{identifier,0,system}', ''), coalesce(content #>> '{identifier,0,value}', '')
FROM resource WHERE type = 'Patient' AND content #>> '{name,0,family}' IS NOT NULL AND content ->> 'birthDate' IS NOT NULL LIMIT 5000`

const sqlObservations = `
SELECT id, substr(content #>> '{subject,reference}', 9), content #>> '{code,coding,0,system}', content #>> '{code,coding,0,code}',
  coalesce(content #>> '{category,0,coding,0,code}', ''), content #>> '{valueQuantity,value}', content ->> 'effectiveDateTime'
FROM resource TABLESAMPLE SYSTEM ($1) REPEATABLE (1)
WHERE type = 'Observation' AND content #>> '{valueQuantity,value}' IS NOT NULL AND content ->> 'effectiveDateTime' IS NOT NULL
  AND content #>> '{subject,reference}' LIKE 'Patient/%' LIMIT 5000`

func readSample(ctx context.Context, pool *pgxpool.Pool, scale int) (*sample, error) {
	s := &sample{}
	rows, err := pool.Query(ctx, sqlPatients)
	if err != nil {
		return nil, err
	}
	s.patients, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (p patient, err error) {
		return p, row.Scan(&p.id, &p.family, &p.gender, &p.birth, &p.system, &p.identifier)
	})
	if err != nil {
		return nil, err
	}
	share := min(100, 100*40_000/float64(scale))
	if rows, err = pool.Query(ctx, sqlObservations, float32(share)); err != nil {
		return nil, err
	}
	s.observations, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (o observation, err error) {
		return o, row.Scan(&o.id, &o.patient, &o.system, &o.code, &o.category, &o.value, &o.date)
	})
	if err != nil {
		return nil, err
	}
	if len(s.patients) == 0 || len(s.observations) == 0 {
		return nil, errors.New("there are no patients or observations to ask for; take a larger --scale")
	}
	var content []byte
	err = pool.QueryRow(ctx, "SELECT content FROM resource WHERE type = 'Observation' AND id = $1 LIMIT 1", s.observations[0].id).Scan(&content)
	if err != nil {
		return nil, err
	}
	var resource map[string]json.RawMessage
	if err := json.Unmarshal(content, &resource); err != nil {
		return nil, err
	}
	delete(resource, "id")
	delete(resource, "meta")
	s.template, err = json.Marshal(resource)
	return s, err
}
