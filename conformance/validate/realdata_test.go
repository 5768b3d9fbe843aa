package validate

import (
	"strings"
	"testing"

	"kiln/fhir"
)

// faultyReal are the resources of the real corpora that are not valid: file, and the expression of each error.
var faultyReal = map[string]string{
	// Period.stop does not exist. (The Device with the "malformed" base64 that the corpus' README names has line breaks
	// in it, which R4 allows.)
	"uscore_bundle_patient_355.json.gz": "unknown-element Bundle.entry[266].resource.effective.stop",
}

func TestRealBundlesAreValid(t *testing.T) {
	t.Parallel()
	v := strictValidator(t)
	for _, folder := range []string{"synthea", "us-core-reference"} {
		t.Run(folder, func(t *testing.T) {
			files, resources := 0, 0
			readGzips(t, sharedData(t, folder), func(name string, data []byte) {
				n := parse(t, data)
				files++
				resources += max(1, entries(n))
				var at []string
				issues := errorsOf(v.Resource(n))
				for _, i := range issues {
					at = append(at, i.Detail+" "+strings.Join(i.Expression, ","))
				}
				if got := strings.Join(at, "; "); got != faultyReal[name] {
					t.Errorf("%s: want the faults %q, got %q:%s", name, faultyReal[name], got, show(issues))
				}
			})
			t.Logf("%d files with %d resources", files, resources)
		})
	}
}

func entries(n *fhir.Node) int {
	if list := n.Get("entry"); list != nil {
		return len(list.Kids)
	}
	return 0
}
