package storage_test

import (
	"fmt"
	"slices"
	"testing"
)

// The number beside a code in the index is rounded: what lies beside a bound by less than that is told by the value itself, as are
// ranges, comparators and units.
func TestSearch_of_a_code_and_a_value_to_the_last_digit(t *testing.T) {
	t.Parallel()
	s := open(t)
	for i, value := range []string{`{"value":5.4}`, `{"value":5.4000000000000000000001}`, `{"value":5.3999999999999999999999}`, `{"value":5.4,"comparator":"<"}`, `{"value":5.4,"comparator":">="}`,
		`{"value":5.40,"unit":"cm","system":"http://unitsofmeasure.org","code":"cm"}`, `{"value":5.4,"unit":"bags"}`, `{"value":-5.4}`, `{"value":0}`, `{"value":5.35}`, `{"value":5.45}`, `{"value":5.449999999999999999999}`, `{"value":1e-320}`,
		`{"value":5}`, `{"value":6}`, `{"value":1e307}`, `{"value":4e390}`, `{"value":-4e390}`} {
		put(t, s, fmt.Sprintf(`{"resourceType":"Observation","id":"o%d","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"8302-2"}]},"effectiveDateTime":"2020-01-%02d","valueQuantity":%s}`, i, 1+i, value))
	}
	for i, value := range []string{`"code":{"coding":[{"system":"http://loinc.org","code":"8302-2"}]}`, `"code":{"coding":[{"system":"http://loinc.org","code":"8480-6"}]},"valueQuantity":{"value":5.4}`} {
		put(t, s, fmt.Sprintf(`{"resourceType":"Observation","id":"p%d","status":"final","effectiveDateTime":"2020-02-%02d",%s}`, i, 1+i, value))
	}
	some := 0
	for _, prefix := range []string{"", "gt", "ge", "lt", "le", "sa", "eb", "ap", "ne"} {
		for _, value := range []string{"5.4", "5.40", "5.4000000000000000000001", "5", "0", "-5.4", "5.4||bags", "5.4|http://unitsofmeasure.org|cm", "1e307", "0.00", "1e390", "-1e390"} {
			query := "value-quantity=" + prefix + value
			q, err := parseQuery(s, "Observation", "code=http://loinc.org|8302-2&"+query)
			if err != nil {
				t.Fatal(err)
			}
			other, err := parseQuery(s, "Observation", "code=8302-2&"+query) // a code of any system is looked for otherwise
			if err != nil {
				t.Fatal(err)
			}
			got, want := all(t, s, q, 4), all(t, s, other, 50)
			if some += len(want); !slices.Equal(got, want) {
				t.Errorf("%s: %v, want %v", query, got, want)
			}
		}
	}
	if some < 300 {
		t.Errorf("the searches find %d", some)
	}
}
