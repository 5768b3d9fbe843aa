package profile

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kiln/conformance"
	"kiln/fhir"
	"kiln/internal/kilntest"
)

func parse(t testing.TB, text string) *fhir.Node {
	t.Helper()
	n, err := fhir.ParseJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// known makes a set of definitions at hand.
func known(t testing.TB, list ...*fhir.Node) *Set {
	t.Helper()
	reg, err := conformance.R4()
	if err != nil {
		t.Fatal(err)
	}
	return NewSet(reg, func(_ context.Context, canonical string) (*fhir.Node, error) {
		url, version, _ := strings.Cut(canonical, "|")
		for _, n := range list {
			if n.GetText("url") == url && (version == "" || n.GetText("version") == version) {
				return n, nil
			}
		}
		return nil, nil
	})
}

// readPackage gives the definitions of a package and its other resources, by their files.
func readPackage(t testing.TB, name string) (definitions []*fhir.Node, examples map[string]*fhir.Node) {
	t.Helper()
	f, err := os.Open(filepath.Join(kilntest.SharedData(t, "us-core-reference"), "packages", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	examples = map[string]*fhir.Node{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return definitions, examples
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		n, err := fhir.ParseJSON(data)
		if err != nil || !strings.HasSuffix(h.Name, ".json") {
			continue
		}
		switch {
		case strings.HasPrefix(h.Name, "package/example/") && n.ResourceType() != "":
			examples[h.Name] = n
		case strings.HasPrefix(h.Name, "package/StructureDefinition-"):
			definitions = append(definitions, n)
		case n.ResourceType() != "":
			examples[h.Name] = n
		}
	}
}

func details(issues []fhir.Issue) (list []string) {
	for _, i := range issues {
		if i.Severity == fhir.SeverityError {
			list = append(list, i.Detail+" "+i.Expression[0])
		}
	}
	return list
}

func TestUSCoreConformanceResourcesAreValid(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"hl7.fhir.us.core-3.1.1.tgz", "hl7.fhir.us.core-6.1.0.tgz"} {
		definitions, others := readPackage(t, name)
		s, checked := known(t, definitions...), 0
		for _, n := range definitions {
			others[n.ID()] = n
		}
		for file, n := range others {
			if issues, err := s.Check(context.Background(), n, Options{}); err != nil || len(details(issues)) > 0 {
				t.Errorf("%s: %v %v", file, err, details(issues))
			}
			checked++
		}
		t.Logf("%s: %d resources", name, checked)
	}
}

// A binding of a profile takes the place of the one that it inherits.
func TestWeakerBindingReplacesARequiredOne(t *testing.T) {
	t.Parallel()
	bound := func(strength string) string {
		return `{"path": "Patient.maritalStatus", "binding": {"strength": "` + strength + `", "valueSet": "http://hl7.org/fhir/ValueSet/administrative-gender"}}`
	}
	s := known(t, defined(t, "0", "Patient", "Patient", bound("required")), defined(t, "1", "Patient", "http://example.org/0", bound("extensible")),
		defined(t, "2", "Patient", "http://example.org/0", `{"path": "Patient.maritalStatus", "min": 1}`))
	for profile, want := range map[string]string{"0": "[binding Patient.maritalStatus]", "1": "[]", "2": "[binding Patient.maritalStatus]"} {
		n := parse(t, `{"resourceType": "Patient", "meta": {"profile": ["http://example.org/`+profile+`"]}, "maritalStatus": {"coding": [{"system": "http://example.org", "code": "x"}]}}`)
		issues, err := s.Check(context.Background(), n, Options{})
		if got := fmt.Sprint(details(issues)); err != nil || got != want {
			t.Errorf("%s: %v %s, want %s", profile, err, got, want)
		}
	}
}

func TestUSCoreExamplesFitTheirProfiles(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"hl7.fhir.us.core-3.1.1.tgz", "hl7.fhir.us.core-6.1.0.tgz"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			definitions, examples := readPackage(t, name)
			s := known(t, definitions...)
			for _, d := range definitions {
				if p, err := s.Compile(context.Background(), d); err != nil || p.Fault() != nil {
					t.Errorf("%s: %v %v", d.GetText("url"), err, p.Fault())
				}
			}
			claimed, warned := 0, map[string]int{}
			for file, n := range examples {
				issues, err := s.Check(context.Background(), n, Options{})
				if err != nil {
					t.Fatal(err)
				}
				if n.At("meta", "profile") != nil {
					claimed++
				}
				for _, i := range issues {
					if i.Severity == fhir.SeverityError {
						t.Errorf("%s: %s %s: %s", file, i.Detail, i.Expression, i.Text)
					} else {
						warned[i.Detail]++
					}
				}
			}
			t.Logf("%d definitions, %d examples, %d of them claim profiles; warnings: %v", len(definitions), len(examples), claimed, warned)
		})
	}
}
