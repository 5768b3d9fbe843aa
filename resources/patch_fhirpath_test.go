package resources

import (
	"strings"
	"testing"

	"kiln/conformance"
	"kiln/fhir"
)

func patchSchema(t testing.TB) *fhir.Schema {
	t.Helper()
	registry, err := conformance.R4()
	if err != nil {
		t.Fatal(err)
	}
	return registry.Schema()
}

func TestApplyFHIRPathPatch_official(t *testing.T) {
	t.Parallel()
	schema := patchSchema(t)
	passed, total := 0, 0
	for c := range officialPatchTests(t, "patch/fhir-patch-tests.json").Items() {
		total++
		name, want := c.GetText("name"), c.Get("output")
		got, err := ApplyFHIRPathPatch(c.Get("input"), c.Get("diff"), schema)
		switch {
		case c.Get("error") != nil && err == nil:
			t.Errorf("%s: no error", name)
		case c.Get("error") == nil && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.Get("error") == nil && !got.Equal(want):
			t.Errorf("%s:\n got %s\nwant %s", name, got.JSON(), want.JSON())
		default:
			passed++
		}
	}
	t.Logf("%d of %d official FHIRPath Patch cases pass", passed, total)
}

// patchOp writes an operation from "name=value" parts; a value that begins with { is the JSON of the part's members.
func patchOp(parts ...string) string {
	var list []string
	for _, p := range parts {
		name, value, _ := strings.Cut(p, "=")
		members := `"valueString":"` + value + `"`
		switch {
		case strings.HasPrefix(value, "{"):
			members = strings.Trim(value, "{}")
			if strings.Count(value, "{") > 1 {
				members = value[1 : len(value)-1]
			}
		case name == "type":
			members = `"valueCode":"` + value + `"`
		case name == "index" || name == "source" || name == "destination":
			members = `"valueInteger":` + value
		}
		list = append(list, `{"name":"`+name+`",`+members+`}`)
	}
	return `{"resourceType":"Parameters","parameter":[{"name":"operation","part":[` + strings.Join(list, ",") + `]}]}`
}

