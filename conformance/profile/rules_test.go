package profile

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"kiln/conformance/validate"
	"kiln/fhir"
)

// defined makes a profile of its differential.
func defined(t testing.TB, name, typ, base string, elements ...string) *fhir.Node {
	if !strings.Contains(base, ":") {
		base = baseURL + base
	}
	return parse(t, fmt.Sprintf(`{"resourceType": "StructureDefinition", "url": "http://example.org/%s", "name": "X", "status": "active",
		"kind": "resource", "abstract": false, "type": %q, "baseDefinition": %q, "derivation": "constraint",
		"differential": {"element": [%s]}}`, name, typ, base, strings.Join(elements, ",")))
}

func observation(members string) string {
	return `{"resourceType": "Observation", "meta": {"profile": ["http://example.org/p"]}, "status": "final", "code": {"text": "x"}` + members + `}`
}

func categories(codes ...string) string {
	for i, c := range codes {
		codes[i] = `{"coding": [{"system": "http://s", "code": "` + c + `"}]}`
	}
	return observation(`, "category": [` + strings.Join(codes, ",") + `]`)
}

func sliced(rules, more string) string {
	return `{"path": "Observation.category", "slicing": {"discriminator": [{"type": "pattern", "path": "$this"}], "rules": "` + rules + `"` + more + `}}`
}

func slicedBy(name, code, more string) string {
	return `{"path": "Observation.category", "sliceName": "` + name + `", "patternCodeableConcept": {"coding": [{"system": "http://s", "code": "` + code + `"}]}` + more + `}`
}

// answers is a terminology that has the codes a, b and c in each value set but the absent one.
type answers struct{ rounds int }

func (a *answers) ValidateCodes(_ context.Context, questions []validate.CodeQuestion) ([]validate.CodeAnswer, error) {
	a.rounds++
	list := make([]validate.CodeAnswer, len(questions))
	for i, q := range questions {
		switch {
		case strings.Contains(q.ValueSet, "absent"):
		case strings.Contains("abc", q.Code):
			list[i].Verdict = validate.CodeMember
		default:
			list[i].Verdict = validate.CodeNotMember
		}
	}
	return list, nil
}

