package fhir

import (
	"errors"
	"strings"
	"time"
)

// Kind is why something failed. The set is closed; server/outcome.go is the only place that turns a Kind into an HTTP
// status.
type Kind uint8

// The kinds of failure.
const (
	Internal         Kind = iota // a fault of ours; the zero value, so that a forgotten kind is never a polite answer
	Invalid                      // the input cannot be read or is not valid FHIR: 400
	Unprocessable                // readable, but breaks a rule of a profile or of the resource type: 422
	NotFound                     // 404
	Gone                         // deleted: 410
	Unauthenticated              // 401
	Forbidden                    // 403
	Conflict                     // 409
	Precondition                 // If-Match and its relatives, or a criterion that matches several: 412
	BusinessRule                 // 422
	NotSupported                 // an interaction, type or parameter that is not offered: 404 or 400
	MethodNotAllowed             // 405
	NotAcceptable                // 406
	UnsupportedMedia             // 415
	TooLarge                     // 413
	TooCostly                    // the query would cost too much: 422
	Throttled                    // 429
	Transient                    // try again: 503
)

// Severities of an issue, from http://hl7.org/fhir/issue-severity.
const (
	SeverityFatal       = "fatal"
	SeverityError       = "error"
	SeverityWarning     = "warning"
	SeverityInformation = "information"
)

// Issue codes from http://hl7.org/fhir/issue-type.
const (
	CodeInvalid         = "invalid"
	CodeStructure       = "structure"
	CodeRequired        = "required"
	CodeValue           = "value"
	CodeInvariant       = "invariant"
	CodeSecurity        = "security"
	CodeLogin           = "login"
	CodeUnknown         = "unknown"
	CodeExpired         = "expired"
	CodeForbidden       = "forbidden"
	CodeSuppressed      = "suppressed"
	CodeProcessing      = "processing"
	CodeNotSupported    = "not-supported"
	CodeDuplicate       = "duplicate"
	CodeMultipleMatches = "multiple-matches"
	CodeNotFound        = "not-found"
	CodeDeleted         = "deleted"
	CodeTooLong         = "too-long"
	CodeCodeInvalid     = "code-invalid"
	CodeExtension       = "extension"
	CodeTooCostly       = "too-costly"
	CodeBusinessRule    = "business-rule"
	CodeIncomplete      = "incomplete"
	CodeConflict        = "conflict"
	CodeTransient       = "transient"
	CodeThrottled       = "throttled"
	CodeException       = "exception"
	CodeInformational   = "informational"
)

// Issue is one finding, as OperationOutcome.issue tells it.
type Issue struct {
	Severity string
	Code     string // from issue-type
	// Detail is our stable machine code ("slot-taken"), or an invariant's key ("pat-1"); may be empty.
	Detail string
	// Text is a sentence that the caller can act on. It never holds SQL, secrets or another patient's data.
	Text string
	// Expression points at the elements concerned, in FHIRPath.
	Expression []string
	// Alternatives are resources that the caller could ask for instead, each with an id: they become contained.
	Alternatives []Node `json:"-"`
}

// Error is how everything fails in Kiln: a kind, and the issues that the caller is told.
type Error struct {
	Kind   Kind
	Issues []Issue
	// RetryAfter asks the caller to wait; zero says nothing.
	RetryAfter time.Duration
	// Allow lists the methods that would work, for MethodNotAllowed.
	Allow []string
	cause error
}

// Error gives the issues' texts; it never includes the cause.
func (e *Error) Error() string {
	texts := make([]string, len(e.Issues))
	for i, issue := range e.Issues {
		texts[i] = issue.Text
	}
	return strings.Join(texts, "; ")
}

// Unwrap returns what went wrong beneath, for the log.
func (e *Error) Unwrap() error { return e.cause }

// Because records the error beneath, for the log only.
func (e *Error) Because(cause error) *Error { e.cause = cause; return e }

// At sets the expression of every issue that has none.
func (e *Error) At(expression ...string) *Error {
	for i := range e.Issues {
		if e.Issues[i].Expression == nil {
			e.Issues[i].Expression = expression
		}
	}
	return e
}

// Coded sets the stable machine code of the first issue.
func (e *Error) Coded(detail string) *Error { e.Issues[0].Detail = detail; return e }

// NewError makes an error with one issue of severity error.
func NewError(kind Kind, code, text string) *Error {
	return &Error{Kind: kind, Issues: []Issue{{Severity: SeverityError, Code: code, Text: text}}}
}

// KindOf returns the kind of the first *Error in err's chain, or Internal.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}

// OperationOutcome makes the resource that tells issues. With none it says that all is well.
func OperationOutcome(issues ...Issue) Node {
	if len(issues) == 0 {
		issues = []Issue{{Severity: SeverityInformation, Code: CodeInformational, Text: "All OK"}}
	}
	list := make([]Node, len(issues))
	var contained []Node
	for i, issue := range issues {
		n := Obj(Str(issue.Severity).As("severity"), Str(issue.Code).As("code"))
		details := Obj()
		if issue.Detail != "" {
			details.Set("coding", Arr(Obj(Str(IssueCodeSystem).As("system"), Str(issue.Detail).As("code"))))
		}
		if issue.Text != "" {
			details.Set("text", Str(issue.Text))
		}
		if len(details.Kids) > 0 {
			n.Set("details", details)
		}
		if issue.Text != "" {
			n.Set("diagnostics", Str(issue.Text))
		}
		if len(issue.Expression) > 0 {
			exprs := make([]Node, len(issue.Expression))
			for j, x := range issue.Expression {
				exprs[j] = Str(x)
			}
			n.Set("expression", Arr(exprs...))
		}
		if len(issue.Alternatives) > 0 {
			refs := make([]Node, len(issue.Alternatives))
			for j, a := range issue.Alternatives {
				refs[j] = Obj(Str(AlternativeExtension).As("url"), Obj(Str("#"+a.ID()).As("reference")).As("valueReference"))
			}
			n.SetFirst("extension", Arr(refs...))
			contained = append(contained, issue.Alternatives...)
		}
		list[i] = n
	}
	outcome := Obj(Str("OperationOutcome").As("resourceType"))
	if len(contained) > 0 {
		outcome.Set("contained", Arr(contained...))
	}
	outcome.Set("issue", Arr(list...))
	return outcome
}

// CanonicalBase begins the URL of every definition that is Kiln's own. The name is reserved until the project owns a
// domain.
const CanonicalBase = "https://kiln.example/fhir/"

// AlternativeExtension refers from an issue to a contained resource that could be asked for instead.
const AlternativeExtension = CanonicalBase + "StructureDefinition/alternative"

// HeldUntilExtension says on an Appointment that its time is only held, and until when.
const HeldUntilExtension = CanonicalBase + "StructureDefinition/held-until"

// ChangeReasonExtension says why a signed record was changed or retracted, OverrideReasonExtension why a prescription goes on
// although something speaks against it.
const (
	ChangeReasonExtension   = CanonicalBase + "StructureDefinition/change-reason"
	OverrideReasonExtension = CanonicalBase + "StructureDefinition/override-reason"
)

// IssueCodeSystem is the code system of Issue.Detail.
const IssueCodeSystem = CanonicalBase + "CodeSystem/issue"
