package coverage_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"kiln/conformance"
	"kiln/conformance/validate"
	"kiln/fhir"
	"kiln/resources/coverage"
)

func parse(t testing.TB, text string) *fhir.Node {
	t.Helper()
	n, err := fhir.ParseJSON([]byte(text))
	if err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return n
}

func codes(found []coverage.Finding) (list []coverage.Code) {
	for _, f := range found {
		list = append(list, f.Code)
	}
	return list
}

func TestDates(t *testing.T) {
	t.Parallel()
	for request, want := range map[string]string{
		`{"servicedDate":"2026-02-03","created":"2026-01-01"}`:                            "2026-02-03 2026-02-03",
		`{"servicedDate":"2026-02","created":"2026-01-01"}`:                               "2026-02-01 2026-02-28",
		`{"servicedPeriod":{"start":"2026-02-03","end":"2026"},"created":"2026-01-01"}`:   "2026-02-03 2026-12-31",
		`{"servicedPeriod":{"start":"2026-02-03T23:30:00-05:00"},"created":"2026-01-01"}`: "2026-02-03 2026-02-03",
		`{"servicedPeriod":{"end":"2026-02-03"},"created":"2026-01-01"}`:                  "2026-02-03 2026-02-03",
		`{"created":"2026-01-01T10:00:00Z"}`:                                              "2026-01-01 2026-01-01",
	} {
		if from, to := coverage.Dates(parse(t, request)); from+" "+to != want {
			t.Errorf("%s: %s %s, want %s", request, from, to, want)
		}
	}
}

// answer is a response of a payer about one item.
func answer(item string) string {
	return `{"resourceType":"CoverageEligibilityResponse","outcome":"complete","insurance":[{"coverage":{"reference":"Coverage/c"},"inforce":true,"item":[{"category":{"text":"x"}` + item + `}]}]}`
}

