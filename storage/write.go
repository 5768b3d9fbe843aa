package storage

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"kiln/fhir"
	"kiln/storage/terminology"
)

// Prepared is a resource ready to be written: its index rows are made, and only version and time are missing. Making
// it needs no connection and no lock.
type Prepared struct {
	Node *fhir.Node
	rk   int64
	row  *indexRow
	// by is what made row.
	by *Indexer
	// codes is what a CodeSystem, ValueSet or ConceptMap puts into the terminology tables.
	codes *terminology.Prepared
	// inherited is what its targets lend it: see Tx.Inherit.
	inherited lent
	// awaits are those of its targets that are not there.
	awaits []int64
}

// Prepare extracts what searches need from a resource that has its id in place. It may change node.meta later, so the
// caller hands node over.
func (s *Store) Prepare(node *fhir.Node) (*Prepared, error) { return s.prepare(node, worded) }

func (s *Store) prepare(node *fhir.Node, words wording) (*Prepared, error) {
	by := s.indexer.Load()
	row, err := by.rowOf(node, words)
	if err != nil {
		return nil, err
	}
	p := &Prepared{Node: node, rk: s.hash.Resource(node.ResourceType(), node.ID()), row: row, by: by}
	if terminology.Holds(node.ResourceType()) {
		if p.codes, err = terminology.Prepare(node, p.rk); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// Key names one resource.
type Key struct{ Type, ID string }

const sqlLock = `
SELECT rk, labels, type, id, version, last_updated, method, content, literal, compartments FROM public.resource
WHERE rk = ANY($1) ORDER BY rk FOR UPDATE`

// Lock reads the current versions of the resources named, deleted ones included, and keeps others from changing them
// until the transaction ends. Locks are taken in one order, so that two transactions never wait for each other.
// Resources that never existed, and those that the access in ctx hides, are absent from the answer.
func (tx *Tx) Lock(ctx context.Context, keys ...Key) (map[Key]*Version, error) {
	found, err := tx.LockAll(ctx, keys...)
	if err != nil || !tx.guarded || len(found) == 0 {
		return found, err
	}
	return tx.Seen(ctx, found)
}

// LockAll is Lock for several accesses: what it returns is for Seen, and nobody may see it before. Appointments and Slots are locked
// behind the fence of those whose time they are; the first call that locks some puts it up.
func (tx *Tx) LockAll(ctx context.Context, keys ...Key) (map[Key]*Version, error) {
	rks := make([]int64, len(keys))
	var whose Whose
	for i, k := range keys {
		rks[i] = tx.store.hash.Resource(k.Type, k.ID)
		switch k.Type {
		case "Slot":
			whose.Slots = append(whose.Slots, k.Type+"/"+k.ID)
		case "Appointment":
			whose.Appointments = append(whose.Appointments, k.Type+"/"+k.ID)
		}
	}
	if !tx.fenced && len(whose.Slots)+len(whose.Appointments) > 0 {
		tx.Fence(whose)
	}
	slices.Sort(rks)
	found := make(map[Key]*Version, len(keys))
	err := tx.system(ctx, func(rows pgx.Rows) error {
		for rows.Next() {
			var rk int64
			var labels int32
			v, err := scanVersion(rows, &rk, &labels)
			if err != nil {
				return err
			}
			v.labels = &labels
			found[Key{v.Type, v.ID}] = v
		}
		return rows.Err()
	}, sqlLock, rks)
	return found, err
}

const sqlSeen = `SELECT r.type, r.id FROM resource r WHERE r.rk = ANY($1)`

// Seen are those of some current versions that the access in ctx lets see.
func (tx *Tx) Seen(ctx context.Context, versions map[Key]*Version) (map[Key]*Version, error) {
	if !tx.guarded || len(versions) == 0 {
		return versions, nil
	}
	rks := make([]int64, 0, len(versions))
	for k := range versions {
		rks = append(rks, tx.store.hash.Resource(k.Type, k.ID))
	}
	var list []*Version
	err := tx.query(ctx, func(rows pgx.Rows) error {
		keys, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Key])
		for _, k := range keys {
			if v := versions[k]; v != nil {
				list = append(list, v)
			}
		}
		return err
	}, sqlSeen, rks)
	if err != nil {
		return nil, err
	}
	if list, _, err = tx.store.Narrowed(ctx, list); err != nil {
		return nil, err
	}
	seen := make(map[Key]*Version, len(list))
	for _, v := range list {
		seen[Key{v.Type, v.ID}] = v
	}
	return seen, nil
}

