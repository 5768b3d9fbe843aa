package resources

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"kiln/auth"
	"kiln/conformance"
	"kiln/fhir"
	"kiln/resources/coverage"
	"kiln/resources/message"
	"kiln/resources/records"
	"kiln/storage"
)

// Options are what a Service needs. Store and Registry are required.
type Options struct {
	Store    *storage.Store
	Registry *conformance.Registry
	// Base is the FHIR base URL, such as https://ehr.example.org/fhir: references and Bundle entries below it are ours.
	Base string
	// Validate returns the findings on a resource whose JSON is readable; nil finds nothing.
	Validate func(*fhir.Node) []fhir.Issue
	// Advise is Validate with warnings for what FHIR calls best practice, as $validate tells them; nil is Validate. Writes do
	// not: few resources have a narrative, and each would be told so.
	Advise func(*fhir.Node) []fhir.Issue
	// Lenient stores what is not valid, and tells the faults as warnings. Active content is refused nevertheless.
	Lenient bool
	// MultipleDelete lets a conditional delete remove several resources.
	MultipleDelete bool
	// NewID makes ids for new resources; nil for UUIDs of version 7, whose order is that of their making.
	NewID func() string
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// Anonymous is who asks where a request does not say; the zero value is nobody, who may do nothing. KILN_AUTH=off and
	// commands such as import make it an operator.
	Anonymous auth.Principal
	// Payers are adapters beside those that are always there (coverage.AdapterLocal, AdapterSandbox), by name.
	Payers map[string]coverage.Payer
	// PayerTimeout is how long a payer has to answer; zero is DefaultPayerTimeout.
	PayerTimeout time.Duration
	// PayerTurns is how many questions one payer is asked at a time; zero is coverage.DefaultTurns.
	PayerTurns int
	// Keep says how long rows are kept that only the server needs; Answers does not count, and zero fields mean the defaults.
	Keep storage.Retention
	// Audit keeps the log of what every request did: docs/audit.md.
	Audit bool
	// ForeignAudit lets AuditEvents of others be stored, for import. Otherwise nobody writes any but the server.
	ForeignAudit bool
	Limits       Limits
	// Messages is how people are told of what happens; nil tells nobody, as in an import.
	Messages *Messages
}

// Limits bound what one request may ask for. A zero field means its default. docs/limits.md publishes them.
type Limits struct {
	// MaxBundleEntries is how many entries a batch or transaction may have: 25,000.
	MaxBundleEntries int
	// MaxResourceBytes bounds one resource as stored: 16 MiB.
	MaxResourceBytes int
	// DefaultPageSize and MaxPageSize are what _count is when it is not given, and at most: 20 and 1000.
	DefaultPageSize, MaxPageSize int
	// EverythingPageSize is what _count of $everything is when it is not given: 200. MaxPageSize bounds it, too.
	EverythingPageSize int
	// MaxIncluded is how many resources _include and _revinclude add to one page: 1000.
	MaxIncluded int
	// MaxBatchBytes bounds the resources in the answer to a batch or transaction: 256 MiB. What comes after is not done.
	MaxBatchBytes int
	// MaxQueriedBytes bounds the resources that one GraphQL query looks at: 64 MiB.
	MaxQueriedBytes int
	// MaxConditionalMatches is how many resources a conditional delete may remove: 1000.
	MaxConditionalMatches int
}

