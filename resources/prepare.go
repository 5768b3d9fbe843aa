package resources

import (
	"strconv"

	"kiln/fhir"
	"kiln/storage"
)

// checkBody says whether a body can be written as a resource of a type: whether there is one, and of that type.
func checkBody(body *fhir.Node, typ string) error {
	switch {
	case body == nil:
		return fhir.NewError(fhir.Invalid, fhir.CodeRequired, "A "+typ+" is needed here, and none was sent")
	case body.Kind != fhir.Object:
		return fhir.NewError(fhir.Invalid, fhir.CodeStructure, "A resource is a JSON object, not a JSON "+body.Kind.String())
	case body.ResourceType() == "":
		return fhir.NewError(fhir.Invalid, fhir.CodeRequired, "The resource does not say its resourceType").At("resourceType")
	case body.ResourceType() != typ:
		return fhir.NewError(fhir.Invalid, fhir.CodeInvalid,
			"The URL is for "+typ+", but the resource is of the type "+quote(body.ResourceType())).
			At("resourceType").Coded("type-mismatch")
	}
	return nil
}

// takeID makes the body carry the id of its URL. A body without one is given it; another one is an error.
func takeID(body *fhir.Node, id string) error {
	if has := body.Get("id"); has != nil && !has.IsString(id) {
		return fhir.NewError(fhir.Invalid, fhir.CodeValue,
			"The id in the resource is not that of the URL, "+id+"; the two must be the same").
			At(body.ResourceType() + ".id").Coded("id-mismatch")
	}
	body.Set("id", fhir.Str(id))
	return nil
}

// validate returns the warnings on a resource that may be stored, or an error with everything found on one that may
// not. Errors: Unprocessable.
func (s *Service) validate(body *fhir.Node) ([]fhir.Issue, error) {
	var issues []fhir.Issue
	if s.options.Validate != nil {
		issues = s.options.Validate(body)
	}
	for _, issue := range issues {
		switch issue.Severity {
		case fhir.SeverityError, fhir.SeverityFatal:
			return nil, &fhir.Error{Kind: fhir.Unprocessable, Issues: issues}
		case fhir.SeverityWarning:
			if s.options.Strict {
				return nil, &fhir.Error{Kind: fhir.Unprocessable, Issues: issues}
			}
		}
	}
	if body.ResourceType() == searchParameterType {
		more, err := s.checkSearchParameter(body)
		return append(issues, more...), err
	}
	return issues, nil
}

// put queues the next version of a resource: old is the current one, locked, or nil where it never existed. What
// changes nothing makes no version.
func (s *Service) put(tx *storage.Tx, p *storage.Prepared, old *storage.Version, method string) (*Response, error) {
	resp := &Response{}
	switch {
	case old == nil:
		resp.Version, resp.Created = tx.Insert(p, method), true
	case old.Deleted:
		resp.Version, resp.Created = tx.Replace(p, old, method), true
	default:
		same, err := changesNothing(p.Node, old)
		if err != nil {
			return nil, err
		}
		if same {
			resp.Version, resp.Unchanged = old, true
			return resp, nil
		}
		resp.Version = tx.Replace(p, old, method)
	}
	if err := s.checkSize(resp.Version); err != nil {
		return nil, err
	}
	if resp.Version.Type == searchParameterType {
		var before []byte
		if old != nil {
			before = old.Content
		}
		s.defineParameters(tx, resp.Version.ID, p.Node, before)
	}
	return resp, nil
}

func (s *Service) checkSize(v *storage.Version) error {
	if limit := s.limits.MaxResourceBytes; len(v.Content) > limit {
		return fhir.NewError(fhir.TooLarge, fhir.CodeTooLong,
			"The resource is larger than the "+strconv.Itoa(limit)+" bytes that one may have here").Coded("resource-too-large")
	}
	return nil
}

// changesNothing says whether a resource is the same as a stored version, but for what the server itself writes.
func changesNothing(n *fhir.Node, old *storage.Version) (bool, error) {
	stored, err := fhir.ParseJSON(old.Content)
	if err != nil {
		return false, fhir.NewError(fhir.Internal, fhir.CodeException, "A stored resource cannot be read").Because(err)
	}
	a, b := unstamped(n), unstamped(stored)
	return a.Equal(&b), nil
}

// unstamped is a resource without meta.versionId and meta.lastUpdated. It shares all else.
func unstamped(n *fhir.Node) fhir.Node {
	c := *n
	c.Kids = make([]fhir.Node, 0, len(n.Kids))
	for _, kid := range n.Kids {
		if kid.Name == "meta" && kid.Kind == fhir.Object {
			meta := make([]fhir.Node, 0, len(kid.Kids))
			for _, m := range kid.Kids {
				if m.Name != "versionId" && m.Name != "lastUpdated" {
					meta = append(meta, m)
				}
			}
			if kid.Kids = meta; len(meta) == 0 {
				continue
			}
		}
		c.Kids = append(c.Kids, kid)
	}
	return c
}

// quote repeats a piece of the client's input in a message: cut to a length a person reads, control characters escaped.
func quote(s string) string {
	if len(s) > 64 {
		s = s[:64] + "…"
	}
	return strconv.Quote(s)
}
