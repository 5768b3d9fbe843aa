package resources

import (
	"context"
	"strings"

	"kiln/fhir"
	"kiln/storage"
)

const (
	documentType   = "Composition"
	maxDocument    = 1000 // resources in one document
	uriIdentifiers = "urn:ietf:rfc:3986"
)

// document answers $document: a Bundle of a Composition and of what it refers to. With persist it becomes a Bundle of
// this server. Spec: FHIR R4 composition-operation-document.html, documents.html.
//
// Errors: NotFound, Gone; Unprocessable where something is missing that the document must hold; NotSupported for graph
// and for Compositions of other servers.
func (s *Service) document(ctx context.Context, c *call) (*Response, error) {
	key, err := s.documentKey(c)
	if err != nil {
		return nil, err
	}
	read, err := s.Do(ctx, Request{Interaction: Read, Type: key.Type, ID: key.ID, Principal: c.Principal})
	if err != nil {
		return nil, err
	}
	persist := c.is("persist")
	if persist && c.Safe {
		e := fhir.NewError(fhir.MethodNotAllowed, fhir.CodeNotSupported, "A document is stored by POST; GET changes nothing").At(c.first("persist").at)
		e.Allow = []string{"POST"}
		return nil, e
	}
	bundle, err := s.assemble(ctx, read.Version)
	if err != nil {
		return nil, err
	}
	if !persist {
		return &Response{Resource: bundle}, nil
	}
	r := *c.Request
	fingerprint := s.fingerprint(ctx, &r)
	r.Interaction, r.Type, r.ID, r.Query, r.Body = Create, "Bundle", "", "", bundle
	if ctx, err = authorize(ctx, &r); err != nil {
		return nil, err
	}
	if _, err := s.validate(ctx, nil, bundle); err != nil {
		return nil, err
	}
	p, err := s.store.Prepare(bundle)
	if err != nil {
		return nil, err
	}
	return s.write(ctx, &r, fingerprint, func(tx *storage.Tx) (*Response, error) {
		return s.put(ctx, tx, &r, p, nil, storage.MethodCreate)
	})
}

// documentKey is the Composition that is meant: that of the path, or that of the argument id.
func (s *Service) documentKey(c *call) (key storage.Key, err error) {
	key = storage.Key{Type: documentType, ID: c.ID}
	id := c.first("id")
	switch {
	case c.first("graph") != nil:
		return key, fhir.NewError(fhir.NotSupported, fhir.CodeNotSupported, "Documents by a GraphDefinition are not offered").At(c.first("graph").at)
	case c.ID != "" && id != nil:
		return key, fhir.NewError(fhir.Invalid, fhir.CodeInvalid, "The path names the Composition; the argument id cannot").At(id.at)
	case c.ID == "" && id == nil:
		return key, fhir.NewError(fhir.Invalid, fhir.CodeRequired, "Say which Composition, with the argument id")
	case id != nil:
		text := strings.TrimPrefix(id.value.Text, s.options.Base+"/")
		text = strings.TrimPrefix(text, documentType+"/")
		if strings.Contains(text, ":") {
			return key, fhir.NewError(fhir.NotSupported, fhir.CodeNotSupported, "Compositions of other servers are not fetched").At(id.at)
		}
		if !fhir.ValidID(text) {
			return key, fhir.NewError(fhir.Invalid, fhir.CodeValue, quote(text)+" is not the id of a Composition").At(id.at)
		}
		key.ID = text
	}
	return key, nil
}

// assemble makes the Bundle. What the Composition refers to on this server has to be there; what it refers to elsewhere
// stays a reference.
func (s *Service) assemble(ctx context.Context, composition *storage.Version) (*fhir.Node, error) {
	root, err := fhir.ParseJSON(composition.Content)
	if err != nil {
		return nil, fhir.NewError(fhir.Internal, fhir.CodeException, "A stored resource cannot be read").Because(err)
	}
	entries := []fhir.Node{s.documentEntry(composition, root)}
	var highest fhir.Confidentiality // of what it holds
	highest.Of(root)
	seen := map[string]bool{composition.Type + "/" + composition.ID: true}
	held := map[storage.Key]int{{Type: composition.Type, ID: composition.ID}: composition.Number}
	missing := &fhir.Error{Kind: fhir.Unprocessable}
	for _, target := range s.localReferences(root) {
		if seen[target.reference] {
			continue
		}
		seen[target.reference] = true
		if len(entries) == maxDocument {
			return nil, fhir.NewError(fhir.TooCostly, fhir.CodeTooCostly, "The document would have too many resources")
		}
		var v *storage.Version
		if target.version == "" {
			v, err = s.current(ctx, nil, target.key)
		} else if resp, e := s.vread(ctx, nil, Request{Type: target.key.Type, ID: target.key.ID, Version: target.version}); e == nil {
			v = resp.Version
		} else if fhir.KindOf(e) != fhir.NotFound && fhir.KindOf(e) != fhir.Gone {
			err = e
		}
		if err != nil {
			return nil, err
		}
		if v == nil || v.Deleted {
			missing.Issues = append(missing.Issues, fhir.Issue{Severity: fhir.SeverityError, Code: fhir.CodeNotFound,
				Text: "The document must hold " + target.reference + ", and it is not there", Expression: []string{documentType}})
			continue
		}
		if held[target.key] == v.Number { // by another reference
			continue
		}
		held[target.key] = v.Number
		if v, err = s.store.Alone(ctx, v); err != nil {
			return nil, err
		}
		n, err := fhir.ParseJSON(v.Content)
		if err != nil {
			return nil, fhir.NewError(fhir.Internal, fhir.CodeException, "A stored resource cannot be read").Because(err)
		}
		highest.Of(n)
		entries = append(entries, s.documentEntry(v, n))
	}
	if len(missing.Issues) > 0 {
		return nil, missing
	}
	id := s.options.NewID()
	now := fhir.FormatInstant(s.now())
	meta := fhir.Obj(fhir.Str(now).As("lastUpdated"))
	if label, ok := highest.Label(); ok {
		meta.Set("security", fhir.Arr(label))
	}
	bundle := fhir.Obj(
		fhir.Str("Bundle").As("resourceType"),
		fhir.Str(id).As("id"),
		meta.As("meta"),
		fhir.Obj(fhir.Str(uriIdentifiers).As("system"), fhir.Str("urn:uuid:"+id).As("value")).As("identifier"),
		fhir.Str("document").As("type"),
		fhir.Str(now).As("timestamp"),
		fhir.Arr(entries...).As("entry"),
	)
	return &bundle, nil
}

func (s *Service) documentEntry(v *storage.Version, n *fhir.Node) fhir.Node {
	return fhir.Obj(fhir.Str(s.options.Base+"/"+v.Type+"/"+v.ID).As("fullUrl"), n.As("resource"))
}

// localTarget is a resource of this server that another refers to.
type localTarget struct {
	reference string // Patient/1 or Patient/1/_history/2
	key       storage.Key
	version   string
}

// localReferences are those of a resource, contained ones included.
func (s *Service) localReferences(root *fhir.Node) []localTarget {
	var list []localTarget
	root.Walk(func(n *fhir.Node) bool {
		text := n.GetText("reference")
		if text == "" || n.Kind != fhir.Object {
			return true
		}
		text = strings.TrimPrefix(text, s.options.Base+"/")
		name, version, _ := strings.Cut(text, "/_history/")
		typ, id, found := strings.Cut(name, "/")
		if found && s.isType(typ) && fhir.ValidID(id) {
			list = append(list, localTarget{text, storage.Key{Type: typ, ID: id}, version})
		}
		return true
	})
	return list
}
