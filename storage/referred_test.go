package storage

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"kiln/fhir"
)

func TestEachReference(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		content string
		want    []string
	}{
		{`{}`, nil},
		{`{"subject":{"reference":"Patient/a"},"performer":[{"reference" : "Practitioner/b", "display":"x"}]}`, []string{"Patient/a", "Practitioner/b"}},
		{`{"reference":{"reference":"Device/in"}}`, []string{"Device/in"}},
		{`{"text":"\"reference\":\"Patient/no\"","note":"reference"}`, nil},
		{`{"a":"\\","reference":"Patient/behind-a-backslash"}`, []string{"Patient/behind-a-backslash"}},
		{`{"reference":"Patient\/a\u0062"}`, []string{"Patient/ab"}},
		{`{"reference":"cut off`, nil},
		{`{"reference":null,"x":{"reference":"#inside"}}`, []string{"#inside"}},
	} {
		var got []string
		eachReference([]byte(c.content), func(s []byte) { got = append(got, string(s)) })
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.content, got, c.want)
		}
	}
}

// TestMember cuts the value of a member out of made-up objects, written close and wide, and compares with what the parser makes of the whole.
func TestMember(t *testing.T) {
	t.Parallel()
	names := []string{"a", "b", "subject", "sub"}
	text := rapid.SampledFrom([]string{"", "x", "a\"b", "back\\", "},]{[,:", "subject", "\n ", "é\u2028"})
	var value func(depth int) *rapid.Generator[any]
	value = func(depth int) *rapid.Generator[any] {
		return rapid.Custom(func(t *rapid.T) any {
			switch rapid.IntRange(0, 5-2*min(1, max(0, depth-2))).Draw(t, "kind") {
			case 0:
				return text.Draw(t, "text")
			case 1:
				return rapid.IntRange(-3, 1e6).Draw(t, "number")
			case 2:
				return rapid.Bool().Draw(t, "truth")
			case 3:
				return nil
			case 4:
				return rapid.SliceOfN(value(depth+1), 0, 3).Draw(t, "list")
			}
			return rapid.MapOfN(rapid.SampledFrom(names), value(depth+1), 0, 3).Draw(t, "members")
		})
	}
	rapid.Check(t, func(t *rapid.T) {
		content, err := json.Marshal(rapid.MapOfN(rapid.SampledFrom(names), value(0), 0, 4).Draw(t, "object"))
		if err != nil {
			t.Fatal(err)
		}
		if rapid.Bool().Draw(t, "wide") {
			var wide bytes.Buffer
			if err := json.Indent(&wide, content, " ", "\t"); err != nil {
				t.Fatal(err)
			}
			content = append([]byte("\n"), wide.Bytes()...)
		}
		whole := map[string]json.RawMessage{}
		if err := json.Unmarshal(content, &whole); err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if got := member(content, name); string(got) != string(whole[name]) || (got == nil) != (whole[name] == nil) {
				t.Fatalf("%s of %s: %q, want %q", name, content, got, whole[name])
			}
		}
	})
	for _, cut := range []string{``, `{`, `{"a`, `{"a"`, `{"a":`, `{"a":"x`, `{"a":{"b":[`, `[1]`, `"a"`, `{"b":1,`, `{"b":1 "a":2}`} {
		if got := member([]byte(cut), "a"); got != nil {
			if _, err := fhir.ParseJSON(got); err == nil {
				t.Errorf("%s: %q", cut, got)
			}
		}
	}
}
