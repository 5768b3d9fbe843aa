package server

import (
	"testing"

	"kiln/resources"
	"kiln/storage"
)

// A Bundle carries the highest confidentiality of what it holds, however that came into it, and none where nothing has any.
func TestBundle_confidentiality(t *testing.T) {
	t.Parallel()
	labelled := func(codes ...string) *storage.Version {
		text := `{"resourceType":"Observation","id":"o","meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"V"}`
		for _, code := range codes {
			text += `,{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"` + code + `"}`
		}
		return &storage.Version{Type: "Observation", ID: "o", Number: 1, Content: []byte(text + `]}}`)}
	}
	match := func(list ...*storage.Version) (entries []resources.Entry) {
		for _, v := range list {
			entries = append(entries, resources.Entry{Version: v, Mode: "match"})
		}
		return entries
	}
	inner := &resources.Bundle{Type: "searchset", Entries: match(labelled("V"))}
	for name, c := range map[string]struct {
		give []resources.Entry
		want string
	}{
		"nothing":                {nil, ""},
		"no label":               {match(labelled()), ""},
		"one":                    {match(labelled("N")), "N"},
		"the highest":            {match(labelled("R"), labelled(), labelled("L"), labelled("V"), labelled("U")), "V"},
		"several in one":         {match(labelled("N", "R", "M")), "R"},
		"an unknown code":        {match(labelled("X"), labelled("U")), "U"},
		"deleted":                {match(&storage.Version{Type: "Observation", ID: "o", Deleted: true}), ""},
		"in a response":          {[]resources.Entry{{Response: &resources.Response{Version: labelled("R")}}}, "R"},
		"in a search of a batch": {[]resources.Entry{{Response: &resources.Response{Bundle: inner}}}, "V"},
	} {
		label, ok := confidentiality(&resources.Bundle{Type: "searchset", Entries: c.give})
		if got := label.GetText("code"); got != c.want || ok != (c.want != "") {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
