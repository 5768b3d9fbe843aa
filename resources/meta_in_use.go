package resources

import (
	"context"
	"fmt"
	"slices"

	"kiln/auth"
	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/storage"
)

// maxMetaLabels is how many different profiles, security labels and tags $meta of a type or of the server looks for.
const maxMetaLabels = 2000

// metaInUse answers $meta of a type and of the server: the profiles, security labels and tags of the resources that the caller
// may search for, each once, as the newest that has it writes it.
//
// Errors: Forbidden for who may not search; TooCostly where there are more than maxMetaLabels.
func (s *Service) metaInUse(ctx context.Context, c *call) (*Response, error) {
	for _, action := range []auth.Actions{auth.Read, auth.Search} {
		if err := permitted(ctx, action, c.Type); err != nil {
			return nil, err
		}
	}
	types := []string{c.Type}
	if c.Type == "" {
		types = slices.DeleteFunc(slices.Clone(s.registry.Schema().Resources), func(t string) bool {
			return permitted(ctx, auth.Read, t) != nil || permitted(ctx, auth.Search, t) != nil
		})
	}
	labels, err := s.store.MetaLabels(ctx, types, maxMetaLabels+1)
	if err != nil {
		return nil, err
	}
	if len(labels) > maxMetaLabels {
		return nil, fhir.NewError(fhir.TooCostly, fhir.CodeTooCostly, fmt.Sprintf("More than %d different profiles, security labels and tags have been in use; ask for those of one type, or search", maxMetaLabels)).
			Coded("too-costly")
	}
	ctx = s.store.WithinTime(acting(ctx, auth.Search))
	lists := map[string]fhir.Node{}
	var holds []*storage.Version
	for _, kind := range metaLists {
		lists[kind] = fhir.Arr()
	}
	for _, l := range labels {
		list := lists[l.Kind]
		if metaIndex(&list, labelNode(l)) >= 0 {
			continue // another type has it
		}
		shown, from, err := s.metaShown(ctx, l)
		if err != nil {
			return nil, err
		}
		if shown != nil {
			list.Kids = append(list.Kids, *shown)
			lists[l.Kind] = list
			holds = append(holds, from)
		}
	}
	meta := fhir.Obj()
	for _, kind := range metaLists {
		if list := lists[kind]; len(list.Kids) > 0 {
			meta.Set(kind, list)
		}
	}
	if len(meta.Kids) == 0 { // FHIR has no way to say an empty one
		return &Response{Resource: parameters()}, nil
	}
	return &Response{Resource: parameters(named("return", "valueMeta", meta)), holds: holds}, nil
}

// metaShown is a label as it stands in a resource that the caller may see, and that resource; nil where there is none.
func (s *Service) metaShown(ctx context.Context, l storage.MetaLabel) (*fhir.Node, *storage.Version, error) {
	value := search.EscapeValue(l.Code)
	if l.Kind != "profile" {
		value = search.EscapeValue(l.System) + "|" + value
	}
	pairs := []search.Pair{{Name: "_" + l.Kind, Value: value}}
	q, err := search.Parse(pairs, catalog{registry: s.store.Registry()}, search.Options{Types: []string{l.Type}, Now: s.now(), Zone: s.store.Zone()})
	if err != nil {
		return nil, nil, err
	}
	page, err := s.store.Search(ctx, nil, q, 1, nil)
	if err != nil || len(page.Matches) == 0 {
		return nil, nil, err
	}
	n, err := fhir.ParseJSON(page.Matches[0].Content)
	if err != nil {
		return nil, nil, fhir.NewError(fhir.Internal, fhir.CodeException, "A stored resource cannot be read").Because(err)
	}
	list := n.At("meta").Get(l.Kind)
	if i := metaIndex(list, labelNode(l)); i >= 0 {
		return &list.Kids[i], page.Matches[0], nil
	}
	return nil, nil, nil // its code is written otherwise: that spelling is another label
}

// labelNode is a label as it stands in meta.
func labelNode(l storage.MetaLabel) *fhir.Node {
	n := fhir.Str(l.Code)
	if l.Kind != "profile" {
		n = fhir.Obj()
		if l.System != "" {
			n.Set("system", fhir.Str(l.System))
		}
		n.Set("code", fhir.Str(l.Code))
	}
	return &n
}
