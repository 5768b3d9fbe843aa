package server

import (
	"net/http"

	"kiln/fhir"
	"kiln/resources"
)

// The CDS services are beside the FHIR API and not in it: their bodies are JSON of CDS Hooks. Refusals are OperationOutcomes, as
// everywhere. Spec: CDS Hooks 2.0.

const (
	cdsPath     = "/cds-services"
	cdsBookPath = cdsPath + "/" + resources.HookBook
)

// addHooks serves the discovery of CDS services, to everybody, and the one for the hook appointment-book.
func (s *server) addHooks(add func(string, map[string]action) *route) {
	if s.advise == nil {
		return
	}
	add(cdsPath, map[string]action{http.MethodGet: (*exchange).cdsServices}).public = true
	add(cdsBookPath, map[string]action{http.MethodPost: (*exchange).cdsBook}).signed = true
	s.crossPaths = append(s.crossPaths, cdsPath, cdsBookPath)
}

// cdsServices tells which services there are. None wants anything prefetched: what they look at is here.
func (x *exchange) cdsServices() error {
	service := fhir.Obj(fhir.Str(resources.HookBook).As("hook"), fhir.Str("Coverage before booking").As("title"),
		fhir.Str("Says of visits that are about to be booked here whether a coverage of the patient pays for them. It books nothing and stores nothing.").As("description"),
		fhir.Str(resources.HookBook).As("id"))
	services := fhir.Obj(fhir.Arr(service).As("services"))
	return x.writeBody(http.StatusOK, plainJSON, services.JSON())
}

// cdsBook answers a call of the hook appointment-book.
func (x *exchange) cdsBook() error {
	if got, _ := parseContentType(x.r.Header.Get("Content-Type")); got != bodyFHIR {
		return fhir.NewError(fhir.UnsupportedMedia, fhir.CodeNotSupported, "A call of a CDS service is application/json in UTF-8")
	}
	n, err := x.readNode(x.s.limits.MaxBodyBytes)
	if err != nil {
		return err
	}
	ctx, cancel := x.context(x.s.limits.RequestTimeout)
	defer cancel()
	x.noted = true
	answer, err := x.s.advise(ctx, x.principal, n)
	if err != nil {
		return err
	}
	return x.writeBody(http.StatusOK, plainJSON, answer.JSON())
}
