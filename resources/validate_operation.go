package resources

import (
	"context"
	"errors"

	"kiln/conformance/profile"
	"kiln/fhir"
	"kiln/storage"
)

// validateResource is $validate: what would be wrong with a resource, and with doing to it what mode says. Nothing is
// stored. Spec: FHIR R4 resource-operation-validate.html.
//
// Errors: as read, where there is a resource to read; Invalid without a resource where one is needed. What is wrong
// with the resource is no error but the answer.
func (s *Service) validateResource(ctx context.Context, c *call) (*Response, error) {
	body, mode := c.resource("resource"), c.text("mode")
	switch mode {
	case "", "create", "update", "delete", "profile":
	default:
		return nil, fhir.NewError(fhir.Invalid, fhir.CodeCodeInvalid, quote(mode)+" is no mode of $validate; these are: create, update, delete, profile").At(c.first("mode").at)
	}
	var stored *fhir.Node
	builtIn := false
	if c.ID != "" {
		read, err := s.Do(ctx, Request{Interaction: Read, Type: c.Type, ID: c.ID, Principal: c.Principal})
		if err != nil && (mode != "update" || body == nil) {
			return nil, err
		}
		if err == nil {
			builtIn = read.Version.Method == storage.MethodOfficial
			if stored, err = fhir.ParseJSON(read.Version.Content); err != nil {
				return nil, fhir.NewError(fhir.Internal, fhir.CodeException, "A stored resource cannot be read").Because(err)
			}
		}
	}
	if body == nil && stored == nil {
		return nil, fhir.NewError(fhir.Invalid, fhir.CodeRequired, "$validate needs a resource in the body, or an id in the path").At("Parameters.parameter")
	}
	if mode == "delete" && builtIn {
		return &Response{Issues: []fhir.Issue{{Severity: fhir.SeverityError, Code: fhir.CodeBusinessRule, Text: "It is built in, and cannot be deleted"}}}, nil
	}
	if mode == "delete" {
		return &Response{Issues: []fhir.Issue{{Severity: fhir.SeverityInformation, Code: fhir.CodeInformational, Text: "All OK: it could be deleted"}}}, nil
	}
	issues, err := s.validationIssues(ctx, c, body, stored, mode)
	return &Response{Issues: issues}, err
}

func (s *Service) validationIssues(ctx context.Context, c *call, body, stored *fhir.Node, mode string) ([]fhir.Issue, error) {
	var issues []fhir.Issue
	add := func(severity, code, at, text string) {
		issues = append(issues, fhir.Issue{Severity: severity, Code: code, Text: text, Expression: []string{at}})
	}
	if body == nil {
		body = stored
	}
	typ := body.ResourceType()
	if typ != c.Type {
		add(fhir.SeverityError, fhir.CodeInvalid, "resourceType", "This address is for "+c.Type+", and the resource is of the type "+quote(typ))
	}
	asked := profile.Options{MustSupport: true}
	if url := c.text("profile"); url != "" {
		asked.Profiles = []string{url}
	}
	found, err := s.findings(ctx, nil, body, s.options.Advise, asked)
	if err != nil {
		return nil, err
	}
	issues = append(issues, found...)
	if typ == structureDefinitionType {
		more, err := s.checkProfile(ctx, nil, body)
		var refused *fhir.Error
		switch {
		case errors.As(err, &refused) && refused.Kind == fhir.Unprocessable:
			more = refused.Issues
		case err != nil:
			return nil, err
		}
		issues = append(issues, more...)
	}
	switch {
	case mode == "update" && c.ID == "":
		add(fhir.SeverityError, fhir.CodeRequired, "http", "The mode update is for one resource: POST to [type]/[id]/$validate")
	case mode == "update" && body.ID() != c.ID:
		add(fhir.SeverityError, fhir.CodeValue, typ+".id", "The id in the resource must be that of the URL, "+c.ID)
	case mode == "create" && body.ID() != "":
		add(fhir.SeverityInformation, fhir.CodeInformational, typ+".id", "A create gives the resource another id; this one does not count")
	}
	return issues, nil
}