func (l Limits) withDefaults() Limits {
	for _, d := range []struct {
		field *int
		value int
	}{
		{&l.MaxBundleEntries, 25_000}, {&l.MaxResourceBytes, 16 << 20},
		{&l.DefaultPageSize, 20}, {&l.MaxPageSize, 1000}, {&l.EverythingPageSize, 200}, {&l.MaxIncluded, 1000},
		{&l.MaxBatchBytes, 256 << 20}, {&l.MaxQueriedBytes, 64 << 20}, {&l.MaxConditionalMatches, 1000},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	return l
}

// Service performs interactions. It is safe for concurrent use.
type Service struct {
	store    *storage.Store
	registry *conformance.Registry
	options  Options
	limits   Limits
	// rules are those of resource types that ask more of their writes than a valid resource.
	rules map[string]rule
	// lives are the lifecycles of medical records, by type.
	lives map[string]*records.Lifecycle
	// operations are those on offer, by code.
	operations []*operation
	payers     map[string]coverage.Payer
	turns      *coverage.Turns
	rights     rightsCache
	refusals   refusals
	asked      atomic.Int64 // how many requests there have been
	worker     auditWorker
	// observer and place are the server and its address, the same wherever an AuditEvent names them.
	observer, place fhir.Node
}

// New makes a Service. It fails when a definition of an operation on offer cannot be read.
func New(o Options) (*Service, error) {
	if o.NewID == nil {
		o.NewID = func() string { return uuid.Must(uuid.NewV7()).String() }
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.PayerTimeout == 0 {
		o.PayerTimeout = DefaultPayerTimeout
	}
	if o.Advise == nil {
		o.Advise = o.Validate
	}
	o.Base = strings.TrimSuffix(o.Base, "/")
	s := &Service{store: o.Store, registry: o.Registry, options: o, limits: o.Limits.withDefaults(), place: network(o.Base, networkURI)}
	s.observer = fhir.Obj(fhir.Obj(fhir.Str("urn:ietf:rfc:3986").As("system"), fhir.Str(o.Base).As("value")).As("identifier"), fhir.Str("Kiln").As("display"))
	s.worker.hurry = make(chan struct{}, 1)
	s.rules = map[string]rule{
		searchParameterType:     {follow: s.defineParameters},
		structureDefinitionType: {follow: s.defineProfile},
		"Subscription":          {allow: s.allowSubscription, follow: s.followSubscription},
		"Appointment":           {allow: s.allowAppointment, follow: s.followAppointment},
		"Binary":                {allow: s.allowBinary},
		"AppointmentResponse":   {allow: s.allowResponse, follow: s.followResponse},
		"HealthcareService":     {allow: s.allowService, follow: s.followService},
		"Location":              {follow: s.followActor},
		"Patient":               {allow: s.allowPatient},
		"PractitionerRole":      {follow: s.followActor},
		"Schedule":              {allow: s.allowSchedule},
		"Slot":                  {allow: s.allowSlot},

		"Coverage":                    {follow: s.followCoverage},
		"CoverageEligibilityRequest":  {allow: s.allowEligibilityRequest, follow: s.followEligibilityRequest},
		"CoverageEligibilityResponse": {follow: s.followEligibilityResponse},
		"Task":                        {follow: s.followTask},
		auditEventType:                {allow: s.allowAuditEvent},
	}
	s.payers = map[string]coverage.Payer{coverage.AdapterLocal: localPayer{s}, coverage.AdapterSandbox: coverage.Sandbox{}}
	maps.Copy(s.payers, o.Payers)
	s.turns = coverage.NewTurns(cmp.Or(o.PayerTurns, coverage.DefaultTurns), o.Now)
	s.recordRules()
	if err := s.loadOperations(); err != nil {
		return nil, err
	}
	if o.Messages != nil {
		var err error
		if o.Messages.texts, err = message.Load(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Do performs one interaction. Request.Body is the service's from here on: it may change it.
//
// Beside the error Gone it still returns a Response, with the version that the delete made.
func (s *Service) Do(ctx context.Context, r Request) (*Response, error) { return s.audited(ctx, &r) }

// perform is Do without the audit log. It changes the Principal of who, and nothing else.
func (s *Service) perform(ctx context.Context, who *Request) (*Response, error) {
	if who.Type != "" && !s.isType(who.Type) {
		return nil, s.unknownType(who.Type)
	}
	ctx, err := s.identified(ctx, &who.Principal)
	if err != nil {
		return nil, err
	}
	r := *who
	if ctx, err = authorize(ctx, &r); err != nil {
		return nil, err
	}
	if err := s.auditEventsAreOurs(&r); err != nil {
		return nil, err
	}
	if err := s.breakGlass(ctx, &r); err != nil {
		return nil, err
	}
	ctx, withheld, err := s.suppressible(ctx, &r)
	if err != nil {
		return nil, err
	}
	resp, err := s.interact(ctx, r)
	if err == nil {
		err = s.suppressed(ctx, withheld, resp)
	}
	return s.alone(ctx, resp, err)
}

// interact does what a request asks for that may be done.
func (s *Service) interact(ctx context.Context, r Request) (*Response, error) {
	if err := s.awaitDefinition(ctx, &r); err != nil {
		return nil, err
	}
	switch r.Interaction {
	case Read:
		return s.read(ctx, nil, r)
	case VRead:
		return s.vread(ctx, nil, r)
	case Create:
		return s.create(ctx, r)
	case Update:
		return s.update(ctx, r)
	case Patch:
		return s.patch(ctx, r)
	case Delete:
		return s.delete(ctx, r)
	case HistoryInstance, HistoryType, HistorySystem:
		return s.history(ctx, nil, r)
	case SearchType, SearchSystem:
		return s.search(ctx, r)
	case Transaction, Batch:
		return s.bundle(ctx, r)
	case Operate:
		return s.operate(ctx, r)
	}
	return nil, fhir.NewError(fhir.NotSupported, fhir.CodeNotSupported, "This interaction is not offered")
}

func (s *Service) now() time.Time { return s.options.Now() }

// isType says whether name is a resource type that has instances.
func (s *Service) isType(name string) bool {
	_, found := slices.BinarySearch(s.registry.Schema().Resources, name)
	return found
}

func (s *Service) unknownType(name string) *fhir.Error {
	return fhir.NewError(fhir.NotFound, fhir.CodeNotSupported, quote(name)+" is not a resource type of FHIR R4")
}
