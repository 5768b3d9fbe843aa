package main

import (
	"fmt"
	"slices"
	"strings"

	"kiln/conformance"
)

// writeSearchParameters writes the search parameters, once for each base:
//
//	S base code id type flags targets expression description    flags: o multipleOr, a multipleAnd
//	C definition expression                                     a component of the parameter above
//
// The URL is http://hl7.org/fhir/SearchParameter/ and the id.
func writeSearchParameters(out *records, defs definitions) error {
	for _, d := range defs["SearchParameter"] {
		list, err := conformance.ParseSearchParameter(d)
		if err != nil {
			return fmt.Errorf("%s: %w", d.ID(), err)
		}
		for _, p := range list {
			if p.Code == "_query" {
				continue // names an operation; it finds nothing by itself
			}
			if p.URL != "http://hl7.org/fhir/SearchParameter/"+p.ID {
				return fmt.Errorf("%s: unexpected URL %s", p.ID, p.URL)
			}
			flags := ""
			if p.MultipleOr {
				flags += "o"
			}
			if p.MultipleAnd {
				flags += "a"
			}
			out.add("S", p.Base, p.Code, p.ID, string(p.Type), flags, strings.Join(p.Targets, ","), p.Expression,
				p.Description)
			for _, c := range p.Components {
				out.add("C", c.Definition, c.Expression)
			}
		}
	}
	return nil
}

// writeCompartments writes the types that a compartment holds:
//
//	P compartment type code,code
//
// The parameter "{def}" stands for the resource in the middle, which is in its compartment anyway.
func writeCompartments(out *records, defs definitions) error {
	for _, d := range defs["CompartmentDefinition"] {
		for r := range d.Get("resource").Items() {
			params := slices.DeleteFunc(texts(r.Get("param")), func(p string) bool { return p == "{def}" })
			if len(params) > 0 {
				out.add("P", d.GetText("code"), r.GetText("code"), strings.Join(params, ","))
			}
		}
	}
	return nil
}

// writeURLs writes the canonical URLs whose end is not the id of the resource:
//
//	U type url id
func writeURLs(out *records, defs definitions) error {
	for _, kind := range []string{"CapabilityStatement", "CodeSystem", "CompartmentDefinition", "ConceptMap",
		"NamingSystem", "OperationDefinition", "SearchParameter", "StructureDefinition", "ValueSet"} {
		for _, d := range defs[kind] {
			if url := d.GetText("url"); url != "" && lastPart(url) != d.ID() {
				out.add("U", kind, url, d.ID())
			}
		}
	}
	return nil
}
