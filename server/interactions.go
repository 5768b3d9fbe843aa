package server

import (
	"context"
	"errors"
	"net/http"
	"time"

	"kiln/fhir"
	"kiln/resources"
	"kiln/storage"
)

// The actions of the FHIR routes: each fills a resources.Request from the path, the headers and the body, in that
// order, and hands it on. Spec: FHIR R4 http.html.

func (x *exchange) read() error {
	req, err := x.instance(resources.Read)
	if err == nil {
		err = x.readConditions(&req)
	}
	if err != nil {
		return err
	}
	return x.do(req)
}

func (x *exchange) vread() error {
	req, err := x.instance(resources.VRead)
	if err != nil {
		return err
	}
	if req.Version = x.segment("version"); !fhir.ValidID(req.Version) {
		return badID("version", req.Version)
	}
	if err := x.readConditions(&req); err != nil {
		return err
	}
	return x.do(req)
}

func (x *exchange) create() error {
	req, err := x.ofType(resources.Create)
	if err == nil {
		err = x.createConditions(&req)
	}
	if err == nil {
		req.Body, err = x.readResource(req.Type, req.ID)
	}
	if err != nil {
		return err
	}
	return x.do(req)
}

func (x *exchange) update() error {
	req, err := x.instance(resources.Update)
	if err == nil {
		err = x.writeConditions(&req)
	}
	if err == nil {
		req.Body, err = x.readResource(req.Type, req.ID)
	}
	if err == nil {
		err = checkBodyID(req.Body, req.ID)
	}
	if err != nil {
		return err
	}
	return x.do(req)
}

func (x *exchange) conditionalUpdate() error {
	req, err := x.conditional(resources.Update)
	if err == nil {
		req.Body, err = x.readResource(req.Type, req.ID)
	}
	if err != nil {
		return err
	}
	return x.do(req)
}

func (x *exchange) patch() error {
	req, err := x.instance(resources.Patch)
	if err == nil {
		err = x.writeConditions(&req)
	}
	if err == nil {
		err = x.readPatch(&req)
	}
	if err != nil {
		return err
	}
	return x.do(req)
}

func (x *exchange) conditionalPatch() error {
	req, err := x.conditional(resources.Patch)
	if err == nil {
		err = x.readPatch(&req)
	}
	if err != nil {
		return err
	}
	return x.do(req)
}

func (x *exchange) delete() error {
	req, err := x.instance(resources.Delete)
	if err == nil {
		err = x.writeConditions(&req)
	}
	if err != nil {
		return err
	}
	return x.do(req)
}

func (x *exchange) conditionalDelete() error {
	req, err := x.conditional(resources.Delete)
	if err != nil {
		return err
	}
	return x.do(req)
}

// conditional begins an update, patch or delete by criteria. Without criteria it is refused here: it would mean every
// resource of the type.
func (x *exchange) conditional(do resources.Interaction) (resources.Request, error) {
	req, err := x.ofType(do)
	if err == nil {
		err = x.writeConditions(&req)
	}
	if err == nil && req.Query == "" {
		err = fhir.NewError(fhir.Invalid, fhir.CodeRequired, "Without an id in the path, "+x.r.Method+
			" needs search criteria in the query, such as "+req.Type+"?identifier=system|value").Coded("criteria-missing")
	}
	return req, err
}

func (x *exchange) historyInstance() error {
	req, err := x.instance(resources.HistoryInstance)
	if err != nil {
		return err
	}
	return x.do(req)
}

func (x *exchange) historyType() error {
	req, err := x.ofType(resources.HistoryType)
	if err != nil {
		return err
	}
	return x.do(req)
}

func (x *exchange) historySystem() error { return x.do(x.ofSystem(resources.HistorySystem)) }

func (x *exchange) searchType() error {
	req, err := x.ofType(resources.SearchType)
	if err != nil {
		return err
	}
	return x.do(req)
}

func (x *exchange) searchTypeForm() error {
	req, err := x.ofType(resources.SearchType)
	if err != nil {
		return err
	}
	return x.doForm(req)
}

func (x *exchange) searchSystem() error { return x.do(x.ofSystem(resources.SearchSystem)) }

func (x *exchange) searchSystemForm() error { return x.doForm(x.ofSystem(resources.SearchSystem)) }

func (x *exchange) searchCompartment() error {
	req, err := x.compartment()
	if err != nil {
		return err
	}
	return x.do(req)
}

func (x *exchange) searchCompartmentForm() error {
	req, err := x.compartment()
	if err != nil {
		return err
	}
	return x.doForm(req)
}

