package validate

import (
	"encoding/json"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"kiln/fhir"
)

// validatorCase is one of fhir-test-cases' validator/cases.json.
type validatorCase struct {
	Name, Module, File, Format string
	Supporting                 []string
	NeedsTerminology           bool
	Expect                     struct {
		Valid  bool
		Issues []struct{ Severity, Code, Expression, Text string }
	}
}

// differing are the cases on which this validator and HL7's disagree on purpose, with the reason. The test fails when
// one agrees.
var differing = map[string]string{
	"qr-bad-ref2":                          "a canonical to a resource elsewhere: nothing outside the resource is resolved",
	"pat-dob-ext":                          "an extension that the other validator does not know: open here, without profiles",
	"pat-example-extensions":               "an extension that the other validator does not know: open here, without profiles",
	"nested-questionnaire-nested-valueset": "an extension that the other validator does not know: open here, without profiles",
	"maiden-name-extension":                "where an extension may stand is in its StructureDefinition: a matter of profiles",
	"contained-resource-bad-id-ignore":     "the case switches the checks of contained resources off",
}

// strip turns the other validator's expressions into ours: R4's issue.expression has no types in it.
var strip = regexp.MustCompile(`/\*[^*]*\*/|\.ofType\([A-Za-z0-9]+\)|\[url='[^']*'\]`)

func TestValidatorCases(t *testing.T) {
	t.Parallel()
	v := strictValidator(t)
	files := map[string][]byte{}
	readZip(t, filepath.Join(sharedData(t, "fhir-test-cases"), "fhir-test-cases.zip"), func(name string, data []byte) {
		files[name] = data
	})
	var cases []validatorCase
	if err := json.Unmarshal(files["validator/cases.json"], &cases); err != nil {
		t.Fatal(err)
	}
	all, agree, told, pointed, unseen := 0, 0, 0, 0, map[string]int{}
	elsewhere, elsewhereAgree := 0, 0
	for _, c := range cases {
		if c.Format != "json" {
			continue
		}
		var issues []fhir.Issue
		if n, err := fhir.ParseJSON(files["validator/"+c.File]); err == nil {
			issues = errorsOf(v.Resource(n))
		} else {
			issues = err.(*fhir.Error).Issues
		}
		same := (len(issues) == 0) == c.Expect.Valid
		if c.NeedsTerminology || len(c.Supporting) > 0 {
			// Other knowledge decides these. What is valid with it must be valid here; what is not may pass.
			switch elsewhere++; {
			case same:
				elsewhereAgree++
			case c.Expect.Valid:
				t.Errorf("%s (%s): expected to be valid, got:%s", c.Name, c.File, show(issues))
			default:
				unseen[c.needs()]++
			}
			continue
		}
		all++
		if same {
			agree++
		}
		var missed []string
		for _, want := range c.Expect.Issues {
			if want.Severity != "error" && want.Severity != "fatal" {
				continue
			}
			told++
			if points(issues, strip.ReplaceAllString(want.Expression, "")) {
				pointed++
			} else {
				missed = append(missed, want.Expression+": "+want.Text)
			}
		}
		switch reason := differing[c.Name]; {
		case reason == "" && (!same || len(missed) > 0):
			t.Errorf("%s (%s): expected valid=%v, got:%s\n\tnot told: %s", c.Name, c.File, c.Expect.Valid, show(issues),
				strings.Join(missed, "\n\t          "))
		case reason != "" && same && len(missed) == 0:
			t.Errorf("%s agrees, but is listed as differing (%s)", c.Name, reason)
		}
	}
	t.Logf("base-only JSON cases: %d of %d verdicts agree, %d of %d errors pointed at", agree, all, pointed, told)
	t.Logf("cases that other knowledge decides: %d of %d agree, no false error; not seen: %v", elsewhereAgree, elsewhere, unseen)
}

// needs says what a case asks for that the base definitions do not have. Those that name a profile run in package profile.
func (c *validatorCase) needs() string {
	switch {
	case c.NeedsTerminology:
		return "code systems that are not embedded"
	case c.Module == "questionnaire":
		return "the Questionnaire that a response answers"
	default:
		return "definitions that the case brings along"
	}
}

// points says whether an issue stands at the expression, above it or below it.
func points(issues []fhir.Issue, expression string) bool {
	for _, i := range issues {
		for _, x := range i.Expression {
			if strings.HasPrefix(x, expression) || strings.HasPrefix(expression, x) {
				return true
			}
		}
	}
	return false
}
