package profile

import (
	"context"
	"fmt"
	"testing"

	"kiln/conformance"
	"kiln/fhir"
)

// The components of bp are told by a code that stands in a slice of their codings.
func TestBloodPressureOfR4IsKnownInAnyOrder(t *testing.T) {
	t.Parallel()
	s := known(t)
	component := func(code string) string {
		return `{"code": {"coding": [{"system": "http://loinc.org", "code": "` + code + `"}]},
			"valueQuantity": {"value": 104, "unit": "mm[Hg]", "system": "http://unitsofmeasure.org", "code": "mm[Hg]"}}`
	}
	systolic, diastolic := component("8480-6"), component("8462-4")
	for _, c := range []struct{ components, want string }{
		{systolic + "," + diastolic, "[]"},
		{diastolic + "," + systolic, "[]"},
		{diastolic + "," + component("8302-2"), "[required Observation]"},
	} {
		n := parse(t, `{"resourceType": "Observation", "meta": {"profile": ["http://hl7.org/fhir/StructureDefinition/bp"]}, "status": "final",
			"category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"}]}],
			"code": {"coding": [{"system": "http://loinc.org", "code": "85354-9"}]}, "subject": {"reference": "Patient/a"},
			"effectiveDateTime": "2010-09-16T12:21:06+02:00", "component": [`+c.components+`]}`)
		issues, err := s.Check(context.Background(), n, Options{})
		if got := fmt.Sprint(details(issues)); err != nil || got != c.want {
			t.Errorf("%v %s, want %s", err, got, c.want)
		}
	}
}

func TestManyWarningsAreNoError(t *testing.T) {
	t.Parallel()
	entries := ""
	for i := range 150 {
		entries += fmt.Sprintf(`{"resource": {"resourceType": "Patient", "meta": {"profile": ["http://example.org/%d"]}}},`, i)
	}
	n := parse(t, `{"resourceType": "Bundle", "type": "collection", "entry": [`+entries[:len(entries)-1]+`]}`)
	issues, err := known(t).Check(context.Background(), n, Options{})
	if err != nil || len(issues) != 101 || len(details(issues)) != 0 || issues[100].Detail != "more-issues" {
		t.Errorf("%v: %d issues, errors %v", err, len(issues), details(issues))
	}
}

// A profile is as deep as it is, whichever of a chain is asked for first.
func TestFaultDoesNotDependOnTheOrder(t *testing.T) {
	t.Parallel()
	var chain []*fhir.Node
	for i := range MaxBases + 2 {
		base := "http://example.org/" + fmt.Sprint(i-1)
		if i == 0 {
			base = "Patient"
		}
		chain = append(chain, defined(t, fmt.Sprint(i), "Patient", base, `{"path": "Patient.active"}`))
	}
	faults := func(first, step int) string {
		s, list := known(t, chain...), make([]bool, len(chain))
		for i, k := 0, first; i < len(chain); i, k = i+1, k+step {
			p, err := s.Profile(context.Background(), fmt.Sprintf("http://example.org/%d", k))
			if err != nil {
				t.Fatal(err)
			}
			list[k] = p.Fault() != nil
		}
		return fmt.Sprint(list)
	}
	up, down := faults(0, 1), faults(len(chain)-1, -1)
	if up != down {
		t.Errorf("from the bottom %s\nfrom the top %s", up, down)
	}
}

// A resource may hold a hundred thousand names that look like those of official definitions.
func TestMadeUpNamesReadNoDefinition(t *testing.T) {
	t.Parallel()
	s := known(t)
	for i := range 20_000 {
		for _, canonical := range []string{fmt.Sprintf("http://example.org/%d/Patient", i), fmt.Sprintf("%sPatient|%d", baseURL, i),
			fmt.Sprintf("%s%d/Patient", baseURL, i)} {
			if p, err := s.Profile(context.Background(), canonical); p != nil || err != nil {
				t.Fatalf("%s: %v %v", canonical, p, err)
			}
		}
	}
	if len(s.profiles) != 0 || len(s.versions) != 1 {
		t.Errorf("%d profiles and %d versions are remembered", len(s.profiles), len(s.versions))
	}
}

// The definitions of R4 are valid by those of its own extensions, but for the contexts in misplaced.
func TestR4DefinitionsFitItsExtensions(t *testing.T) {
	t.Parallel()
	s := known(t)
	err := conformance.EachDefinition(func(n *fhir.Node) error {
		issues, err := s.Check(context.Background(), n, Options{})
		if faults := details(issues); len(faults) > 0 {
			t.Errorf("%s/%s: %v", n.ResourceType(), n.ID(), faults)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
