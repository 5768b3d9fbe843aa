package profile

import (
	"context"
	"fmt"
	"testing"

	"kiln/fhir"
)

// Whether a code of an extensible value set would fit is for people to say: it is a warning, to who asks for advice, and only
// where the codes are known.
func TestExtensibleBindingIsAdvice(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		set    string
		advice bool
		want   string
	}{{"http://v", true, "[Observation.category[1]]"}, {"http://v", false, "[]"}, {"http://absent", true, "[]"}} {
		s := known(t, defined(t, "p", "Observation", "Observation", `{"path": "Observation.category", "binding": {"strength": "extensible", "valueSet": "`+c.set+`"}}`))
		issues, err := s.Check(context.Background(), parse(t, categories("a", "x")), Options{Terminology: &answers{}, MustSupport: c.advice})
		if err != nil {
			t.Fatal(err)
		}
		at := []string{}
		for _, i := range issues {
			if i.Severity == fhir.SeverityError || i.Detail == "binding-extensible" {
				at = append(at, i.Expression...)
			}
		}
		if fmt.Sprint(at) != c.want {
			t.Errorf("%s, %v: %v, want %s", c.set, c.advice, at, c.want)
		}
	}
}
