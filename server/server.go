package server

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"kiln/auth"
	"kiln/auth/oauth"
	"kiln/conformance"
	"kiln/fhir"
	"kiln/resources"
)

// Doer performs one interaction. resources.Service is the one that counts.
type Doer interface {
	Do(ctx context.Context, r resources.Request) (*resources.Response, error)
}

// Options are what New needs. Service and ResourceTypes are required; everything else has a sound zero value.
type Options struct {
	Service Doer
	// ResourceTypes are the names of all resource types on offer; any other {type} is 404.
	ResourceTypes []string
	// BaseURL is the public origin without a trailing slash, such as https://ehr.example.org. The FHIR base is
	// BaseURL + "/fhir", and every link in every answer begins with it.
	BaseURL string
	// Proxies are the networks of proxies whose X-Forwarded-For is believed.
	Proxies []netip.Prefix
	// Schema says how resources are written as XML; nil for that of FHIR R4 as published.
	Schema *fhir.Schema
	// Logger gets one line a request and one for each fault of ours; nil discards them.
	Logger *slog.Logger
	Limits Limits
	// Ready says whether the server can serve: nil for yes. It is asked by GET /readyz.
	Ready func(context.Context) error
	// Capabilities gives the CapabilityStatement as JSON and a tag that changes when it does (without quotes).
	Capabilities func() (json []byte, etag string)
	// Terminology gives the TerminologyCapabilities in the same way; nil for none.
	Terminology func(context.Context) (json []byte, etag string, err error)
	// Descriptions gives the OpenAPI documents for /swagger/ by name; nil offers no such page.
	Descriptions func(name string) ([]byte, bool)
	// Operations gives the definition of an operation by its code, at the system (no type, no id), at a type or at an
	// instance, or nil where it is not offered; the func nil offers none.
	Operations func(code, typ, id string) *conformance.Operation
	// Authenticate finds out who sends a request; nil leaves that to what the service takes a request without a Principal
	// for. It is not asked for what everybody may see, such as /metadata. Its errors are answered as they are.
	Authenticate func(*http.Request) (auth.Principal, error)
	// Published gives what everybody may know of free time; nil publishes nothing.
	Published func(context.Context) (*resources.Publication, error)
	// Advise answers a call of the hook appointment-book of CDS Hooks; nil offers no CDS services.
	Advise func(context.Context, auth.Principal, *fhir.Node) (*fhir.Node, error)
	// OAuth is the authorization server: its endpoints and pages are served too, and its access tokens are asked for in
	// place of Authenticate; nil for none.
	OAuth *oauth.Server
	// Outbox is what the page of messages shows; nil offers none.
	Outbox Outbox
	// Metrics is where the request metrics are registered and what GET /metrics shows; nil for a registry of its own.
	Metrics *prometheus.Registry
	// Now is the clock; nil for time.Now. NewID makes Bundle ids; nil for random UUIDs.
	Now   func() time.Time
	NewID func() string
}

// Limits bound what one request may take. A zero field means its default. docs/limits.md publishes them.
type Limits struct {
	// MaxBodyBytes bounds one resource, patch or form, MaxBundleBytes a batch or transaction. Both hold for the body as
	// sent and, when it is compressed, for what it unpacks to.
	MaxBodyBytes, MaxBundleBytes int64
	// BundlesAtOnce is how many batches and transactions are worked on at a time. Others wait with their bodies read:
	// what takes memory is the work, and a few at a time are done as soon as many at once. Its default is two for each
	// processor, eight at most.
	BundlesAtOnce int
	// RequestsPerMinute is how many requests one caller may send, on average; zero for no bound.
	RequestsPerMinute int
	// RequestTimeout and BundleTimeout are how long the work may take once the body is here.
	RequestTimeout, BundleTimeout time.Duration
	// BodyGrace is how long a client may take to send its body, and again to receive the answer, on top of a second for
	// each MinRate bytes.
	BodyGrace time.Duration
	MinRate   int64
	// GzipMinBytes is the size from which an answer is compressed for a client that accepts it; negative for never.
	GzipMinBytes int
}

