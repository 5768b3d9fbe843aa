package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"kiln/fhir"
)

// statusOf is the only table from the kind of an error to an HTTP status.
//
// NotSupported is 400: it speaks of a parameter or of a Bundle entry. What is not offered at a path of its own never
// reaches the service and is NotFound with the code not-supported (FHIR R4 http.html#Status-Codes).
var statusOf = [...]int{
	fhir.Internal:         http.StatusInternalServerError,
	fhir.Invalid:          http.StatusBadRequest,
	fhir.Unprocessable:    http.StatusUnprocessableEntity,
	fhir.NotFound:         http.StatusNotFound,
	fhir.Gone:             http.StatusGone,
	fhir.Unauthenticated:  http.StatusUnauthorized,
	fhir.Forbidden:        http.StatusForbidden,
	fhir.Conflict:         http.StatusConflict,
	fhir.Precondition:     http.StatusPreconditionFailed,
	fhir.BusinessRule:     http.StatusUnprocessableEntity,
	fhir.NotSupported:     http.StatusBadRequest,
	fhir.MethodNotAllowed: http.StatusMethodNotAllowed,
	fhir.NotAcceptable:    http.StatusNotAcceptable,
	fhir.UnsupportedMedia: http.StatusUnsupportedMediaType,
	fhir.TooLarge:         http.StatusRequestEntityTooLarge,
	fhir.TooCostly:        http.StatusUnprocessableEntity,
	fhir.Throttled:        http.StatusTooManyRequests,
	fhir.Transient:        http.StatusServiceUnavailable,
}

// levelNotReady is the level of the line that says why /readyz says no.
const levelNotReady = slog.LevelWarn

// errSlowBody marks a body that did not arrive in time: 408, the one status that has no kind of its own.
var errSlowBody = errors.New("server: body deadline exceeded")

// verdict is what a client is told of an error.
type verdict struct {
	status     int
	issues     []fhir.Issue
	retryAfter time.Duration
	allow      []string
}

// fail answers with the OperationOutcome of err.
func (x *exchange) fail(err error) {
	if x.status != 0 { // the answer has begun: nothing to do but to cut the connection
		x.s.log.LogAttrs(context.Background(), slog.LevelWarn, "answer cut off",
			slog.String("request_id", x.id), slog.String("route", x.route.pattern), causes(err))
		panic(http.ErrAbortHandler)
	}
	x.noteRefusal(err)
	x.writeOutcome(x.judge(err))
}

// judge turns any error into a verdict, and logs what is a fault of ours under an id that the client is told too.
func (x *exchange) judge(err error) verdict {
	var e *fhir.Error
	known := errors.As(err, &e)
	switch {
	case known && e.Kind != fhir.Internal && int(e.Kind) < len(statusOf) && len(e.Issues) > 0:
		v := verdict{status: statusOf[e.Kind], issues: e.Issues, retryAfter: e.RetryAfter, allow: e.Allow}
		if errors.Is(err, errSlowBody) {
			v.status = http.StatusRequestTimeout
		}
		if e.Kind == fhir.Transient || e.Kind == fhir.Throttled {
			v.retryAfter = max(v.retryAfter, time.Second)
		}
		return v
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return verdict{
			status:     http.StatusServiceUnavailable,
			retryAfter: time.Second,
			issues: []fhir.Issue{{
				Severity: fhir.SeverityError, Code: fhir.CodeTransient, Detail: "timeout",
				Text: "The work took too long and was given up; nothing was changed. Try again, or ask for less at once",
			}},
		}
	}
	id := newErrorID()
	x.s.log.LogAttrs(context.Background(), slog.LevelError, "internal error",
		slog.String("error_id", id), slog.String("request_id", x.id), slog.String("route", x.route.pattern), causes(err))
	return internalVerdict(id)
}

