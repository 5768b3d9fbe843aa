package resources

import (
	"archive/zip"
	"io"
	"os"
	"strings"
	"testing"

	"kiln/fhir"
)

// officialPatchTests reads one file of the official test cases, or skips the test.
func officialPatchTests(t *testing.T, name string) *fhir.Node {
	t.Helper()
	const archive = "../../shared/data/fhir-test-cases/fhir-test-cases.zip"
	if _, err := os.Stat(archive); err != nil {
		t.Skipf("the official test cases are not here: %v", err)
	}
	z, err := zip.OpenReader(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	f, err := z.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return mustParse(t, string(data))
}

func mustParse(t testing.TB, src string) *fhir.Node {
	t.Helper()
	n, err := fhir.ParseJSON([]byte(src))
	if err != nil {
		t.Fatalf("%v: %s", err, src)
	}
	return n
}

func TestApplyJSONPatch_official(t *testing.T) {
	t.Parallel()
	passed, total := 0, 0
	for c := range officialPatchTests(t, "patch/json-patch-tests.json").Items() {
		total++
		got, err := ApplyJSONPatch(c.Get("doc"), c.Get("patch").JSON())
		want := c.Get("expected")
		switch {
		case c.Get("error") != nil && err == nil:
			t.Errorf("%s: no error", c.GetText("comment"))
		case c.Get("error") == nil && err != nil:
			t.Errorf("%s: %v", c.GetText("comment"), err)
		case want != nil && !got.Equal(want):
			t.Errorf("%s: got %s", c.GetText("comment"), got.JSON())
		default:
			passed++
		}
	}
	t.Logf("%d of %d official JSON Patch cases pass", passed, total)
}

func TestApplyJSONPatch_keeps_digits_and_order(t *testing.T) {
	t.Parallel()
	n := mustParse(t, `{"resourceType":"Observation","id":"o","valueQuantity":{"value":1.10,"unit":"<&>é"},"b":[1e2,0.50],"a":-0.0}`)
	got, err := ApplyJSONPatch(n, []byte(`[{"op":"add","path":"/b/-","value":2.00},{"op":"copy","from":"/valueQuantity/value","path":"/c"}]`))
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"resourceType":"Observation","id":"o","valueQuantity":{"value":1.10,"unit":"<&>é"},"b":[1e2,0.50,2.00],"a":-0.0,"c":1.10}`
	if string(got.JSON()) != want {
		t.Errorf("got %s", got.JSON())
	}
}

func TestApplyJSONPatch_refuses(t *testing.T) {
	t.Parallel()
	const patient = `{"resourceType":"Patient","id":"p","name":[{"family":"A"}],"active":true}`
	copies := strings.Repeat(`{"op":"copy","from":"/name","path":"/name/-"},`, 60)
	for name, c := range map[string]struct {
		patch    string
		kind     fhir.Kind
		says, at string
	}{
		"not_json":          {`[`, fhir.Invalid, "too early", ""},
		"not_an_array":      {`{}`, fhir.Invalid, "array", ""},
		"not_an_object":     {`[1]`, fhir.Invalid, "object", "[0]"},
		"unknown_op":        {`[{"op":"merge","path":"/a"}]`, fhir.Invalid, "add, remove", "[0]"},
		"no_path":           {`[{"op":"remove"}]`, fhir.Invalid, "path", "[0]"},
		"path_no_pointer":   {`[{"op":"remove","path":"name"}]`, fhir.Invalid, "slash", "[0]"},
		"bad_escape":        {`[{"op":"remove","path":"/a~2"}]`, fhir.Invalid, "~", "[0]"},
		"no_value":          {`[{"op":"add","path":"/a"}]`, fhir.Invalid, "value", "[0]"},
		"no_from":           {`[{"op":"move","path":"/a"}]`, fhir.Invalid, "from", "[0]"},
		"into_itself":       {`[{"op":"move","from":"/name","path":"/name/0/x"}]`, fhir.Invalid, "itself", "[0]"},
		"whole":             {`[{"op":"replace","path":"","value":{}}]`, fhir.Invalid, "PUT", "[0]"},
		"duplicate_members": {`[{"op":"add","op":"remove","path":"/a"}]`, fhir.Invalid, "twice", "[0].op"},
		"test":              {`[{"op":"test","path":"/active","value":true},{"op":"test","path":"/active","value":false}]`, fhir.Unprocessable, "Operation 1", "[1]"},
		"missing":           {`[{"op":"remove","path":"/active"},{"op":"remove","path":"/active"}]`, fhir.Unprocessable, "does not have", "[1]"},
		"missing_parent":    {`[{"op":"add","path":"/contact/0/gender","value":"male"}]`, fhir.Unprocessable, "does not have", "[0]"},
		"index":             {`[{"op":"add","path":"/name/5","value":{}}]`, fhir.Unprocessable, "list item", "[0]"},
		"negative_index":    {`[{"op":"remove","path":"/name/-1"}]`, fhir.Unprocessable, "list item", "[0]"},
		"type":              {`[{"op":"replace","path":"/resourceType","value":"Group"}]`, fhir.Unprocessable, "resourceType", "Patient.resourceType"},
		"id":                {`[{"op":"remove","path":"/id"}]`, fhir.Unprocessable, "id", "Patient.id"},
		"id_added":          {`[{"op":"add","path":"/id","value":"q"}]`, fhir.Unprocessable, "id", "Patient.id"},
		"too_many":          {"[" + strings.TrimSuffix(strings.Repeat(`{"op":"test","path":"/active","value":true},`, 2001), ",") + "]", fhir.TooLarge, "2001", ""},
		"copy_bomb":         {"[" + strings.TrimSuffix(copies, ",") + "]", fhir.TooLarge, "copying", ""},
		"too_deep":          {`[{"op":"add","path":"/x","value":` + strings.Repeat("[", 97) + strings.Repeat("]", 97) + `},{"op":"copy","from":"/x","path":"/name/0/x"},{"op":"add","path":"/y","value":[[]]},{"op":"move","from":"/name","path":"/y/0/0"}]`, fhir.Unprocessable, "nest", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := mustParse(t, patient)
			_, err := applyJSONPatch(n, []byte(c.patch), patchLimits{operations: 2000, copied: 100_000})
			if fhir.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("got kind %d: %v", fhir.KindOf(err), err)
			}
			if e := err.(*fhir.Error); c.at != "" && (len(e.Issues[0].Expression) == 0 || e.Issues[0].Expression[0] != c.at) {
				t.Errorf("at %v", e.Issues[0].Expression)
			}
			if string(n.JSON()) != patient {
				t.Errorf("the resource was changed: %s", n.JSON())
			}
		})
	}
}

func FuzzApplyJSONPatch(f *testing.F) {
	for _, seed := range []string{
		`[{"op":"add","path":"/name/-","value":null},{"op":"test","path":"/name/1","value":null}]`,
		`[{"op":"copy","from":"","path":"/x"}]`, `[{"op":"move","from":"/name/0","path":"/name"}]`,
		`[{"op":"add","path":"/nil/a","value":1}]`, `[{"op":"test","path":"","value":{}}]`, `[{"op":"replace","path":"/name/0/family","value":1.10}]`,
		`[{"op":"remove","path":"/name/0"},{"op":"add","path":"/name/00","value":[]}]`, `[{"op":"test","path":"/nil/x","value":1}]`,
	} {
		f.Add([]byte(seed))
	}
	n := mustParse(f, `{"resourceType":"Patient","id":"p","name":[{"family":"A"}],"nil":null,"list":[null,[]],"q":1.10}`)
	f.Fuzz(func(t *testing.T, patch []byte) {
		got, err := applyJSONPatch(n, patch, patchLimits{operations: 50, copied: 10_000})
		if (err == nil) == (got == nil) || err != nil && fhir.KindOf(err) == fhir.Internal {
			t.Fatalf("%v, %v", got, err)
		}
	})
}
