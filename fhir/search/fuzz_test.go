package search_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"kiln/fhir"
	"kiln/fhir/search"
)

// someCatalog has one type with a parameter of each kind, and another that it refers to.
type someCatalog struct{}

var someParams = map[string][]search.Param{
	"Patient": {{Code: "name", Kind: search.String}, {Code: "gender", Kind: search.Token}, {Code: "birthdate", Kind: search.Date, Days: true},
		{Code: "link", Kind: search.Reference, Targets: []string{"Patient"}}, {Code: "_id", Kind: search.Token}, {Code: "_content", Kind: search.String}},
	"Observation": {{Code: "code", Kind: search.Token}, {Code: "date", Kind: search.Date}, {Code: "value-quantity", Kind: search.Quantity},
		{Code: "probability", Kind: search.Number}, {Code: "url", Kind: search.URI}, {Code: "subject", Kind: search.Reference, Targets: []string{"Patient", "Observation"}},
		{Code: "near", Kind: search.Special}, {Code: "_id", Kind: search.Token}, {Code: "_lastUpdated", Kind: search.Date},
		{Code: "code-value", Kind: search.Composite, Components: []search.Param{{Code: "code", Kind: search.Token}, {Code: "value-quantity", Kind: search.Quantity}}}},
}

func (someCatalog) IsResource(name string) bool { return someParams[name] != nil }
func (someCatalog) Param(typ, code string) (search.Param, bool) {
	i := slices.IndexFunc(someParams[typ], func(p search.Param) bool { return p.Code == code })
	if i < 0 {
		return search.Param{}, false
	}
	return someParams[typ][i], true
}
func (someCatalog) Codes(typ string) (codes []string) {
	for _, p := range someParams[typ] {
		codes = append(codes, p.Code)
	}
	return codes
}
func (someCatalog) CompartmentParams(string, string) []string { return []string{"subject"} }
func (someCatalog) ResourceTypes() []string                   { return []string{"Observation", "Patient"} }

// FuzzParse feeds query strings: each is read or refused with a word why, and what took effect is read the same again.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"", "name=a,b&gender:not=male", "subject:Patient.link.name=x&_sort=-date,_id&_count=3", "_has:Observation:subject:code=s|c",
		"_filter=code eq s|c and (date gt 2020 or not (subject.name sw \"a\\\"b\"))", "code-value=s|c$gt5.4||mg", "near=1|2|3|km", "date=ap2020-02-30T24:00:60Z",
		"_include=Observation:subject:Patient&_revinclude:iterate=*", `name=a\,b\$c\|d\\e`, "%zz=%00", "_content=a (b or \"c d\") not e", "_timezone=Asia/Tokyo&date=2020",
		"_type=Patient,Observation&_id=x", "value-quantity=1e-400|u|", "_elements=a,b&_summary=true&_total=accurate&_contained=false", "birthdate=sa0001&birthdate=eb9999-12-31"} {
		f.Add(seed, "Observation", true)
		f.Add(seed, "Patient", false)
		f.Add(seed, "", false)
	}
	now := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, query, typ string, lenient bool) {
		pairs, err := search.ParsePairs(query)
		o := search.Options{Lenient: lenient, Now: now}
		if someParams[typ] != nil {
			o.Types = []string{typ}
		}
		var q *search.Query
		if err == nil {
			q, err = search.Parse(pairs, someCatalog{}, o)
		}
		if err != nil {
			var e *fhir.Error
			if !errors.As(err, &e) || e.Kind != fhir.Invalid || len(e.Issues) == 0 || e.Issues[0].Text == "" {
				t.Fatalf("%q: %v", query, err)
			}
			return
		}
		again, err := search.ParsePairs(search.Encode(q.Applied))
		if err != nil || !slices.Equal(again, q.Applied) {
			t.Fatalf("%q: the self link has %v, read again %v, %v", query, q.Applied, again, err)
		}
		second, err := search.Parse(again, someCatalog{}, o)
		if err != nil || !slices.Equal(second.Applied, q.Applied) || len(second.Where) != len(q.Where) {
			t.Fatalf("%q: %v comes to %v, %v", query, q.Applied, second, err)
		}
	})
}
