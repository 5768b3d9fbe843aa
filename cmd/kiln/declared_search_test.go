package main

import (
	"net/url"
	"slices"
	"strings"
)

// sensible is a value for a search parameter of each type.
var sensible = map[string]string{"string": "a", "token": "a|b", "date": "ge2020-01-01", "reference": "Patient/demo-tom", "uri": "http://example.org/x",
	"number": "5", "quantity": "5|http://unitsofmeasure.org|mg", "composite": ""}

// common are values for the parameters of all types that need one of their own.
var common = map[string]string{"_contained": "both", "_containedType": "contained", "_elements": "id", "_filter": "_id eq x", "_has:Provenance:target:_id": "x",
	"_include": "Basic:author", "_revinclude": "Basic:author", "_in": "List/x", "_list": "x", "_sort": "-_lastUpdated", "_summary": "text", "_total": "none"}

// parameters: each is taken, and stands in the self link, so that it was not passed over.
func (d *declared) parameters() {
	var paths, names []string
	for typ, r := range d.resources() {
		for p := range r.Get("searchParam").Items() {
			name, kind := p.GetText("name"), p.GetText("type")
			value := sensible[kind]
			switch {
			case name == "_id":
				value = "x"
			case name == "near":
				value = "52.1|4.3|10|km"
			case name == "_text", name == "_content", name == "_filter":
				value = "word"
			case kind == "composite":
				value = d.composite(typ, name)
			case kind == "reference":
				if def := d.registry.SearchParameter(typ, name); def != nil && len(def.Targets) > 0 && !slices.Contains(def.Targets, "Patient") {
					value = def.Targets[0] + "/x"
				}
			}
			if value == "" {
				d.Errorf("%s.%s has the type %s: this test knows no value", typ, name, kind)
			}
			paths, names = append(paths, typ+"?"+name+"="+url.QueryEscape(value)+"&_count=1"), append(names, name)
		}
	}
	for rest := range d.statement.Get("rest").Items() {
		for p := range rest.Get("searchParam").Items() {
			name := p.GetText("name")
			if name == "_has" {
				name = "_has:Provenance:target:_id"
			}
			value, ok := common[name]
			if !ok {
				value = sensible[p.GetText("type")]
			}
			for _, path := range []string{"Patient?", "Basic?", "?_type=Basic,Flag&"} {
				if path = path + name + "=" + url.QueryEscape(value); name == "_type" {
					path = "?_type=Basic"
				}
				paths, names = append(paths, path), append(names, name)
			}
		}
	}
	for i, found := range d.batch(paths) {
		self := ""
		for link := range found.Get("link").Items() {
			if link.GetText("relation") == "self" {
				self = link.GetText("url")
			}
		}
		if !strings.Contains(self, names[i]+"=") {
			d.Errorf("%s: answered as %s", paths[i], self)
		}
	}
}

func (d *declared) composite(typ, name string) string {
	var values []string
	for _, c := range d.registry.SearchParameter(typ, name).Components {
		values = append(values, sensible[string(c.Param.Type)])
	}
	return strings.Join(values, "$")
}

// includes: as many in a request as one may have.
func (d *declared) includes() {
	var paths []string
	for typ, r := range d.resources() {
		for _, kind := range []struct{ element, parameter string }{{"searchInclude", "_include"}, {"searchRevInclude", "_revinclude"}} {
			for some := range slices.Chunk(texts(r.Get(kind.element)), 30) {
				paths = append(paths, typ+"?_count=2&"+kind.parameter+"="+strings.Join(some, "&"+kind.parameter+"="))
			}
		}
	}
	d.batch(paths)
}
