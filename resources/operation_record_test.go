package resources

import (
	"slices"
	"strings"
	"testing"

	"kiln/fhir"
)

func operate(code, typ, id, query string, body *fhir.Node) Request {
	return Request{Interaction: Operate, Operation: code, Type: typ, ID: id, Query: query, Body: body}
}

func TestMetaOperations(t *testing.T) {
	t.Parallel()
	s := newService(t)
	put(t, s, `{"resourceType":"Patient","id":"p","meta":{"tag":[{"system":"urn:t","code":"a"}]}}`)
	meta := func(text string) *fhir.Node {
		return parse(t, `{"resourceType":"Parameters","parameter":[{"name":"meta","valueMeta":`+text+`}]}`)
	}
	answer := func(r Request) string {
		return string(do(t, s, r).Resource.At("parameter", "valueMeta").JSON())
	}
	if got := answer(operate("meta", "Patient", "p", "", nil)); !strings.Contains(got, `"code": "a"`) && !strings.Contains(got, `"code":"a"`) {
		t.Errorf("$meta: %s", got)
	}
	added := operate("meta-add", "Patient", "p", "", meta(`{"tag":[{"system":"urn:t","code":"a"},{"system":"urn:t","code":"b"}],"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"R"}],"profile":["urn:p"]}`))
	answer(added)
	if got := count(t, s, "Patient"); got != 1 {
		t.Fatal(got)
	}
	for _, query := range []string{"_tag=urn:t|a", "_tag=urn:t|b", "_security=R", "_profile=urn:p"} {
		if n := do(t, s, Request{Interaction: SearchType, Type: "Patient", Query: query}).Bundle; len(n.Entries) != 1 {
			t.Errorf("%s finds %d", query, len(n.Entries))
		}
	}
	answer(operate("meta-add", "Patient", "p", "", meta(`{"tag":[{"system":"urn:t","code":"a"}]}`)))
	if got := versions(t, s, "Patient", "p"); len(got) != 2 {
		t.Errorf("what changes nothing made a version: %v", got)
	}
	answer(operate("meta-delete", "Patient", "p", "", meta(`{"tag":[{"system":"urn:t","code":"a"},{"code":"zz"}],"profile":["urn:p"]}`)))
	for query, want := range map[string]int{"_tag=urn:t|a": 0, "_tag=urn:t|b": 1, "_security=R": 1, "_profile=urn:p": 0} {
		if n := do(t, s, Request{Interaction: SearchType, Type: "Patient", Query: query}).Bundle; len(n.Entries) != want {
			t.Errorf("after $meta-delete %s finds %d", query, len(n.Entries))
		}
	}
	refused(t, s, fhir.NotFound, operate("meta", "Patient", "nobody", "", nil))
	refused(t, s, fhir.NotFound, operate("meta-add", "Patient", "nobody", "", meta(`{"tag":[{"code":"a"}]}`)))
	refused(t, s, fhir.Invalid, operate("meta-add", "Patient", "p", "", nil))
}

func TestValidateOperation(t *testing.T) {
	t.Parallel()
	s := newService(t, validating(t))
	put(t, s, `{"resourceType":"Patient","id":"p","birthDate":"1990-01-01"}`)
	wrong := `{"resourceType":"Patient","id":"p","birthDate":"yesterday","nonsense":1}`
	for _, c := range []struct {
		rule string
		r    Request
		want string // severities and expressions
	}{
		{"good", operate("validate", "Patient", "", "", parse(t, `{"resourceType":"Patient"}`)), ""},
		{"stored", operate("validate", "Patient", "p", "", nil), ""},
		{"all_errors_at_once", operate("validate", "Patient", "", "", parse(t, wrong)), "error Patient.birthDate; error Patient.nonsense"},
		{"as_parameters", operate("validate", "Patient", "", "", parse(t, `{"resourceType":"Parameters","parameter":[{"name":"mode","valueCode":"create"},{"name":"resource","resource":{"resourceType":"Patient","id":"x"}}]}`)), "information Patient.id"},
		{"another_type", operate("validate", "Observation", "", "", parse(t, `{"resourceType":"Patient"}`)), "error resourceType"},
		{"update_with_another_id", operate("validate", "Patient", "p", "mode=update", parse(t, `{"resourceType":"Patient","id":"q"}`)), "error Patient.id"},
		{"update_of_what_is_new", operate("validate", "Patient", "q", "mode=update", parse(t, `{"resourceType":"Patient","id":"q"}`)), ""},
		{"base_profile", operate("validate", "Patient", "", "profile=http://hl7.org/fhir/StructureDefinition/Patient", parse(t, `{"resourceType":"Patient"}`)), ""},
		{"unknown_profile", operate("validate", "Patient", "", "profile=urn:no", parse(t, `{"resourceType":"Patient"}`)), "error Patient"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			var got []string
			for _, i := range do(t, s, c.r).Issues {
				got = append(got, i.Severity+" "+strings.Join(i.Expression, ","))
			}
			slices.Sort(got)
			if strings.Join(got, "; ") != c.want {
				t.Errorf("got %q, want %q", strings.Join(got, "; "), c.want)
			}
		})
	}
	refused(t, s, fhir.Invalid, operate("validate", "Patient", "", "", nil))
	refused(t, s, fhir.NotFound, operate("validate", "Patient", "nobody", "mode=delete", nil))
	refused(t, s, fhir.Invalid, operate("validate", "Patient", "p", "mode=sideways", nil))
	if got := count(t, s, "Patient"); got != 1 {
		t.Errorf("$validate stored something: %d patients", got)
	}
}
