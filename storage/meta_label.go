package storage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"kiln/fhir"
)

// MetaLabel is a profile, a security label or a tag that resources of a type have, or had.
type MetaLabel struct {
	Type string
	// Kind is profile, security or tag.
	Kind string
	// System and Code are those of a Coding; a profile is a Code without a System.
	System, Code string
}

// labelEntry is a row of meta_label, with the number of its type.
type labelEntry struct {
	typ                int16
	kind, system, code string
	digest             []byte
}

// marker stands for the entry in the memory of what the database surely has.
func (e *labelEntry) marker() int64 { return int64(binary.LittleEndian.Uint64(e.digest)) }

// metaLabels adds what the meta of a resource has.
func (row *indexRow) metaLabels(n *fhir.Node) {
	meta := n.Get("meta")
	if meta == nil {
		return
	}
	add := func(kind, system, code string) {
		if code == "" {
			return
		}
		digest := sha256.Sum256([]byte(strings.Join([]string{strconv.Itoa(int(row.typ)), kind, system, code}, "\x1f")))
		row.marks = append(row.marks, labelEntry{row.typ, kind, system, code, digest[:]})
	}
	for p := range meta.Get("profile").Items() {
		if p.Kind == fhir.String {
			add("profile", "", p.Text)
		}
	}
	for _, kind := range []string{"security", "tag"} {
		for coding := range meta.Get(kind).Items() {
			add(kind, coding.GetText("system"), coding.GetText("code"))
		}
	}
}

const sqlMetaLabels = `INSERT INTO public.meta_label (digest, type, kind, system, code)
SELECT d, t, k, s, c FROM unnest($1::bytea[], $2::smallint[], $3::text[], $4::text[], $5::text[]) AS u(d, t, k, s, c) ON CONFLICT DO NOTHING`

// declareLabels queues the labels of resources about to be written, in one order for all transactions.
func (tx *Tx) declareLabels(list ...*Prepared) {
	var fresh []labelEntry
	for _, p := range list {
		for _, e := range p.row.marks {
			if !tx.store.shapes.known(e.marker()) && !slices.Contains(tx.newShapes, e.marker()) {
				fresh = append(fresh, e)
			}
		}
	}
	if len(fresh) == 0 {
		return
	}
	slices.SortFunc(fresh, func(a, b labelEntry) int { return bytes.Compare(a.digest, b.digest) })
	fresh = slices.CompactFunc(fresh, func(a, b labelEntry) bool { return bytes.Equal(a.digest, b.digest) })
	var digests [][]byte
	var types []int16
	var kinds, systems, codes []string
	for _, e := range fresh {
		digests, types = append(digests, e.digest), append(types, e.typ)
		kinds, systems, codes = append(kinds, e.kind), append(systems, e.system), append(codes, e.code)
		tx.newShapes = append(tx.newShapes, e.marker())
	}
	tx.exec(sqlMetaLabels, digests, types, kinds, systems, codes)
}

const sqlReadLabels = `SELECT type, kind, system, code FROM public.meta_label WHERE type = ANY($1) ORDER BY kind, system, code, type LIMIT $2`

// MetaLabels are up to limit labels that resources of some types have or had, in the order of kind, system and code. They are
// of all resources, also of those that a caller may not see: it takes a search to find out whether the caller may know of one.
func (s *Store) MetaLabels(ctx context.Context, types []string, limit int) (list []MetaLabel, err error) {
	numbers := make([]int16, len(types))
	names := map[int16]string{}
	for i, t := range types {
		numbers[i] = s.Registry().TypeNumber(t)
		names[numbers[i]] = t
	}
	rows, err := reader{s.pool}.Query(ctx, sqlReadLabels, numbers, limit)
	if err != nil {
		return nil, translate(err)
	}
	var l MetaLabel
	var number int16
	_, err = pgx.ForEachRow(rows, []any{&number, &l.Kind, &l.System, &l.Code}, func() error {
		l.Type = names[number]
		list = append(list, l)
		return nil
	})
	return list, translate(err)
}
