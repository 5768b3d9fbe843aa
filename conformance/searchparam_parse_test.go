package conformance

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"kiln/fhir"
	"kiln/fhir/search"
)

func parseParameter(t *testing.T, text string) ([]*SearchParameter, error) {
	t.Helper()
	n, err := fhir.ParseJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return ParseSearchParameter(n)
}

const customParameter = `{"resourceType":"SearchParameter","id":"x","url":"http://example.org/SearchParameter/eye",
	"name":"eye","status":"active","description":"Colour of the eyes","code":"eye","base":["Patient","Person"],
	"type":"token","expression":"Patient.extension('http://example.org/eye').value | Person.extension('http://example.org/eye').value.as(Coding)",
	"multipleAnd":false}`

func TestWithAddsCustomParameters(t *testing.T) {
	t.Parallel()
	r := registry(t)
	list, err := parseParameter(t, customParameter)
	if err != nil {
		t.Fatal(err)
	}
	all, err := parseParameter(t, `{"resourceType":"SearchParameter","url":"http://example.org/SearchParameter/ver",
		"name":"ver","status":"active","description":"Version","code":"ver","base":["Resource"],"type":"token",
		"expression":"Resource.meta.versionId"}`)
	if err != nil {
		t.Fatal(err)
	}
	both, err := parseParameter(t, `{"resourceType":"SearchParameter","url":"http://example.org/SearchParameter/both",
		"name":"both","status":"active","description":"Both","code":"both","base":["Patient"],"type":"composite",
		"expression":"Patient","component":[
		{"definition":"http://example.org/SearchParameter/eye","expression":"extension('http://example.org/eye').value"},
		{"definition":"http://hl7.org/fhir/SearchParameter/individual-gender","expression":"gender"}]}`)
	if err != nil {
		t.Fatal(err)
	}
	extra := slices.Concat(both, list, all)
	if err := r.Check(extra...); err != nil {
		t.Fatal(err)
	}
	before := len(r.SearchParameters("Patient"))
	w := r.With(extra...)
	if len(r.SearchParameters("Patient")) != before || r.SearchParameter("Patient", "eye") != nil || both[0].Components[0].Param != nil {
		t.Error("With changed the registry or the parameters that it was called with")
	}
	eye := w.SearchParameter("Person", "eye")
	if eye == nil || eye.Expression != "Person.extension('http://example.org/eye').value.ofType(Coding)" || eye.MultipleAnd || !eye.MultipleOr {
		t.Errorf("eye is %+v", eye)
	}
	if p := w.SearchParameter("Slot", "ver"); p == nil || p.Expression != "Slot.meta.versionId" || p.Key != Key("Slot", "ver") ||
		w.SearchParameterByKey(p.Key) != p {
		t.Errorf("ver is %+v", p)
	}
	if c := w.SearchParameter("Patient", "both").Components; c[0].Param != w.SearchParameter("Patient", "eye") ||
		c[1].Param != w.SearchParameter("Patient", "gender") {
		t.Errorf("components are %+v", c)
	}
	if again := registry(t); again != r || !reflect.DeepEqual(w.Schema(), r.Schema()) {
		t.Error("the shared registry is another")
	}
}

func TestBadCustomParametersAreRefused(t *testing.T) {
	t.Parallel()
	r := registry(t)
	for name, c := range map[string]struct {
		change map[string]any // nil removes
		path   string
	}{
		"no_url":          {map[string]any{"url": nil}, "SearchParameter.url"},
		"no_base":         {map[string]any{"base": nil}, "SearchParameter.base"},
		"no_expression":   {map[string]any{"expression": nil}, "SearchParameter.expression"},
		"other_base":      {map[string]any{"expression": "Slot.start"}, "SearchParameter.expression"},
		"code_with_colon": {map[string]any{"code": "a:b"}, "SearchParameter.code"},
		"unknown_type":    {map[string]any{"type": "text"}, "SearchParameter.type"},
		"unknown_base":    {map[string]any{"base": []string{"Cat"}, "expression": "Cat.x"}, "SearchParameter.base"},
		"base_is_no_resource": {map[string]any{"base": []string{"HumanName"}, "expression": "HumanName.x"},
			"SearchParameter.base"},
		"unknown_target":        {map[string]any{"target": []string{"Cat"}}, "SearchParameter.target"},
		"composite_of_nothing":  {map[string]any{"type": "composite"}, "SearchParameter.component"},
		"component_in_a_string": {map[string]any{"component": []any{map[string]string{"definition": "x", "expression": "y"}}}, "SearchParameter.component"},
		"component_without_definition": {map[string]any{"type": "composite",
			"component": []any{map[string]string{"expression": "y"}, map[string]string{"definition": "x", "expression": "y"}}},
			"SearchParameter.component[0]"},
		"unknown_component": {map[string]any{"type": "composite", "component": []any{
			map[string]string{"definition": "http://hl7.org/fhir/SearchParameter/individual-gender", "expression": "gender"},
			map[string]string{"definition": "http://example.org/none", "expression": "y"}}},
			"SearchParameter.component[1].definition"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var m map[string]any
			if err := json.Unmarshal([]byte(customParameter), &m); err != nil {
				t.Fatal(err)
			}
			for k, v := range c.change {
				if m[k] = v; v == nil {
					delete(m, k)
				}
			}
			text, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			list, err := parseParameter(t, string(text))
			if err == nil {
				err = r.Check(list...)
				if w := r.With(list...); w.SearchParameter(list[0].Base, "eye") != nil {
					t.Error("With took a parameter that Check refuses")
				}
			}
			e, ok := err.(*fhir.Error)
			if !ok || e.Kind != fhir.Unprocessable || e.Issues[0].Expression[0] != c.path || e.Issues[0].Text == "" {
				t.Errorf("got %+v", err)
			}
		})
	}
}

func TestKeyCollisionsAreRefused(t *testing.T) {
	t.Parallel()
	r := newRegistry()
	r.schema = registry(t).schema
	p := &SearchParameter{Base: "Slot", Code: "new", Type: search.Token, Expression: "Slot.id", Key: Key("Slot", "new")}
	r.keys[p.Key] = &SearchParameter{Base: "Patient", Code: "old", Key: p.Key}
	if err := r.Check(p); fhir.KindOf(err) != fhir.Unprocessable || !strings.Contains(err.Error(), "Patient.old") {
		t.Errorf("got %v", err)
	}
}

// Guides name the value of an extension as JSON does, which FHIRPath does not know.
func TestParseSearchParameter_value_of_an_extension(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"Condition.extension.where(url = 'http://example.org/a').valueDateTime":                        "Condition.extension.where(url = 'http://example.org/a').value.ofType(dateTime)",
		"Condition.extension('http://example.org/a').valueCodeableConcept.coding":                      "Condition.extension('http://example.org/a').value.ofType(CodeableConcept).coding",
		"Condition.stage.extension.valueString | Condition.extension.where(url = 'x').value":           "Condition.stage.extension.value.ofType(string) | Condition.extension.where(url = 'x').value",
		"Condition.extension.where(url = 'x').extension.where(url = 'y').valueBase64Binary":            "Condition.extension.where(url = 'x').extension.where(url = 'y').value.ofType(base64Binary)",
		"Condition.code.valueSet | Condition.extension.where(url = 'x').value.ofType(CodeableConcept)": "Condition.code.valueSet | Condition.extension.where(url = 'x').value.ofType(CodeableConcept)",
	} {
		if got := expressionFor(given, "Condition"); got != want {
			t.Errorf("%s: %s, want %s", given, got, want)
		}
	}
}
