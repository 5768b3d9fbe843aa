package storage_test

import (
	"testing"

	"kiln/conformance"
	"kiln/fhir/path"
	"kiln/fhir/search"
	"kiln/storage"
)

// TestHolds_what_official_parameters_give: each has a type that holds some of what its expression can give. The counts keep the test from
// knowing nothing of most.
func TestHolds_what_official_parameters_give(t *testing.T) {
	t.Parallel()
	registry, err := conformance.R4()
	if err != nil {
		t.Fatal(err)
	}
	schema := registry.Schema()
	all, told := 0, 0
	for _, typ := range schema.Resources {
		for _, p := range registry.SearchParameters(typ) {
			if p.Expression == "" || p.Type == search.Special {
				continue
			}
			x, err := path.Compile(p.Expression, schema)
			if err != nil {
				t.Fatal(err)
			}
			types, computed, known := x.Result(schema.Type(typ))
			if all++; !known {
				continue
			}
			told++
			some := computed && p.Type == search.Token
			for _, result := range types {
				some = some || storage.Holds(p.Type, result)
			}
			if !some {
				t.Errorf("%s.%s is a %s and gives %v %t: %s", typ, p.Code, p.Type, types, computed, p.Expression)
			}
		}
	}
	if told*10 < all*9 {
		t.Errorf("what %d of %d expressions give is not known", all-told, all)
	}
}
