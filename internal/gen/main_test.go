package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"kiln/fhir"
)

const pinned = "../../conformance/definitions"

// TestFilesAreUpToDate generates twice in memory: the bytes are the same each time and those in the tree.
func TestFilesAreUpToDate(t *testing.T) {
	t.Parallel()
	defs, err := readDefinitions(pinned)
	if err != nil {
		t.Fatal(err)
	}
	first, err := generate(defs)
	if err != nil {
		t.Fatal(err)
	}
	second, err := generate(defs)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range first {
		if !bytes.Equal(want, second[name]) {
			t.Errorf("%s differs from run to run", name)
		}
		have, err := os.ReadFile(filepath.Join(pinned, name))
		if err != nil {
			t.Error(err)
		} else if !bytes.Equal(have, want) {
			t.Errorf("%s is out of date: run go run ./internal/gen", name)
		}
	}
}

// TestExpand covers what the value sets of R4's required bindings do not use: filters, excludes, nested value sets.
func TestExpand(t *testing.T) {
	t.Parallel()
	parse := func(text string) *fhir.Node {
		n, err := fhir.ParseJSON([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	set := func(compose string) *fhir.Node { return parse(`{"compose":` + compose + `}`) }
	filter := func(op, value string) *fhir.Node {
		return set(`{"include":[{"system":"s","filter":[{"property":"concept","op":"` + op + `","value":"` + value + `"}]}]}`)
	}
	terms := terminology{
		systems: map[string]*fhir.Node{
			"s":    parse(`{"content":"complete","concept":[{"code":"a","concept":[{"code":"b","concept":[{"code":"c"},{"code":"x","property":[{"code":"notSelectable","valueBoolean":true}]}]}]},{"code":"d"}]}`),
			"part": parse(`{"content":"fragment","concept":[{"code":"a"}]}`),
		},
		sets: map[string]*fhir.Node{
			"all":        set(`{"include":[{"system":"s"}]}`),
			"is-a":       filter("is-a", "b"),
			"below":      filter("descendent-of", "a"),
			"is-not-a":   filter("is-not-a", "b"),
			"regex":      filter("regex", "b"),
			"fragment":   set(`{"include":[{"system":"part"}]}`),
			"minus":      set(`{"include":[{"system":"s"}],"exclude":[{"system":"s","concept":[{"code":"a"}]}]}`),
			"nested":     set(`{"include":[{"valueSet":["is-a|1"]},{"system":"s","concept":[{"code":"b"}]}]}`),
			"both":       set(`{"include":[{"valueSet":["below","is-not-a"]}]}`),
			"restricted": set(`{"include":[{"system":"s","valueSet":["below"]}]}`),
			"loop":       set(`{"include":[{"valueSet":["loop"]}]}`),
			"unknown":    set(`{"include":[{"valueSet":["nowhere"]}]}`),
			"empty":      set(`{"include":[{}]}`),
		},
	}
	for url, want := range map[string][]string{
		"all": {"a", "b", "c", "d"}, "is-a": {"b", "c"}, "below": {"b", "c"}, "is-not-a": {"a", "d"}, "regex": nil,
		"fragment": nil, "minus": {"b", "c", "d"}, "nested": {"b", "c"}, "both": {}, "restricted": {"b", "c"},
		"loop": nil, "unknown": nil, "empty": nil, "nowhere": nil,
	} {
		codes, ok := terms.expand(url, nil)
		var got []string
		for _, c := range codes {
			got = append(got, c.code)
		}
		if ok != (want != nil) || !slices.Equal(got, want) {
			t.Errorf("%s: %v %v, want %v", url, got, ok, want)
		}
	}
}