// Criteria fall into groups. A transaction holds the groups of its criteria shared and the criteria themselves; one
// with very many criteria holds all groups instead, since PostgreSQL has room for some thousand locks in all.
const (
	sqlLockCriteria = `SELECT pg_advisory_xact_lock(k) FROM unnest($1::bigint[]) AS k`
	sqlShareGroups  = `SELECT pg_advisory_xact_lock_shared(7261, g) FROM unnest($1::integer[]) AS g`
	sqlLockGroups   = `SELECT pg_advisory_xact_lock(7261, g) FROM generate_series(0, 63) AS g`

	criteriaGroups = 64
	maxCriteria    = 500
)

// LockCriteria makes transactions that work on the same search criteria run one after the other, so that parallel
// conditional creates make one resource. A transaction calls it once, with all its criteria.
func (tx *Tx) LockCriteria(ctx context.Context, criteria ...string) error {
	keys := make([]int64, len(criteria))
	for i, c := range criteria {
		keys[i] = tx.store.hash.Term(0, 'l', c, "")
	}
	keys = unique(keys)
	tx.begin()
	if len(keys) > maxCriteria {
		tx.exec(sqlLockGroups)
		return tx.flush(ctx)
	}
	groups := make([]int32, len(keys))
	for i, k := range keys {
		groups[i] = int32(uint64(k) % criteriaGroups)
	}
	slices.Sort(groups)
	tx.exec(sqlShareGroups, slices.Compact(groups))
	tx.exec(sqlLockCriteria, keys)
	return tx.flush(ctx)
}

// stamp writes id, versionId and lastUpdated into a resource and returns the version.
func (tx *Tx) stamp(p *Prepared, old *Version, method string) *Version {
	v := &Version{Type: p.Node.ResourceType(), ID: p.Node.ID(), Number: 1, LastUpdated: tx.now, Method: method, Compartments: p.row.compartments}
	if old != nil {
		v.Number = old.Number + 1
		if next := old.LastUpdated.Add(time.Millisecond); v.LastUpdated.Before(next) {
			v.LastUpdated = next // a version is never older than the one before, whatever the clocks say
		}
	}
	var meta fhir.Node
	if m := p.Node.Get("meta"); m != nil {
		meta = *m
		meta.Kids = slices.Clone(meta.Kids)
	}
	meta.Kind = fhir.Object
	meta.Set("versionId", fhir.Str(strconv.Itoa(v.Number)))
	meta.Set("lastUpdated", fhir.Str(fhir.FormatInstant(v.LastUpdated)))
	p.Node.Kids = slices.Clone(p.Node.Kids)
	p.Node.Set("meta", meta)
	v.Content = p.Node.JSON()
	return v
}

// Writes name the schema: on the way of a caller the plain names are those of views (migrations/0005_access.sql).
const sqlInsert = `
WITH r AS (
  INSERT INTO public.resource (rk, type, id, version, last_updated, method, content, literal, type_number, compartments, labels)
  VALUES ($1, $2, $3, 1, $4, $5, $6, $7, $8, $15, $16)),
c AS (
  INSERT INTO public.resource_change (last_updated, type, rk, version, compartments, labels) VALUES ($4, $8, $1, 1, $15, $16))
INSERT INTO public.search_index (rk, type, last_updated, patient, date_low, date_high, tokens, refs, generation, compartments, labels)
VALUES ($1, $8, $4, $9, $10, $11, $12, $13, $14, $15, $16)`

// Insert queues the first version of a resource that does not exist.
func (tx *Tx) Insert(p *Prepared, method string) *Version {
	tx.current(p)
	tx.announce(p.by.generation)
	v := tx.stamp(p, nil, method)
	low, high := mainDateColumns(p.row)
	tx.exec(sqlInsert, p.rk, v.Type, v.ID, v.LastUpdated, method[:1], v.Content, literalOf(p.Node, v.Content),
		p.row.typ, p.row.patient, low, high, p.row.tokens, p.row.refs, p.by.generation, p.row.compartments, p.row.labels)
	tx.sideRows(p, v.LastUpdated)
	tx.define(p, v)
	tx.accessRows(p, false)
	tx.lendsNew(method, p)
	tx.wrote(v, p.Node, ActivityCreate)
	return v
}

