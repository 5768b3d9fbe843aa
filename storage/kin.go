package storage

import (
	"context"
	"errors"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"

	"kiln/fhir"
)

// Kin is a reference from a record to something that is about the same patient.
type Kin struct {
	// Patient is whose the record is, Parent what it refers to, At the element that does.
	Patient, Parent Key
	At              string
}

const (
	sqlSamePatient = `SELECT same_patient($1::bigint[], $2::bigint[], $3::boolean[])`
	// maxKin is how many references one statement looks at.
	maxKin = 5000
)

// kinship is what a transaction has to find true when it ends.
type kinship struct {
	list   []Kin
	strict []bool
	access *Access
}

// Kin makes the transaction fail when one of the references leads to another patient's resource. It is looked at when all
// is written, with the eyes of the caller: what the caller cannot see is as good as missing, and missing is an error for
// who may not see everything.
func (tx *Tx) Kin(ctx context.Context, list ...Kin) error {
	if len(list) == 0 {
		return nil
	}
	a, err := tx.store.access(ctx)
	if err != nil {
		return err
	}
	tx.kin.access = a
	for _, k := range list {
		tx.kin.list = append(tx.kin.list, k)
		tx.kin.strict = append(tx.kin.strict, !tx.store.Whole(ctx, k.Parent.Type))
	}
	return nil
}

// queueKin queues the look at the references.
func (tx *Tx) queueKin() error {
	k := &tx.kin
	if len(k.list) == 0 {
		return nil
	}
	if tx.guarded {
		if err := tx.as(k.access); err != nil {
			return err
		}
	}
	parents, patients := make([]int64, len(k.list)), make([]int64, len(k.list))
	for i, x := range k.list {
		parents[i] = tx.store.hash.Resource(x.Parent.Type, x.Parent.ID)
		patients[i] = tx.store.hash.Resource(x.Patient.Type, x.Patient.ID)
	}
	for at := 0; at < len(parents); at += maxKin {
		end := min(len(parents), at+maxKin)
		tx.queue.Queue(sqlSamePatient, parents[at:end], patients[at:end], k.strict[at:end])
	}
	return nil
}

// astray makes an error of what same_patient found, or gives err back.
func (tx *Tx) astray(err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Code != "KN003" {
		return err
	}
	e := fhir.NewError(fhir.BusinessRule, fhir.CodeBusinessRule, "A record refers to something that is not there, or not about its patient").
		Coded("subject-mismatch").Because(err)
	if n, bad := strconv.Atoi(pg.Message); bad == nil && len(tx.kin.list) <= maxKin && n >= 1 && n <= len(tx.kin.list) {
		k := tx.kin.list[n-1]
		e.Issues[0].Text = "This refers to " + k.Parent.Type + "/" + k.Parent.ID + ", which is not there, or not about the patient whom the record is about"
		e.At(k.At)
	}
	return e
}
