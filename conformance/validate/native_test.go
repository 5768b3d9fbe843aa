package validate

import (
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"kiln/conformance"
	"kiln/fhir"
)

// TestNativesAgreeWithFHIRPath checks that the rules written in Go say what their published expressions say.
func TestNativesAgreeWithFHIRPath(t *testing.T) {
	t.Parallel()
	reg, err := conformance.R4()
	if err != nil {
		t.Fatal(err)
	}
	options := Options{Invariants: true, BestPractice: true}
	inGo, err := New(reg, options)
	if err != nil {
		t.Fatal(err)
	}
	inPath, err := New(reg, options)
	if err != nil {
		t.Fatal(err)
	}
	inPath.natives = nil
	compare := func(name string, data []byte) {
		n, err := fhir.ParseJSON(data)
		if err != nil {
			return
		}
		// The *-0 rules differ on purpose: see natives.
		name0 := func(i fhir.Issue) bool { return strings.HasSuffix(i.Detail, "-0") }
		a, b := slices.DeleteFunc(inGo.Resource(n), name0), slices.DeleteFunc(inPath.Resource(n), name0)
		if len(a)+len(b) > 0 && !reflect.DeepEqual(a, b) {
			t.Errorf("%s: in Go:%s\n  in FHIRPath:%s", name, show(a), show(b))
		}
	}
	for _, p := range probes {
		compare(p.name, []byte(p.json))
	}
	readZip(t, filepath.Join(sharedData(t, "examples"), "r4-examples.zip"), compare)
	if n := inPath.InvariantErrors(); n > 0 {
		t.Errorf("%d evaluations failed", n)
	}
}

// TestTablesNameWhatR4Has checks that no native rule or fault is about an expression that R4 does not have.
func TestTablesNameWhatR4Has(t *testing.T) {
	t.Parallel()
	v := strictValidator(t)
	expressions := map[string][]string{} // by key
	for typ := range v.plans {
		for _, c := range typ.Constraints {
			expressions[c.Key] = append(expressions[c.Key], c.Expression)
		}
		for _, e := range typ.Elements {
			for _, c := range e.Constraints {
				expressions[c.Key] = append(expressions[c.Key], c.Expression)
			}
		}
		for base := typ.Base; base != nil; base = base.Base {
			for _, c := range base.Constraints {
				expressions[c.Key] = append(expressions[c.Key], c.Expression)
			}
		}
	}
	known := map[string]bool{}
	for _, list := range expressions {
		for _, x := range list {
			known[x] = true
		}
	}
	for x := range natives {
		if !known[x] {
			t.Errorf("R4 has no invariant %s", x)
		}
	}
	for key, f := range faults {
		if !slices.Contains(expressions[key], f.published) || f.reason == "" {
			t.Errorf("%s is not published as %s", key, f.published)
		}
	}
	for key := range structural {
		if len(expressions[key]) == 0 {
			t.Errorf("R4 has no invariant %s", key)
		}
	}
}

func TestIssuesAreCappedAndInOrder(t *testing.T) {
	t.Parallel()
	reg, err := conformance.R4()
	if err != nil {
		t.Fatal(err)
	}
	v, err := New(reg, Options{MaxIssues: 3})
	if err != nil {
		t.Fatal(err)
	}
	issues := v.Resource(parse(t, []byte(`{"resourceType":"Observation","category":[{}],"a":1,"b":1,"valueInteger":"x"}`)))
	var got []string
	for _, i := range issues {
		got = append(got, i.Detail)
	}
	if want := []string{"required", "required", "empty-object", "more-issues"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v:%s", got, want, show(issues))
	}
	if issues[0].Text != "status is required" || issues[3].Text != "There are 3 more issues that are not listed" {
		t.Errorf("got%s", show(issues))
	}
}

// A resource with very many warnings stays valid, and an error behind them is listed.
func TestWarnings_beyond_the_limit_refuse_nothing_and_hide_no_error(t *testing.T) {
	t.Parallel()
	reg, err := conformance.R4()
	if err != nil {
		t.Fatal(err)
	}
	v, err := New(reg, Options{Invariants: true, MaxIssues: 3})
	if err != nil {
		t.Fatal(err)
	}
	// nor-1 is a guideline: an order should say of what.
	const order = `{"resource":{"resourceType":"NutritionOrder","status":"draft","intent":"order","patient":{"reference":"Patient/1"},"dateTime":"2020"}}`
	bundle := func(last string) []byte {
		return []byte(`{"resourceType":"Bundle","type":"collection","entry":[` + strings.Repeat(order+",", 9) + last + `]}`)
	}
	issues := v.Resource(parse(t, bundle(order)))
	if !Valid(issues) || len(issues) != 4 || issues[3].Detail != "more-issues" {
		t.Errorf("warnings only:%s", show(issues))
	}
	issues = v.Resource(parse(t, bundle(`{"resource":{"resourceType":"Patient","gender":"m"}}`)))
	if Valid(issues) || !slices.ContainsFunc(issues, func(i fhir.Issue) bool {
		return slices.Equal(i.Expression, []string{"Bundle.entry[9].resource.gender"})
	}) {
		t.Errorf("an error behind warnings:%s", show(issues))
	}
}

// con-3 is about problem lists only, and best practice.
func TestBestPractice_is_told_where_it_is_asked_for(t *testing.T) {
	t.Parallel()
	reg, err := conformance.R4()
	if err != nil {
		t.Fatal(err)
	}
	condition := func(category string) []byte {
		return []byte(`{"resourceType":"Condition","text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\">x</div>"},"subject":{"reference":"Patient/1"},` +
			`"category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/condition-category","code":"` + category + `"}]}]}`)
	}
	for _, c := range []struct {
		best     bool
		category string
		want     int
	}{{false, "problem-list-item", 0}, {true, "problem-list-item", 1}, {true, "encounter-diagnosis", 0}} {
		v, err := New(reg, Options{Invariants: true, BestPractice: c.best})
		if err != nil {
			t.Fatal(err)
		}
		if issues := v.Resource(parse(t, condition(c.category))); len(issues) != c.want || !Valid(issues) {
			t.Errorf("%v %s: want %d warnings, got%s", c.best, c.category, c.want, show(issues))
		}
	}
}
