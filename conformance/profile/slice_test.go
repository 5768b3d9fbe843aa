package profile

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"kiln/fhir"
)

// manySlices is a profile with n slices that a value tells apart, and a patient with as many names that are in none of them.
func manySlices(t *testing.T, slices, names int) (*Set, *fhir.Node) {
	t.Helper()
	elements := []string{`{"path":"Patient.name","slicing":{"discriminator":[{"type":"value","path":"family"}],"rules":"open"}}`}
	for i := range slices {
		elements = append(elements, fmt.Sprintf(`{"path":"Patient.name","sliceName":"s%d"}`, i), fmt.Sprintf(`{"path":"Patient.name.family","fixedString":"zz%d"}`, i))
	}
	list := make([]string, names)
	for i := range list {
		list[i] = fmt.Sprintf(`{"family":"q%d"}`, i)
	}
	return known(t, defined(t, "0", "Patient", "Patient", strings.Join(elements, ","))),
		parse(t, `{"resourceType":"Patient","meta":{"profile":["http://example.org/0"]},"name":[`+strings.Join(list, ",")+`]}`)
}

// What a discriminator leads to is looked up once for a slice and once for a value, not for each pair of them.
func TestManySlicesOfManyValuesCostLittle(t *testing.T) {
	s, n := manySlices(t, 1000, 400)
	check := func() {
		if issues, err := s.Check(context.Background(), n, Options{}); err != nil || len(details(issues)) > 0 {
			t.Fatalf("%v %v", err, details(issues))
		}
	}
	check() // compiles the profile
	const comparisons = 1000 * 400
	if allocated := testing.AllocsPerRun(1, check); allocated > comparisons/10 {
		t.Errorf("%.0f allocations for %d comparisons", allocated, comparisons)
	}
}

func TestTooManySlicesOfTooManyValuesAreRefused(t *testing.T) {
	t.Parallel()
	s, n := manySlices(t, 2000, 5000)
	issues, err := s.Check(context.Background(), n, Options{})
	if err != nil || len(issues) != 1 || issues[0].Detail != "profile-too-costly" {
		t.Errorf("%v %v", err, issues)
	}
}
