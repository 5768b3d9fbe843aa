package openapi_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"kiln/conformance"
	"kiln/conformance/openapi"
	"kiln/conformance/validate"
	"kiln/fhir"
)

func options(t testing.TB) (*conformance.Registry, openapi.Options) {
	t.Helper()
	registry, err := conformance.R4()
	if err != nil {
		t.Fatal(err)
	}
	o := openapi.Options{Base: "https://ehr.example.org/fhir", Version: "1", AuthorizeURL: "https://ehr.example.org/a", TokenURL: "https://ehr.example.org/t"}
	for _, id := range []string{"reindex", "Patient-everything", "Resource-validate", "ValueSet-expand"} {
		operation, err := registry.Operation(id)
		if err != nil {
			t.Fatal(err)
		}
		o.Operations = append(o.Operations, operation)
	}
	return registry, o
}

// TestDocument_of_every_type reads all documents: references lead somewhere, ids are one document's own, and every
// search parameter of the registry is there with its meaning.
func TestDocument_of_every_type(t *testing.T) {
	t.Parallel()
	registry, o := options(t)
	for _, name := range append([]string{openapi.System}, registry.Schema().Resources...) {
		data, ok := openapi.Document(registry, name, o)
		if !ok {
			t.Fatalf("%s has no document", name)
		}
		doc, err := fhir.ParseJSON(data)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		ids := map[string]bool{}
		doc.Walk(func(n *fhir.Node) bool {
			switch {
			case n.Name == "$ref" && n.Kind == fhir.String:
				target := doc
				for _, part := range strings.Split(strings.TrimPrefix(n.Text, "#/"), "/") {
					target = target.Get(part)
				}
				if target == nil {
					t.Errorf("%s: %s leads nowhere", name, n.Text)
				}
			case n.Name == "operationId" && n.Kind == fhir.String:
				if ids[n.Text] {
					t.Errorf("%s: the operationId %s is there twice", name, n.Text)
				}
				ids[n.Text] = true
			}
			return n.Name != "example"
		})
		if name == openapi.System {
			continue
		}
		described := map[string]string{}
		for p := range doc.At("paths").Get("/"+name).At("get", "parameters").Items() {
			described[p.GetText("name")] = p.GetText("description")
		}
		for _, p := range registry.SearchParameters(name) {
			if text, ok := described[p.Code]; !ok || !strings.Contains(text, p.Description) {
				t.Errorf("%s: the search parameter %s is not described", name, p.Code)
			}
		}
	}
	if _, ok := openapi.Document(registry, "Nothing", o); ok {
		t.Error("there is a document of no type")
	}
}

// TestDocument_is_valid holds the documents against the schema that the OpenAPI Initiative publishes for them.
func TestDocument_is_valid(t *testing.T) {
	t.Parallel()
	registry, o := options(t)
	schema, err := jsonschema.NewCompiler().Compile("testdata/openapi-3.1.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{openapi.System, "Patient", "Appointment", "ValueSet", "Parameters", "StructureDefinition"} {
		data, _ := openapi.Document(registry, name, o)
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(doc); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if schema.Validate(map[string]any{"openapi": "3.1.0", "paths": map[string]any{}}) == nil {
		t.Error("the schema takes a document without info")
	}
}

// TestDocument_examples_are_valid validates everything that a newcomer could send or is shown.
func TestDocument_examples_are_valid(t *testing.T) {
	t.Parallel()
	registry, o := options(t)
	v, err := validate.New(registry, validate.Options{Invariants: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(registry.Schema().Resources, openapi.System) {
		data, _ := openapi.Document(registry, name, o)
		doc, err := fhir.ParseJSON(data)
		if err != nil {
			t.Fatal(err)
		}
		examples := 0
		doc.Walk(func(n *fhir.Node) bool {
			if n.Name != "example" || n.ResourceType() == "" {
				return true
			}
			example := n.Clone()
			example.Name = ""
			if issues := v.Resource(&example); !validate.Valid(issues) {
				t.Errorf("%s: %s: %+v", name, example.JSON(), issues)
			}
			examples++
			return false
		})
		if examples < 10 {
			t.Errorf("%s has %d examples", name, examples)
		}
	}
}
