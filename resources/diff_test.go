package resources

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"kiln/conformance"
	"kiln/fhir"
)

// TestDiffFHIRPath_applied_gives_the_other changes official examples at random. What a diff says, applied to the one
// version, must give the other, both ways.
func TestDiffFHIRPath_applied_gives_the_other(t *testing.T) {
	t.Parallel()
	registry, err := conformance.R4()
	if err != nil {
		t.Fatal(err)
	}
	var examples []*fhir.Node
	for _, typ := range registry.Schema().Resources {
		if data, ok := registry.Example(typ); ok && len(data) < 30_000 {
			examples = append(examples, parse(t, string(data)))
		}
	}
	if len(examples) < 100 {
		t.Fatalf("only %d examples", len(examples))
	}
	rapid.Check(t, func(t *rapid.T) {
		a := rapid.SampledFrom(examples).Draw(t, "example")
		b := a.Clone()
		for range rapid.IntRange(0, 6).Draw(t, "changes") {
			changeAtRandom(t, &b)
		}
		for _, sides := range [][2]*fhir.Node{{a, &b}, {&b, a}} {
			patch, err := DiffFHIRPath(sides[0], sides[1], registry.Schema())
			if err != nil {
				t.Fatal(describe(err))
			}
			from := sides[0].Clone()
			if from.Get("meta") == nil { // every stored resource has it
				from.Set("meta", fhir.Obj(fhir.Str("1").As("versionId")))
			}
			got, err := ApplyFHIRPathPatch(&from, patch, registry.Schema())
			if err != nil {
				t.Fatalf("%s\n%s\nfrom %s\nto %s", describe(err), patch.JSON(), sides[0].JSON(), sides[1].JSON())
			}
			x, y := stampless(got), stampless(sides[1])
			if !x.Equal(&y) {
				t.Fatalf("patch %s\ngot  %s\nwant %s", patch.JSON(), x.JSON(), y.JSON())
			}
		}
	})
}

// An element may be called resourceType, too.
func TestDiffFHIRPath_of_an_element_named_resourceType(t *testing.T) {
	registry, err := conformance.R4()
	if err != nil {
		t.Fatal(err)
	}
	a := parse(t, `{"resourceType":"ExampleScenario","status":"draft","meta":{"versionId":"1"}}`)
	b := parse(t, `{"resourceType":"ExampleScenario","status":"draft","meta":{"versionId":"1"},"instance":[{"resourceId":"i","resourceType":"Patient"}]}`)
	patch, err := DiffFHIRPath(a, b, registry.Schema())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ApplyFHIRPathPatch(a, patch, registry.Schema()); err != nil || !got.Equal(b) {
		t.Errorf("%v: %s gives %s", err, patch.JSON(), got.JSON())
	}
}

// changeAtRandom changes one place: an item more or less, another order, a member less, another text.
func changeAtRandom(t *rapid.T, root *fhir.Node) {
	var places []*fhir.Node
	root.Walk(func(n *fhir.Node) bool {
		paired := false // lists with a sibling go together with it
		for i := range n.Kids {
			paired = paired || strings.HasPrefix(n.Kids[i].Name, "_")
		}
		if n.Name != "resourceType" && n.Name != "id" && n.Name != "div" {
			places = append(places, n)
		}
		return !paired
	})
	n := rapid.SampledFrom(places).Draw(t, "place")
	pick := rapid.IntRange(0, max(0, len(n.Kids)-1)).Draw(t, "item")
	switch {
	case n.Kind == fhir.Array && rapid.Bool().Draw(t, "more"):
		n.Kids = slices.Insert(n.Kids, pick, n.Kids[rapid.IntRange(0, len(n.Kids)-1).Draw(t, "copy")].Clone())
	case n.Kind == fhir.Array && len(n.Kids) > 1:
		n.Kids = slices.Delete(slices.Clone(n.Kids), pick, pick+1)
	case n.Kind == fhir.Object && len(n.Kids) > 2 && n.Kids[pick].Name != "resourceType" && n.Kids[pick].Name != "id":
		n.Kids = slices.Delete(slices.Clone(n.Kids), pick, pick+1)
	case n.Kind == fhir.String:
		n.Text += "x"
	case n.Kind == fhir.Number:
		n.Text = "42"
	}
}

func TestDiff_between_versions(t *testing.T) {
	t.Parallel()
	s := newService(t)
	put(t, s, `{"resourceType":"Patient","id":"d","active":true,"name":[{"family":"A","given":["x","y"]}]}`)
	put(t, s, `{"resourceType":"Patient","id":"d","active":true,"name":[{"family":"B","given":["x"]}],"deceasedBoolean":false}`)
	put(t, s, `{"resourceType":"Patient","id":"d","name":[{"family":"B","given":["x"]}],"deceasedDateTime":"2020"}`)
	diff := func(query string) Request {
		return Request{Interaction: Operate, Operation: "diff", Type: "Patient", ID: "d", Query: query}
	}
	for query, sides := range map[string][2]string{"": {"2", "3"}, "from=1": {"1", "3"}, "from=1&to=2": {"1", "2"}, "from=3&to=1": {"3", "1"}, "to=1": {"1", "1"}} {
		patch := do(t, s, diff(query)).Resource
		version := func(n string) *fhir.Node {
			return parse(t, string(do(t, s, Request{Interaction: VRead, Type: "Patient", ID: "d", Version: n}).Version.Content))
		}
		got, err := ApplyFHIRPathPatch(version(sides[0]), patch, s.registry.Schema())
		if err != nil {
			t.Fatal(describe(err))
		}
		x, y := stampless(got), stampless(version(sides[1]))
		if !x.Equal(&y) {
			t.Errorf("%q: %s gives %s", query, patch.JSON(), got.JSON())
		}
	}
	refused(t, s, fhir.NotFound, diff("from=9"))
	refused(t, s, fhir.NotFound, Request{Interaction: Operate, Operation: "diff", Type: "Patient", ID: "nobody"})
	do(t, s, Request{Interaction: Delete, Type: "Patient", ID: "d"})
	refused(t, s, fhir.Gone, diff(""))
}
