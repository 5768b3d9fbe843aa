package server

import (
	"net/http"
	"strings"

	"kiln/conformance"
	"kiln/fhir"
	"kiln/resources"
)

// operation runs /$name, /[type]/$name or /[type]/[id]/$name. Which there are, and with which methods, the service's
// definitions say: GET only for what changes nothing. Spec: FHIR R4 operations.html#request.
func (x *exchange) operation() error {
	negotiate, body := x.negotiate, x.operationBody
	if x.segment("operation") == "$"+graphqlOperation {
		negotiate, body = x.negotiateGraphQL, x.graphqlBody
	}
	if err := negotiate(); err != nil {
		return err
	}
	req := x.ofSystem(resources.Operate)
	req.Operation = strings.TrimPrefix(x.segment("operation"), "$")
	var err error
	if x.segment("type") != "" {
		if req.Type, err = x.knownType("type"); err != nil {
			return err
		}
	}
	if req.ID = x.segment("id"); req.ID != "" && !fhir.ValidID(req.ID) {
		return badID("id", req.ID)
	}
	if x.s.operations == nil {
		return notFound("The operation " + quoteInput("$"+req.Operation) + " is not offered here")
	}
	if definition := x.s.operations(req.Operation, req.Type, req.ID); definition != nil {
		x.route = &route{pattern: x.route.pattern, allow: operationMethods(definition)}
		switch x.r.Method {
		case http.MethodGet, http.MethodHead:
			if !definition.ByGet() {
				return x.methodNotAllowed()
			}
			req.Safe = true
		case http.MethodPost:
			if err := x.authenticate(); err != nil {
				return err
			}
			if req.IdempotencyKey, err = x.idempotencyKey(); err != nil {
				return err
			}
			if req.Body, err = body(); err != nil {
				return err
			}
			return x.do(req)
		case http.MethodOptions:
			return x.options()
		default:
			return x.methodNotAllowed()
		}
	}
	if err := x.authenticate(); err != nil {
		return err
	}
	return x.do(req) // the service says where the operation is, if anywhere
}

// operationMethods are the methods of an operation.
func operationMethods(o *conformance.Operation) []string {
	if !o.ByGet() {
		return []string{http.MethodPost, http.MethodOptions}
	}
	return []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodOptions}
}

// operationBody reads what an operation takes: any resource, or nothing at all.
func (x *exchange) operationBody() (*fhir.Node, error) {
	if x.r.ContentLength == 0 {
		return nil, nil
	}
	if _, err := x.contentType(bodyFHIR); err != nil {
		return nil, err
	}
	n, err := x.readNode(x.s.limits.MaxBundleBytes)
	if err != nil {
		return nil, err
	}
	if typ := n.ResourceType(); typ != "Parameters" && !x.s.types[typ] {
		return nil, x.checkType(n, "Parameters")
	}
	return n, nil
}
