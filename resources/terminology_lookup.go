package resources

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"kiln/fhir"
	"kiln/storage/terminology"
)

// lookup is CodeSystem/$lookup. Spec: FHIR R4 codesystem-operation-lookup.html.
//
// Errors: NotFound for a code system that is not here, and for a code that it has not.
func (s *Service) lookup(ctx context.Context, c *call) (*Response, error) {
	codings, err := c.codings("system", "version")
	if err != nil {
		return nil, err
	}
	q := codings[0]
	if q.System == "" {
		return nil, fhir.NewError(fhir.Invalid, fhir.CodeRequired, "$lookup needs the system of the code").At("Parameters")
	}
	r, err := s.resolver(ctx, c)
	if err != nil {
		return nil, err
	}
	system, err := r.System(ctx, q.System, q.Version)
	if err != nil {
		return nil, err
	}
	if system == nil || system.Concepts == 0 && !system.Complete() {
		_, err := r.NeedSystem(ctx, q.System, q.Version)
		return nil, err
	}
	d, err := r.Lookup(ctx, system, q.Code, c.text("displayLanguage"))
	if err != nil {
		return nil, err
	}
	if d == nil && !system.Complete() {
		return nil, terminology.Incomplete(system)
	}
	if d == nil {
		return nil, fhir.NewError(fhir.NotFound, fhir.CodeNotFound, fmt.Sprintf("The code system %s has no code %s", quote(system.URL), quote(q.Code))).Coded("code-missing")
	}
	return &Response{Resource: parameters(details(system, d, c.texts("property"))...)}, nil
}

// details writes what is known of a concept, or what of it was asked for.
func details(system *terminology.System, d *terminology.Details, asked []string) []fhir.Node {
	want := func(name string) bool { return len(asked) == 0 || slices.Contains(asked, name) }
	list := []fhir.Node{named("name", "valueString", fhir.Str(system.Name()))}
	if system.Version != "" {
		list = append(list, named("version", "valueString", fhir.Str(system.Version)))
	}
	display := d.Display
	if display == "" {
		display = d.Code
	}
	list = append(list, named("display", "valueString", fhir.Str(display)))
	for _, one := range d.Designations {
		if one.Value != "" && (want("designation") || slices.ContainsFunc(asked, func(a string) bool {
			language, ok := strings.CutPrefix(a, "lang.")
			return ok && strings.EqualFold(language, one.Language)
		})) {
			list = append(list, designationParameter(&one))
		}
	}
	property := func(code string, value fhir.Node, description string) {
		if want(code) {
			parts := []fhir.Node{named("code", "valueCode", fhir.Str(code)), fhir.Obj(append([]fhir.Node{fhir.Str("value").As("name")}, value)...)}
			if description != "" {
				parts = append(parts, named("description", "valueString", fhir.Str(description)))
			}
			list = append(list, fhir.Obj(fhir.Str("property").As("name"), fhir.Arr(parts...).As("part")))
		}
	}
	if d.Definition != "" {
		property("definition", fhir.Str(d.Definition).As("valueString"), "")
	}
	property("inactive", fhir.Boolean(d.Inactive).As("valueBoolean"), "")
	if d.Abstract && !slices.ContainsFunc(d.Properties, func(p terminology.Property) bool { return p.Code == "abstract" }) {
		property("abstract", fhir.Boolean(true).As("valueBoolean"), "")
	}
	for _, p := range d.Properties {
		if p.Code != "inactive" && p.Code != "parent" && p.Code != "child" {
			property(p.Code, propertyValue(&p), d.Names[p.Value])
		}
	}
	for _, x := range d.Parents {
		property("parent", fhir.Str(x.Code).As("valueCode"), x.Display)
	}
	for _, x := range d.Children {
		property("child", fhir.Str(x.Code).As("valueCode"), x.Display)
	}
	return list
}

func designationParameter(d *terminology.Designation) fhir.Node {
	var parts []fhir.Node
	if d.Language != "" {
		parts = append(parts, named("language", "valueCode", fhir.Str(d.Language)))
	}
	if d.Use != nil {
		parts = append(parts, named("use", "valueCoding", *d.Use))
	}
	parts = append(parts, named("value", "valueString", fhir.Str(d.Value)))
	return fhir.Obj(fhir.Str("designation").As("name"), fhir.Arr(parts...).As("part"))
}

func propertyValue(p *terminology.Property) fhir.Node {
	element := "value" + strings.ToUpper(p.Type[:1]) + p.Type[1:]
	switch p.Type {
	case "Coding":
		if p.Coding != nil {
			return p.Coding.As(element)
		}
	case "boolean":
		return fhir.Boolean(p.Value == "true").As(element)
	case "integer", "decimal":
		return fhir.Num(p.Value).As(element)
	}
	return fhir.Str(p.Value).As(element)
}

// subsumes is CodeSystem/$subsumes. Spec: FHIR R4 codesystem-operation-subsumes.html.
//
// Errors: NotFound for a code system that is not here, and for a code that it has not; NotSupported across systems.
func (s *Service) subsumes(ctx context.Context, c *call) (*Response, error) {
	system, version := c.text("system"), c.text("version")
	var codes [2]string
	for i, letter := range []string{"A", "B"} {
		code, coding := c.first("code"+letter), c.first("coding"+letter)
		switch {
		case (code == nil) == (coding == nil):
			return nil, fhir.NewError(fhir.Invalid, fhir.CodeRequired, "$subsumes needs one of code"+letter+" and coding"+letter).At("Parameters")
		case code != nil:
			codes[i] = code.value.Text
		default:
			q := codingOf(coding.value)
			if q.Code == "" || q.System == "" {
				return nil, fhir.NewError(fhir.Invalid, fhir.CodeRequired, "A coding needs a system and a code here").At(coding.at)
			}
			if system != "" && q.System != system {
				return nil, fhir.NewError(fhir.NotSupported, fhir.CodeNotSupported, "This server compares codes of one code system only").At(coding.at)
			}
			if system = q.System; version == "" {
				version = q.Version
			}
			codes[i] = q.Code
		}
	}
	if system == "" && c.ID == "" {
		return nil, fhir.NewError(fhir.Invalid, fhir.CodeRequired, "$subsumes needs the system of the codes").At("Parameters")
	}
	r, err := s.resolver(ctx, c)
	if err != nil {
		return nil, err
	}
	found, err := s.codeSystem(ctx, c, r, system, version)
	if err != nil {
		return nil, err
	}
	if !found.Complete() {
		return nil, terminology.Incomplete(found)
	}
	outcome, missing, err := r.Subsumption(ctx, found, codes[0], codes[1])
	if err != nil {
		return nil, err
	}
	if missing != "" {
		return nil, fhir.NewError(fhir.NotFound, fhir.CodeNotFound, fmt.Sprintf("The code system %s has no code %s", quote(found.URL), quote(missing))).Coded("code-missing")
	}
	return &Response{Resource: parameters(named("outcome", "valueCode", fhir.Str(string(outcome))))}, nil
}
