package storage

import (
	"kiln/fhir"
	"kiln/fhir/path"
)

// containedRow is what search_contained and the tables of values hold of a resource inside another one.
type containedRow struct {
	rk  int64
	id  string
	row *indexRow
}

// frame is what local references within a resource (#id, and # alone) lead to.
type frame struct {
	rk    int64 // of the container
	typ   string
	local map[string]target
}

type target struct {
	rk  int64
	typ string
}

// frameOf is the frame of a resource of its own. Of several contained resources with one id the first counts.
func (ix *Indexer) frameOf(n *fhir.Node, rk int64) *frame {
	f := &frame{rk: rk, typ: n.ResourceType()}
	for kid := range n.Get("contained").Items() {
		typ, id := kid.ResourceType(), kid.ID()
		if id == "" || !ix.isResource(typ) {
			continue
		}
		if f.local == nil {
			f.local = map[string]target{}
		}
		if _, taken := f.local[id]; !taken {
			f.local[id] = target{ix.containedKey(typ, f.typ, n.ID(), id), typ}
		}
	}
	return f
}

// containedKey is the row key of a contained resource. No id has the mark in it, so it is that of no other resource.
func (ix *Indexer) containedKey(typ, containerType, containerID, id string) int64 {
	return ix.hash.Resource(typ, containerType+"/"+containerID+"#"+id)
}

// local is what a local reference leads to.
func (f *frame) target(ref fhir.Reference) (target, bool) {
	switch {
	case f == nil:
		return target{}, false
	case ref.Container:
		return target{f.rk, f.typ}, true
	}
	t, ok := f.local[ref.Fragment]
	return t, ok
}

// contained extracts the contained resources.
func (ix *Indexer) contained(n *fhir.Node, root path.Element, f *frame) (list []containedRow, err error) {
	done := map[int64]bool{}
	for kid := range n.Get("contained").Items() {
		t, ok := f.local[kid.ID()]
		if !ok || done[t.rk] || t.typ != kid.ResourceType() {
			continue
		}
		done[t.rk] = true
		row, err := ix.extract(kid, t.rk, root, f, worded)
		if err != nil {
			return nil, err
		}
		row.codes, row.listed = nil, nil // search_code counts resources of their own
		list = append(list, containedRow{t.rk, kid.ID(), ix.finish(row)})
	}
	return list, nil
}

// rows are all that is extracted from the resource: its own first.
func (p *Prepared) rows() []*indexRow {
	list := append(make([]*indexRow, 0, 1+len(p.row.contained)), p.row)
	for _, c := range p.row.contained {
		list = append(list, c.row)
	}
	return list
}
