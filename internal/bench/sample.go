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
	known        []patient // those with a record
	observations []observation
	appointments []appointment
	common       observation // one of the code that occurs most
	template     []byte      // an Observation to write more of
}

type patient struct{ id, family, gender, birth, system, identifier string }

type observation struct{ id, patient, system, code, category, value, date string }

type appointment struct{ id, practitioner, start, status string }

const patientColumns = `
SELECT id, content #>> '{name,0,family}', content ->> 'gender', content ->> 'birthDate',
  coalesce(content #>> '{identifier,0,system}', ''), coalesce(content #>> '{identifier,0,value}', '')
FROM resource `

const sqlPatients = patientColumns + `
WHERE type = 'Patient' AND content #>> '{name,0,family}' IS NOT NULL AND content ->> 'birthDate' IS NOT NULL
ORDER BY rk LIMIT 5000`

const sqlKnownPatients = patientColumns + `WHERE type = 'Patient' AND id = ANY($1) AND content #>> '{identifier,0,value}' IS NOT NULL`

const sqlObservations = `
SELECT id, substr(content #>> '{subject,reference}', 9), content #>> '{code,coding,0,system}', content #>> '{code,coding,0,code}',
  coalesce(content #>> '{category,0,coding,0,code}', ''), content #>> '{valueQuantity,value}', content ->> 'effectiveDateTime'
FROM resource TABLESAMPLE SYSTEM ($1) REPEATABLE (1)
WHERE type = 'Observation' AND content #>> '{valueQuantity,value}' IS NOT NULL AND content ->> 'effectiveDateTime' IS NOT NULL
  AND content #>> '{subject,reference}' LIKE 'Patient/%' LIMIT 5000`

const sqlAppointments = `
SELECT id, content #>> '{participant,1,actor,reference}', content ->> 'start', content ->> 'status'
FROM resource TABLESAMPLE SYSTEM ($1) REPEATABLE (1)
WHERE type = 'Appointment' AND content #>> '{participant,1,actor,reference}' LIKE 'Practitioner/%' LIMIT 5000`

func readSample(ctx context.Context, pool *pgxpool.Pool, scale int) (*sample, error) {
	s := &sample{}
	share := float32(min(100, 100*100_000/float64(scale)))
	var err error
	if s.patients, err = list(ctx, pool, scanPatient, sqlPatients); err != nil {
		return nil, err
	}
	s.observations, err = list(ctx, pool, func(row pgx.CollectableRow) (o observation, err error) {
		return o, row.Scan(&o.id, &o.patient, &o.system, &o.code, &o.category, &o.value, &o.date)
	}, sqlObservations, share)
	if err != nil {
		return nil, err
	}
	s.appointments, err = list(ctx, pool, func(row pgx.CollectableRow) (a appointment, err error) {
		return a, row.Scan(&a.id, &a.practitioner, &a.start, &a.status)
	}, sqlAppointments, share)
	if err != nil {
		return nil, err
	}
	if len(s.patients) == 0 || len(s.observations) == 0 {
		return nil, errors.New("there are no patients or observations to ask for; take a larger --scale")
	}
	var ids []string
	seen := map[string]int{}
	for _, o := range s.observations {
		ids = append(ids, o.patient)
		if seen[o.code]++; seen[o.code] > seen[s.common.code] {
			s.common = o
		}
	}
	if s.known, err = list(ctx, pool, scanPatient, sqlKnownPatients, ids); err != nil {
		return nil, err
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

func scanPatient(row pgx.CollectableRow) (p patient, err error) {
	return p, row.Scan(&p.id, &p.family, &p.gender, &p.birth, &p.system, &p.identifier)
}

func list[T any](ctx context.Context, pool *pgxpool.Pool, scan pgx.RowToFunc[T], sql string, args ...any) ([]T, error) {
	rows, err := pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scan)
}
