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

func (s *Service) checkSize(v *storage.Version) error {
	if limit := s.limits.MaxResourceBytes; len(v.Content) > limit {
		return fhir.NewError(fhir.TooLarge, fhir.CodeTooLong,
			"The resource is larger than the "+strconv.Itoa(limit)+" bytes that one may have here").Coded("resource-too-large")
	}
	return nil
}

// quote repeats a piece of the client's input in a message: cut to a length a person reads, control characters escaped.
func quote(s string) string {
	if len(s) > 64 {
		s = s[:64] + "…"
	}
	return strconv.Quote(s)
}
