package openapi

import (
	"strings"

	"kiln/fhir"
)

// failure is an answer that tells of an error, by its name among the components.
type failure struct {
	name, text string
	// code, said and at are those of an example: TYPE in them stands for the document's type.
	code, said, at string
}

var failures = []failure{
	{"BadRequest", "The request cannot be read or is not valid FHIR; the outcome lists everything found.",
		fhir.CodeStructure, "The body is not the JSON that FHIR asks for: the member name stands twice in one object (line 1, column 56)", "status"},
	{"Unauthorized", "A token is needed, or the one sent does not hold.", fhir.CodeLogin, "An access token is needed: Authorization: Bearer …", ""},
	{"Forbidden", "The token does not grant this type or action.", fhir.CodeForbidden, "The token and the role of this caller do not allow to read TYPE", ""},
	{"NotFound", "There is no such resource, as far as the caller may know.", fhir.CodeNotFound, "TYPE/1 is not known here", ""},
	{"Gone", "It has been deleted.", fhir.CodeDeleted, "TYPE/1 has been deleted", ""},
	{"Conflict", "It clashes with what is there.", fhir.CodeConflict, "The time is taken", "TYPE"},
	{"Precondition", "If-Match or criteria do not fit what is there.", fhir.CodeConflict, "The resource is at version 3 and no longer at \"2\"; read it again and repeat the change on what it is now", ""},
	{"Unprocessable", "Valid FHIR that breaks a rule; the outcome says which.", fhir.CodeRequired, "status is required", "TYPE"},
	{"Default", "Any other failure.", fhir.CodeTransient, "Others are writing the same resources at the same time; try again.", ""},
}

// example is an OperationOutcome of the failure.
func (f *failure) example(typ string) fhir.Node {
	if typ == "" {
		typ = "Patient"
	}
	said := strings.ReplaceAll(f.said, "TYPE", typ)
	issue := obj(text("severity", "error"), text("code", f.code), obj(text("text", said)).As("details"), text("diagnostics", said))
	if f.at != "" {
		issue.Set("expression", strs(strings.ReplaceAll(f.at, "TYPE", typ)))
	}
	return obj(text("resourceType", "OperationOutcome"), fhir.Arr(issue).As("issue"))
}
