package search_test

import (
	"strings"
	"testing"

	"kiln/fhir/search"
)

// TestParse_sort reads orders: a composite is its components, near has the places that the search is for, and what is ignored leaves no half of
// an order behind, which the links would not have.
func TestParse_sort(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]string{
		"_sort=code,-date":                               "code -date",
		"_sort=-code-value-quantity,status":              "-code -value-quantity status",
		"_sort=near&near=1|2|3,4|5&near=6|7":             "near:1,2 4,5 6,7",
		"near=1|2&_sort=-near":                           "-near:1,2",
		"_sort=near":                                     "",
		"_sort=near&_sort=code":                          "code",
		"_sort=status&_sort=-near,date&_sort=near":       "status",
		"_sort=code,bogus":                               "",
		"_sort=code,_filter&_sort=date":                  "date",
		"_sort=date,_text":                               "",
		"_sort=parts-of-others":                          "",
		"_sort=date&_sort=parts-of-others,code":          "date",
		"_sort=date&_sort=code,code-value-quantity,date": "date code code value-quantity date",
	} {
		pairs, err := search.ParsePairs(query)
		if err != nil {
			t.Fatal(err)
		}
		q, err := search.Parse(pairs, sorts{}, search.Options{Types: []string{"Thing"}, Lenient: true})
		if err != nil {
			t.Errorf("%s: %v", query, err)
			continue
		}
		var got []string
		for _, k := range q.Sort {
			text := map[bool]string{true: "-"}[k.Descending] + k.Param.Code
			for i, v := range k.From {
				text += []string{":", " "}[min(i, 1)] + v.Parts[0].Raw + "," + v.Parts[1].Raw
			}
			got = append(got, text)
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%s: %q, want %q", query, s, want)
		}
		ignored := 0
		for _, p := range pairs {
			if p.Name == "_sort" {
				ignored++
			}
		}
		for _, p := range q.Applied {
			if p.Name == "_sort" {
				ignored--
			}
		}
		if ignored != len(q.Issues) {
			t.Errorf("%s: %d orders are not applied, and issues are %v", query, ignored, q.Issues)
		}
	}
}

// sorts is a catalogue of one type.
type sorts struct{}

func (sorts) IsResource(name string) bool { return name == "Thing" }
func (sorts) Param(_, code string) (search.Param, bool) {
	p := search.Param{Code: code}
	switch code {
	case "code", "status":
		p.Kind = search.Token
	case "date":
		p.Kind = search.Date
	case "value-quantity":
		p.Kind = search.Quantity
	case "_text":
		p.Kind = search.String
	case "near":
		p.Kind = search.Special
	case "code-value-quantity":
		p.Kind, p.Components = search.Composite, []search.Param{{Code: "code", Kind: search.Token}, {Code: "value-quantity", Kind: search.Quantity}}
	case "parts-of-others":
		p.Kind, p.Components = search.Composite, []search.Param{{Code: "code", Kind: search.Token}, {Code: "status", Kind: search.Date}}
	default:
		return p, false
	}
	return p, true
}
func (sorts) Codes(string) []string {
	return []string{"code", "status", "date", "value-quantity", "_text", "near", "code-value-quantity"}
}
func (sorts) CompartmentParams(string, string) []string { return nil }
func (sorts) ResourceTypes() []string                   { return []string{"Thing"} }
