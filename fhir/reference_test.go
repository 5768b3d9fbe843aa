package fhir

import (
	"strings"
	"testing"
)

func TestParseReference(t *testing.T) {
	isType := func(s string) bool { return s == "Patient" }
	for text, want := range map[string]Reference{
		"Patient/1":                             {Type: "Patient", ID: "1"},
		"Patient/1/_history/2":                  {Type: "Patient", ID: "1", Version: "2"},
		"http://x.y/fhir/Patient/1":             {Base: "http://x.y/fhir", Type: "Patient", ID: "1"},
		"http://x.y/Patient/1/_history/2#a":     {Base: "http://x.y", Type: "Patient", ID: "1", Version: "2"},
		"http://x.y/Nonsense/1":                 {Other: "http://x.y/Nonsense/1"},
		"ftp://x.y/z":                           {Other: "ftp://x.y/z"},
		"Patient?identifier=a|b":                {Type: "Patient", Query: "identifier=a|b"},
		"#a":                                    {Fragment: "a"},
		"#":                                     {Container: true},
		"urn:uuid:c757873d-ec9a-4326-a141-556f": {URN: "urn:uuid:c757873d-ec9a-4326-a141-556f"},
		"":                                      {}, "Patient": {}, "x/Patient/1": {}, "/Patient/1": {}, "Patient/..": {}, "Patient/": {}, "Nonsense/1": {},
	} {
		if got, ok := ParseReference(text, isType); got != want || ok != (want != Reference{}) {
			t.Errorf("%q: %+v %v", text, got, ok)
		}
	}
	long := strings.Repeat("/", 1<<20)
	if n := testing.AllocsPerRun(3, func() { ParseReference(long, isType) }); n > 0 {
		t.Errorf("%v allocations for a long path", n)
	}
}