func TestApplyFHIRPathPatch(t *testing.T) {
	t.Parallel()
	schema := patchSchema(t)
	for name, c := range map[string]struct{ in, patch, want string }{
		"replace_renames_a_choice": {
			`{"resourceType":"Observation","valueString":"x","_valueString":{"id":"a"},"status":"final"}`,
			patchOp("type=replace", "path=Observation.value", `value={"valueQuantity":{"value":1.10}}`),
			`{"resourceType":"Observation","valueQuantity":{"value":1.10},"status":"final"}`},
		"add_choice": {
			`{"resourceType":"Patient"}`,
			patchOp("type=add", "path=Patient", "name=deceased", `value={"valueBoolean":true}`),
			`{"resourceType":"Patient","deceasedBoolean":true}`},
		"add_extension_to_primitive": {
			`{"resourceType":"Patient","birthDate":"1970"}`,
			patchOp("type=add", "path=Patient.birthDate", "name=extension", `value={"valueExtension":{"url":"http://x","valueString":"y"}}`),
			`{"resourceType":"Patient","birthDate":"1970","_birthDate":{"extension":[{"url":"http://x","valueString":"y"}]}}`},
		"delete_keeps_siblings_in_step": {
			`{"resourceType":"Patient","name":[{"given":["a","b","c"],"_given":[null,{"id":"b"},{"id":"c"}]}]}`,
			patchOp("type=delete", "path=Patient.name[0].given[0]"),
			`{"resourceType":"Patient","name":[{"given":["b","c"],"_given":[{"id":"b"},{"id":"c"}]}]}`},
		"insert_keeps_siblings_in_step": {
			`{"resourceType":"Patient","name":[{"given":["a","b"],"_given":[null,{"id":"b"}]}]}`,
			patchOp("type=insert", "path=Patient.name[0].given", "index=1", "value=x"),
			`{"resourceType":"Patient","name":[{"given":["a","x","b"],"_given":[null,null,{"id":"b"}]}]}`},
		"insert_into_a_list_that_is_not_there": {
			`{"resourceType":"Patient"}`,
			patchOp("type=insert", "path=Patient.name", "index=0", `value={"valueHumanName":{"family":"A"}}`),
			`{"resourceType":"Patient","name":[{"family":"A"}]}`},
		"delete_of_nothing": {
			`{"resourceType":"Patient"}`, patchOp("type=delete", "path=Patient.birthDate"), `{"resourceType":"Patient"}`},
		"delete_of_a_primitive_with_extension_only": {
			`{"resourceType":"Patient","_birthDate":{"id":"x"}}`, patchOp("type=delete", "path=Patient.birthDate"), `{"resourceType":"Patient"}`},
		"inside_contained": {
			`{"resourceType":"Patient","contained":[{"resourceType":"Organization","id":"o","name":"A"}]}`,
			patchOp("type=add", "path=Patient.contained[0]", "name=alias", "value=B"),
			`{"resourceType":"Patient","contained":[{"resourceType":"Organization","id":"o","name":"A","alias":["B"]}]}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := ApplyFHIRPathPatch(mustParse(t, c.in), mustParse(t, c.patch), schema)
			if err != nil {
				t.Fatal(err)
			}
			if want := mustParse(t, c.want); !got.Equal(want) {
				t.Errorf("got %s\nwant %s", got.JSON(), c.want)
			}
		})
	}
}

func TestApplyFHIRPathPatch_refuses(t *testing.T) {
	t.Parallel()
	schema := patchSchema(t)
	const patient = `{"resourceType":"Patient","id":"p","name":[{"family":"A"},{"family":"B"}],"birthDate":"1970"}`
	for name, c := range map[string]struct {
		patch string
		kind  fhir.Kind
		says  string
	}{
		"no_parameters":     {`{"resourceType":"Patient"}`, fhir.Invalid, "Parameters"},
		"other_name":        {`{"resourceType":"Parameters","parameter":[{"name":"x"}]}`, fhir.Invalid, "operation"},
		"no_type":           {patchOp("path=Patient"), fhir.Invalid, "type"},
		"unknown_type":      {patchOp("type=merge", "path=Patient"), fhir.Invalid, "add, insert"},
		"no_path":           {patchOp("type=delete"), fhir.Invalid, "path"},
		"unknown_part":      {patchOp("type=delete", "path=Patient.name", "x=y"), fhir.Invalid, `"x"`},
		"bad_path":          {patchOp("type=delete", "path=Patient.name["), fhir.Invalid, "Operation 0"},
		"negative":          {patchOp("type=insert", "path=Patient.name", "index=-1", "value=x"), fhir.Invalid, "index"},
		"empty_value":       {patchOp("type=add", "path=Patient", "name=name", `value={"part":[]}`), fhir.Invalid, "value"},
		"computed":          {patchOp("type=delete", "path=Patient.name.count()"), fhir.Unprocessable, "computed"},
		"several":           {patchOp("type=delete", "path=Patient.name"), fhir.Unprocessable, "leads to 2"},
		"missing":           {patchOp("type=replace", "path=Patient.gender", "value=male"), fhir.Unprocessable, "leads to 0"},
		"whole":             {patchOp("type=delete", "path=Patient"), fhir.Unprocessable, "inside the resource"},
		"exists":            {patchOp("type=add", "path=Patient", "name=birthDate", `value={"valueDate":"1971"}`), fhir.Unprocessable, "already"},
		"no_such_element":   {patchOp("type=add", "path=Patient", "name=colour", "value=red"), fhir.Unprocessable, "colour"},
		"wrong_choice":      {patchOp("type=add", "path=Patient", "name=deceased", "value=yes"), fhir.Unprocessable, "String"},
		"primitive_for_obj": {patchOp("type=add", "path=Patient", "name=name", "value=A"), fhir.Unprocessable, "HumanName"},
		"index":             {patchOp("type=insert", "path=Patient.name", "index=3", `value={"valueHumanName":{"family":"C"}}`), fhir.Unprocessable, "beyond"},
		"move_range":        {patchOp("type=move", "path=Patient.name", "source=0", "destination=2"), fhir.Unprocessable, "length of 2"},
		"part_of_a_list":    {patchOp("type=move", "path=Patient.name.where(family='A')", "source=0", "destination=0"), fhir.Unprocessable, "whole list"},
		"no_list":           {patchOp("type=move", "path=Patient.birthDate", "source=0", "destination=0"), fhir.Unprocessable, "no list"},
		"id":                {patchOp("type=replace", "path=Patient.id", `value={"valueId":"q"}`), fhir.Unprocessable, "id"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := mustParse(t, patient)
			_, err := ApplyFHIRPathPatch(n, mustParse(t, c.patch), schema)
			if fhir.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("got kind %d: %v", fhir.KindOf(err), err)
			}
			if string(n.JSON()) != patient {
				t.Errorf("the resource was changed: %s", n.JSON())
			}
		})
	}
}

func FuzzApplyFHIRPathPatch(f *testing.F) {
	schema := patchSchema(f)
	for _, seed := range []string{
		patchOp("type=delete", "path=Patient.name[0].given[1]"), patchOp("type=replace", "path=Patient.birthDate", `value={"valueDate":"1971"}`),
		patchOp("type=add", "path=Patient.name[0]", "name=given", "value=x"), patchOp("type=move", "path=Patient.name[0].given", "source=0", "destination=1"),
		patchOp("type=insert", "path=Patient.name", "index=0", `value={"part":[{"name":"family","valueString":"x"}]}`),
	} {
		f.Add([]byte(seed))
	}
	n := mustParse(f, `{"resourceType":"Patient","id":"p","name":[{"given":["A","B"],"_given":[null,{"id":"x"}]}],"_birthDate":{"id":"y"},"contained":[{"resourceType":"Group","id":"g"}]}`)
	before := string(n.JSON())
	f.Fuzz(func(t *testing.T, patch []byte) {
		params, err := fhir.ParseJSON(patch)
		if err != nil {
			return
		}
		got, err := ApplyFHIRPathPatch(n, params, schema)
		if (err == nil) == (got == nil) || err != nil && fhir.KindOf(err) == fhir.Internal {
			t.Fatalf("%v, %v", got, err)
		}
		if string(n.JSON()) != before {
			t.Fatalf("the resource was changed: %s", n.JSON())
		}
	})
}
