package resources

import (
	"kiln/conformance"
	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/storage"
)

// catalog tells the query parser what the registry knows.
type catalog struct {
	registry *conformance.Registry
	// used collects the parameters that were asked for; nil for nobody who wants to know.
	used *[]*conformance.SearchParameter
}

func (c catalog) IsResource(name string) bool {
	t := c.registry.Schema().Type(name)
	return t != nil && t.Kind == fhir.Resource && !t.Abstract
}

func (c catalog) Param(typ, code string) (search.Param, bool) {
	def := c.registry.SearchParameter(typ, code)
	if def == nil || !Offered(def) {
		return search.Param{}, false
	}
	if c.used != nil {
		*c.used = append(*c.used, def)
	}
	return c.paramOf(def), true
}

// Offered says whether there is an index behind a parameter.
func Offered(def *conformance.SearchParameter) bool {
	switch def.Code {
	case "_text", "_content", "near":
		return true
	}
	return def.Expression != "" && def.Type != search.Special
}

func (c catalog) paramOf(def *conformance.SearchParameter) search.Param {
	p := search.Param{Code: def.Code, Kind: def.Type, Targets: def.Targets, Days: storage.Days(c.registry.Schema(), def)}
	for _, part := range def.Components {
		if part.Param != nil {
			p.Components = append(p.Components, c.paramOf(part.Param))
		}
	}
	return p
}

func (c catalog) Codes(typ string) []string {
	var codes []string
	for _, def := range c.registry.SearchParameters(typ) {
		if Offered(def) {
			codes = append(codes, def.Code)
		}
	}
	return codes
}

func (c catalog) CompartmentParams(compartment, typ string) []string {
	if def := c.registry.Compartment(compartment); def != nil {
		return def.Params(typ)
	}
	return nil
}

func (c catalog) ResourceTypes() []string { return c.registry.Schema().Resources }
