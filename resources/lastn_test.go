package resources

import (
	"fmt"
	"strings"
	"testing"

	"kiln/fhir"
)

// The groups are those of the table in the definition (FHIR R4 observation-operation-lastn.html).
func TestLastN(t *testing.T) {
	t.Parallel()
	s := newService(t)
	for _, p := range []string{"p", "q"} {
		put(t, s, fmt.Sprintf(`{"resourceType":"Patient","id":%q}`, p))
	}
	observe := func(id, patient, code, effective string) {
		t.Helper()
		put(t, s, fmt.Sprintf(`{"resourceType":"Observation","id":%q,"status":"final","subject":{"reference":"Patient/%s"},"code":{%s}%s}`, id, patient, code, effective))
	}
	coded := func(codes ...string) string {
		var list []string
		for _, c := range codes {
			list = append(list, `{"system":"urn:c","code":"`+c+`"}`)
		}
		return `"coding":[` + strings.Join(list, ",") + `]`
	}
	on := func(date string) string { return `,"effectiveDateTime":"` + date + `"` }
	// a and c are one, for ac says so; a code of another system is another.
	observe("a1", "p", coded("a"), on("2024-01-01"))
	observe("c2", "p", coded("c"), on("2024-01-02"))
	observe("ac0", "p", coded("a", "c"), on("2023-01-01"))
	observe("b1", "p", coded("b"), on("2024-01-05T10:00:00Z"))
	observe("b2", "p", coded("b"), on("2024-01-05T12:00:00+02:00")) // as old as b1
	observe("b3", "p", coded("b"), on("2024-01-04"))
	observe("other", "p", `"coding":[{"system":"urn:d","code":"b"}],"text":"x"`, `,"effectivePeriod":{"start":"2022-01-01","end":"2022-02-01"}`)
	observe("text1", "p", `"text":"Text"`, on("2021-01-01"))
	observe("text2", "p", `"text":"Text"`, on("2021-01-02"))
	observe("text3", "p", `"text":"text"`, on("2021-01-01"))
	observe("never1", "p", coded("n"), "")
	observe("q1", "q", coded("a"), on("2025-01-01"))

	lastn := func(query string) string {
		t.Helper()
		b := do(t, s, Request{Interaction: Operate, Operation: "lastn", Type: "Observation", Query: query, Safe: true}).Bundle
		var ids []string
		for _, e := range b.Entries {
			ids = append(ids, e.Version.ID)
		}
		if *b.Total != int64(len(ids)) {
			t.Errorf("%s: total %d of %d", query, *b.Total, len(ids))
		}
		return strings.Join(ids, " ")
	}
	for query, want := range map[string]string{
		"patient=p":                          "b1 b2 c2 other text2 text3 never1",
		"subject=Patient/p&code=urn:c|a":     "a1",
		"patient=p&code=urn:c|a,urn:c|c":     "c2",
		"patient=p&max=2":                    "b1 b2 c2 a1 other text2 text1 text3 never1",
		"max=3&patient=p&code=urn:c%7Cb":     "b1 b2 b3",
		"patient=p&date=lt2022":              "text2 text3",
		"patient=p&max=9&code=urn:c|a":       "a1 ac0",
		"patient=q":                          "q1",
		"patient=none":                       "",
		"patient:Patient._id=p&date=lt2022":  "text2 text3",
		"subject:Patient=p&code:not=urn:c|b": "c2 other text2 text3 never1",
	} {
		got := lastn(query)
		if strings.HasPrefix(got, "b2 b1") { // neither is older
			got = "b1 b2" + got[5:]
		}
		if got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	for _, query := range []string{"", "code=urn:c|a", "patient=p&_sort=date", "patient=p&_count=2", "patient=p&max=0", "patient=p&max=x", "patient=p&nope=1", "patient=p&_include=*"} {
		refused(t, s, fhir.Invalid, Request{Interaction: Operate, Operation: "lastn", Type: "Observation", Query: query, Safe: true})
	}
}
