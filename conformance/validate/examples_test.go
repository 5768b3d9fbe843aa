package validate

import (
	"path/filepath"
	"testing"
)

// faultyExamples are the official examples that are not valid, each with the issues' details and the reason. The test
// fails when one of them passes.
var faultyExamples = map[string]string{}

func TestOfficialExamplesAreValid(t *testing.T) {
	t.Parallel()
	dir := sharedData(t, "examples")
	v := strictValidator(t)
	for _, archive := range []string{"r4-examples.zip", "r4-definitions.zip"} {
		files, faulty := 0, 0
		readZip(t, filepath.Join(dir, archive), func(name string, data []byte) {
			files++
			issues := errorsOf(v.Resource(parse(t, data)))
			_, known := faultyExamples[name]
			switch {
			case len(issues) > 0 && !known:
				t.Errorf("%s:%s", name, show(issues))
			case len(issues) == 0 && known:
				t.Errorf("%s is listed as faulty, but passes", name)
			case known:
				faulty++
			}
		})
		t.Logf("%s: %d files, %d with a known fault, the others valid", archive, files, faulty)
	}
}
