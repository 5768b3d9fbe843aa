package storage

import (
	"context"
	"slices"
	"strconv"

	"kiln/fhir"
)

// This file keeps what a transaction writes of patients' records and of calendars, so that a Provenance tells of each version
// who made it. The audit worker makes them (audit_chain.go), of entries that are written with the versions.

// Written is one kind of change to resources of the same patients, for a Provenance.
type Written struct {
	// Activity is a code of v3-DataOperation: CREATE, UPDATE or DELETE.
	Activity string `json:"a"`
	// Targets are the versions, such as Observation/1/_history/2; none stands for Target and Version of the entry.
	Targets []string `json:"g,omitempty"`
	// Reason is the code that was given as the reason, as system|code.
	Reason string `json:"y,omitempty"`
	// Compartments are the row keys of the patients: those of the entry.
	Compartments []int64 `json:"-"`
}

// The activities of http://terminology.hl7.org/CodeSystem/v3-DataOperation.
const (
	ActivityCreate = "CREATE"
	ActivityUpdate = "UPDATE"
	ActivityDelete = "DELETE"
)

// maxTargets is how many versions one Provenance tells of.
const maxTargets = 100

// attested says whether a Provenance tells of each version of a type: it belongs to patients, or to calendars.
func (ix *Indexer) attested(typ string) bool {
	switch typ {
	case "Provenance", "AuditEvent":
		return false
	case "Schedule", "Slot":
		return true
	}
	return ix.ofPatients(typ)
}

// wrote notes a version that the transaction writes. n is its content, nil for a deletion.
func (tx *Tx) wrote(v *Version, n *fhir.Node, activity string) {
	if tx.unlisted {
		return
	}
	if v.Type == "Provenance" && n != nil {
		if tx.testified == nil {
			tx.testified = map[string]bool{}
		}
		for target := range n.Get("target").Items() {
			if ref, ok := tx.store.indexer.Load().parseReference(target.GetText("reference")); ok && ref.Base == "" {
				tx.testified[ref.Type+"/"+ref.ID] = true
			}
		}
	}
	if tx.store.indexer.Load().attested(v.Type) {
		tx.written = append(tx.written, writtenVersion{v, activity})
	}
}

type writtenVersion struct {
	*Version
	activity string
}

// Derived says that the last version written follows from the others: nobody has to testify of it.
func (tx *Tx) Derived(v *Version) {
	if n := len(tx.written); n > 0 && tx.written[n-1].Version == v {
		tx.written = tx.written[:n-1]
	}
}

// Because says why a resource is written, as system|code.
func (tx *Tx) Because(reference, code string) {
	if tx.reasons == nil {
		tx.reasons = map[string]string{}
	}
	tx.reasons[reference] = code
}

// Written is what the transaction has written since it was asked last, and what no Provenance of its own tells of: the
// changes of one kind to resources of the same patients together, in the order in which they came.
func (tx *Tx) Written() (list []Written) {
	for _, v := range tx.written {
		name := v.Type + "/" + v.ID
		if tx.testified[name] {
			continue
		}
		i := slices.IndexFunc(list, func(w Written) bool {
			return w.Activity == v.activity && w.Reason == tx.reasons[name] && len(w.Targets) < maxTargets && slices.Equal(w.Compartments, v.Compartments)
		})
		if i < 0 {
			i = len(list)
			list = append(list, Written{Activity: v.activity, Reason: tx.reasons[name], Compartments: v.Compartments})
		}
		list[i].Targets = append(list[i].Targets, name+"/_history/"+strconv.Itoa(v.Number))
	}
	tx.written = nil
	return list
}

// testify writes the Provenances of entries. They belong to whom their targets belong by now.
func (tx *Tx) testify(ctx context.Context, list []*AuditEntry, provenances func(*AuditEntry) []*fhir.Node) error {
	var prepared []*Prepared
	for _, e := range list {
		if len(e.Written) == 0 {
			continue
		}
		for _, n := range provenances(e) {
			p, err := tx.store.Prepare(n)
			if err != nil {
				return err
			}
			p.row.words = "" // as of an AuditEvent
			prepared = append(prepared, p)
		}
	}
	if len(prepared) == 0 {
		return nil
	}
	if err := tx.Inherit(ctx, prepared...); err != nil {
		return err
	}
	tx.unlisted = false
	_, err := tx.InsertAll(ctx, prepared, MethodCreate)
	return err
}
