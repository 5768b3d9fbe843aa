package leak

import (
	"testing"

	"kiln/fhir"
)

// What a caller is told of an id that this server made is the same as of any other.
func TestOutcome_of_ids_that_the_server_made(t *testing.T) {
	t.Parallel()
	told := func(about string) string {
		return outcome(nil, fhir.NewError(fhir.NotFound, fhir.CodeNotFound, about+" is not known here"), about)
	}
	if made, other := told("Patient/01a22893-5245-7303-a57f-1c9523bf094e"), told("Patient/nobody"); made != other {
		t.Errorf("%q, and %q", made, other)
	}
}
