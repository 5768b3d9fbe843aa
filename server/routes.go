package server

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"kiln/fhir"
	"kiln/resources"
)

// action answers one method of one route. An error it returns is written as an OperationOutcome.
type action func(*exchange) error

// route is one path pattern. Its methods are kept here and not in gorilla/mux, which knows neither HEAD nor Allow.
type route struct {
	// pattern is the path with {placeholders}; logs and metrics name requests by it, never by the path itself.
	pattern string
	methods map[string]action
	// allow is what the Allow header says.
	allow []string
	// operation marks the routes of operations, whose methods their definitions tell.
	operation bool
	// probe marks what machines ask for and not FHIR clients: no content negotiation, and no line in the access log.
	probe bool
	// oauth marks what the authorization server answers by itself: endpoints and pages that are no FHIR. cross says that
	// scripts of other origins may use it.
	oauth, cross bool
	// proves marks routes whose GET reads through do, which sees to it that the access token is proven on the way.
	proves bool
	// page marks what is for browsers and no FHIR: no content negotiation and no token.
	page bool
	// public marks what is shown to everybody, so that nobody is asked for a token.
	public bool
	// signed marks what a client may also call with a JWT that it has signed for the address of the route.
	signed bool
}

// unmatched stands for every path that no route matches.
var unmatched = &route{pattern: "unmatched"}

// routes builds the one routing table. Order matters: the first pattern that matches wins, so fixed names stand before
// placeholders. Paths are matched as they were sent, percent-encoding and all, and never cleaned or redirected.
func (s *server) routes(registry *prometheus.Registry, published func(context.Context) (*resources.Publication, error)) http.Handler {
	router := mux.NewRouter().SkipClean(true).UseEncodedPath()
	add := func(pattern string, methods map[string]action) *route {
		rt := &route{pattern: pattern, methods: methods, allow: allowed(methods)}
		router.Handle(pattern, s.handle(rt))
		return rt
	}
	get := func(a action) map[string]action { return map[string]action{http.MethodGet: a} }

	add("/healthz", get((*exchange).health)).probe = true
	add("/readyz", get((*exchange).readiness)).probe = true
	exposition := promhttp.HandlerFor(registry, promhttp.HandlerOpts{DisableCompression: true})
	add("/metrics", get(func(x *exchange) error { exposition.ServeHTTP(x, x.r); return nil })).probe = true

	s.addOAuth(add)
	s.addSwagger(add)
	s.addPublication(add, published)
	s.addMessages(add)
	s.addHooks(add)
	for _, root := range []string{FHIRPath, FHIRPath + "/"} {
		add(root, map[string]action{http.MethodGet: (*exchange).searchSystem, http.MethodPost: (*exchange).bundle})
	}
	add(FHIRPath+"/metadata", get((*exchange).metadata)).public = true
	for _, at := range []string{"", "/{type}", "/{type}/{id}"} {
		add(FHIRPath+at+`/{operation:\$[^/]+}`, nil).operation = true
	}
	add(FHIRPath+"/_history", get((*exchange).historySystem)).proves = true
	// A search by GET may have _search too, as one by POST has to: HAPI FHIR's client has a style of that kind.
	search := func(pattern string, byGet, byPost action) {
		add(pattern, map[string]action{http.MethodGet: byGet, http.MethodPost: byPost}).proves = true
	}
	search(FHIRPath+"/_search", (*exchange).searchSystem, (*exchange).searchSystemForm)
	s.ofType = add(FHIRPath+"/{type}", map[string]action{
		http.MethodGet:    (*exchange).searchType,
		http.MethodPost:   (*exchange).create,
		http.MethodPut:    (*exchange).conditionalUpdate,
		http.MethodPatch:  (*exchange).conditionalPatch,
		http.MethodDelete: (*exchange).conditionalDelete,
	})
	s.ofType.proves = true
	add(FHIRPath+"/{type}/_history", get((*exchange).historyType)).proves = true
	search(FHIRPath+"/{type}/_search", (*exchange).searchType, (*exchange).searchTypeForm)
	s.instance = add(FHIRPath+"/{type}/{id}", map[string]action{
		http.MethodGet:    (*exchange).read,
		http.MethodPut:    (*exchange).update,
		http.MethodPatch:  (*exchange).patch,
		http.MethodDelete: (*exchange).delete,
	})
	s.instance.proves = true
	add(FHIRPath+"/{type}/{id}/_history", get((*exchange).historyInstance)).proves = true
	s.version = add(FHIRPath+"/{type}/{id}/_history/{version}", get((*exchange).vread))
	s.version.proves = true
	add(FHIRPath+"/{type}/{id}/{other}", get((*exchange).searchCompartment)).proves = true
	search(FHIRPath+"/{type}/{id}/{other}/_search", (*exchange).searchCompartment, (*exchange).searchCompartmentForm)
	router.NotFoundHandler = s.handle(unmatched)
	return router
}