const sqlReplace = `
WITH h AS (
  INSERT INTO public.resource_history (rk, version, last_updated, method, content, literal, type_number, compartments, labels)
  SELECT rk, version, last_updated, method, content, literal, type_number, compartments, labels FROM public.resource WHERE rk = $1),
c AS (
  INSERT INTO public.resource_change (last_updated, type, rk, version, compartments, labels) VALUES ($3, $4, $1, $2, $8, $9))
UPDATE public.resource SET version = $2, last_updated = $3, method = $5, content = $6, literal = $7, compartments = $8, labels = $9
WHERE rk = $1`

// The version that a delete makes belongs to whom the last one belonged.
const sqlReplaceDeleted = `
WITH h AS (
  INSERT INTO public.resource_history (rk, version, last_updated, method, content, literal, type_number, compartments, labels)
  SELECT rk, version, last_updated, method, content, literal, type_number, compartments, labels FROM public.resource WHERE rk = $1),
c AS (
  INSERT INTO public.resource_change (last_updated, type, rk, version, compartments, labels)
  SELECT $3, $4, $1, $2, compartments, labels FROM public.resource WHERE rk = $1)
UPDATE public.resource SET version = $2, last_updated = $3, method = $5, content = NULL, literal = NULL WHERE rk = $1`

const sqlReindex = `
INSERT INTO public.search_index (rk, type, last_updated, patient, date_low, date_high, tokens, refs, generation, compartments, labels)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
ON CONFLICT (rk) DO UPDATE SET last_updated = EXCLUDED.last_updated, patient = EXCLUDED.patient,
  date_low = EXCLUDED.date_low, date_high = EXCLUDED.date_high, tokens = EXCLUDED.tokens, refs = EXCLUDED.refs,
  generation = EXCLUDED.generation, compartments = EXCLUDED.compartments, labels = EXCLUDED.labels`

// Replace queues the version after old, which the transaction must hold locked.
func (tx *Tx) Replace(p *Prepared, old *Version, method string) *Version {
	tx.current(p)
	tx.announce(p.by.generation)
	v := tx.stamp(p, old, method)
	tx.exec(sqlReplace, p.rk, v.Number, v.LastUpdated, p.row.typ, method[:1], v.Content, literalOf(p.Node, v.Content),
		p.row.compartments, p.row.labels)
	low, high := mainDateColumns(p.row)
	tx.exec(sqlReindex, p.rk, p.row.typ, v.LastUpdated, p.row.patient, low, high, p.row.tokens, p.row.refs, p.by.generation,
		p.row.compartments, p.row.labels)
	if !old.Deleted {
		tx.unindexSides(p.rk, old)
	}
	tx.sideRows(p, v.LastUpdated)
	tx.forget(v.Type, p.rk)
	tx.define(p, v)
	tx.accessRows(p, true)
	tx.lends(p, old)
	tx.wrote(v, p.Node, ActivityUpdate)
	return v
}

// Delete queues the version that says old, which the transaction must hold locked, is gone.
func (tx *Tx) Delete(old *Version) *Version {
	tx.announce(tx.store.indexer.Load().generation)
	v := &Version{Type: old.Type, ID: old.ID, Number: old.Number + 1, LastUpdated: tx.now, Deleted: true, Method: MethodDelete,
		Compartments: old.Compartments}
	if next := old.LastUpdated.Add(time.Millisecond); v.LastUpdated.Before(next) {
		v.LastUpdated = next
	}
	rk := tx.store.hash.Resource(old.Type, old.ID)
	number := tx.store.Registry().TypeNumber(old.Type)
	tx.exec(sqlReplaceDeleted, rk, v.Number, v.LastUpdated, number, MethodDelete[:1])
	tx.exec(sqlUnrelate, rk)
	tx.exec(sqlUnindex, rk) // first, to wait for a reindex that is writing side rows of this resource
	tx.unindexSides(rk, old)
	tx.forget(v.Type, rk)
	tx.wrote(v, nil, ActivityDelete)
	return v
}