func (l Limits) withDefaults() Limits {
	setDefault(&l.MaxBodyBytes, 16<<20)
	setDefault(&l.MaxBundleBytes, 100<<20)
	setDefault(&l.RequestTimeout, 30*time.Second)
	setDefault(&l.BundlesAtOnce, min(2*runtime.GOMAXPROCS(0), 8))
	setDefault(&l.BundleTimeout, 5*time.Minute)
	setDefault(&l.BodyGrace, 20*time.Second)
	setDefault(&l.MinRate, 16<<10)
	setDefault(&l.GzipMinBytes, 8<<10)
	return l
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// FHIRPath is where the FHIR API stands below the public origin.
const FHIRPath = "/fhir"

// server is what all requests share. Nothing in it changes after New.
type server struct {
	service      Doer
	advise       func(context.Context, auth.Principal, *fhir.Node) (*fhir.Node, error)
	refused      func(context.Context, resources.Request, error) error // notes what the service did not see; nil for nobody
	types        map[string]bool
	typeNames    []string
	schema       *fhir.Schema
	base         string // the FHIR base, absolute, without a trailing slash
	log          *slog.Logger
	limits       Limits
	bundles      chan struct{} // a place for each that is worked on
	pace         *pace
	ready        func(context.Context) error
	capabilities func() ([]byte, string)
	terminology  func(context.Context) ([]byte, string, error)
	operations   func(code, typ, id string) *conformance.Operation
	descriptions func(name string) ([]byte, bool)
	authenticate func(*http.Request) (auth.Principal, error)
	oauth        *oauth.Server
	outbox       Outbox
	proxies      []netip.Prefix
	secure       bool     // BaseURL is https
	crossPaths   []string // where oauth lets scripts of other origins in
	metrics      *metrics
	// ofType, instance and version are the routes of [base]/[type], [base]/[type]/[id] and one version of it.
	ofType, instance, version *route
	now                       func() time.Time
	newID                     func() string
}

// New makes the handler that serves everything: FHIR under /fhir, and /healthz, /readyz and /metrics beside it.
func New(o Options) http.Handler {
	s := &server{
		service:      o.Service,
		types:        make(map[string]bool, len(o.ResourceTypes)),
		typeNames:    o.ResourceTypes,
		schema:       o.Schema,
		base:         strings.TrimRight(o.BaseURL, "/") + FHIRPath,
		log:          o.Logger,
		limits:       o.Limits.withDefaults(),
		ready:        o.Ready,
		capabilities: o.Capabilities,
		terminology:  o.Terminology,
		operations:   o.Operations,
		advise:       o.Advise,
		descriptions: o.Descriptions,
		authenticate: o.Authenticate,
		oauth:        o.OAuth,
		outbox:       o.Outbox,
		proxies:      o.Proxies,
		secure:       strings.HasPrefix(o.BaseURL, "https://"),
		now:          o.Now,
		newID:        o.NewID,
	}
	if r, ok := o.Service.(refuser); ok {
		s.refused = r.Refused
	}
	s.bundles = make(chan struct{}, s.limits.BundlesAtOnce)
	s.pace = newPace(s.limits.RequestsPerMinute)
	for _, name := range o.ResourceTypes {
		s.types[name] = true
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.newID == nil {
		s.newID = uuid.NewString
	}
	if s.schema == nil {
		r4, err := conformance.R4()
		if err != nil {
			panic(err) // the embedded definitions are broken, which no release can be
		}
		s.schema = r4.Schema()
	}
	registry := o.Metrics
	if registry == nil {
		registry = prometheus.NewRegistry()
	}
	s.metrics = newMetrics(registry)
	return s.around(s.routes(registry, o.Published))
}

// maxHeaderBytes bounds the first line and the headers of a request. It is larger than the longest query, so that one
// that is too long is told so by whoever reads queries.
const maxHeaderBytes = 256 << 10

// Listener wraps handler, made by New, in an http.Server whose timeouts and header limit suit it. The time for bodies
// and answers is the handler's own business, since it depends on their size.
func Listener(handler http.Handler, log *slog.Logger) *http.Server {
	srv := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxHeaderBytes,
		BaseContext:       func(net.Listener) context.Context { return context.Background() },
	}
	if log != nil {
		srv.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelDebug)
	}
	return srv
}
