package storage

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"kiln/fhir"
)

// translate turns an error of PostgreSQL or of the way to it into one of ours. It is the only place that knows
// SQLSTATE and constraint names; what the database said goes to the log, never to the caller.
func translate(err error) error {
	if err == nil {
		return nil
	}
	var ours *fhir.Error
	if errors.As(err, &ours) || errors.Is(err, context.Canceled) {
		return err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return transient("The request took longer than it may and was given up; nothing was changed. Try again, or ask for less at once.", err)
	}
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		var network net.Error
		var connect *pgconn.ConnectError
		if dead(err) || errors.As(err, &network) || errors.As(err, &connect) {
			return unavailable(err)
		}
		return err
	}
	switch pg.Code {
	case "40001", "40P01", "55P03": // serialization, deadlock, lock not available
		return transient("Others are writing the same resources at the same time; try again.", err)
	case "57014": // statement timeout or cancel
		return tooLong(err)
	case "22003", "22P02", "22P05", "22021": // number out of range, bad text, untranslatable or invalid character
		return fhir.NewError(fhir.Invalid, fhir.CodeValue, "A value cannot be stored: a number is out of range or a character is not allowed.").Because(err)
	case "54000": // an index entry that is too large
		return fhir.NewError(fhir.Invalid, fhir.CodeTooLong, "A value is too long to be indexed.").Because(err)
	}
	if pg.Code == "23505" && pg.ConstraintName == "search_parameter_code" {
		return fhir.NewError(fhir.Unprocessable, fhir.CodeDuplicate,
			"Another SearchParameter defines this code for the same base.").At("SearchParameter.code").Because(err)
	}
	switch pg.Code[:2] {
	case "08", "53", "57", "58": // connection, resources, shutdown, disk
		return unavailable(err)
	}
	return err
}

func tooLong(cause error) *fhir.Error {
	return fhir.NewError(fhir.TooCostly, fhir.CodeTooCostly,
		"The query would take longer than this server allows; narrow it, for instance by patient, code or date.").Because(cause)
}

func transient(text string, cause error) *fhir.Error {
	e := fhir.NewError(fhir.Transient, fhir.CodeTransient, text).Because(cause)
	e.RetryAfter = time.Second
	return e
}

func unavailable(cause error) *fhir.Error {
	return transient("The database is not reachable at the moment; try again.", cause)
}

// uncertain is for a connection that broke while a transaction was ending.
func uncertain(cause error) *fhir.Error {
	return transient("The connection to the database broke while the change was being stored, so it may be stored or not. "+
		"Look before you try again; a request with an Idempotency-Key can be sent again as it is.", cause)
}

// shown says whether a transaction failed because its time lies below what a history has shown meanwhile.
func shown(err error) bool { return hasCode(err, "KN002") }

// outdated says whether a transaction failed because this server has not heard of new search parameters yet.
func outdated(err error) bool { return hasCode(err, "KN001") }

func hasCode(err error, code string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == code
}
