package storage

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// accessRules are the tables by which the server judges: see migrations/0005_access.sql.
type accessRules struct {
	state         int64 // counts the rules that this server has read
	changed       int64
	consent       string // what holds without a Consent: permit or deny
	policies      []RolePolicy
	relationships []relationship
	labels        map[string]uint8 // system|code → bit
	cleared       map[string]int32 // role → bits
	withholds     int32            // bits of labels that bind the record's own patient
	merged        mergedPatients
}

// RolePolicy is a row of role_policy.
type RolePolicy struct {
	Role    string
	Types   []string
	Actions string
	Reach   string
}

type relationship struct {
	kind                int16
	typ, actor, patient string
	statuses            []string
	confirmed           bool
}

const (
	sqlAccessChanged = `SELECT changed, consent_default FROM access_state`
	sqlPolicies      = `SELECT role, types, actions, reach FROM role_policy ORDER BY id`
	sqlRelationships = `SELECT kind, type, actor, patient, statuses, confirmed FROM relationship ORDER BY kind`
	sqlLabels        = `SELECT bit, system, code, cleared, withholds FROM security_label ORDER BY bit`
)

// refreshAccess reads the rules anew where they have changed. s.refreshing is held.
func (s *Store) refreshAccess(ctx context.Context) error {
	r := &accessRules{labels: map[string]uint8{}, cleared: map[string]int32{}}
	if err := (reader{s.pool}).QueryRow(ctx, sqlAccessChanged).Scan(&r.changed, &r.consent); err != nil {
		return translate(fmt.Errorf("storage: read the state of the access rules: %w", err))
	}
	if old := s.rules.Load(); old != nil {
		if old.changed == r.changed && old.consent == r.consent {
			return nil
		}
		r.state = old.state + 1
	}
	batch := &pgx.Batch{}
	batch.Queue(sqlPolicies).Query(func(rows pgx.Rows) (err error) {
		r.policies, err = pgx.CollectRows(rows, pgx.RowToStructByPos[RolePolicy])
		return err
	})
	batch.Queue(sqlRelationships).Query(func(rows pgx.Rows) (err error) {
		r.relationships, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (l relationship, err error) {
			return l, row.Scan(&l.kind, &l.typ, &l.actor, &l.patient, &l.statuses, &l.confirmed)
		})
		return err
	})
	batch.Queue(sqlLabels).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			var bit int16
			var system, code string
			var cleared []string
			var withholds bool
			if err := rows.Scan(&bit, &system, &code, &cleared, &withholds); err != nil {
				return err
			}
			if withholds {
				r.withholds |= 1 << bit
			}
			r.labels[system+"|"+code] = uint8(bit)
			for _, role := range cleared {
				r.cleared[role] |= 1 << bit
			}
		}
		return rows.Err()
	})
	batch.Queue(sqlMerged).Query(r.merged.read(s.hash))
	if err := (reader{s.pool}).Send(ctx, batch); err != nil {
		return translate(fmt.Errorf("storage: read the access rules: %w", err))
	}
	if ix := s.indexer.Load(); ix != nil { // first, so that what is known to be of these rules has nothing of those before
		s.indexer.Store(ix.under(r))
	}
	s.rules.Store(r)
	return nil
}

// under is the same indexer under other rules.
func (ix *Indexer) under(r *accessRules) *Indexer {
	n := NewIndexer(ix.hash, ix.registry, ix.base, ix.zone)
	n.official, n.generation, n.building, n.rules = ix.official, ix.generation, ix.building, r
	n.complete = ix.complete
	return n
}

// AccessRules returns the policy of roles as it stands, and a number that is another one after each change.
func (s *Store) AccessRules() ([]RolePolicy, int64) {
	r := s.rules.Load()
	return r.policies, r.state
}