func TestRulesOfProfiles(t *testing.T) {
	t.Parallel()
	type cases map[string][]string // what is wrong with a resource
	for name, test := range map[string]struct {
		elements []string
		cases    cases
	}{
		"cardinality": {[]string{`{"path": "Observation.subject", "min": 1}`, `{"path": "Observation.note", "max": "0"}`, `{"path": "Observation.category", "min": 2, "max": "2"}`}, cases{
			observation(``): {"required Observation", "required Observation"},
			observation(`, "subject": {"display": "x"}, "note": [{"text": "x"}], "category": [{"text": "x"}]`):                {"too-few Observation", "too-many Observation"},
			observation(`, "subject": {"display": "x"}, "category": [{"text": "x"}, {"text": "y"}, {"text": "z"}]`):           {"too-many Observation"},
			observation(`, "subject": {"display": "x"}, "category": [{"text": "x"}, {"text": "y"}]`):                          nil,
			observation(`, "contained": [{"resourceType": "Observation"}], "subject": {"display": "x"}, "category": [{},{}]`): nil,
		}},
		"fixed values": {[]string{`{"path": "Observation.status", "fixedCode": "amended"}`, `{"path": "Observation.subject", "fixedReference": {"display": "x"}}`}, cases{
			observation(`, "subject": {"display": "x", "reference": "Patient/1"}`):               {"fixed Observation.status", "fixed Observation.subject"},
			strings.Replace(observation(`, "subject": {"display": "x"}`), "final", "amended", 1): nil,
		}},
		"patterns": {[]string{`{"path": "Observation.code", "patternCodeableConcept": {"coding": [{"code": "a"}, {"code": "b"}]}}`}, cases{
			observation(``): {"pattern Observation.code"},
			`{"resourceType": "Observation", "meta": {"profile": ["http://example.org/p"]}, "status": "final", "code": {"coding": [{"code": "x"}, {"code": "b", "display": "B"}, {"code": "a"}]}}`: nil,
		}},
		"types of a choice": {[]string{`{"path": "Observation.value[x]", "type": [{"code": "Quantity"}, {"code": "string"}]}`}, cases{
			observation(`, "valueString": "x"`):              nil,
			observation(`, "valueBoolean": true`):            {"type Observation.value"},
			observation(`, "valueQuantity": {"value": 1.0}`): nil,
		}},
		"one type of a choice by its name": {[]string{`{"path": "Observation.valueQuantity", "min": 1}`, `{"path": "Observation.valueQuantity.code", "min": 1}`}, cases{
			observation(`, "valueString": "x"`):             {"required Observation", "type Observation.value"},
			observation(`, "valueQuantity": {"value": 1}`):  {"required Observation.value"},
			observation(`, "valueQuantity": {"code": "a"}`): nil,
		}},
		"slices of a choice by type": {[]string{`{"path": "Observation.value[x]", "slicing": {"discriminator": [{"type": "type", "path": "$this"}], "rules": "closed"}}`,
			`{"id": "Observation.value[x]:valueQuantity", "path": "Observation.value[x]", "sliceName": "valueQuantity", "type": [{"code": "Quantity"}]}`,
			`{"id": "Observation.value[x]:valueQuantity.code", "path": "Observation.value[x].code", "min": 1}`}, cases{
			observation(`, "valueString": "x"`):             {"slice-closed Observation.value"},
			observation(`, "valueQuantity": {"value": 1}`):  {"required Observation.value"},
			observation(`, "valueQuantity": {"code": "a"}`): nil,
		}},
		"open slicing": {[]string{sliced("open", ""), slicedBy("A", "a", `, "min": 1, "max": "1"`)}, cases{
			categories("x", "a"):      nil,
			categories("x"):           {"required Observation"},
			categories("a", "x", "a"): {"too-many Observation"},
		}},
		"closed slicing": {[]string{sliced("closed", ""), slicedBy("A", "a", "")}, cases{
			categories("a", "x"): {"slice-closed Observation.category[1]"},
			categories("a", "a"): nil,
		}},
		"open at the end": {[]string{sliced("openAtEnd", ""), slicedBy("A", "a", "")}, cases{
			categories("x", "a"): {"slice-order Observation.category[1]"},
			categories("a", "x"): nil,
		}},
		"ordered slicing": {[]string{sliced("open", `, "ordered": true`), slicedBy("A", "a", ""), slicedBy("B", "b", "")}, cases{
			categories("b", "x", "a"): {"slice-order Observation.category[2]"},
			categories("a", "x", "b"): nil,
		}},
		"the default slice": {[]string{sliced("closed", ""), slicedBy("A", "a", ""), `{"path": "Observation.category", "sliceName": "@default"}`,
			`{"id": "Observation.category:@default.text", "path": "Observation.category.text", "min": 1}`}, cases{
			categories("a", "x"):                         {"required Observation.category[1]"},
			observation(`, "category": [{"text": "x"}]`): nil,
		}},
		"a slice of a slice": {[]string{sliced("open", ""), slicedBy("A", "a", `, "max": "2"`),
			`{"path": "Observation.category", "sliceName": "A/B", "max": "1", "patternCodeableConcept": {"coding": [{"code": "a"}, {"code": "b"}]}}`}, cases{
			categories("a", "a"): nil,
			observation(`, "category": [{"coding": [{"system": "http://s", "code": "a"}, {"code": "b"}]}, {"coding": [{"system": "http://s", "code": "a"}, {"code": "b"}]}]`): {"too-many Observation"},
			categories("a", "a", "a"): {"too-many Observation"},
		}},
		"slices by a value within": {[]string{`{"path": "Observation.component", "slicing": {"discriminator": [{"type": "value", "path": "code.coding.code"}], "rules": "open"}}`,
			`{"id": "Observation.component:S", "path": "Observation.component", "sliceName": "S", "min": 1}`,
			`{"id": "Observation.component:S.code", "path": "Observation.component.code", "patternCodeableConcept": {"coding": [{"code": "8480-6"}]}}`,
			`{"id": "Observation.component:S.code.coding.code", "path": "Observation.component.code.coding.code", "fixedCode": "8480-6"}`,
			`{"id": "Observation.component:S.value[x]", "path": "Observation.component.value[x]", "min": 1}`}, cases{
			observation(`, "component": [{"code": {"coding": [{"code": "8480-6"}]}}]`):                    {"required Observation.component[0]"},
			observation(`, "component": [{"code": {"coding": [{"code": "8480-6"}]}, "valueInteger": 1}]`): nil,
			observation(`, "component": [{"code": {"coding": [{"code": "8480-7"}]}, "valueInteger": 1}]`): {"required Observation"},
		}},
		"slices by a required binding": {[]string{sliced("open", ""), `{"path": "Observation.category", "sliceName": "A", "min": 1, "max": "1", "binding": {"strength": "required", "valueSet": "http://v"}}`}, cases{
			categories("x", "b"): nil,
			categories("a", "b"): {"too-many Observation"},
			categories("x"):      {"required Observation"},
		}},
		"slices by a binding that nobody knows": {[]string{sliced("closed", ""), `{"path": "Observation.category", "sliceName": "A", "min": 1, "max": "1", "binding": {"strength": "required", "valueSet": "http://absent"}}`}, cases{
			categories("x", "b"): nil,
			observation(``):      {"required Observation"},
		}},
		"slices by existence": {[]string{`{"path": "Observation.component", "slicing": {"discriminator": [{"type": "exists", "path": "interpretation"}], "rules": "open"}}`,
			`{"id": "Observation.component:I", "path": "Observation.component", "sliceName": "I", "max": "1"}`,
			`{"id": "Observation.component:I.interpretation", "path": "Observation.component.interpretation", "min": 1}`,
			`{"id": "Observation.component:N", "path": "Observation.component", "sliceName": "N", "max": "1"}`,
			`{"id": "Observation.component:N.interpretation", "path": "Observation.component.interpretation", "max": "0"}`}, cases{
			observation(`, "component": [{"code": {"text": "x"}}, {"code": {"text": "x"}, "interpretation": [{"text": "x"}]}]`): nil,
			observation(`, "component": [{"code": {"text": "x"}}, {"code": {"text": "x"}}]`):                                    {"too-many Observation"},
		}},
		"slices by the target's profile": {[]string{`{"path": "Observation.hasMember", "slicing": {"discriminator": [{"type": "profile", "path": "resolve()"}], "rules": "open"}}`,
			`{"id": "Observation.hasMember:M", "path": "Observation.hasMember", "sliceName": "M", "min": 1, "type": [{"code": "Reference", "targetProfile": ["http://example.org/other"]}]}`}, cases{
			observation(`, "contained": [{"resourceType": "Observation", "id": "m", "status": "final", "code": {"text": "member"}}], "hasMember": [{"reference": "#m"}]`): nil,
			observation(`, "contained": [{"resourceType": "Observation", "id": "m", "status": "final", "code": {"text": "x"}}], "hasMember": [{"reference": "#m"}]`):      {"required Observation"},
			observation(`, "hasMember": [{"reference": "Observation/elsewhere"}]`):                                                                                        nil,
			observation(`, "hasMember": [{"reference": "QuestionnaireResponse/elsewhere"}]`):                                                                              {"required Observation"},
		}},
		"bindings": {[]string{`{"path": "Observation.code", "binding": {"strength": "required", "valueSet": "http://v"}}`, `{"path": "Observation.method", "binding": {"strength": "extensible", "valueSet": "http://v"}}`}, cases{
			observation(`, "method": {"coding": [{"code": "x"}]}`): {"binding Observation.code"},
			`{"resourceType": "Observation", "meta": {"profile": ["http://example.org/p"]}, "status": "final", "code": {"coding": [{"code": "x"}]}}`:                {"binding Observation.code"},
			`{"resourceType": "Observation", "meta": {"profile": ["http://example.org/p"]}, "status": "final", "code": {"coding": [{"code": "x"}, {"code": "b"}]}}`: nil,
		}},
		"targets": {[]string{`{"path": "Observation.subject", "type": [{"code": "Reference", "targetProfile": ["http://hl7.org/fhir/StructureDefinition/Patient"]}]}`}, cases{
			observation(`, "subject": {"reference": "Patient/1"}`): nil,
			observation(`, "subject": {"reference": "Group/1"}`):   {"reference-target Observation.subject"},
			observation(`, "subject": {"display": "x"}`):           nil,
		}},
		"invariants": {[]string{`{"path": "Observation", "constraint": [{"key": "x-1", "severity": "error", "human": "A note", "expression": "note.exists()"}, {"key": "x-2", "severity": "warning", "human": "w", "expression": "false"}]}`,
			`{"path": "Observation.component", "constraint": [{"key": "x-3", "severity": "error", "human": "b", "expression": "code.text = %resource.code.text"}]}`}, cases{
			observation(``): {"x-1 Observation"},
			observation(`, "note": [{"text": "x"}], "component": [{"code": {"text": "x"}}, {"code": {"text": "y"}}]`): {"x-3 Observation.component[1]"},
		}},
		"bounds": {[]string{`{"path": "Observation.value[x]", "type": [{"code": "integer"}, {"code": "string"}], "minValueInteger": 1, "maxValueInteger": 5, "maxLength": 3}`}, cases{
			observation(`, "valueInteger": 0`):     {"min-value Observation.value"},
			observation(`, "valueInteger": 6`):     {"max-value Observation.value"},
			observation(`, "valueInteger": 5`):     nil,
			observation(`, "valueString": "äöüß"`): {"max-length Observation.value"},
			observation(`, "valueString": "äöü"`):  nil,
		}},
		"extensions": {[]string{`{"path": "Observation.extension", "sliceName": "e", "min": 1, "max": "1", "type": [{"code": "Extension", "profile": ["http://example.org/extension"]}]}`}, cases{
			observation(``): {"required Observation"},
			observation(`, "extension": [{"url": "http://example.org/extension", "valueString": "x"}]`):                                                                                         nil,
			observation(`, "extension": [{"url": "http://example.org/extension", "valueBoolean": true}]`):                                                                                       {"type Observation.extension[0].value"},
			observation(`, "method": {"extension": [{"url": "http://example.org/extension", "valueString": "x"}]}, "extension": [{"url": "http://example.org/extension", "valueString": "x"}]`): {"extension-context Observation.method.extension[0]"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			extension := defined(t, "extension", "Extension", "Extension", `{"path": "Extension.url", "fixedUri": "http://example.org/extension"}`, `{"path": "Extension.value[x]", "min": 1, "type": [{"code": "string"}]}`)
			extension.Set("context", fhir.Arr(fhir.Obj(fhir.Str("element").As("type"), fhir.Str("Observation").As("expression"))))
			s := known(t, defined(t, "p", "Observation", "Observation", test.elements...), extension,
				defined(t, "other", "Observation", "Observation", `{"path": "Observation.code.text", "fixedString": "member"}`))
			for text, want := range test.cases {
				issues, err := s.Check(context.Background(), parse(t, text), Options{Terminology: &answers{}})
				if err != nil {
					t.Fatal(err)
				}
				if got := details(issues); !sameSet(got, want) {
					t.Errorf("%s:\n got %q\nwant %q\n%v", text, got, want, issues)
				}
			}
		})
	}
}

func TestProfilesDerive(t *testing.T) {
	t.Parallel()
	s := known(t,
		defined(t, "a", "Observation", "Observation", `{"path": "Observation.subject", "min": 1}`, sliced("open", ""), slicedBy("A", "a", `, "min": 1`)),
		defined(t, "p", "Observation", "http://example.org/a", `{"path": "Observation.note", "max": "0"}`, `{"id": "Observation.category:A.text", "path": "Observation.category.text", "min": 1}`))
	issues, err := s.Check(context.Background(), parse(t, strings.Replace(categories("a"), `"status"`, `"note": [{"text": "x"}], "status"`, 1)), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := details(issues), []string{"required Observation", "required Observation.category[0]", "too-many Observation"}; !sameSet(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func sameSet(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

// TestFaultyDefinitions says why a definition cannot be used, and where.
func TestFaultyDefinitions(t *testing.T) {
	t.Parallel()
	long := make([]string, MaxElements+1)
	for i := range long {
		long[i] = `{"path": "Observation.note"}`
	}
	for name, test := range map[string]struct {
		n    *fhir.Node
		want string
	}{
		"itself":             {defined(t, "p", "Observation", "http://example.org/p"), "derives from itself"},
		"a circle":           {defined(t, "p", "Observation", "http://example.org/q"), "derives from itself"},
		"no base":            {defined(t, "p", "Observation", "http://example.org/absent"), "is not here"},
		"another type":       {defined(t, "p", "Patient", "Observation"), "is about Observation"},
		"an unknown element": {defined(t, "p", "Observation", "Observation", `{"path": "Observation.colour"}`), "There is no element"},
		"another root":       {defined(t, "p", "Observation", "Observation", `{"path": "Patient.name"}`), "must begin with Observation"},
		"a bad invariant":    {defined(t, "p", "Observation", "Observation", `{"path": "Observation", "constraint": [{"key": "a", "severity": "error", "human": "x", "expression": "a.("}]}`), "cannot be used"},
		"min above max":      {defined(t, "p", "Observation", "Observation", `{"path": "Observation.note", "min": 3, "max": "2"}`), "above max"},
		"a discriminator":    {defined(t, "p", "Observation", "Observation", `{"path": "Observation.category", "slicing": {"discriminator": [{"type": "value", "path": "where(a = 'b')"}], "rules": "open"}}`), "discriminator"},
		"too many elements":  {defined(t, "p", "Observation", "Observation", long...), "at most"},
		"too deep":           {defined(t, "p", "Observation", "Observation", `{"path": "Observation`+strings.Repeat(".extension", 40)+`"}`), "deep"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := known(t, test.n, defined(t, "q", "Observation", "http://example.org/p"))
			p, err := s.Compile(context.Background(), test.n)
			if err != nil {
				t.Fatal(err)
			}
			if p.Fault() == nil || !strings.Contains(p.Fault().Error(), test.want) {
				t.Errorf("fault: %v", p.Fault())
			}
		})
	}
}

// TestHostileProfiles are bounded: a warning says what was not checked, or an error that it is too much.
func TestHostileProfiles(t *testing.T) {
	t.Parallel()
	var notes []string
	for range 2000 {
		notes = append(notes, `{"text": "`+strings.Repeat("a", 40)+`"}`)
	}
	many := observation(`, "note": [` + strings.Join(notes, ",") + `]`)
	var slicesOfNote []string
	slicesOfNote = append(slicesOfNote, `{"path": "Observation.note", "slicing": {"discriminator": [{"type": "value", "path": "text"}], "rules": "open"}}`)
	for i := range 1000 {
		slicesOfNote = append(slicesOfNote, fmt.Sprintf(`{"id": "Observation.note:s%d", "path": "Observation.note", "sliceName": "s%d"}, {"id": "Observation.note:s%d.text", "path": "Observation.note.text", "fixedMarkdown": "%d"}`, i, i, i, i))
	}
	for name, test := range map[string]struct {
		elements []string
		want     string
	}{
		"cross product":        {[]string{`{"path": "Observation", "constraint": [{"key": "x-1", "severity": "error", "human": "x", "expression": "note.where(%resource.note.where(%resource.note.where(text = 'b').exists()).exists()).exists()"}]}`}, "invariant-unchecked"},
		"a regular expression": {[]string{`{"path": "Observation", "constraint": [{"key": "x-1", "severity": "error", "human": "x", "expression": "note.all(text.matches('^(a+)+$'))"}]}`}, ""},
		"many slices":          {slicesOfNote, "profile-too-costly"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := known(t, defined(t, "p", "Observation", "Observation", test.elements...))
			issues, err := s.Check(context.Background(), parse(t, many), Options{})
			if err != nil {
				t.Fatal(err)
			}
			if test.want == "" && len(issues) > 0 || test.want != "" && !slices.ContainsFunc(issues, func(i fhir.Issue) bool { return i.Detail == test.want }) {
				t.Errorf("%d issues: %v", len(issues), issues[:min(3, len(issues))])
			}
		})
	}
	t.Run("a profile that asks for itself", func(t *testing.T) {
		t.Parallel()
		s := known(t, defined(t, "p", "Observation", "Observation", `{"path": "Observation", "type": [{"code": "Observation", "profile": ["http://example.org/p"]}]}`))
		issues, err := s.Check(context.Background(), parse(t, observation("")), Options{})
		if err != nil || len(issues) > 3 {
			t.Errorf("%v %v", err, issues)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		s := known(t, defined(t, "p", "Observation", "Observation", slicesOfNote...))
		if _, err := s.Check(ctx, parse(t, many), Options{}); err == nil {
			t.Error("nobody waited, and the work was done")
		}
	})
}

func TestTermsAreAskedAtOnce(t *testing.T) {
	t.Parallel()
	s := known(t, defined(t, "p", "Observation", "Observation", `{"path": "Observation.category", "binding": {"strength": "required", "valueSet": "http://v"}}`))
	a := &answers{}
	issues, err := s.Check(context.Background(), parse(t, categories("a", "b", "x", "b")), Options{Terminology: a})
	if err != nil || a.rounds != 1 || !slices.Equal(details(issues), []string{"binding Observation.category[2]"}) {
		t.Errorf("%d rounds, %v, %v", a.rounds, err, issues)
	}
}
