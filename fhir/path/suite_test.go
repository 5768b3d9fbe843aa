package path_test

import (
	"archive/zip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"testing"
	"time"

	"kiln/conformance"
	"kiln/fhir"
	fhirpath "kiln/fhir/path"
)

// suite is where the official FHIRPath tests lie: beside the source tree.
const suite = "../../../shared/data/fhir-test-cases/fhir-test-cases.zip"

// exceptions are the cases of the suite that Kiln answers otherwise, by group/name, and why.
var exceptions = map[string]string{
	"LowBoundary/LowBoundaryDecimal15": "the suite wants -0.0; a Number has no negative zero, which equals zero anyway",
}

type suiteCase struct {
	Group, Name, Inputfile, Expression, Invalid, Mode, Predicate string
	Output                                                       []struct{ Type, Value string }
}

func registrySchema(t testing.TB) *fhir.Schema {
	t.Helper()
	r, err := conformance.R4()
	if err != nil {
		t.Fatal(err)
	}
	return r.Schema()
}

func readZip(t testing.TB, z *zip.ReadCloser, name string) []byte {
	t.Helper()
	f, err := z.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestOfficialSuite(t *testing.T) {
	z, err := zip.OpenReader(suite)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("the FHIR test cases are not here: " + suite)
	} else if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	schema := registrySchema(t)
	var cases []suiteCase
	if err := json.Unmarshal(readZip(t, z, "fhirpath/tests-fhir-r4.json"), &cases); err != nil {
		t.Fatal(err)
	}
	inputs := map[string]*fhir.Node{}
	passed, left := 0, map[string]bool{}
	for name := range exceptions {
		left[name] = true
	}
	for _, tc := range cases {
		var root fhirpath.Element
		if tc.Inputfile != "" {
			file := "fhirpath/input-json/" + strings.TrimSuffix(tc.Inputfile, path.Ext(tc.Inputfile)) + ".json"
			if inputs[file] == nil {
				n, err := fhir.ParseJSON(readZip(t, z, file))
				if err != nil {
					t.Fatal(err)
				}
				inputs[file] = n
			}
			root = fhirpath.Root(inputs[file], schema)
		}
		name := tc.Group + "/" + tc.Name
		problem := runCase(tc, root, schema)
		reason, excepted := exceptions[name]
		delete(left, name)
		switch {
		case problem == "" && excepted:
			t.Errorf("%s passes now; it is listed as an exception: %s", name, reason)
		case problem == "":
			passed++
		case !excepted:
			t.Errorf("%s: %s\n\t%s", name, tc.Expression, problem)
		}
	}
	for name := range left {
		t.Errorf("the exception %s is no case", name)
	}
	fmt.Fprintf(os.Stderr, "FHIRPath R4 suite: %d of %d pass\n", passed, len(cases))
}

// runCase returns what is wrong, or "".
func runCase(tc suiteCase, root fhirpath.Element, schema *fhir.Schema) string {
	env := &fhirpath.Env{
		Strict: true,
		Now:    time.Now(),
	}
	items, err := evaluate(tc, env, root, schema)
	if tc.Invalid != "" {
		if err == nil {
			return fmt.Sprintf("must fail (%s), gives %s", tc.Invalid, show(items))
		}
		return ""
	}
	if err != nil {
		return "fails: " + err.Error()
	}
	var want []string
	for _, o := range tc.Output {
		want = append(want, strings.TrimPrefix(strings.TrimPrefix(o.Value, "@"), "T")) // literals: @2014, @T10:30
	}
	var got []string
	for _, e := range items {
		got = append(got, e.Text())
	}
	if strings.Join(want, "\n") != strings.Join(got, "\n") {
		return fmt.Sprintf("gives %s, wanted %q", show(items), want)
	}
	for i, o := range tc.Output {
		name := items[i].TypeName()
		if items[i].IsSystem() && name != "Quantity" {
			name = strings.ToLower(name[:1]) + name[1:]
		}
		if o.Type != "" && o.Type != name {
			return fmt.Sprintf("gives a %s, wanted a %s", name, o.Type)
		}
	}
	return ""
}

func evaluate(tc suiteCase, env *fhirpath.Env, root fhirpath.Element, schema *fhir.Schema) ([]fhirpath.Element, error) {
	x, err := fhirpath.Compile(tc.Expression, schema)
	if err != nil {
		return nil, err
	}
	if err := x.Check(root.Type); err != nil {
		return nil, err
	}
	if tc.Predicate == "true" {
		ok, err := x.EvalBool(env, root)
		return []fhirpath.Element{fhirpath.Value(fhirpath.System{Kind: fhirpath.Boolean, Bool: ok})}, err
	}
	return x.Eval(env, root)
}

func show(items []fhirpath.Element) string {
	var texts []string
	for _, e := range items {
		texts = append(texts, e.TypeName()+" "+e.Text())
	}
	return fmt.Sprintf("%q", texts)
}
