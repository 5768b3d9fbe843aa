package storage

import (
	"context"

	"github.com/jackc/pgx/v5"
)

const sqlRead = `
SELECT type, id, version, last_updated, method, content, literal, compartments FROM resource
WHERE rk = $1 AND type = $2 AND id = $3`

const sqlReadVersion = `
SELECT r.type, r.id, h.version, h.last_updated, h.method, h.content, h.literal, h.compartments
FROM resource r JOIN resource_history h USING (rk)
WHERE r.rk = $1 AND r.type = $2 AND r.id = $3 AND h.version = $4
UNION ALL
SELECT type, id, version, last_updated, method, content, literal, compartments FROM resource
WHERE rk = $1 AND type = $2 AND id = $3 AND version = $4`

// Read returns the current version, which may be a deleted one, or nil where the resource never existed, or scopes of the caller leave it out.
func (s *Store) Read(ctx context.Context, typ, id string) (*Version, error) {
	run, err := s.runner(ctx, nil)
	if err != nil {
		return nil, err
	}
	v, err := run.current(ctx, typ, id)
	if v == nil || err != nil || !run.access.narrows(s.Registry().TypeNumber(typ)) {
		return v, err
	}
	kept, _, err := s.Narrowed(ctx, []*Version{v})
	if err != nil || len(kept) == 0 {
		return nil, err
	}
	return v, nil
}

// current is Read without a look at what the views leave to the exact form of granular scopes.
func (r *runner) current(ctx context.Context, typ, id string) (*Version, error) {
	rk := r.store.hash.Resource(typ, id)
	p, proves := toProve(ctx)
	if !proves {
		return r.one(ctx, sqlRead, rk, typ, id)
	}
	way := r.surelyReads(r.store.Registry().TypeNumber(typ))
	if way != nil {
		if v, known, err := r.surely(ctx, p, way, rk, typ, id); known || err != nil {
			return v, err
		}
	}
	v, err := r.one(ctx, sqlRead, rk, typ, id)
	if v != nil && way != nil && (way.reason == treated || way.reason == inContext) && len(v.Compartments) == 1 {
		r.store.opens(ctx, p, way.treating, v.Compartments[0])
	}
	return v, err
}

// ReadVersion returns one version, or nil.
func (s *Store) ReadVersion(ctx context.Context, typ, id string, number int) (*Version, error) {
	run, err := s.runner(ctx, nil)
	if err != nil {
		return nil, err
	}
	return run.one(ctx, sqlReadVersion, s.hash.Resource(typ, id), typ, id, number)
}

func (r *runner) one(ctx context.Context, sql string, args ...any) (*Version, error) {
	if p, proves := toProve(ctx); proves && (r.caller || !r.access.everything) {
		return r.introduced(ctx, p, sql, args)
	}
	versions, err := collect(ctx, r, sql, args...)
	if err != nil || len(versions) == 0 {
		return nil, translate(err)
	}
	return versions[0], nil
}

const sqlReadAll = `
SELECT type, id, version, last_updated, method, content, literal, compartments FROM resource WHERE rk = ANY($1)`

// Read returns the current versions of the resources named, deleted ones included, as the transaction sees them.
// Resources that never existed are absent from the answer, and so are those that scopes of the caller leave out.
func (tx *Tx) Read(ctx context.Context, keys ...Key) (map[Key]*Version, error) {
	rks := make([]int64, len(keys))
	for i, k := range keys {
		rks[i] = tx.store.hash.Resource(k.Type, k.ID)
	}
	var list []*Version
	err := tx.query(ctx, func(rows pgx.Rows) error {
		for rows.Next() {
			v, err := scanVersion(rows)
			if err != nil {
				return err
			}
			list = append(list, v)
		}
		return rows.Err()
	}, sqlReadAll, rks)
	if err == nil {
		list, _, err = tx.store.Narrowed(ctx, list)
	}
	if err != nil {
		return nil, err
	}
	found := make(map[Key]*Version, len(list))
	for _, v := range list {
		found[Key{v.Type, v.ID}] = v
	}
	return found, nil
}

// ReadVersion returns one version as the transaction sees it, or nil.
func (tx *Tx) ReadVersion(ctx context.Context, typ, id string, number int) (found *Version, err error) {
	err = tx.query(ctx, func(rows pgx.Rows) (err error) {
		for rows.Next() {
			if found, err = scanVersion(rows); err != nil {
				return err
			}
		}
		return rows.Err()
	}, sqlReadVersion, tx.store.hash.Resource(typ, id), typ, id, number)
	return found, err
}

func collect(ctx context.Context, run *runner, sql string, args ...any) (versions []*Version, err error) {
	err = run.rows(ctx, run.store.versionsInto(&versions), sql, args...)
	return versions, err
}

// versionsInto reads rows of versions, as far as there is room for them.
func (s *Store) versionsInto(versions *[]*Version) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		left := s.room()
		for rows.Next() {
			v, err := scanVersion(rows)
			if err != nil {
				return err
			}
			left.take(v)
			*versions = append(*versions, v)
		}
		return rows.Err()
	}
}
