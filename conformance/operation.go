package conformance

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"kiln/fhir"
)

// Operation is what an OperationDefinition says of an operation.
type Operation struct {
	// URL is the canonical URL of the definition, ID its id.
	URL, ID string
	// Code is the name in paths, without the dollar sign.
	Code, Description string
	// System, Type and Instance say at which levels it can be called.
	System, Type, Instance bool
	// AffectsState forbids GET.
	AffectsState bool
	// Searches says that it takes the search parameters of its type beside its own, in the URL.
	Searches bool
	// Resources are the types it is offered on; "Resource" stands for all.
	Resources []string
	In, Out   []OperationParameter
	// Definition is the OperationDefinition itself.
	Definition []byte
}

// OperationParameter is one parameter of an operation, or a part of one.
type OperationParameter struct {
	Name string
	// Type is a FHIR type; "" where it has Parts, or where any will do.
	Type string
	// SearchType is set for a string that is read like a search parameter.
	SearchType string
	Min        int
	// Max is how often it may come; negative for without bound.
	Max           int
	Documentation string
	Parts         []OperationParameter
}

//go:embed definitions/kiln/*.json
var own embed.FS

// OwnDefinitions are the definitions that are Kiln's own, each a resource whose URL begins with fhir.CanonicalBase.
func OwnDefinitions() ([][]byte, error) {
	entries, err := own.ReadDir("definitions/kiln")
	if err != nil {
		return nil, err
	}
	var list [][]byte
	for _, e := range entries {
		data, err := own.ReadFile(path.Join("definitions/kiln", e.Name()))
		if err != nil {
			return nil, err
		}
		list = append(list, data)
	}
	return list, nil
}

// ownSearchParameters are those among OwnDefinitions.
func ownSearchParameters() (list []*SearchParameter, err error) {
	names, err := fs.Glob(own, "definitions/kiln/SearchParameter-*.json")
	for _, name := range names {
		data, err := own.ReadFile(name)
		if err != nil {
			return nil, err
		}
		n, err := fhir.ParseJSON(data)
		if err != nil {
			return nil, fmt.Errorf("conformance: %s: %w", name, err)
		}
		params, err := ParseSearchParameter(n)
		if err != nil {
			return nil, fmt.Errorf("conformance: %s: %w", name, err)
		}
		list = append(list, params...)
	}
	return list, err
}

// ownDefinition is a definition of ours by type and id, or not ok.
func ownDefinition(resourceType, id string) ([]byte, bool) {
	data, err := own.ReadFile(path.Join("definitions/kiln", path.Base(resourceType+"-"+id)+".json"))
	return data, err == nil
}

// Operation reads the definition with an id, such as "Patient-everything": one of FHIR's, or one of ours.
func (r *Registry) Operation(id string) (*Operation, error) {
	data, ok := r.Definition("OperationDefinition", id)
	if !ok {
		return nil, fmt.Errorf("conformance: there is no OperationDefinition %q", id)
	}
	return parseOperation(data)
}

func parseOperation(data []byte) (*Operation, error) {
	n, err := fhir.ParseJSON(data)
	if err != nil {
		return nil, fmt.Errorf("conformance: read an OperationDefinition: %w", err)
	}
	is := func(name string) bool { v := n.Get(name); return v != nil && v.Text == "true" }
	o := &Operation{
		URL: n.GetText("url"), ID: n.ID(), Code: n.GetText("code"), Description: n.GetText("description"),
		System: is("system"), Type: is("type"), Instance: is("instance"), AffectsState: is("affectsState"), Definition: data,
	}
	for t := range n.Get("resource").Items() {
		o.Resources = append(o.Resources, t.Text)
	}
	for p := range n.Get("parameter").Items() {
		parameter, err := parseOperationParameter(p)
		if err != nil {
			return nil, fmt.Errorf("conformance: %s: %w", o.URL, err)
		}
		if p.GetText("use") == "in" {
			o.In = append(o.In, parameter)
		} else {
			o.Out = append(o.Out, parameter)
		}
	}
	return o, nil
}

func parseOperationParameter(n *fhir.Node) (OperationParameter, error) {
	p := OperationParameter{Name: n.GetText("name"), Type: n.GetText("type"), SearchType: n.GetText("searchType"),
		Documentation: n.GetText("documentation"), Max: -1}
	if p.Type == "Any" {
		p.Type = "" // any resource
	}
	if min := n.Get("min"); min != nil {
		var err error
		if p.Min, err = strconv.Atoi(min.Text); err != nil {
			return p, err
		}
	}
	if max := n.GetText("max"); max != "*" {
		var err error
		if p.Max, err = strconv.Atoi(max); err != nil {
			return p, err
		}
	}
	for part := range n.Get("part").Items() {
		parsed, err := parseOperationParameter(part)
		if err != nil {
			return p, err
		}
		p.Parts = append(p.Parts, parsed)
	}
	return p, nil
}

// ByGet says whether the operation can be called by GET: it changes nothing, and all that it needs can stand in a URL
// (FHIR R4 operations.html#request).
func (o *Operation) ByGet() bool {
	if o.AffectsState {
		return false
	}
	for _, p := range o.In {
		// The names of primitive types begin with a small letter; a reference is written as in a search.
		simple := len(p.Parts) == 0 && p.Type != "" && (p.Type[0] >= 'a' || p.Type == "Reference")
		if p.Min > 0 && !simple {
			return false
		}
	}
	return true
}

// On says whether the operation is offered on instances of a type, or on the type.
func (o *Operation) On(resourceType string) bool {
	for _, t := range o.Resources {
		if t == resourceType || t == "Resource" || t == "DomainResource" {
			return true
		}
	}
	return false
}

// Parameter is the in-parameter with a name, or nil.
func (o *Operation) Parameter(name string) *OperationParameter { return parameterNamed(o.In, name) }

func parameterNamed(list []OperationParameter, name string) *OperationParameter {
	for i := range list {
		if list[i].Name == name {
			return &list[i]
		}
	}
	return nil
}

// Part is the part with a name, or nil.
func (p *OperationParameter) Part(name string) *OperationParameter {
	return parameterNamed(p.Parts, name)
}

// IsOwn says whether a canonical URL is that of a definition of ours.
func IsOwn(url string) bool { return strings.HasPrefix(url, fhir.CanonicalBase) }
