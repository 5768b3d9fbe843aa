package resources

import (
	"strconv"

	"kiln/fhir"
	"kiln/storage"
)

// checkConditions says whether If-Match and If-None-Match let a write go on; old is the current version, locked, or
// nil. Spec: FHIR R4 http.html#concurrency.
//
// Errors: Precondition.
func checkConditions(r *Request, old *storage.Version) error {
	exists := old != nil && !old.Deleted
	if want := r.IfMatch; want != "" {
		switch {
		case !exists:
			return precondition("If-Match asks for an existing resource, and there is none", "stale-version")
		case want != "*" && want != strconv.Itoa(old.Number):
			return precondition("The resource is at version "+strconv.Itoa(old.Number)+" and no longer at "+
				quote(want)+"; read it again and repeat the change on what it is now", "stale-version")
		}
	}
	if r.IfNoneMatch != "" && exists {
		if r.IfNoneMatch == "*" {
			return precondition("If-None-Match: * asks that the resource does not exist, and it does", "already-exists")
		}
		if r.IfNoneMatch == strconv.Itoa(old.Number) {
			return precondition("The resource is at the version that If-None-Match excludes", "version-mismatch")
		}
	}
	return nil
}

func precondition(text, detail string) *fhir.Error {
	return fhir.NewError(fhir.Precondition, fhir.CodeConflict, text).Coded(detail)
}

func notFound(k storage.Key) *fhir.Error {
	return fhir.NewError(fhir.NotFound, fhir.CodeNotFound, k.Type+"/"+k.ID+" is not known here")
}

func gone(k storage.Key) *fhir.Error {
	return fhir.NewError(fhir.Gone, fhir.CodeDeleted, k.Type+"/"+k.ID+" has been deleted")
}
