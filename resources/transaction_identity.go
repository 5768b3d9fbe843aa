package resources

import (
	"context"
	"maps"
	"slices"

	"kiln/auth"
	"kiln/fhir"
	"kiln/storage"
)

// identify finds out which resource each entry stands for, and locks those that are to be written: first all criteria
// in one order, then all rows in one order. Two entries with one identity are an error, however they came to it.
func (t *transaction) identify(ctx context.Context, tx *storage.Tx) error {
	var conditional []*txEntry
	var criteria []string
	for _, e := range t.entries {
		if e.matched, e.old = nil, nil; e.criteria != "" {
			conditional = append(conditional, e)
			criteria = append(criteria, e.criteria)
		}
	}
	if len(criteria) > 0 {
		if err := tx.LockCriteria(ctx, criteria...); err != nil {
			return err
		}
	}
	for _, e := range conditional {
		matched, err := t.find(ctx, tx, e)
		if err != nil {
			return atEntry(err, e.i)
		}
		e.matched = matched
	}
	// What was found may change before it is locked; then it is looked for once more.
	for range 5 {
		if err := t.lock(ctx, tx); err != nil {
			return err
		}
		settled := true
		for _, e := range conditional {
			if len(e.matched) == 0 {
				continue
			}
			again, err := t.find(ctx, tx, e)
			if err != nil {
				return atEntry(err, e.i)
			}
			if !slices.Equal(again, e.matched) {
				e.matched, settled = again, false
			}
		}
		if settled {
			return nil
		}
	}
	return fhir.NewError(fhir.Transient, fhir.CodeTransient, "Others keep changing what the criteria of this transaction match; try again")
}

// find gives the resources that the criteria of an entry match, sorted.
func (t *transaction) find(ctx context.Context, tx *storage.Tx, e *txEntry) ([]storage.Key, error) {
	query, limit := e.req.Query, 1
	switch e.req.Interaction {
	case Create:
		query = e.req.IfNoneExist
	case Delete:
		limit = t.deleteLimit()
	}
	keys, err := t.match(ctx, tx, e.req.Type, query, limit+1)
	if err != nil {
		return nil, err
	}
	if len(keys) > limit {
		return nil, tooManyMatches(e.req.Type, query, limit)
	}
	if len(keys) == 0 && e.req.Interaction == Patch {
		return nil, noMatch(&e.req)
	}
	sortKeys(keys)
	return keys, nil
}

// lock settles the keys of all entries, sees that they differ, and locks and reads what exists of them.
func (t *transaction) lock(ctx context.Context, tx *storage.Tx) error {
	owners := make(map[storage.Key]*txEntry, len(t.entries))
	var locking, reading []storage.Key
	by := map[storage.Key]auth.Actions{} // what is going to be done with what is locked
	for _, e := range t.entries {
		if !e.req.Interaction.writes() {
			continue
		}
		if e.criteria != "" {
			if err := e.settle(); err != nil {
				return atEntry(err, e.i)
			}
		}
		keys := []storage.Key{e.key}
		if e.req.Interaction == Delete && e.criteria != "" {
			keys = e.matched
		}
		for _, key := range keys {
			if other := owners[key]; other != nil {
				return sameIdentity(other, e, key.Type+"/"+key.ID)
			}
			owners[key] = e
		}
		switch {
		case e.exists():
			reading = append(reading, keys...)
		case e.req.Interaction != Create:
			locking = append(locking, keys...)
			for _, key := range keys {
				if by[key] = auth.Update; e.req.Interaction == Delete {
					by[key] = auth.Delete
				}
			}
		}
	}
	old := map[storage.Key]*storage.Version{}
	if len(locking) > 0 {
		locked, err := tx.LockAll(ctx, locking...)
		if err != nil {
			return err
		}
		for _, action := range []auth.Actions{auth.Update, auth.Delete} {
			part := map[storage.Key]*storage.Version{}
			for key, v := range locked {
				if by[key] == action {
					part[key] = v
				}
			}
			seen, err := tx.Seen(acting(ctx, action), part)
			if err != nil {
				return err
			}
			maps.Copy(old, seen)
		}
	}
	if len(reading) > 0 {
		read, err := tx.Read(acting(ctx, auth.Search), reading...)
		if err != nil {
			return err
		}
		maps.Copy(old, read)
	}
	for _, e := range t.entries {
		e.old = old
		if e.criteria != "" && e.req.Interaction == Update && len(e.matched) == 0 && e.own != "" {
			if v := old[e.key]; v != nil && !v.Deleted {
				return atEntry(takenID(e.key), e.i)
			}
		}
	}
	return nil
}

// settle decides what a conditional entry stands for, after its criteria found what they found.
func (e *txEntry) settle() error {
	switch {
	case e.req.Interaction == Delete:
		if e.key = (storage.Key{Type: e.req.Type}); len(e.matched) > 0 {
			e.key = e.matched[0]
		}
	case len(e.matched) > 0:
		if e.key = e.matched[0]; e.own != "" && e.own != e.key.ID {
			return otherID(e.key.Type, e.key.ID)
		}
	default:
		e.key = storage.Key{Type: e.req.Type, ID: e.made}
	}
	return nil
}
