package resources

import (
	"context"
	"strings"
	"time"

	"kiln/auth"
	"kiln/fhir"
	"kiln/storage"
	"kiln/storage/terminology"
)

// This file holds what the terminology operations have in common. Spec: FHIR R4 terminology-service.html.

// resolver makes what answers the questions of one call. A call about one resource is a read of it: of a type that the
// caller may not read, whether there is one by that id must not show. Built-in definitions are public beyond that.
//
// Errors: Forbidden; NotSupported for a date in the past: this server does not know what held then.
func (s *Service) resolver(ctx context.Context, c *call) (*terminology.Resolver, error) {
	if c.ID != "" {
		if err := permitted(ctx, auth.Read, c.Type); err != nil {
			return nil, err
		}
	}
	if d := c.first("date"); d != nil {
		when, ok := fhir.ParseDateTime(d.value.Text, time.UTC)
		if !ok || when.End().Before(s.now()) {
			return nil, fhir.NewError(fhir.NotSupported, fhir.CodeNotSupported,
				"This server answers for the present only, not for "+quote(d.value.Text)).At(d.at)
		}
	}
	var o terminology.Options
	for name, into := range map[string]*map[string]string{
		"system-version": &o.Versions.Default, "check-system-version": &o.Versions.Check, "force-system-version": &o.Versions.Force,
	} {
		*into = map[string]string{}
		for _, a := range c.all(name) {
			url, version, ok := strings.Cut(a.value.Text, "|")
			if !ok || url == "" || version == "" {
				return nil, fhir.NewError(fhir.Invalid, fhir.CodeValue, name+" has the form system|version").At(a.at)
			}
			(*into)[url] = version
		}
	}
	return s.store.Terminology(ctx, nil, o)
}

// oneOf is the only one of some arguments that a call has; "" for the instance that it is about.
//
// Errors: Invalid where there is none, or more than one.
func (c *call) oneOf(names ...string) (string, error) {
	var have []string
	if c.ID != "" {
		have = append(have, "")
	}
	for _, name := range names {
		if c.first(name) != nil {
			have = append(have, name)
		}
	}
	list := strings.Join(names, ", ")
	switch {
	case len(have) == 1:
		return have[0], nil
	case len(have) == 0:
		return "", fhir.NewError(fhir.Invalid, fhir.CodeRequired, "$"+c.Operation+" needs one of "+list).At("Parameters")
	case c.ID != "":
		return "", fhir.NewError(fhir.Invalid, fhir.CodeInvalid, "$"+c.Operation+" is about "+c.Type+"/"+c.ID+" here, so it takes none of "+list).At(c.first(have[1]).at)
	}
	return "", fhir.NewError(fhir.Invalid, fhir.CodeInvalid, "$"+c.Operation+" takes only one of "+list).At(c.first(have[1]).at)
}

// stored reads the resource that a call is about; nil where there is none, deleted ones included.
func (s *Service) stored(ctx context.Context, c *call) (*fhir.Node, error) {
	v, err := s.current(ctx, nil, storage.Key{Type: c.Type, ID: c.ID})
	if err != nil || v == nil || v.Deleted {
		return nil, err
	}
	return fhir.ParseJSON(v.Content)
}

// valueSet resolves the value set that a call is about.
//
// Errors: NotFound; those of Resolver.Set.
func (s *Service) valueSet(ctx context.Context, c *call, r *terminology.Resolver) (*terminology.Set, error) {
	which, err := c.oneOf("url", "valueSet", "context")
	if err != nil {
		return nil, err
	}
	version := c.text("valueSetVersion")
	switch which {
	case "":
		n, err := s.stored(ctx, c)
		if err == nil && n == nil {
			n, err = r.OfficialSet(ctx, c.ID)
		}
		if err != nil {
			return nil, err
		}
		if n == nil {
			return nil, notFound(storage.Key{Type: c.Type, ID: c.ID})
		}
		return r.SetOf(ctx, n)
	case "valueSet":
		n := c.resource("valueSet")
		if n.Get("compose") == nil && n.Get("expansion") == nil && n.GetText("url") != "" {
			return r.Set(ctx, n.GetText("url")) // by name only
		}
		return r.SetOf(ctx, n)
	case "context":
		url, err := s.boundAt(ctx, c)
		if err != nil {
			return nil, err
		}
		return r.Set(ctx, url)
	}
	url := c.text("url")
	if version != "" && !strings.Contains(url, "|") {
		url += "|" + version
	}
	return r.Set(ctx, url)
}

