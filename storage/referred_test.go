package storage

import (
	"slices"
	"testing"
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
