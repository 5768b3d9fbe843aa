package resources

import (
	"context"
	"strings"

	"kiln/fhir"
	"kiln/storage"
	"kiln/storage/terminology"
)

// translate is ConceptMap/$translate. Spec: FHIR R4 conceptmap-operation-translate.html.
//
// Errors: NotFound for a concept map that is named and not here.
func (s *Service) translate(ctx context.Context, c *call) (*Response, error) {
	codings, err := c.codings("system", "version")
	if err != nil {
		return nil, err
	}
	if codings[0].System == "" && c.first("code") != nil {
		return nil, fhir.NewError(fhir.Invalid, fhir.CodeRequired, "$translate needs the system of the code").At("Parameters")
	}
	r, err := s.resolver(ctx, c)
	if err != nil {
		return nil, err
	}
	q := terminology.TranslateQuery{Source: c.text("source"), Target: c.text("target"), TargetSystem: c.text("targetsystem"), Reverse: c.is("reverse")}
	if c.ID != "" || c.first("url") != nil || c.first("conceptMap") != nil {
		which, err := c.oneOf("url", "conceptMap")
		if err != nil {
			return nil, err
		}
		switch which {
		case "url":
			q.URL, q.Version, _ = strings.Cut(c.text("url"), "|")
			if v := c.text("conceptMapVersion"); v != "" {
				q.Version = v
			}
		case "conceptMap":
			q.Node = c.resource("conceptMap")
		default:
			if q.Map, err = s.mapKey(ctx, c, r); err != nil {
				return nil, err
			}
		}
	}
	var matches []fhir.Node
	result := false
	for _, coding := range codings {
		q.Coding = coding
		list, err := r.Translate(ctx, q)
		if err != nil {
			return nil, err
		}
		for i := range list {
			t := &list[i]
			result = result || t.Equivalence != "unmatched" && t.Equivalence != "disjoint" && t.Code != ""
			matches = append(matches, matchParameter(t))
		}
	}
	list := []fhir.Node{named("result", "valueBoolean", fhir.Boolean(result))}
	if !result {
		list = append(list, named("message", "valueString", fhir.Str("No concept map of this server translates the code")))
	}
	return &Response{Resource: parameters(append(list, matches...)...)}, nil
}

// mapKey is the key of the concept map that a call is about. Those that the server has built in are known by another key
// than that of the resource which shows them.
func (s *Service) mapKey(ctx context.Context, c *call, r *terminology.Resolver) (*int64, error) {
	v, err := s.current(ctx, nil, storage.Key{Type: c.Type, ID: c.ID})
	if err != nil {
		return nil, err
	}
	if v != nil && !v.Deleted && v.Method != storage.MethodOfficial {
		key := s.store.ResourceKey(c.Type, c.ID)
		return &key, nil
	}
	key, ok, err := r.OfficialMap(ctx, c.ID)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, notFound(storage.Key{Type: c.Type, ID: c.ID})
	}
	return &key, nil
}

func matchParameter(t *terminology.Translation) fhir.Node {
	parts := []fhir.Node{named("equivalence", "valueCode", fhir.Str(t.Equivalence))}
	if t.Code != "" {
		parts = append(parts, named("concept", "valueCoding", codingNode(terminology.Coding{System: t.System, Version: t.Version, Code: t.Code, Display: t.Display})))
	}
	for p := range t.Product.Items() {
		var of []fhir.Node
		if property := p.GetText("property"); property != "" {
			of = append(of, named("element", "valueUri", fhir.Str(property)))
		}
		of = append(of, named("concept", "valueCoding", codingNode(terminology.Coding{System: p.GetText("system"), Code: p.GetText("value"), Display: p.GetText("display")})))
		parts = append(parts, fhir.Obj(fhir.Str("product").As("name"), fhir.Arr(of...).As("part")))
	}
	if t.Map != "" {
		parts = append(parts, named("source", "valueUri", fhir.Str(t.Map)))
	}
	return fhir.Obj(fhir.Str("match").As("name"), fhir.Arr(parts...).As("part"))
}
