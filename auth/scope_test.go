package auth_test

import (
	"strings"
	"testing"

	"kiln/auth"
	"kiln/conformance"
)

func TestParseScope(t *testing.T) {
	for _, c := range []struct {
		text, level, typ, actions string
		params                    int
	}{
		{"openid", "", "", "", 0},
		{"launch/patient", "", "", "", 0},
		{"https://example.org/any?thing=1", "", "", "", 0},
		{"patient/*.read", "patient", "*", "rs", 0},
		{"user/Observation.write", "user", "Observation", "cud", 0},
		{"system/*.*", "system", "*", "cruds", 0},
		{"patient/Observation.rs", "patient", "Observation", "rs", 0},
		{"patient/Observation.cruds", "patient", "Observation", "cruds", 0},
		{"user/Appointment.crus", "user", "Appointment", "crus", 0},
		{"patient/Condition.rs?category=http://terminology.hl7.org/CodeSystem/condition-category|health-concern", "patient", "Condition", "rs", 1},
		{"patient/Observation.cs?category=a|b,c|d&status=final", "patient", "Observation", "cs", 2},
		{"user/*.r?_tag=x|y", "user", "*", "r", 1},
	} {
		s, err := auth.ParseScope(c.text)
		if err != nil || s.Text != c.text || string(s.Level) != c.level || s.Type != c.typ || s.Actions.String() != c.actions || len(s.Params) != c.params {
			t.Errorf("%s: %+v, %v", c.text, s, err)
		}
	}
}

// Leak 7 of lessons.md A.1: modifiers inside of scopes were accepted.
func TestParseScope_refuses(t *testing.T) {
	for _, text := range []string{
		"", "patient/", "patient/Observation", "patient/Observation.", "patient/Observation.sr", "patient/Observation.rr", "patient/Observation.x",
		"patient/Observation.Read", "patient/observation.rs", "patient/.rs", "patient/*Observation.rs", "patient/Observation.rs?",
		"patient/Observation.rs?category", "patient/Observation.rs?category=", "patient/Observation.rs?category:not=a|b",
		"patient/Observation.rs?subject.name=x", "patient/Observation.rs?_has:Provenance:target:agent=x", "patient/Observation.rs?category=a&",
		"patient/Observation.rs?category=a,,b", "patient/Observation.rs?category=%61", "patient/Observation.rs?category=a$b",
		"patient/Observation.read?category=a", "patient/Observation.*?category=a", "user/../Observation.rs", "patient/Observation.rs\tx",
		`patient/Observation.rs?category="a"`, "patient/Observation.rs?category=|", "patient/Observation.rs.rs",
		"patient/Observation.rs?" + strings.Repeat("a=b&", 20) + "a=b", "patient/Observation.rs?category=" + strings.Repeat("x", 2000),
	} {
		if s, err := auth.ParseScope(text); err == nil || s.Actions != 0 {
			t.Errorf("%q passed as %+v", text, s)
		}
	}
}

func TestScope_Check(t *testing.T) {
	registry, err := conformance.R4()
	if err != nil {
		t.Fatal(err)
	}
	for text, ok := range map[string]bool{
		"openid":                                   true,
		"patient/*.rs":                             true,
		"patient/Observation.rs":                   true,
		"patient/Observations.rs":                  false,
		"patient/DomainResource.rs":                false,
		"patient/Condition.rs?category=x":          true,
		"patient/Observation.rs?subject=Patient/1": true,
		"patient/Observation.rs?nothing=x":         false,
		"patient/Observation.rs?date=2020":         false,
		"patient/Patient.rs?name=x":                false,
		"patient/Patient.rs?_id=x":                 false,
		"user/*.rs?_security=x":                    true,
		"user/*.rs?category=x":                     false,
	} {
		s, err := auth.ParseScope(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Check(registry); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestScopes_keep_their_text(t *testing.T) {
	const text = "launch/patient openid patient/Observation.rs?category=http://x|laboratory patient/Patient.read offline_access"
	list, faults := auth.ParseScopes("  " + text + " openid\n")
	if list.String() != text || faults != nil {
		t.Fatalf("%s, %v", list, faults)
	}
	list, faults = auth.ParseScopes("patient/Observation.sr openid")
	if list.String() != "openid" || len(faults) != 1 {
		t.Fatalf("%s, %v", list, faults)
	}
}

func TestScopes_Grant(t *testing.T) {
	for _, c := range []struct{ registered, asked, granted string }{
		{"openid patient/*.rs", "openid patient/Observation.rs fhirUser", "openid patient/Observation.rs"},
		{"patient/*.rs", "patient/*.cruds", "patient/*.rs"},
		{"patient/*.read", "patient/*.*", "patient/*.rs"},
		{"patient/*.rs", "patient/*.read", "patient/*.read"},
		{"patient/Observation.rs patient/Condition.r", "patient/*.rs", "patient/Observation.rs patient/Condition.r"},
		{"patient/Observation.r patient/Observation.s", "patient/Observation.rs", "patient/Observation.rs"},
		{"patient/Observation.rs?category=a|b", "patient/Observation.rs", "patient/Observation.rs?category=a|b"},
		{"patient/Observation.rs?category=a|b", "patient/Observation.cr", "patient/Observation.r?category=a|b"},
		{"patient/Observation.rs", "patient/Observation.rs?category=a|b", "patient/Observation.rs?category=a|b"},
		{"patient/Observation.rs?category=a|b", "patient/Observation.rs?category=c|d", ""},
		{"patient/*.rs", "user/*.rs system/*.rs", ""},
		{"user/*.rs", "patient/*.rs", ""},
	} {
		registered, _ := auth.ParseScopes(c.registered)
		asked, _ := auth.ParseScopes(c.asked)
		if got := registered.Grant(asked).String(); got != c.granted {
			t.Errorf("%q of %q: %q, want %q", c.asked, c.registered, got, c.granted)
		}
	}
}

func TestPrincipal_zero_is_nobody(t *testing.T) {
	var p auth.Principal
	if p.Known() || p.IsOperator() || len(p.Scopes.About("Patient", auth.Read)) != 0 {
		t.Errorf("%+v has rights", p)
	}
	operator := auth.Operator("")
	if !operator.IsOperator() || !operator.Known() {
		t.Error("the operator has none")
	}
	if operator.Fingerprint() == p.Fingerprint() || operator.Caller() == p.Caller() {
		t.Error("two principals look the same")
	}
}

// No text may be read as more than its letters say, and what is granted is never more than what was registered.
func FuzzScopes(f *testing.F) {
	for _, s := range []string{"patient/*.rs", "user/Observation.cruds?category=a|b", "patient/X.read openid", "system/*.*"} {
		f.Add(s, "patient/*.cruds user/*.rs")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		registered, _ := auth.ParseScopes(a)
		asked, _ := auth.ParseScopes(b)
		again, faults := auth.ParseScopes(registered.String())
		if faults != nil || again.String() != registered.String() {
			t.Fatalf("%q does not survive: %v", registered, faults)
		}
		for _, s := range registered.Grant(asked) {
			if !registered.Covers(&s) || !asked.Covers(&s) {
				t.Fatalf("%q of %q, asked %q", s.Text, a, b)
			}
			if back, err := auth.ParseScope(s.Text); err != nil || back.Actions != s.Actions {
				t.Fatalf("%q: %v", s.Text, err)
			}
		}
	})
}
