package resources

import (
	"archive/zip"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"kiln/fhir"
	"kiln/internal/kilntest"
	"kiln/storage"
)

// What lenient lets through meets the index, the rules of types and the terminology tables, none of which may break on it.
func TestLenientNeverFailsOnWhatItTakes(t *testing.T) {
	t.Parallel()
	z, err := zip.OpenReader(filepath.Join(kilntest.SharedData(t, "fhir-test-cases"), "fhir-test-cases.zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	s := newService(t, checked(t), func(o *Options, _ *storage.Options) { o.Lenient = true })
	stored, refusals := 0, 0
	for _, f := range z.File {
		if !strings.HasPrefix(f.Name, "validator/") || !strings.HasSuffix(f.Name, ".json") {
			continue
		}
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		r.Close()
		if err != nil {
			t.Fatal(err)
		}
		n, err := fhir.ParseJSON(data)
		if err != nil || !s.isType(n.ResourceType()) {
			continue
		}
		switch _, err := s.Do(t.Context(), Request{Interaction: Create, Type: n.ResourceType(), Body: n}); {
		case err == nil:
			stored++
		case fhir.KindOf(err) == fhir.Internal || fhir.KindOf(err) == fhir.Transient:
			t.Errorf("%s: %s", f.Name, describe(err))
		default:
			refusals++
		}
	}
	t.Logf("%d stored, %d refused", stored, refusals)
}
