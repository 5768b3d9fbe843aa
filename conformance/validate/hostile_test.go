package validate

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"kiln/fhir"
)

// hostile are inputs that cost much where a validator is careless: repeat many times, nest deep, be long.
func hostile() map[string]string {
	list := func(item string, n int) string { return strings.TrimSuffix(strings.Repeat(item+",", n), ",") }
	names := make([]string, 900) // an object has at most fhir.MaxMembers
	ids := make([]string, 20_000)
	uses := make([]string, len(ids))
	for i := range names {
		names[i] = fmt.Sprintf(`"unknown%d":1`, i)
	}
	for i := range ids {
		ids[i] = fmt.Sprintf(`{"resourceType":"Patient","id":"p%d"}`, i)
		uses[i] = fmt.Sprintf(`{"reference":"#p%d"}`, i)
	}
	extension := `{"url":"http://x.y/z","valueString":"x"}`
	for range 40 {
		extension = `{"url":"http://x.y/z","extension":[` + extension + `]}`
	}
	return map[string]string{
		"many_given":           patient + `"name":[{"given":[` + list(`"a"`, 100_000) + `]}]}`,
		"many_null":            patient + `"name":[{"given":[` + list(`null`, 100_000) + `]}]}`,
		"many_null_unknown":    patient + `"name":[{` + strings.Join(names, ",") + `,"given":[` + list(`null`, 100_000) + `]}]}`,
		"many_telecom":         patient + `"telecom":[` + list(`{"value":"1"}`, 100_000) + `]}`,
		"many_unknown":         patient + strings.Join(names, ",") + `}`,
		"many_contained":       observation + `"contained":[` + strings.Join(ids, ",") + `],"performer":[` + strings.Join(uses, ",") + `]}`,
		"many_unused":          observation + `"contained":[` + strings.Join(ids, ",") + `]}`,
		"many_entries":         collection + list(`{"fullUrl":"http://x/Patient/1","resource":{"resourceType":"Patient"}}`, 50_000) + `]}`,
		"many_items":           `{"resourceType":"Questionnaire","status":"draft","item":[` + list(`{"linkId":"1","type":"display"}`, 50_000) + `]}`,
		"many_components":      observation + `"valueString":"x","component":[` + list(`{"code":{"coding":[{"code":"1"}]}}`, 50_000) + `]}`,
		"many_codings":         `{"resourceType":"Observation","status":"final","valueString":"x","code":{"coding":[` + list(`{"code":"1"}`, 3000) + `]},"component":[{"code":{"coding":[` + list(`{"code":"2"}`, 3000) + `]}}]}`,
		"long_string":          patient + `"name":[{"family":"` + strings.Repeat("a", 10_000_000) + `"}]}`,
		"long_base64":          patient + `"photo":[{"contentType":"x/y","data":"` + strings.Repeat("a", 10_000_000) + `"}]}`,
		"long_uri":             patient + `"implicitRules":"` + strings.Repeat("/", 10_000_000) + `"}`,
		"long_reference":       observation + `"subject":{"reference":"http://` + strings.Repeat("/", 10_000_000) + `"}}`,
		"long_code":            patient + `"gender":"` + strings.Repeat("a ", 5_000_000) + `a"}`,
		"long_narrative":       div(strings.Repeat("<p>a&lt;</p>", 800_000)),
		"deep_narrative":       div(strings.Repeat("<p>", 1_000_000)),
		"narrative_tags":       div(strings.Repeat("<x y='1'/>", 500_000)),
		"narrative_attributes": div("<p " + strings.Repeat("a='1' ", 500_000) + "/>"),
		"narrative_angles":     div(strings.Repeat("<", 3_000_000)),
		"narrative_bomb":       patient + `"text":{"status":"generated","div":"<!DOCTYPE d [<!ENTITY a \"aaaa\">]><div>&a;</div>"}}`,
		"deep_extension":       patient + `"extension":[` + list(extension, 1000) + `]}`,
		"many_siblings":        patient + `"name":[{"given":[` + list(`"a"`, 100_000) + `],"_given":[` + list(`{"id":"x"}`, 100_000) + `]}]}`,
		"many_snapshot":        `{"resourceType":"StructureDefinition","url":"http://x.y","name":"X","status":"draft","kind":"resource","abstract":true,"type":"X","snapshot":{"element":[` + list(`{"id":"X.a","path":"X.a"}`, 20_000) + `]}}`,
		"concept_tree":         `{"resourceType":"CodeSystem","status":"draft","content":"complete","concept":[` + list(`{"code":"a","concept":[{"code":"b"}]}`, 30_000) + `]}`,
	}
}

// TestHostileInputIsBounded measures what a validation allocates: a multiple of its input, whatever that is. What took time
// beyond measure without memory would meet the time limit of the test run.
func TestHostileInputIsBounded(t *testing.T) {
	v := strictValidator(t)
	allocated := func(work func()) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		work()
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	for name, src := range hostile() {
		t.Run(name, func(t *testing.T) {
			n, err := fhir.ParseJSON([]byte(src))
			if err != nil {
				t.Fatal(err)
			}
			v.Resource(n) // makes the tables of its types
			var issues []fhir.Issue
			bytes := allocated(func() { issues = v.Resource(n) })
			// Under the race detector pools drop what they are given, so what is allocated is told by the run without it,
			// which make test makes too.
			if most := uint64(150*len(src) + 1<<20); len(issues) > DefaultMaxIssues+1 || bytes > most && !raceDetector {
				t.Errorf("%d issues, %d bytes allocated for %d", len(issues), bytes, len(src))
			}
			t.Logf("%d bytes, %d issues, %d bytes allocated", len(src), len(issues), bytes)
		})
	}
}

func FuzzResource(f *testing.F) {
	for _, p := range probes {
		if len(p.json) < 4096 {
			f.Add([]byte(p.json))
		}
	}
	v := strictValidator(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		n, err := fhir.ParseJSON(data)
		if err != nil {
			return
		}
		before := string(n.JSON())
		for _, i := range v.Resource(n) {
			if i.Severity == "" || i.Code == "" || i.Text == "" || i.Detail != "more-issues" && len(i.Expression) != 1 {
				t.Fatalf("incomplete issue %+v for %s", i, data)
			}
		}
		if string(n.JSON()) != before {
			t.Fatal("validation changed the resource")
		}
	})
}

func FuzzNarrative(f *testing.F) {
	for _, s := range []string{`<div xmlns="http://www.w3.org/1999/xhtml">a</div>`, `<div><!--a--></div>`, `<div a='&#x41;'/>`, `<div/> <`} {
		f.Add(s)
	}
	v := strictValidator(f)
	f.Fuzz(func(t *testing.T, s string) {
		r := run{v: v}
		if r.narrative(s) != (len(r.issues) == 0) {
			t.Fatalf("%q: %v", s, r.issues)
		}
	})
}
