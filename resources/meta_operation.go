package resources

import (
	"context"

	"kiln/auth"
	"kiln/fhir"
	"kiln/storage"
)

// meta is $meta: the profiles, tags and security labels of one resource, or those in use in a type or everywhere.
// Spec: FHIR R4 resource-operation-meta.html.
func (s *Service) meta(ctx context.Context, c *call) (*Response, error) {
	if c.ID == "" {
		return s.metaInUse(ctx, c)
	}
	read, err := s.Do(ctx, Request{Interaction: Read, Type: c.Type, ID: c.ID, Principal: c.Principal})
	if err != nil {
		return nil, err
	}
	return metaOf(read.Version)
}

// metaOf answers with the meta of a version.
func metaOf(v *storage.Version) (*Response, error) {
	n, err := fhir.ParseJSON(v.Content)
	if err != nil {
		return nil, fhir.NewError(fhir.Internal, fhir.CodeException, "A stored resource cannot be read").Because(err)
	}
	meta := fhir.Obj()
	if m := n.Get("meta"); m != nil {
		meta = *m
	}
	return &Response{Resource: parameters(named("return", "valueMeta", meta))}, nil
}

// metaAdd is $meta-add: it adds profiles, tags and security labels that are not there yet. It makes a version, so that
// the history tells who did it. Spec: FHIR R4 resource-operation-meta-add.html.
func (s *Service) metaAdd(ctx context.Context, c *call) (*Response, error) {
	return s.changeMeta(ctx, c, func(has, given *fhir.Node) {
		for _, name := range metaLists {
			for item := range given.Get(name).Items() {
				list := has.Get(name)
				if list == nil {
					has.Set(name, fhir.Arr())
					list = has.Get(name)
				}
				if metaIndex(list, item) < 0 {
					list.Kids = append(list.Kids, item.Clone())
				}
			}
		}
	})
}

// metaDelete is $meta-delete: it removes the profiles, tags and security labels given, where they are there.
// Spec: FHIR R4 resource-operation-meta-delete.html.
func (s *Service) metaDelete(ctx context.Context, c *call) (*Response, error) {
	return s.changeMeta(ctx, c, func(has, given *fhir.Node) {
		for _, name := range metaLists {
			list := has.Get(name)
			for item := range given.Get(name).Items() {
				if i := metaIndex(list, item); i >= 0 {
					list.Kids = append(list.Kids[:i:i], list.Kids[i+1:]...)
				}
			}
			if list != nil && len(list.Kids) == 0 {
				has.Remove(name)
			}
		}
	})
}

// metaLists are the parts of meta that these operations are about.
var metaLists = []string{"profile", "security", "tag"}

// metaIndex finds a profile by its text and a Coding by system and code.
func metaIndex(list, item *fhir.Node) int {
	if list == nil {
		return -1
	}
	for i := range list.Kids {
		k := &list.Kids[i]
		if k.Kind == item.Kind && (k.Kind == fhir.String && k.Text == item.Text ||
			k.Kind == fhir.Object && k.GetText("system") == item.GetText("system") && k.GetText("code") == item.GetText("code")) {
			return i
		}
	}
	return -1
}

func (s *Service) changeMeta(ctx context.Context, c *call, change func(has, given *fhir.Node)) (*Response, error) {
	r := *c.Request
	r.Interaction = Patch // the rights and rules are those of any change of a part
	ctx, err := authorize(ctx, &r)
	if err != nil {
		return nil, err
	}
	given := c.first("meta").value
	var fingerprint []byte
	if r.IdempotencyKey != "" {
		f := r
		f.Body = given
		fingerprint = s.fingerprint(ctx, &f)
	}
	resp, err := s.write(ctx, &r, fingerprint, func(tx *storage.Tx) (*Response, error) {
		old, err := s.patchTarget(ctx, tx, &r)
		if err != nil {
			return nil, err
		}
		body, err := fhir.ParseJSON(old.Content)
		if err != nil {
			return nil, fhir.NewError(fhir.Internal, fhir.CodeException, "A stored resource cannot be read").Because(err)
		}
		meta := fhir.Obj()
		if m := body.Get("meta"); m != nil {
			meta = m.Clone()
		}
		change(&meta, given)
		body.Set("meta", meta)
		return s.putPatched(ctx, tx, &r, body, old)
	})
	if err != nil {
		return nil, err
	}
	if err := permitted(ctx, auth.Read, c.Type); err != nil {
		return nil, err
	}
	return metaOf(resp.Version)
}
