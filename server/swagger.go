package server

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"net/http"
	"strings"
	"sync"

	httpswagger "github.com/swaggo/http-swagger/v2"

	"kiln/conformance"
	"kiln/conformance/openapi"
	"kiln/fhir"
	"kiln/resources"
)

// SwaggerClient is the id of the client that the page at /swagger/ signs in with, where it is registered.
const SwaggerClient = "kiln-swagger"

//go:embed swagger
var swaggerPages embed.FS

// Descriptions makes the OpenAPI documents, each when it is first asked for and again when the search parameters are
// others. endpoints are those of the authorization server, if there is one.
func Descriptions(current func() *conformance.Registry, baseURL, version string, operations []*conformance.Operation,
	endpoints map[string]string) func(name string) ([]byte, bool) {
	o := openapi.Options{
		Base: baseURL + FHIRPath, Version: version, Offered: resources.Offered, ReadOnly: resources.ReadOnlyTypes(), Operations: operations,
		AuthorizeURL: endpoints["authorize"], TokenURL: endpoints["token"],
	}
	var mu sync.Mutex
	var of *conformance.Registry
	var made map[string][]byte
	return func(name string) ([]byte, bool) {
		registry := current()
		mu.Lock()
		defer mu.Unlock()
		if registry != of {
			of, made = registry, map[string][]byte{}
		}
		doc, known := made[name]
		if !known {
			if doc, known = openapi.Document(registry, name, o); known {
				made[name] = doc
			}
		}
		return doc, known
	}
}

// addSwagger adds /swagger/: the page, its files, and the documents that it shows.
func (s *server) addSwagger(add func(string, map[string]action) *route) {
	if s.descriptions == nil {
		return
	}
	// The library's own page has scripts inside of it, which our policy for pages does not run; its files are what we use.
	files := httpswagger.Handler()
	for _, path := range []string{"/swagger", "/swagger/"} {
		add(path, map[string]action{http.MethodGet: func(x *exchange) error { return x.swaggerPage("index.html") }}).page = true
	}
	add("/swagger/openapi/{document}.json", map[string]action{http.MethodGet: (*exchange).openAPI}).page = true
	add("/swagger/{file}", map[string]action{http.MethodGet: func(x *exchange) error {
		name := x.segment("file")
		if _, err := swaggerPages.Open("swagger/" + name); err == nil {
			return x.swaggerPage(name)
		}
		return x.swaggerFile(files)
	}}).page = true
}

// swaggerPolicy lets the page load its own files and call this server, and nothing else.
func (x *exchange) swaggerPolicy() {
	origin := strings.TrimSuffix(x.s.base, FHIRPath)
	x.header["Content-Security-Policy"] = []string{"default-src 'none'; script-src 'self'; " +
		// The hash is that of the one style that Swagger UI writes as HTML, of its logo.
		"style-src 'self' 'unsafe-hashes' 'sha256-RL3ie0nH+Lzz2YNqQN83mnU0J1ot4QL7b99vMdIX99w='; img-src 'self' data:; " +
		"connect-src 'self' " + origin + "; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"}
	x.header["X-Content-Type-Options"] = []string{"nosniff"}
	x.header["Referrer-Policy"] = []string{"no-referrer"}
}

func (x *exchange) swaggerPage(name string) error {
	if x.r.URL.Path == "/swagger" {
		x.header["Location"] = []string{"/swagger/"}
		x.writeEmpty(http.StatusMovedPermanently)
		return nil
	}
	data, err := swaggerPages.ReadFile("swagger/" + name)
	if err != nil {
		return notFound("There is no such file")
	}
	x.swaggerPolicy()
	contentType := "text/html; charset=utf-8"
	if strings.HasSuffix(name, ".js") {
		contentType = "text/javascript; charset=utf-8"
	}
	return x.writeBody(http.StatusOK, []string{contentType}, data)
}

// swaggerFile serves a file of Swagger UI.
func (x *exchange) swaggerFile(files http.HandlerFunc) error {
	kept := &keptAnswer{header: http.Header{}, status: http.StatusOK}
	// The library answers GET only, goes by RequestURI, and changes the request.
	r := x.r.Clone(x.r.Context())
	r.Method, r.RequestURI = http.MethodGet, "/swagger/"+x.segment("file")
	files(kept, r)
	if kept.status != http.StatusOK {
		return notFound("There is no such file")
	}
	x.swaggerPolicy()
	contentType := kept.header["Content-Type"]
	if contentType == nil {
		contentType = []string{http.DetectContentType(kept.body.Bytes())}
	}
	return x.writeBody(http.StatusOK, contentType, kept.body.Bytes())
}

// keptAnswer keeps what a handler answers.
type keptAnswer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (k *keptAnswer) Header() http.Header         { return k.header }
func (k *keptAnswer) WriteHeader(status int)      { k.status = status }
func (k *keptAnswer) Write(p []byte) (int, error) { return k.body.Write(p) }

// openAPI gives one document, or the index of them.
func (x *exchange) openAPI() error {
	name := x.segment("document")
	var data []byte
	if name == "index" {
		data = x.s.swaggerIndex()
	} else if found, ok := x.s.descriptions(name); ok {
		data = found
	} else {
		return notFound("There is no document " + quoteInput(name))
	}
	x.swaggerPolicy()
	sum := sha256.Sum256(data)
	tag := hex.EncodeToString(sum[:8])
	x.header["Etag"] = []string{`W/"` + tag + `"`}
	if tagListHas(x.r.Header.Get("If-None-Match"), tag) {
		x.writeEmpty(http.StatusNotModified)
		return nil
	}
	return x.writeBody(http.StatusOK, []string{"application/json; charset=utf-8"}, data)
}

// swaggerIndex lists the documents, those that newcomers look for first, and says how to sign in.
func (s *server) swaggerIndex() []byte {
	first := []string{openapi.System, "Patient", "Appointment"}
	names := make([]fhir.Node, 0, len(s.typeNames)+1)
	for _, name := range first {
		if name == openapi.System || s.types[name] {
			names = append(names, fhir.Str(name))
		}
	}
	for _, name := range s.typeNames {
		if name != first[1] && name != first[2] {
			names = append(names, fhir.Str(name))
		}
	}
	index := fhir.Obj(fhir.Arr(names...).As("documents"))
	if s.oauth != nil {
		index.Set("client", fhir.Str(SwaggerClient))
		index.Set("scopes", fhir.Str("openid fhirUser user/*.cruds"))
		index.Set("launchScopes", fhir.Str("launch openid fhirUser patient/*.rs"))
		index.Set("audience", fhir.Str(s.base))
	}
	return index.JSON()
}