const (
	sqlStrings     = `INSERT INTO public.search_string (param, value, rk) SELECT p, v, $1 FROM unnest($2::integer[], $3::text[]) AS u(p, v)`
	sqlIdentifiers = `INSERT INTO public.search_identifier (param, value, rk) SELECT p, v, $1 FROM unnest($2::integer[], $3::text[]) AS u(p, v)`
	sqlDates       = `INSERT INTO public.search_date (param, low, high, rk) SELECT p, l, h, $1
FROM unnest($2::integer[], $3::timestamptz[], $4::timestamptz[]) AS u(p, l, h)`
	sqlNumber = `INSERT INTO public.search_number (param, low, high, units, canonical, canonical_low, canonical_high, rk)
VALUES ($1, $2::text::numeric, $3::text::numeric, $4, $5, $6, $7, $8)`
	sqlComposite = `INSERT INTO public.search_composite
(param, tokens, value, date_low, date_high, low, high, canonical_low, canonical_high, low2, high2, rk)
VALUES ($1, $2, $3, $4, $5, $6::text::numeric, $7::text::numeric, $8, $9, $10::text::numeric, $11::text::numeric, $12)`
	sqlText  = `INSERT INTO public.search_text (rk, words, hashed) VALUES ($1, $2::text::tsvector, true)`
	sqlCodes = `INSERT INTO public.search_code (rk, date_low, term, value, patient, state)
SELECT $1::bigint, $2::timestamptz, unnest($3::bigint[]), $4::double precision, $5::bigint, NULL UNION ALL SELECT $1, $2, unnest($6::bigint[]), NULL, NULL, $7::text`
	sqlPosition  = `INSERT INTO public.search_position (rk, latitude, longitude) VALUES ($1, $2, $3)`
	sqlContained = `INSERT INTO public.search_contained (rk, container, id, type, last_updated, patient, date_low, date_high, tokens, refs)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`
	sqlShape = `INSERT INTO public.search_shape (marker, type, params) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`
)

// sideRows queues the rows of values, and those of contained resources. updated is the time of the container.
func (tx *Tx) sideRows(p *Prepared, updated time.Time) {
	tx.valueRows(p.rk, p.row)
	tx.declareDisplays(p)
	tx.declareLabels(p)
	tx.declareSortTexts(p)
	for _, c := range p.row.contained {
		low, high := mainDateColumns(c.row)
		tx.exec(sqlContained, c.rk, p.rk, c.id, c.row.typ, updated, c.row.patient, low, high, c.row.tokens, c.row.refs)
		tx.valueRows(c.rk, c.row)
	}
}

func (tx *Tx) valueRows(rk int64, row *indexRow) {
	if !tx.store.shapes.known(row.shapeMarker) && !slices.Contains(tx.newShapes, row.shapeMarker) {
		tx.exec(sqlShape, row.shapeMarker, row.typ, row.shape)
		tx.newShapes = append(tx.newShapes, row.shapeMarker)
	}
	if row.words != "" {
		tx.exec(sqlText, rk, row.words)
	}
	if row.position != nil {
		tx.exec(sqlPosition, rk, row.position.latitude, row.position.longitude)
	}
	if len(row.codes)+len(row.listed) > 0 {
		low, _ := mainDateColumns(row)
		tx.exec(sqlCodes, rk, low, row.codes, row.value, row.patient, row.listed, row.state)
	}
	if len(row.identifiers) > 0 {
		params, values := make([]int32, len(row.identifiers)), make([]string, len(row.identifiers))
		for i, e := range row.identifiers {
			params[i], values[i] = e.param, e.value
		}
		tx.exec(sqlIdentifiers, rk, params, values)
	}
	if len(row.stringParams) > 0 {
		tx.exec(sqlStrings, rk, row.stringParams, row.stringValues)
	}
	if len(row.dates) > 0 {
		params := make([]int32, len(row.dates))
		lows, highs := make([]pgtype.Timestamptz, len(row.dates)), make([]pgtype.Timestamptz, len(row.dates))
		for i, d := range row.dates {
			params[i], lows[i], highs[i] = d.param, timestamp(d.low), timestamp(d.high)
		}
		tx.exec(sqlDates, rk, params, lows, highs)
	}
	for _, n := range row.numbers {
		unit, low, high := n.canonical.columns()
		tx.exec(sqlNumber, n.param, n.low, n.high, n.units, unit, low, high, rk)
	}
	for _, c := range row.composites {
		tx.composite(c, rk)
	}
}

