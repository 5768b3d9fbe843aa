package terminology_test

import (
	"strings"
	"testing"

	"kiln/conformance"
	"kiln/fhir"
	"kiln/storage/terminology"
)

// Every official value set expands, or says which code system is missing. Those of required bindings are what the
// embedded table, made by another program, says.
func TestExpand_official(t *testing.T) {
	t.Parallel()
	db := official(t)
	registry, err := conformance.R4()
	if err != nil {
		t.Fatal(err)
	}
	var sets []*fhir.Node
	if err := conformance.EachTerminology(func(n *fhir.Node) error {
		if n.ResourceType() == "ValueSet" {
			sets = append(sets, n)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	expanded, missing, compared := 0, map[string]int{}, 0
	for _, n := range sets {
		url := n.GetText("url")
		r := terminology.NewResolver(terminology.Direct{Connection: db}, terminology.Options{})
		s, err := r.Set(t.Context(), url)
		var x *terminology.Expansion
		if err == nil {
			x, err = r.Expand(t.Context(), s, terminology.ExpandOptions{Count: -1})
		}
		if err != nil {
			if kind(err) != fhir.NotFound && !strings.Contains(err.Error(), "built by rules") {
				t.Errorf("%s: %v", url, err)
			}
			missing[err.Error()]++
			continue
		}
		expanded++
		if int(x.Total) != len(x.Members) {
			t.Errorf("%s: total %d, %d members", url, x.Total, len(x.Members))
		}
		if set := registry.BindingCodes(url); set != nil {
			compared++
			n := 0
			for _, m := range x.Members {
				if m.Abstract {
					continue
				}
				if n++; !set.Has(m.System, m.Code) {
					t.Errorf("%s: %s|%s is not in the embedded table", url, m.System, m.Code)
				}
			}
			if n < len(set.Codes()) {
				t.Errorf("%s: %d codes, the embedded table has %d", url, n, len(set.Codes()))
			}
		}
	}
	t.Logf("%d of %d value sets expand; %d were compared with the embedded table", expanded, len(sets), compared)
	for text, n := range missing {
		t.Logf("%4d %s", n, text)
	}
	if expanded < 1200 {
		t.Errorf("only %d of %d value sets expand", expanded, len(sets))
	}
}
