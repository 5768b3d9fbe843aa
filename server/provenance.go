package server

import (
	"net/http"

	"kiln/fhir"
	"kiln/resources"
)

// provenance reads the header X-Provenance: a Provenance in one line of JSON without a target, which the server fills in.
// nil where there is none. Spec: FHIR R4 provenance.html#6.3.4.6.
func (x *exchange) provenance(req *resources.Request) (*fhir.Node, error) {
	h := x.r.Header["X-Provenance"]
	if len(h) == 0 {
		return nil, nil
	}
	bad := func(text string) error {
		return fhir.NewError(fhir.Invalid, fhir.CodeInvalid, text).At("http.X-Provenance").Coded("bad-header")
	}
	switch {
	case len(h) > 1:
		return nil, bad("X-Provenance stands twice")
	case x.r.Method == http.MethodGet, x.r.Method == http.MethodHead, req.Interaction == resources.Batch,
		req.Interaction == resources.SearchType, req.Interaction == resources.SearchSystem:
		return nil, bad("X-Provenance is for a create, update, patch, delete or transaction; the entries of a batch have no header")
	}
	n, err := fhir.ParseJSON([]byte(h[0]))
	if err != nil {
		return nil, bad("X-Provenance must be a Provenance in JSON, in one line")
	}
	if n.ResourceType() != "Provenance" {
		return nil, bad("X-Provenance must be a Provenance, not " + quoteInput(n.ResourceType()))
	}
	if n.Get("target") != nil {
		return nil, bad("The server fills in the target of X-Provenance; leave it out")
	}
	return n, nil
}
