package fhir_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"kiln/fhir"
)

func TestParseJSON_keeps_everything(t *testing.T) {
	t.Parallel()
	for _, src := range []string{
		`{"resourceType":"Patient","a":1.10,"b":[1e2,-0.0,null,true],"_b":[null,{"id":"x"}],"s":"\u00e9<&>\n"}`,
		`[]`, `{}`, `"x"`, `0.000000000000000000001`, `[[[{"a":[]}]]]`,
	} {
		n, err := fhir.ParseJSON([]byte(src))
		if err != nil {
			t.Fatalf("%s: %v", src, err)
		}
		var want, got any
		for _, p := range []struct {
			text string
			to   *any
		}{{src, &want}, {string(n.JSON()), &got}} {
			d := json.NewDecoder(strings.NewReader(p.text))
			d.UseNumber()
			if err := d.Decode(p.to); err != nil {
				t.Fatal(err)
			}
		}
		if !reflect.DeepEqual(want, got) {
			t.Errorf("%s came out as %s", src, n.JSON())
		}
	}
}

func members(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf(`"m%d":1`, i)
	}
	return strings.Join(list, ",")
}

func TestParseJSON_refuses(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000)
	for name, c := range map[string]struct{ src, says, at string }{
		"nothing":               {"", "empty", ""},
		"cut_off":               {`{"a":`, "too early", ""},
		"twice_in_an_item":      {`{"x":[{"a":1,"a":2}]}`, "twice", "x[0].a"},
		"twice":                 {`{"a":1,"b":{"c":1,"c":2}}`, "twice", "b.c"},
		"nul":                   {`{"a":"\u0000"}`, "U+0000", "a"},
		"bad_utf8":              {"{\"a\":\"\xff\"}", "UTF-8", ""},
		"lone_surrogate":        {`{"a":["\ud800"]}`, "", "a[0]"},
		"deep":                  {deep, "nest", ""},
		"many_values":           {`{"a":[` + strings.Repeat("1,", fhir.MaxValues) + `1]}`, "values", "a"},
		"many_members":          {`{"a":{` + members(fhir.MaxMembers+1) + `}}`, "members", "a.m1000"},
		"trailing":              {`{} {}`, "after the end", ""},
		"comment":               {`{"a":1 /* no */}`, "", ""},
		"huge_exponent":         {`{"a":1e999999999}`, "exponent", "a"},
		"long_number":           {`{"a":1.` + strings.Repeat("0", 500) + `}`, "characters", "a"},
		"leading_zero":          {`{"a":01}`, "", ""},
		"raw_control_in_string": {"{\"a\":\"\x01\"}", "", "a"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := fhir.ParseJSON([]byte(c.src))
			kind := fhir.Invalid
			if name == "many_values" {
				kind = fhir.TooLarge
			}
			if fhir.KindOf(err) != kind || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("got %v", err)
			}
			if c.at != "" && err.(*fhir.Error).Issues[0].Expression[0] != c.at {
				t.Errorf("points at %v, not at %s", err.(*fhir.Error).Issues[0].Expression, c.at)
			}
		})
	}
}

func FuzzParseJSON(f *testing.F) {
	for _, s := range []string{`{"a":[1.10,"x\u00e9",null]}`, `[{},[],""]`, `{"a":1,"a":2}`, "\"\xff\"", `1e400`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		n, err := fhir.ParseJSON(data)
		if strict := isStrictJSON(data); err == nil && !strict {
			t.Fatalf("accepted %q, which jsontext refuses", data)
		} else if err != nil && strict && !beyondBounds(err) {
			t.Fatalf("refused %q, which jsontext accepts: %v", data, err)
		}
		if err != nil {
			return
		}
		if !json.Valid(data) {
			t.Fatalf("accepted invalid JSON %q", data)
		}
		again, err := fhir.ParseJSON(n.JSON())
		if err != nil || !n.Equal(again) {
			t.Fatalf("%q does not survive a round trip: %v", data, err)
		}
	})
}

// isStrictJSON asks another implementation with the same rules.
func isStrictJSON(data []byte) bool {
	d := jsontext.NewDecoder(bytes.NewReader(data))
	if d.SkipValue() != nil {
		return false
	}
	_, err := d.ReadToken()
	return err == io.EOF
}

func beyondBounds(err error) bool { return err.(*fhir.Error).Issues[0].Code == fhir.CodeTooLong }

func BenchmarkParseJSON(b *testing.B) {
	src := []byte(`{"resourceType":"Observation","id":"x","status":"final","category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"vital-signs","display":"vital-signs"}]}],"code":{"coding":[{"system":"http://loinc.org","code":"8302-2","display":"Body Height"}],"text":"Body Height"},"subject":{"reference":"Patient/1"},"encounter":{"reference":"Encounter/2"},"effectiveDateTime":"2011-07-28T15:02:18-04:00","issued":"2011-07-28T15:02:18.751-04:00","valueQuantity":{"value":166.7,"unit":"cm","system":"http://unitsofmeasure.org","code":"cm"}}`)
	b.SetBytes(int64(len(src)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := fhir.ParseJSON(src); err != nil {
			b.Fatal(err)
		}
	}
}
