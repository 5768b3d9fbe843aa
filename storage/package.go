package storage

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// Package is a FHIR package whose conformance resources are stored.
type Package struct {
	Name, Version string
	Resources     int
	Installed     time.Time
}

const (
	sqlPackages   = `SELECT name, version, resources, installed FROM package ORDER BY name, version`
	sqlSetPackage = `INSERT INTO package (name, version, resources) VALUES ($1, $2, $3)
ON CONFLICT (name, version) DO UPDATE SET resources = excluded.resources, installed = now()`
)

// Packages lists what is installed.
func (s *Store) Packages(ctx context.Context) ([]Package, error) {
	rows, err := reader{s.pool}.Query(ctx, sqlPackages)
	if err != nil {
		return nil, translate(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Package])
	return list, translate(err)
}

// SetPackage notes that a package is installed.
func (s *Store) SetPackage(ctx context.Context, name, version string, resources int) error {
	_, err := s.pool.Exec(ctx, sqlSetPackage, name, version, resources)
	return translate(err)
}