func TestJudge(t *testing.T) {
	t.Parallel()
	benefit := func(allowed, used string) string {
		return fmt.Sprintf(`,"benefit":[{"type":{"text":"x"}%s%s}]`, allowed, used)
	}
	for name, c := range map[string]struct {
		answer string
		visit  coverage.Visit
		want   []coverage.Code
	}{
		"nothing_said":            {answer(``), coverage.Visit{}, nil},
		"not_in_force":            {strings.Replace(answer(``), `"inforce":true`, `"inforce":false`, 1), coverage.Visit{}, []coverage.Code{coverage.NotInForce}},
		"not_said_to_be_in_force": {strings.Replace(answer(``), `"inforce":true,`, ``, 1), coverage.Visit{}, []coverage.Code{coverage.NotInForce}},
		"about_another_coverage":  {strings.Replace(answer(``), `Coverage/c`, `Coverage/d`, 1), coverage.Visit{}, []coverage.Code{coverage.NotInForce}},
		"benefits_end_before":     {strings.Replace(answer(``), `"inforce":true`, `"inforce":true,"benefitPeriod":{"end":"2026-01-15"}`, 1), coverage.Visit{}, []coverage.Code{coverage.NotInForce}},
		"benefits_end_that_day":   {strings.Replace(answer(``), `"inforce":true`, `"inforce":true,"benefitPeriod":{"end":"2026-01-16"}`, 1), coverage.Visit{}, nil},
		"one_is_left":             {answer(benefit(`,"allowedUnsignedInt":3`, `,"usedUnsignedInt":2`)), coverage.Visit{}, nil},
		"one_is_left_and_booked":  {answer(benefit(`,"allowedUnsignedInt":3`, `,"usedUnsignedInt":2`)), coverage.Visit{Booked: 1}, []coverage.Code{coverage.Exhausted}},
		"given_back_since":        {answer(benefit(`,"allowedUnsignedInt":3`, `,"usedUnsignedInt":3`)), coverage.Visit{Booked: -1}, nil},
		"money_is_left":           {answer(benefit(`,"allowedMoney":{"value":100.10,"currency":"EUR"}`, `,"usedMoney":{"value":100.09,"currency":"EUR"}`)), coverage.Visit{Booked: 9}, nil},
		"money_is_used":           {answer(benefit(`,"allowedMoney":{"value":100.10,"currency":"EUR"}`, `,"usedMoney":{"value":100.1,"currency":"EUR"}`)), coverage.Visit{}, []coverage.Code{coverage.Exhausted}},
		"another_currency":        {answer(benefit(`,"allowedMoney":{"value":1,"currency":"EUR"}`, `,"usedMoney":{"value":2,"currency":"USD"}`)), coverage.Visit{}, nil},
		"words_are_no_numbers":    {answer(benefit(`,"allowedString":"many"`, `,"usedString":"some"`)), coverage.Visit{}, nil},
		"excluded_says_it_all":    {answer(`,"excluded":true,"authorizationRequired":true`), coverage.Visit{}, []coverage.Code{coverage.Excluded}},
		"out_of_network":          {answer(`,"network":{"coding":[{"code":"out"}]}`), coverage.Visit{}, []coverage.Code{coverage.OutOfNetwork}},
		"authorization":           {answer(`,"authorizationRequired":true`), coverage.Visit{}, []coverage.Code{coverage.Authorization}},
		"authorization_settled":   {answer(`,"authorizationRequired":true`), coverage.Visit{Cleared: true}, nil},
		"authorization_is_there":  {strings.Replace(answer(`,"authorizationRequired":true`), `"outcome"`, `"preAuthRef":"A1","outcome"`, 1), coverage.Visit{}, nil},
		"queued":                  {`{"resourceType":"CoverageEligibilityResponse","outcome":"queued"}`, coverage.Visit{}, []coverage.Code{coverage.Pending}},
		"error":                   {`{"resourceType":"CoverageEligibilityResponse","outcome":"error"}`, coverage.Visit{}, []coverage.Code{coverage.NotInForce}},
	} {
		t.Run(name, func(t *testing.T) {
			a, ok := coverage.ReadAnswer(parse(t, c.answer))
			if !ok {
				t.Fatal("it cannot be read")
			}
			c.visit.Coverage, c.visit.Date = "Coverage/c", "2026-01-16"
			if got := codes(a.Judge(c.visit)); !slices.Equal(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// TestEach_code_has_a_step keeps the table, which tells what becomes of a finding, whole.
func TestEach_code_has_a_step(t *testing.T) {
	t.Parallel()
	for _, s := range coverage.Steps() {
		i := coverage.Finding{Code: s.Code, Text: "x"}.Issue(fhir.SeverityError)
		if s.Check == "" || s.At == "" || s.Result == "" || i.Expression[0] != s.At || i.Detail != string(s.Code) {
			t.Errorf("%+v", s)
		}
	}
}

// FuzzReadAnswer reads what a payer may send: whatever is taken of it, there is nothing in it but what we know.
func FuzzReadAnswer(f *testing.F) {
	for _, item := range []string{``, `,"excluded":true`, `,"benefit":[{"type":{"coding":[{"code":"visit"}]},"allowedUnsignedInt":5,"usedMoney":{"value":1e9,"currency":"EUR"}}]`, `,"productOrService":{"text":"both"}`, `,"name":"` + strings.Repeat("x", 2000) + `"`} {
		f.Add(answer(item))
	}
	registry, err := conformance.R4()
	if err != nil {
		f.Fatal(err)
	}
	validator, err := validate.New(registry, validate.Options{Invariants: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := fhir.ParseJSON([]byte(text))
		if err != nil {
			return
		}
		a, ok := coverage.ReadAnswer(n, "Coverage/c")
		if !ok {
			return
		}
		a.Judge(coverage.Visit{Coverage: "Coverage/c", Date: "2026-01-16"})
		q := &coverage.Question{Asked: time.Unix(0, 0), Request: parse(t, `{"resourceType":"CoverageEligibilityRequest","id":"q","status":"active","purpose":["benefits"],"patient":{"reference":"Patient/p"},"created":"2026-01-15","insurer":{"display":"x"}}`)}
		out := a.Node("a", q)
		for _, i := range validator.Resource(&out) {
			if i.Code == fhir.CodeStructure || i.Code == fhir.CodeInvariant && i.Detail == "ces-1" {
				t.Errorf("%+v in %s", i, out.JSON())
			}
		}
	})
}