func allowed(methods map[string]action) []string {
	var list []string
	for _, m := range []string{
		http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
	} {
		base := m
		if m == http.MethodHead {
			base = http.MethodGet
		}
		if methods[base] != nil {
			list = append(list, m)
		}
	}
	return append(list, http.MethodOptions)
}

// handle runs the action of the request's method and writes the error it returns, if any.
func (s *server) handle(rt *route) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		x := w.(*exchange)
		x.r, x.route = r, rt
		x.serve()
	}
}

// serve does what the route says and writes the error, if any.
func (x *exchange) serve() {
	if err := x.dispatch(); err != nil {
		x.fail(err)
	}
}

func (x *exchange) dispatch() error {
	if x.route == unmatched {
		_ = x.negotiate() // whatever the client accepts: nothing is here
	}
	if x.route.operation {
		return x.operation()
	}
	if op := operationName(x.r); op != "" && !x.route.page {
		return notFound("The operation " + op + " is not offered here")
	}
	if x.route == unmatched {
		return notFound("There is nothing at this path; the FHIR API is at " + x.s.base)
	}
	method := x.r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	if act := x.route.methods[method]; act != nil {
		if !x.route.probe && !x.route.oauth && !x.route.page {
			if err := x.negotiate(); err != nil {
				return err
			}
			if err := x.authenticate(); err != nil {
				return err
			}
		}
		return act(x)
	}
	if method == http.MethodOptions {
		return x.options()
	}
	return x.methodNotAllowed()
}

// options says which methods a path has.
func (x *exchange) options() error {
	x.header["Allow"] = []string{strings.Join(x.route.allow, ", ")}
	x.writeEmpty(http.StatusNoContent)
	return nil
}

func (x *exchange) methodNotAllowed() error {
	if !x.format.graphql {
		_ = x.negotiate() // only for the form of the refusal
	}
	e := fhir.NewError(fhir.MethodNotAllowed, fhir.CodeNotSupported,
		"This method does not work here; these do: "+strings.Join(x.route.allow, ", "))
	e.Allow = x.route.allow
	return e
}

// authenticate finds out who asks, except on public routes, and whether that is more often than they may.
func (x *exchange) authenticate() (err error) {
	switch {
	case x.route.public:
	case x.s.oauth != nil:
		x.principal, err = x.bearer()
	case x.s.authenticate != nil:
		x.principal, err = x.s.authenticate(x.r)
	}
	if x.s.pace != nil { // whoever shows a token that is not known counts too
		if early := x.s.pace.take(x.caller(), x.start); early != nil {
			return early
		}
	}
	return err
}

// operationName gives the path segment that names an operation ("$everything"), quoted for a message, or "". Those at
// places where operations can be have routes of their own.
func operationName(r *http.Request) string {
	path := r.URL.Path
	if !strings.HasPrefix(path, FHIRPath+"/") || !strings.Contains(path, "/$") {
		return ""
	}
	for part := range strings.SplitSeq(path, "/") {
		if strings.HasPrefix(part, "$") {
			return quoteInput(part)
		}
	}
	return ""
}

