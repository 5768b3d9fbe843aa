package server

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"strings"

	"kiln/fhir"
	"kiln/resources"
)

// refuser is a Doer that wants to hear of requests which were refused before it saw them.
type refuser interface {
	Refused(ctx context.Context, r resources.Request, err error) error
}

// origin is ctx with what the audit log wants to know of where the request came from.
func (x *exchange) origin(ctx context.Context) context.Context {
	host, _, err := net.SplitHostPort(x.r.RemoteAddr)
	if err != nil {
		host = x.r.RemoteAddr
	}
	return resources.WithOrigin(ctx, resources.Origin{RequestID: x.id, Address: host})
}

// noteRefusal has the audit log tell of a request of FHIR that is refused here. What cannot be noted is logged, and refused
// nevertheless.
func (x *exchange) noteRefusal(err error) {
	if x.noted || x.s.refused == nil || x.route.probe || x.route.oauth || x.route.page || x.route.public || !x.route.signed && !strings.HasPrefix(x.r.URL.Path, FHIRPath) {
		return
	}
	x.noted = true
	r := resources.Request{Principal: x.principal, Interaction: x.intended()}
	if typ := x.segment("type"); x.s.types[typ] {
		r.Type = typ
		if id := x.segment("id"); fhir.ValidID(id) {
			r.ID = id
		}
	}
	if x.route.signed {
		r.Interaction = resources.Operate
	}
	if r.Interaction == resources.Operate {
		if r.Operation = strings.TrimPrefix(x.segment("operation"), "$"); !fhir.ValidID(r.Operation) {
			r.Operation = ""
		}
	}
	if fault := x.s.refused(x.origin(x.r.Context()), r, err); fault != nil {
		x.s.log.LogAttrs(context.Background(), slog.LevelError, "the audit log misses a refusal", slog.String("request_id", x.id), causes(fault))
	}
}

// intended is the interaction that the route and the method stand for, as far as they tell.
func (x *exchange) intended() resources.Interaction {
	_, hasType := x.placeholder("type")
	_, hasID := x.placeholder("id")
	pattern := x.route.pattern
	switch {
	case strings.Contains(pattern, "{operation"):
		return resources.Operate
	case strings.HasSuffix(pattern, "/{version}"):
		return resources.VRead
	case strings.HasSuffix(pattern, "/_history") && hasID:
		return resources.HistoryInstance
	case strings.HasSuffix(pattern, "/_history") && hasType:
		return resources.HistoryType
	case strings.HasSuffix(pattern, "/_history"):
		return resources.HistorySystem
	case strings.HasSuffix(pattern, "/_search") || strings.Contains(pattern, "{other}"):
		return resources.SearchType
	}
	switch x.r.Method {
	case http.MethodPut:
		return resources.Update
	case http.MethodPatch:
		return resources.Patch
	case http.MethodDelete:
		return resources.Delete
	case http.MethodPost:
		if hasType {
			return resources.Create
		}
		return resources.Transaction
	}
	if hasID {
		return resources.Read
	}
	return resources.SearchType
}
