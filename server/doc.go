// Package server is Kiln's HTTP face: routes, middleware, content negotiation, the reading of bodies and headers into a
// resources.Request, and the writing of every answer and every OperationOutcome.
//
// It decides nothing about resources: what a request means is up to the Doer (resources.Service). Nor does it touch
// resource content: stored bytes go out as they are, and Bundles are spliced around them.
//
// Read first: New and Options; routes.go for what is served; exchange, which is one request on its way through;
// respond.go and outcome.go, the only places that write a FHIR answer and that turn an error into a status.
package server