// boundAt is the value set that the element of a context is bound to: [StructureDefinition URL]#[path].
//
// Errors: NotFound.
func (s *Service) boundAt(ctx context.Context, c *call) (string, error) {
	a := c.first("context")
	url, path, ok := strings.Cut(a.value.Text, "#")
	if !ok {
		path = strings.TrimPrefix(url, "http://hl7.org/fhir/StructureDefinition/")
		url, _, _ = strings.Cut(path, ".")
		url = "http://hl7.org/fhir/StructureDefinition/" + url
	}
	if data, ok := s.registry.Definition("StructureDefinition", url); ok {
		n, err := fhir.ParseJSON(data)
		if err != nil {
			return "", err
		}
		for e := range n.At("snapshot", "element").Items() {
			if e.GetText("path") == path || e.GetText("id") == path {
				if set := e.At("binding", "valueSet"); set != nil {
					return set.Text, nil
				}
			}
		}
	}
	return "", fhir.NewError(fhir.NotFound, fhir.CodeNotFound, "This server knows no bound element "+quote(a.value.Text)).At(a.at)
}

// codeSystem finds the code system that a call is about: that of the instance, or the one that url and version name.
//
// Errors: NotFound, naming it.
func (s *Service) codeSystem(ctx context.Context, c *call, r *terminology.Resolver, url, version string) (*terminology.System, error) {
	if c.ID == "" {
		return r.NeedSystem(ctx, url, version)
	}
	system, err := r.SystemByID(ctx, s.store.ResourceKey(c.Type, c.ID), c.ID)
	if err != nil {
		return nil, err
	}
	if system == nil {
		if n, err := s.stored(ctx, c); err != nil {
			return nil, err
		} else if n != nil {
			return nil, fhir.NewError(fhir.Unprocessable, fhir.CodeBusinessRule, c.Type+"/"+c.ID+" has no url, so no code can be of it").At("CodeSystem.url")
		}
		return nil, notFound(storage.Key{Type: c.Type, ID: c.ID})
	}
	if url != "" && url != system.URL {
		return nil, fhir.NewError(fhir.Invalid, fhir.CodeInvalid, "The code is of "+quote(url)+", and "+c.Type+"/"+c.ID+" is "+quote(system.URL))
	}
	return system, nil
}

// codingOf reads a Coding.
func codingOf(n *fhir.Node) terminology.Coding {
	return terminology.Coding{System: n.GetText("system"), Version: n.GetText("version"), Code: n.GetText("code"), Display: n.GetText("display")}
}

// codings are the codes that a call asks about: code with its companions, coding, or all of codeableConcept.
//
// Errors: Invalid where there is none, or more than one kind, or one without a code.
func (c *call) codings(system, version string) ([]terminology.Coding, error) {
	names := []string{}
	for _, name := range []string{"code", "coding", "codeableConcept"} {
		if c.definition.Parameter(name) != nil {
			names = append(names, name)
		}
	}
	var have []string
	for _, name := range names {
		if c.first(name) != nil {
			have = append(have, name)
		}
	}
	if len(have) != 1 {
		return nil, fhir.NewError(fhir.Invalid, fhir.CodeRequired, "$"+c.Operation+" needs one of "+strings.Join(names, ", ")).At("Parameters")
	}
	a := c.first(have[0])
	var list []terminology.Coding
	switch have[0] {
	case "code":
		return []terminology.Coding{{System: c.text(system), Version: c.text(version), Code: a.value.Text, Display: c.text("display")}}, nil
	case "coding":
		list = append(list, codingOf(a.value))
	default:
		for one := range a.value.Get("coding").Items() {
			list = append(list, codingOf(one))
		}
	}
	if d := c.first("display"); d != nil {
		return nil, fhir.NewError(fhir.Invalid, fhir.CodeInvalid, "display belongs to code; a coding has its own").At(d.at)
	}
	for _, one := range list {
		if one.Code == "" {
			return nil, fhir.NewError(fhir.Invalid, fhir.CodeRequired, "A coding needs a code").At(a.at)
		}
	}
	if len(list) == 0 {
		return nil, fhir.NewError(fhir.Invalid, fhir.CodeRequired, "The concept has no coding").At(a.at)
	}
	return list, nil
}

// codingNode writes a Coding; empty members are left out.
func codingNode(x terminology.Coding) fhir.Node {
	n := fhir.Obj()
	for _, m := range [][2]string{{"system", x.System}, {"version", x.Version}, {"code", x.Code}, {"display", x.Display}} {
		if m[1] != "" {
			n.Set(m[0], fhir.Str(m[1]))
		}
	}
	return n
}
