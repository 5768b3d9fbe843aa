package resources

import (
	"context"
	"time"

	"kiln/auth"
	"kiln/fhir"
	"kiln/storage"
)

// Interaction names what a request asks for, with the codes of http://hl7.org/fhir/restful-interaction.
type Interaction string

// The interactions.
const (
	Read            Interaction = "read"
	VRead           Interaction = "vread"
	Update          Interaction = "update"
	Patch           Interaction = "patch"
	Delete          Interaction = "delete"
	Create          Interaction = "create"
	SearchType      Interaction = "search-type"
	SearchSystem    Interaction = "search-system"
	HistoryInstance Interaction = "history-instance"
	HistoryType     Interaction = "history-type"
	HistorySystem   Interaction = "history-system"
	Transaction     Interaction = "transaction"
	Batch           Interaction = "batch"
)

// Request is one interaction, however it came in: as an HTTP request or as an entry of a Bundle.
type Request struct {
	// Principal is who asks. Nobody, the zero value, has the rights of Options.Anonymous: none, as a rule.
	Principal   auth.Principal
	Interaction Interaction
	// Type, ID and Version address a resource; each is "" where the interaction has none.
	Type, ID, Version string
	// Operation is the name of the operation to run, without the dollar sign.
	Operation string
	// Safe says that an operation was asked for by GET: it may change nothing.
	Safe bool
	// Query is the raw query string: search or history parameters, or the criteria of a conditional interaction.
	Query string
	// Compartment and CompartmentID restrict a search to a compartment ("Patient", "123"); "" for none.
	Compartment, CompartmentID string
	// Body is the decoded resource (create, update, batch, transaction), FHIRPath Patch (Parameters), or what an operation
	// takes.
	Body *fhir.Node
	// JSONPatch is the RFC 6902 document of a patch, instead of Body.
	JSONPatch []byte
	// IfMatch and IfNoneMatch are version ids without W/ and quotes, or "*", or "".
	IfMatch, IfNoneMatch string
	IfNoneExist          string
	IfModifiedSince      time.Time
	// Lenient is Prefer: handling=lenient.
	Lenient bool
	// TimeZone is Prefer: timezone: where the dates of a search that have no offset are read; "" for the server's.
	TimeZone string
	// Provenance is that of the header X-Provenance, without a target; nil for none.
	Provenance *fhir.Node
	// IdempotencyKey makes a create or transaction safe to repeat; "" for none.
	IdempotencyKey string
	// intent is what an operation is about to do with an appointment; nil where a client writes it.
	intent *intent
	// part is the place in a transaction; nil outside of one.
	part *part
}

// Response is what an interaction gives back; errors come beside it. The server alone turns it into an answer.
type Response struct {
	// Version is the resource read or written; nil where there is none (search, multiple delete).
	Version *storage.Version
	// Bundle is the answer of searches, histories, batches and transactions.
	Bundle *Bundle
	// Resource is the answer of an operation that is neither a stored version nor a Bundle.
	Resource *fhir.Node
	// Accepted says that the work goes on after the answer.
	Accepted bool
	// Created says that a resource began to exist (or exists again); NotModified that the caller's copy is current;
	// Unchanged that the write changed nothing and made no version.
	Created, NotModified, Unchanged bool
	// Deleted is how many resources a delete removed.
	Deleted int
	// Issues are warnings and information for the caller.
	Issues []fhir.Issue
	// Expires is when what the answer tells ends to hold; zero for never.
	Expires time.Time

	// touched are the versions that one request wrote where they are several, for the audit log.
	touched []*storage.Version
	// holds are the versions whose content is in Resource, for the audit log.
	holds []*storage.Version
	// existed says that Version was there before the request: nothing was written. attested is the Provenance that came with
	// the request, as it is stored.
	existed  bool
	attested *storage.Version
}

// Bundle is the answer of a search, history, batch or transaction, with its resources still as stored bytes.
type Bundle struct {
	Type    string // searchset, history, batch-response, transaction-response
	Total   *int64
	Links   []Link
	Entries []Entry
	// Issues, if any, become one OperationOutcome entry with search.mode outcome.
	Issues []fhir.Issue
}

// Link is a Bundle.link; URL is relative to the FHIR base ("Patient?name=x"), without a leading slash.
type Link struct{ Relation, URL string }

// Entry is one entry of a Bundle. Which fields are set depends on the Bundle's type.
type Entry struct {
	// Version is the resource, nil for none.
	Version *storage.Version
	// Mode is search.mode: match, include or outcome.
	Mode string
	// Score is search.score; zero for none. Grade is the match-grade beside it, or "".
	Score float64
	Grade string
	// Interaction, Response and Err are what a batch or transaction entry asked for and got.
	Interaction Interaction
	Response    *Response
	Err         error
	// asked is the request of an entry of a transaction, for the audit log.
	asked *Request
}

// Origin is where a request came from: its id (X-Request-Id), and the network address of the client.
type Origin struct{ RequestID, Address string }

type originKey struct{}

// WithOrigin makes a context that knows where the request came from that the work is done for.
func WithOrigin(ctx context.Context, o Origin) context.Context {
	return context.WithValue(ctx, originKey{}, o)
}

// RequestID is the id of the request that the work is done for, for logs and audit; "" where there is none.
func RequestID(ctx context.Context) string {
	o, _ := ctx.Value(originKey{}).(Origin)
	return o.RequestID
}

func clientAddress(ctx context.Context) string {
	o, _ := ctx.Value(originKey{}).(Origin)
	return o.Address
}
