package server

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"kiln/auth"
	"kiln/auth/oauth"
	"kiln/fhir"
)

// addOAuth adds the endpoints and pages of the authorization server to the routes. It writes its own answers; counting,
// logging and CORS are the same as for FHIR.
func (s *server) addOAuth(add func(string, map[string]action) *route) {
	if s.oauth == nil {
		return
	}
	for _, served := range s.oauth.Routes() {
		methods := make(map[string]action, len(served.Methods))
		for method, answer := range served.Methods {
			methods[method] = func(x *exchange) error { answer(x, x.r.WithContext(x.origin(x.r.Context()))); return nil }
		}
		rt := add(served.Pattern, methods)
		rt.oauth, rt.cross = true, served.CrossOrigin
		if served.CrossOrigin {
			s.crossPaths = append(s.crossPaths, served.Pattern)
		}
	}
}

// crossOrigin says whether scripts of other origins may use a path: the FHIR API and the endpoints for programs, but no
// page and not the authorize endpoint.
func (s *server) crossOrigin(path string) bool {
	return strings.HasPrefix(path, FHIRPath) || slices.Contains(s.crossPaths, path)
}

// bearer finds out whose access token a request shows. Only the header counts: a token in the URL would stay in logs
// (RFC 6750 section 2.3). Errors: Unauthenticated.
func (x *exchange) bearer() (auth.Principal, error) {
	headers := x.r.Header["Authorization"]
	if len(headers) == 0 {
		x.header.Set("WWW-Authenticate", `Bearer realm="`+x.s.base+`"`)
		return auth.Principal{}, fhir.NewError(fhir.Unauthenticated, fhir.CodeLogin, "An access token is needed: Authorization: Bearer …")
	}
	scheme, token, _ := strings.Cut(headers[0], " ")
	if len(headers) > 1 || !strings.EqualFold(scheme, "Bearer") {
		scheme, token = "Bearer", ""
	}
	x.token = strings.TrimSpace(token)
	if x.route.proves && (x.r.Method == http.MethodGet || x.r.Method == http.MethodHead) {
		if p, proof, known := x.s.oauth.Recall(x.token); known {
			x.proof = proof
			return p, nil
		}
	}
	return x.lookUpToken()
}

// lookUpToken asks the database who holds the token. Errors: Unauthenticated.
func (x *exchange) lookUpToken() (auth.Principal, error) {
	find := x.s.oauth.Authenticate
	if x.route.signed {
		find = func(ctx context.Context, token string) (auth.Principal, error) {
			return x.s.oauth.AuthenticateCall(ctx, token, strings.TrimSuffix(x.s.base, FHIRPath)+x.route.pattern)
		}
	}
	p, err := find(x.r.Context(), x.token)
	if challenge, refused := oauth.Challenge(err, x.s.base); refused {
		x.header.Set("WWW-Authenticate", challenge)
		return auth.Principal{}, fhir.NewError(fhir.Unauthenticated, fhir.CodeLogin,
			"The access token is not known, has expired or was revoked").Coded("invalid-token")
	}
	return p, err
}

// proven makes sure of the token of a request that came to its end, with or without an error, and that may not have
// asked the database for anything. A token that does not hold any more is the whole answer.
func (x *exchange) proven(err error) error {
	if x.proof == nil || x.proof.Settled() {
		return err
	}
	if _, refused := x.lookUpToken(); refused != nil {
		return refused
	}
	return err
}

// security is rest.security of the CapabilityStatement: the endpoints of the authorization server, the same as in
// .well-known/smart-configuration. Spec: SMART App Launch 1.0, conformance; the oauth-uris extension.
func security(endpoints map[string]string) *fhir.Node {
	if len(endpoints) == 0 {
		return nil
	}
	var uris []fhir.Node
	for _, name := range []string{"authorize", "token", "introspect", "revoke", "manage", "register"} {
		if endpoints[name] != "" {
			uris = append(uris, fhir.Obj(fhir.Str(name).As("url"), fhir.Str(endpoints[name]).As("valueUri")))
		}
	}
	n := fhir.Obj(
		fhir.Arr(fhir.Obj(
			fhir.Str("http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris").As("url"),
			fhir.Arr(uris...).As("extension"),
		)).As("extension"),
		fhir.Boolean(true).As("cors"),
		fhir.Arr(fhir.Obj(fhir.Arr(fhir.Obj(
			fhir.Str("http://terminology.hl7.org/CodeSystem/restful-security-service").As("system"),
			fhir.Str("SMART-on-FHIR").As("code"),
		)).As("coding"), fhir.Str("OAuth 2.0 with SMART App Launch").As("text"))).As("service"),
	)
	return &n
}