// doForm runs a search whose parameters stand in the URL, in the form of the body, or in both.
func (x *exchange) doForm(req resources.Request) (err error) {
	if req.Query, err = x.readForm(); err != nil {
		return err
	}
	return x.do(req)
}

// bundle runs a batch or transaction.
func (x *exchange) bundle() error {
	key, err := x.idempotencyKey()
	if err != nil {
		return err
	}
	body, kind, err := x.readBundle()
	if err != nil {
		return err
	}
	req := x.ofSystem(kind)
	req.Body, req.IdempotencyKey = body, key
	return x.do(req)
}

// takeTurn waits until there is room for another batch or transaction to be worked on. finish gives the room back.
//
// Errors: Transient where there was none in time.
func (x *exchange) takeTurn() error {
	ctx, cancel := x.context(x.s.limits.BundleTimeout)
	defer cancel()
	select {
	case x.s.bundles <- struct{}{}:
		x.turn = true
		return nil
	case <-ctx.Done():
		return fhir.NewError(fhir.Transient, fhir.CodeTransient, "Too many batches and transactions are being worked on; try again").
			Because(ctx.Err())
	}
}

// do has the service perform req within the time limit and writes what comes of it.
func (x *exchange) do(req resources.Request) error {
	limit := x.s.limits.RequestTimeout
	if req.Interaction == resources.Batch || req.Interaction == resources.Transaction {
		limit = x.s.limits.BundleTimeout
	}
	ctx, cancel := x.context(limit)
	defer cancel()
	glass, err := x.breakGlass()
	if err != nil {
		return err
	}
	if req.Provenance, err = x.provenance(&req); err != nil {
		return err
	}
	req.Principal = x.principal
	req.Principal.BreakGlass = glass
	x.noted = true
	if x.proof != nil {
		ctx = storage.WithProof(ctx, x.proof)
	}
	resp, err := x.s.service.Do(ctx, req)
	if glass != nil && !glass.Expires.IsZero() {
		x.header["X-Break-Glass-Expires"] = []string{fhir.FormatInstant(glass.Expires)}
	}
	if err = x.proven(err); err != nil {
		if resp != nil && resp.Version != nil {
			x.versionHeaders(resp.Version) // a 410 still tells which version the delete made
		}
		return err
	}
	return x.respond(&req, resp)
}

// context is what the work on the request runs under: it ends with the time limit or when the client leaves, and knows
// the request's id.
func (x *exchange) context(limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(x.origin(x.r.Context()), limit)
}

// metadata gives the CapabilityStatement, or with mode=terminology the TerminologyCapabilities.
// Spec: FHIR R4 http.html#capabilities.
func (x *exchange) metadata() error {
	if x.s.capabilities == nil {
		return notFound("This server has no CapabilityStatement")
	}
	content, tag := []byte(nil), ""
	switch mode := x.r.URL.Query().Get("mode"); mode {
	case "", "full", "normative":
		content, tag = x.s.capabilities()
	case "terminology":
		if x.s.terminology == nil {
			return notFound("This server has no TerminologyCapabilities")
		}
		ctx, cancel := x.context(x.s.limits.RequestTimeout)
		defer cancel()
		var err error
		if content, tag, err = x.s.terminology(ctx); err != nil {
			return err
		}
	default:
		return fhir.NewError(fhir.Invalid, fhir.CodeValue, "mode is full, normative or terminology, not "+quoteInput(mode)).At("http.mode")
	}
	if tag != "" {
		x.header["Etag"] = []string{`W/"` + tag + `"`}
		if tagListHas(x.r.Header.Get("If-None-Match"), tag) {
			x.writeEmpty(http.StatusNotModified)
			return nil
		}
	}
	return x.writeResource(http.StatusOK, content)
}

// health says that the process is alive. It asks nothing else, so that a slow database never gets the process killed.
func (x *exchange) health() error {
	x.writePlain(http.StatusOK, "ok\n")
	return nil
}

// readiness says whether requests would be served. The reason for a no goes to the log, not to the caller.
func (x *exchange) readiness() error {
	if x.s.ready == nil {
		x.writePlain(http.StatusOK, "ready\n")
		return nil
	}
	ctx, cancel := context.WithTimeout(x.r.Context(), 5*time.Second)
	defer cancel()
	if err := x.s.ready(ctx); err != nil {
		if !errors.Is(err, context.Canceled) {
			x.s.log.LogAttrs(ctx, levelNotReady, "not ready", causes(err))
		}
		x.writePlain(http.StatusServiceUnavailable, "not ready\n")
		return nil
	}
	x.writePlain(http.StatusOK, "ready\n")
	return nil
}
