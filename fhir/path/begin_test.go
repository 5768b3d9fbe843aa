package path_test

import (
	"slices"
	"testing"

	"kiln/fhir/path"
)

func TestExpression_Begins(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		src   string
		names []string // nil: it cannot be told
	}{
		{"Observation.value", []string{"value"}},
		{"(Observation.value as Quantity) | Observation.component.value.ofType(Quantity)", []string{"value", "component"}},
		{"Observation.subject.where(resolve() is Patient)", []string{"subject"}},
		{"name[0].given.first()", []string{"name"}},
		{"Observation", nil},
		{"Patient.deceased.exists() and Patient.deceased != false", nil},
		{"name.exists()", nil},
		{"name.given.count()", nil},
		{"name | iif(true, 'x')", nil},
		{"where(active).name", nil},
		{"name.select('x')", nil},
		{"%resource.name", nil},
	} {
		x, err := path.Compile(c.src, nil)
		if err != nil {
			t.Fatal(err)
		}
		names, ok := x.Begins()
		if ok != (c.names != nil) || ok && !slices.Equal(names, c.names) {
			t.Errorf("%s: %v, %v", c.src, names, ok)
		}
	}
}