func (tx *Tx) composite(c compositeEntry, rk int64) {
	var dateLow, dateHigh pgtype.Timestamptz
	if c.date != nil {
		dateLow, dateHigh = timestamp(c.date.low), timestamp(c.date.high)
	}
	var low, high, low2, high2 *string
	var canonicalLow, canonicalHigh *float64
	tokens := c.tokens
	if len(c.numbers) > 0 {
		low, high = &c.numbers[0].low, &c.numbers[0].high
		var unit *int64
		if unit, canonicalLow, canonicalHigh = c.numbers[0].canonical.columns(); unit != nil {
			tokens = append(tokens, *unit)
		}
	}
	if len(c.numbers) > 1 {
		low2, high2 = &c.numbers[1].low, &c.numbers[1].high
	}
	tx.exec(sqlComposite, c.param, tokens, c.value, dateLow, dateHigh, low, high, canonicalLow, canonicalHigh, low2, high2, rk)
}

func (q *canonicalQuantity) columns() (unit *int64, low, high *float64) {
	if q == nil {
		return nil, nil, nil
	}
	return &q.unit, &q.low, &q.high
}

// timestamp is a time as PostgreSQL keeps it; the ends of open periods become infinity.
func timestamp(t time.Time) pgtype.Timestamptz {
	v := pgtype.Timestamptz{Time: t, Valid: true}
	switch {
	case !t.After(beginningOfTime):
		v.InfinityModifier = pgtype.NegativeInfinity
	case !t.Before(endOfTime):
		v.InfinityModifier = pgtype.Infinity
	}
	return v
}

func mainDateColumns(row *indexRow) (low, high pgtype.Timestamptz) {
	if row.dateHigh.IsZero() {
		return timestamp(beginningOfTime), timestamp(beginningOfTime)
	}
	return timestamp(row.dateLow), timestamp(row.dateHigh)
}

// literalOf returns the exact JSON of a resource with a number that jsonb would write otherwise: one with an exponent,
// or a negative zero. Others need no second copy.
func literalOf(n *fhir.Node, content []byte) *string {
	exact := true
	n.Walk(func(m *fhir.Node) bool {
		if m.Kind == fhir.Number && (strings.ContainsAny(m.Text, "eE") || m.Text[0] == '-' && strings.Trim(m.Text, "-0.") == "") {
			exact = false
		}
		return exact
	})
	if exact {
		return nil
	}
	s := string(content)
	return &s
}

// DeclareShapes makes sure that the shapes of resources about to be written are known, in a transaction of its own. It
// is for transactions that write many resources: inside of them, two that meet the same new shapes would wait for each
// other. A shape of a resource that is then not written does no harm.
func (s *Store) DeclareShapes(ctx context.Context, list ...*Prepared) error {
	if !slices.ContainsFunc(list, func(p *Prepared) bool { return slices.ContainsFunc(p.rows(), s.unknownMarkers) }) {
		return nil
	}
	return s.Write(asSystem(ctx), func(tx *Tx) error { tx.DeclareShapes(list...); return nil })
}

// DeclareShapes queues the shapes of resources about to be written, in one order for all transactions.
func (tx *Tx) DeclareShapes(list ...*Prepared) {
	fresh := map[int64]*indexRow{}
	for _, p := range list {
		for _, row := range p.rows() {
			if m := row.shapeMarker; !tx.store.shapes.known(m) && !slices.Contains(tx.newShapes, m) {
				fresh[m] = row
			}
		}
	}
	for _, marker := range slices.Sorted(maps.Keys(fresh)) {
		tx.exec(sqlShape, marker, fresh[marker].typ, fresh[marker].shape)
		tx.newShapes = append(tx.newShapes, marker)
	}
	tx.declareDisplays(list...)
	tx.declareLabels(list...)
	tx.declareSortTexts(list...)
}

// shapeCache remembers which shapes are surely in search_shape, or texts in search_sort_text.
type shapeCache struct {
	mu   sync.RWMutex
	seen map[int64]struct{}
}

const maxShapesCached = 100_000

func (c *shapeCache) known(marker int64) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	_, ok := c.seen[marker]
	return ok
}

func (c *shapeCache) remember(markers []int64) {
	if len(markers) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen == nil || len(c.seen) > maxShapesCached {
		c.seen = make(map[int64]struct{})
	}
	for _, m := range markers {
		c.seen[m] = struct{}{}
	}
}
