package openapi

import (
	"slices"
	"strings"

	"kiln/conformance"
	"kiln/fhir"
)

// Options are what the documents say beyond the definitions.
type Options struct {
	// Base is the FHIR base URL, Version the software's version.
	Base, Version string
	// Offered says whether a search parameter works; nil for all.
	Offered func(*conformance.SearchParameter) bool
	// ReadOnly are types that clients can only read, one by one or by search.
	ReadOnly []string
	// Operations are those on offer.
	Operations []*conformance.Operation
	// AuthorizeURL and TokenURL are the endpoints of SMART authorization; empty where requests need no token.
	AuthorizeURL, TokenURL string
}

// System is the name of the document for the whole server.
const System = "system"

// Document writes the document of a resource type, or of System. ok is false for any other name.
func Document(registry *conformance.Registry, name string, o Options) (json []byte, ok bool) {
	if o.Offered == nil {
		o.Offered = func(*conformance.SearchParameter) bool { return true }
	}
	d := &document{registry: registry, Options: o, schemas: map[string]bool{}}
	var paths fhir.Node
	switch {
	case name == System:
		paths = d.systemPaths()
	case slices.Contains(registry.Schema().Resources, name):
		d.typ = name
		paths = d.typePaths()
	default:
		return nil, false
	}
	title := "Kiln: " + name
	if name == System {
		title = "Kiln: the whole server"
	}
	doc := obj(
		text("openapi", "3.1.0"),
		obj(text("title", title), text("version", o.Version), text("description", intro),
			obj(text("name", "FHIR is under CC0"), text("url", "https://hl7.org/fhir/R4/license.html")).As("license")).As("info"),
		fhir.Arr(obj(text("url", o.Base), text("description", "This server"))).As("servers"),
	)
	if o.AuthorizeURL != "" {
		doc.Set("security", fhir.Arr(obj(fhir.Arr().As("smart"))))
	} else {
		doc.Set("security", fhir.Arr())
	}
	doc.Set("tags", fhir.Arr(obj(text("name", name), text("description", d.about()))))
	doc.Set("paths", paths)
	doc.Set("components", d.components())
	return doc.JSON(), true
}

const intro = "FHIR R4 (4.0.1). Every error is an OperationOutcome that says what is wrong and where. " +
	"Answers to writes carry ETag; send it back as If-Match to change just the version that you have seen."

// document is one document in the making.
type document struct {
	Options
	registry *conformance.Registry
	typ      string
	// schemas are the types that something refers to; true once written.
	schemas map[string]bool
}

func (d *document) about() string {
	if d.typ == "" {
		return "What is not about one resource type."
	}
	return "https://hl7.org/fhir/R4/" + strings.ToLower(d.typ) + ".html"
}

func (d *document) components() fhir.Node {
	c := obj(d.allSchemas().As("schemas"))
	responses := fhir.Obj()
	for _, f := range failures {
		responses.Set(f.name, obj(text("description", f.text), obj(
			obj(ref("OperationOutcome").As("schema"), f.example(d.typ).As("example")).As("application/fhir+json")).As("content")))
	}
	c.Set("responses", responses)
	if d.AuthorizeURL != "" {
		c.Set("securitySchemes", obj(obj(
			text("type", "oauth2"),
			text("description", "SMART App Launch 2.2: authorization code with PKCE."),
			obj(obj(
				text("authorizationUrl", d.AuthorizeURL), text("tokenUrl", d.TokenURL), text("refreshUrl", d.TokenURL),
				obj(
					text("openid", "Who you are"), text("fhirUser", "The resource that stands for you, to be told of it and to read it"),
					text("launch/patient", "Choose a patient"), text("launch", "The patient that the page was launched with"),
					text("user/*.cruds", "What you may do yourself"), text("patient/*.rs", "Read one patient's record"),
				).As("scopes"),
			).As("authorizationCode")).As("flows"),
		).As("smart")))
	}
	return c
}

// obj, text, flag and ref build JSON.
func obj(members ...fhir.Node) fhir.Node { return fhir.Obj(members...) }

func text(name, value string) fhir.Node { return fhir.Str(value).As(name) }

func ref(schema string) fhir.Node { return obj(text("$ref", "#/components/schemas/"+schema)) }

func strs(list ...string) fhir.Node {
	nodes := make([]fhir.Node, len(list))
	for i, s := range list {
		nodes[i] = fhir.Str(s)
	}
	return fhir.Arr(nodes...)
}