// notFound is for what the server does not offer at all, as opposed to a resource that is not there.
func notFound(text string) *fhir.Error {
	return fhir.NewError(fhir.NotFound, fhir.CodeNotSupported, text)
}

// direct finds the route of [base]/[type] and [base]/[type]/[id], which most requests are for, without the table: to try
// its patterns takes a tenth of a read. A path that could be anything else is left to the table.
func (x *exchange) direct() bool {
	rest, below := strings.CutPrefix(x.r.URL.Path, FHIRPath+"/")
	if !below || x.r.URL.RawPath != "" {
		return false
	}
	typ, id, hasID := strings.Cut(rest, "/")
	if !x.s.types[typ] || hasID && !fhir.ValidID(id) {
		return false
	}
	x.typ, x.logical, x.route = typ, id, x.s.ofType
	if hasID {
		x.route = x.s.instance
	}
	return true
}

// placeholder gives the path segment of a placeholder as it was sent, and whether the route has one.
func (x *exchange) placeholder(name string) (raw string, has bool) {
	if x.typ == "" {
		raw, has = mux.Vars(x.r)[name]
		return raw, has
	}
	switch name {
	case "type":
		return x.typ, true
	case "id":
		return x.logical, x.logical != ""
	}
	return "", false
}

// segment gives the decoded path segment of a placeholder.
func (x *exchange) segment(name string) string {
	raw, _ := x.placeholder(name)
	if strings.IndexByte(raw, '%') < 0 {
		return raw
	}
	decoded, err := url.PathUnescape(raw)
	if err != nil {
		return raw // net/http refuses such paths before we see them
	}
	return decoded
}

// knownType returns the resource type that a placeholder names. Errors: NotFound.
func (x *exchange) knownType(placeholder string) (string, error) {
	name := x.segment(placeholder)
	if x.s.types[name] {
		return name, nil
	}
	text := quoteInput(name) + " is not a resource type of FHIR R4"
	if near := nearest(name, x.s.typeNames); near != "" {
		text += "; did you mean " + near + "?"
	}
	return "", notFound(text)
}

// instance begins a request that addresses [type]/[id].
func (x *exchange) instance(do resources.Interaction) (req resources.Request, err error) {
	req.Interaction = do
	if req.Type, err = x.knownType("type"); err != nil {
		return req, err
	}
	if req.ID = x.segment("id"); !fhir.ValidID(req.ID) {
		return req, badID("id", req.ID)
	}
	req.Query, req.Lenient, req.TimeZone = x.query, x.prefer.lenient, x.prefer.zone
	return req, nil
}

// ofType begins a request that addresses [type].
func (x *exchange) ofType(do resources.Interaction) (req resources.Request, err error) {
	req = x.ofSystem(do)
	req.Type, err = x.knownType("type")
	return req, err
}

func (x *exchange) ofSystem(do resources.Interaction) resources.Request {
	return resources.Request{Interaction: do, Query: x.query, Lenient: x.prefer.lenient, TimeZone: x.prefer.zone}
}

func badID(what, got string) *fhir.Error {
	return fhir.NewError(fhir.Invalid, fhir.CodeValue, quoteInput(got)+" cannot be the "+what+
		" of a resource: 1 to 64 letters, digits, '-' and '.' are allowed").Coded("bad-id")
}

// compartment begins a search of [type]/[id]/[other].
func (x *exchange) compartment() (resources.Request, error) {
	at, err := x.instance(resources.SearchType)
	if err != nil {
		return at, err
	}
	req := x.ofSystem(resources.SearchSystem)
	if x.segment("other") != "*" {
		req.Interaction = resources.SearchType
		if req.Type, err = x.knownType("other"); err != nil {
			return req, err
		}
	}
	req.Compartment, req.CompartmentID = at.Type, at.ID
	return req, nil
}