func internalVerdict(id string) verdict {
	return verdict{status: http.StatusInternalServerError, issues: []fhir.Issue{{
		Severity: fhir.SeverityFatal, Code: fhir.CodeException,
		Text: "Something went wrong on our side; tell support the id " + id,
	}}}
}

// writeOutcome is how every error leaves the server.
func (x *exchange) writeOutcome(v verdict) {
	h := x.header
	for _, name := range []string{"Etag", "Last-Modified"} {
		if v.status != http.StatusGone {
			delete(h, name)
		}
	}
	switch v.status {
	case http.StatusUnauthorized:
		if len(h["Www-Authenticate"]) == 0 {
			h.Set("WWW-Authenticate", `Bearer realm="`+x.s.base+`"`)
		}
	case http.StatusForbidden:
		if x.s.oauth != nil {
			h.Set("WWW-Authenticate", `Bearer realm="`+x.s.base+`", error="insufficient_scope"`)
		}
	case http.StatusMethodNotAllowed:
		h.Set("Allow", strings.Join(v.allow, ", "))
	case http.StatusRequestEntityTooLarge, http.StatusRequestTimeout:
		h.Set("Connection", "close") // the rest of the body is not going to be read
	}
	if v.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int((v.retryAfter+time.Second-1)/time.Second)))
	}
	outcome := fhir.OperationOutcome(v.issues...)
	if x.format.graphql {
		outcome = graphqlErrors(v.issues)
	}
	if err := x.writeNode(v.status, &outcome); err != nil {
		panic(http.ErrAbortHandler)
	}
}

// statusLine is a status as Bundle.entry.response.status has it: "201 Created".
func statusLine(status int) string { return strconv.Itoa(status) + " " + http.StatusText(status) }

// causes tells the chain of errors beneath err for the log. Of our own errors it gives the kind and the codes and not
// the texts, which may quote what the client sent.
func causes(err error) slog.Attr {
	var chain []string
	var walk func(error)
	walk = func(err error) {
		if err == nil || len(chain) >= 12 {
			return
		}
		if e, ok := err.(*fhir.Error); ok {
			text := fmt.Sprintf("fhir.Error kind %d", e.Kind)
			for _, issue := range e.Issues {
				text += " " + issue.Code + "/" + issue.Detail
			}
			chain = append(chain, text)
			walk(e.Unwrap())
			return
		}
		var under *fhir.Error
		if errors.As(err, &under) {
			// The text of a wrapper repeats ours: name the wrapper by its type and go on below.
			chain = append(chain, fmt.Sprintf("%T", err))
		} else if text := err.Error(); !slices.ContainsFunc(chain, func(c string) bool { return strings.HasSuffix(c, text) }) {
			chain = append(chain, text)
		}
		switch u := err.(type) {
		case interface{ Unwrap() error }:
			walk(u.Unwrap())
		case interface{ Unwrap() []error }:
			for _, each := range u.Unwrap() {
				walk(each)
			}
		}
	}
	walk(err)
	return slog.Any("causes", chain)
}

// quoteInput repeats a piece of the client's input in a message: cut to a length a person reads, control characters
// escaped.
func quoteInput(s string) string {
	if len(s) > 64 {
		s = s[:64] + "…"
	}
	return strconv.Quote(s)
}

// nearest gives the name that word was probably meant to be, or "".
func nearest(word string, names []string) string {
	best, bound := "", 3
	if len(word) > 64 {
		return ""
	}
	for _, name := range names {
		if strings.EqualFold(word, name) {
			return name
		}
		if d := distance(strings.ToLower(word), strings.ToLower(name), bound); d < bound && d*3 < len(name) {
			best, bound = name, d
		}
	}
	return best
}

// distance is the Levenshtein distance of a and b, or bound where it is at least that.
func distance(a, b string, bound int) int {
	if len(a)-len(b) >= bound || len(b)-len(a) >= bound {
		return bound
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			diagonal = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return min(row[len(b)], bound)
}
