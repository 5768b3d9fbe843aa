package profile

import (
	"archive/zip"
	"context"
	"encoding/json"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"kiln/conformance"
	"kiln/conformance/validate"
	"kiln/fhir"
	"kiln/fhir/xml"
	"kiln/internal/kilntest"
)

// expected is what HL7's validator says of a case.
type expected struct {
	Valid  bool
	Issues []struct{ Severity, Expression string }
}

// differing are the cases on which HL7's validator and this one disagree, with the reason. The test fails when one agrees.
var differing = map[string]string{
	"patient-value-present-bad":     "an extension of R5 to ElementDefinition says that a primitive must have a value; R4 has no such rule",
	"patient-value-alternative-bad": "as patient-value-present-bad",
	"xhtml-ctrl-source1":            "extensions to ElementDefinition that ask for classes and languages in narratives; R4 has no such rules",
	"xhtml-ctrl-no-lang-bad":        "as xhtml-ctrl-source1",
	"xhtml-ctrl-two-lang-bad":       "as xhtml-ctrl-source1",
	"xhtml-ctrl-twob-lang-bad":      "as xhtml-ctrl-source1",
	"xhtml-ctrl-twob-lang-good2":    "as xhtml-ctrl-source1",
	"aggregation-apart-good4":       "its Encounter has no class, which R4 requires",
	"inv-checks":                    "the profiles that it chooses between are not known with these files: open",
	"type-ref-unchecked":            "its reference is to a Group, which the profile does not list: open why the other validator takes it",
	"extension-slicing-instance":    "extensions sliced in a derived profile: open",
}

// strip turns the other validator's expressions into ours: R4's issue.expression has no types in it.
var strip = regexp.MustCompile(`/\*[^*]*\*/|\.ofType\([A-Za-z0-9]+\)|\[url='[^']*'\]`)

// TestValidatorCasesWithProfiles runs the cases of fhir-test-cases that name a profile. Package validate runs all of them
// without.
func TestValidatorCasesWithProfiles(t *testing.T) {
	t.Parallel()
	z, err := zip.OpenReader(filepath.Join(kilntest.SharedData(t, "fhir-test-cases"), "fhir-test-cases.zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	files := map[string][]byte{}
	for _, f := range z.File {
		if !strings.HasPrefix(f.Name, "validator/") || !strings.HasSuffix(f.Name, ".json") && !strings.HasSuffix(f.Name, ".xml") {
			continue
		}
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		files[strings.TrimPrefix(f.Name, "validator/")], err = io.ReadAll(r)
		r.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
	var cases []struct {
		Name, File       string
		Supporting       []string
		NeedsTerminology bool
		Profile          *struct {
			Source     string
			Supporting []string
			Expect     expected
		}
	}
	if err := json.Unmarshal(files["cases.json"], &cases); err != nil {
		t.Fatal(err)
	}
	registry, err := conformance.R4()
	if err != nil {
		t.Fatal(err)
	}
	v, err := validate.New(registry, validate.Options{Invariants: true})
	if err != nil {
		t.Fatal(err)
	}
	read := func(name string) (*fhir.Node, error) {
		if strings.HasSuffix(name, ".xml") {
			return xml.Decode(files[name], registry.Schema())
		}
		return fhir.ParseJSON(files[name])
	}
	all, agree, told, pointed, elsewhere := 0, 0, 0, 0, 0
	for _, c := range cases {
		n, err := read(c.File)
		if c.NeedsTerminology || c.Profile == nil || err != nil {
			continue
		}
		var definitions []*fhir.Node
		for _, name := range append([]string{c.Profile.Source}, append(c.Supporting, c.Profile.Supporting...)...) {
			if d, err := read(name); err == nil && d.ResourceType() == "StructureDefinition" {
				definitions = append(definitions, d)
			}
		}
		if len(definitions) == 0 {
			elsewhere++ // of another package
			continue
		}
		issues := v.Resource(n)
		more, err := known(t, definitions...).Check(context.Background(), n, Options{Profiles: []string{definitions[0].GetText("url")}})
		if err != nil {
			t.Fatal(err)
		}
		issues = append(issues, more...)
		for _, want := range c.Profile.Expect.Issues {
			if want.Severity == "error" {
				told++
				at := strip.ReplaceAllString(want.Expression, "")
				if slices.ContainsFunc(issues, func(i fhir.Issue) bool {
					return i.Severity == "error" && len(i.Expression) > 0 && (strings.HasPrefix(i.Expression[0], at) || strings.HasPrefix(at, i.Expression[0]))
				}) {
					pointed++
				}
			}
		}
		all++
		same := validate.Valid(issues) == c.Profile.Expect.Valid
		if same {
			agree++
		}
		switch reason := differing[c.Name]; {
		case !same && reason == "":
			t.Errorf("%s (%s): expected valid=%v, got %v", c.Name, c.File, c.Profile.Expect.Valid, issues)
		case same && reason != "":
			t.Errorf("%s agrees, but is listed as differing (%s)", c.Name, reason)
		}
	}
	t.Logf("cases with profiles: %d of %d verdicts agree, %d of %d errors pointed at; the profiles of %d more are not at hand", agree, all, pointed, told, elsewhere)
}
