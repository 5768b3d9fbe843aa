package resources

import (
	"context"
	"strconv"

	"kiln/conformance/profile"
	"kiln/conformance/validate"
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
// not. With a transaction, what it has to read comes on its connection. Errors: Unprocessable.
func (s *Service) validate(ctx context.Context, tx *storage.Tx, body *fhir.Node) ([]fhir.Issue, error) {
	issues, err := s.findings(ctx, tx, body, s.options.Validate, profile.Options{})
	if err != nil {
		return nil, err
	}
	if !validate.Valid(issues) && !(s.options.Lenient && tolerate(issues)) {
		return nil, &fhir.Error{Kind: fhir.Unprocessable, Issues: issues}
	}
	switch body.ResourceType() {
	case searchParameterType:
		more, err := s.checkSearchParameter(body)
		return append(issues, more...), err
	case structureDefinitionType:
		more, err := s.checkProfile(ctx, tx, body)
		return append(issues, more...), err
	}
	return issues, nil
}

// tolerate makes warnings of errors; false where one is none to tolerate, because it would harm who reads the resource.
func tolerate(issues []fhir.Issue) bool {
	for i := range issues {
		if issues[i].Code == fhir.CodeSecurity {
			return false
		}
	}
	for i := range issues {
		if s := &issues[i].Severity; *s == fhir.SeverityError || *s == fhir.SeverityFatal {
			*s = fhir.SeverityWarning
		}
	}
	return true
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
