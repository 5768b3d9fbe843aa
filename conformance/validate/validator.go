package validate

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"kiln/conformance"
	"kiln/fhir"
)

// DefaultMaxIssues is how many issues one resource gets where Options.MaxIssues is zero. It is published in
// docs/limits.md.
const DefaultMaxIssues = 100

// Options chooses what is checked beyond the structure. The zero value checks no invariants.
type Options struct {
	// Invariants evaluates the FHIRPath constraints of the base definitions. The rules that this package knows in Go
	// (native.go) are always checked.
	Invariants bool
	// BestPractice adds the constraints that R4 marks as best practice (dom-6: a resource should have a narrative),
	// as warnings.
	BestPractice bool
	// MaxIssues bounds the issues of one resource; 0 means DefaultMaxIssues.
	MaxIssues int
	// OnInvariantError is told when an invariant could not be evaluated; nil tells nobody. Such an invariant never
	// refuses a resource. It may be called by several goroutines at once.
	OnInvariantError func(key, resourceType string, err error)
}

// Validator checks resources. It is safe for concurrent use.
type Validator struct {
	options   Options
	registry  *conformance.Registry
	schema    *fhir.Schema
	plans     map[*fhir.Type]*lazyPlan
	resources map[string]*lazyPlan // concrete resource types by name
	isType    func(string) bool
	natives   map[string]func(*fhir.Node) bool // natives, except in the test that compares them with FHIRPath
	failed    atomic.Int64
}

// New makes a validator of the registry's types. Tables of a type are made when the first resource of it comes.
//
// Errors: the registry's schema has a type with more elements than a table can hold.
func New(reg *conformance.Registry, o Options) (*Validator, error) {
	schema := reg.Schema()
	v := &Validator{
		options:   o,
		registry:  reg,
		schema:    schema,
		natives:   natives,
		plans:     map[*fhir.Type]*lazyPlan{},
		resources: make(map[string]*lazyPlan, len(schema.Resources)),
	}
	v.options.MaxIssues = cmp.Or(o.MaxIssues, DefaultMaxIssues)
	v.isType = func(name string) bool { return v.resources[name] != nil }
	for _, name := range schema.Resources {
		if err := v.register(schema.Type(name)); err != nil {
			return nil, fmt.Errorf("validate: %w", err)
		}
		v.resources[name] = v.plans[schema.Type(name)]
	}
	return v, nil
}

// InvariantErrors counts the invariants that could not be evaluated since New.
func (v *Validator) InvariantErrors() int64 { return v.failed.Load() }

// Resource returns everything that is wrong with n, in document order: what is wrong with an object itself stands
// before what is wrong inside it. There are at most Options.MaxIssues and one more that counts the rest. A resource
// without issues, or with warnings only, is valid.
func (v *Validator) Resource(n *fhir.Node) []fhir.Issue {
	r := run{v: v}
	r.path = r.room[:0]
	r.root = "Resource"
	if t := n.ResourceType(); v.isType(t) {
		r.root = t
	}
	r.resource(n)
	if r.more > 0 {
		severity := fhir.SeverityWarning
		if r.moreErrors {
			severity = fhir.SeverityError
		}
		r.issues = append(r.issues, fhir.Issue{
			Severity: severity, Code: fhir.CodeTooLong, Detail: "more-issues",
			Text: fmt.Sprintf("There are %d more issues that are not listed", r.more),
		})
	}
	return r.issues
}

// Valid says whether none of the issues is an error.
func Valid(issues []fhir.Issue) bool {
	for i := range issues {
		if s := issues[i].Severity; s == fhir.SeverityError || s == fhir.SeverityFatal {
			return false
		}
	}
	return true
}

// run is the state of one validation.
type run struct {
	v      *Validator
	root   string
	path   []segment
	room   [24]segment // the usual path needs no allocation
	issues []fhir.Issue
	more   int // issues beyond MaxIssues
	// moreErrors says that one of them at least is an error.
	moreErrors bool
	frame      *frame // of the resource that the walk is in
}

// segment is one step of the path: an element's name, with the index of an item or -1.
type segment struct {
	name  string
	index int
}

func (r *run) push(name string) { r.path = append(r.path, segment{name, -1}) }
func (r *run) pop()             { r.path = r.path[:len(r.path)-1] }
func (r *run) item(i int)       { r.path[len(r.path)-1].index = i }

// here writes the path in FHIRPath. Choice elements have no type in it: OperationOutcome.issue.expression takes
// element names and indexes only.
func (r *run) here() string {
	var b strings.Builder
	b.WriteString(r.root)
	for _, s := range r.path {
		b.WriteByte('.')
		b.WriteString(s.name)
		if s.index >= 0 {
			b.WriteByte('[')
			b.WriteString(strconv.Itoa(s.index))
			b.WriteByte(']')
		}
	}
	return b.String()
}

// full says whether no more issues are kept; then nobody need write their texts.
func (r *run) full() bool { return len(r.issues) >= r.v.options.MaxIssues }

// fail adds an error at the path. Its text is only made when the issue is kept.
func (r *run) fail(code, detail, format string, args ...any) {
	r.add(len(r.issues), fhir.SeverityError, code, detail, format, args...)
}

// add puts an issue before those found since at, so that an object's own issues precede those inside it.
func (r *run) add(at int, severity, code, detail, format string, args ...any) {
	limit := r.v.options.MaxIssues
	if severity == fhir.SeverityError && r.full() {
		at = r.makeRoom(at)
	}
	if at >= limit {
		r.unlisted(severity)
		return
	}
	issue := fhir.Issue{
		Severity: severity, Code: code, Detail: detail,
		Text: fmt.Sprintf(format, args...), Expression: []string{r.here()},
	}
	if len(r.issues) == limit {
		r.unlisted(r.issues[limit-1].Severity)
		r.issues = r.issues[:limit-1]
	}
	r.issues = append(r.issues, fhir.Issue{})
	copy(r.issues[at+1:], r.issues[at:])
	r.issues[at] = issue
}

// makeRoom drops the last warning for an error that is to stand at a place, and returns where that is then: an error is not
// left out for warnings.
func (r *run) makeRoom(at int) int {
	for i := len(r.issues) - 1; i >= 0; i-- {
		if r.issues[i].Severity != fhir.SeverityError {
			r.issues = slices.Delete(r.issues, i, i+1)
			r.more++
			if i < at {
				at--
			}
			break
		}
	}
	return at
}

// unlisted counts an issue that is not kept.
func (r *run) unlisted(severity string) {
	r.more++
	r.moreErrors = r.moreErrors || severity == fhir.SeverityError
}

// quote shows a value of the caller's in a message, shortened.
func quote(s string) string {
	const longest = 60
	if len(s) > longest {
		s = strings.ToValidUTF8(s[:longest], "") + "…"
	}
	return strconv.Quote(s)
}
