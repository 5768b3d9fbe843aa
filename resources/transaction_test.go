package resources

import (
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"testing"

	"kiln/fhir"
	"kiln/storage"
)

func TestTransaction(t *testing.T) {
	t.Parallel()
	s := newService(t)

	t.Run("order_and_reads_that_see_the_new_state", func(t *testing.T) {
		put(t, s, `{"resourceType":"Patient","id":"gone"}`)
		entries := post(t, s, transactionOf(
			entryOf("", "GET", "Patient/t1", ""),
			entryOf("", "GET", "Patient?identifier=urn:x|order", ""),
			entryOf("", "HEAD", "Patient/t1/_history/1", ""),
			entryOf("", "GET", "Patient/t1/_history", ""),
			entryOf("", "PUT", "Patient/t1", `{"resourceType":"Patient","id":"t1"}`),
			entryOf("", "POST", "Patient", identified("order", "")),
			entryOf("", "DELETE", testBase+"/Patient/gone", ""),
		))
		if entries[0].Response.Version.ID != "t1" || len(entries[1].Response.Bundle.Entries) != 1 ||
			entries[2].Response.Version.Number != 1 || *entries[3].Response.Bundle.Total != 1 {
			t.Errorf("reads: %+v", entries[:4])
		}
		if !entries[4].Response.Created || !entries[5].Response.Created || entries[6].Response.Deleted != 1 {
			t.Errorf("writes: %+v", entries[4:])
		}
		if entries[4].Interaction != Update || entries[6].Interaction != Delete {
			t.Errorf("order: %+v", entries)
		}
	})

	t.Run("all_or_nothing", func(t *testing.T) {
		before := count(t, s, "Patient")
		for _, bad := range []string{
			entryOf("", "PUT", "Patient/t1", `{"resourceType":"Patient","id":"t1"}`, `"ifMatch":"W/\"9\""`),
			entryOf("", "GET", "Patient/missing", ""),
			entryOf("", "PATCH", "Patient/missing", `{"resourceType":"Parameters"}`),
			entryOf("", "GET", "Patient?nonsense=1", ""),
		} {
			_, err := s.Do(t.Context(), Request{Interaction: Transaction, Body: parse(t, transactionOf(
				entryOf("", "POST", "Patient", `{"resourceType":"Patient"}`), bad))})
			if err == nil || !strings.Contains(describe(err), "Bundle.entry[1]") {
				t.Errorf("%s: %s", bad, describe(err))
			}
		}
		if got := count(t, s, "Patient"); got != before {
			t.Errorf("%d patients, %d before", got, before)
		}
	})

	t.Run("errors_name_the_entry", func(t *testing.T) {
		for entry, want := range map[string]string{
			`{}`:                                  "Bundle.entry[0].request",
			entryOf("", "GET", "Nothing/1", ""):   "Bundle.entry[0].request.url",
			entryOf("", "FETCH", "Patient/1", ""): "Bundle.entry[0].request.method",
			entryOf("", "POST", "Patient", ""):    "Bundle.entry[0].resource",
			entryOf("", "POST", "Patient", `{"resourceType":"Group"}`):                               "Bundle.entry[0].resource.resourceType",
			entryOf("", "POST", "Patient?x=1", `{"resourceType":"Patient"}`):                         "Bundle.entry[0].request.url",
			entryOf("", "POST", "", `{"resourceType":"Bundle","type":"batch"}`):                      "Bundle.entry[0].request.url",
			entryOf("", "POST", "$process", `{"resourceType":"Patient"}`):                            "Bundle.entry[0].request.url",
			entryOf("", "PUT", "Patient/a_b", `{"resourceType":"Patient"}`):                          "Bundle.entry[0].request.url",
			entryOf("", "PUT", "Patient/a", `{"resourceType":"Patient","id":"b"}`):                   "Bundle.entry[0].resource.id",
			entryOf("", "PUT", "Patient", `{"resourceType":"Patient","id":"b"}`):                     "Bundle.entry[0].request.url",
			entryOf("", "PUT", "Patient/a", `{"resourceType":"Patient"}`, `"ifMatch":"a b"`):         "Bundle.entry[0].request.ifMatch",
			entryOf("", "PUT", "http://other.example/fhir/Patient/a", `{"resourceType":"Patient"}`):  "Bundle.entry[0].request.url",
			entryOf("", "DELETE", "Patient/%zz", ""):                                                 "Bundle.entry[0].request.url",
			entryOf("", "POST", "Patient", `{"resourceType":"Patient"}`, `"ifNoneExist":"x=1"`):      "Bundle.entry[0]",
			entryOf("", "PATCH", "Patient/a", `{"resourceType":"Binary","contentType":"text/html"}`): "Bundle.entry[0].resource.contentType",
		} {
			_, err := s.Do(t.Context(), Request{Interaction: Transaction, Body: parse(t, transactionOf(entry))})
			if err == nil || fhir.KindOf(err) == fhir.Internal || !strings.Contains(describe(err), "["+want+"]") {
				t.Errorf("%s\n  want %s\n  got  %s", entry, want, describe(err))
			}
		}
		for _, body := range []string{
			`{"resourceType":"Bundle"}`, `{"resourceType":"Bundle","type":"collection"}`, `{"resourceType":"Patient"}`,
			`{"resourceType":"Bundle","type":"transaction","entry":{}}`, `{"resourceType":"Bundle","type":"transaction","entry":[1]}`,
		} {
			refused(t, s, fhir.Invalid, Request{Interaction: Transaction, Body: parse(t, body)})
		}
		do(t, s, Request{Interaction: Transaction, Body: parse(t, `{"resourceType":"Bundle","type":"transaction"}`)})
		small, err := New(Options{Anonymous: s.options.Anonymous, Store: s.store, Registry: s.registry, Limits: Limits{MaxBundleEntries: 1}})
		if err != nil {
			t.Fatal(err)
		}
		two := transactionOf(entryOf("", "GET", "Patient", ""), entryOf("", "GET", "Patient", ""))
		refused(t, small, fhir.TooLarge, Request{Interaction: Transaction, Body: parse(t, two)})
	})

	t.Run("one_identity_once", func(t *testing.T) {
		put(t, s, identified("same", `"id":"same"`))
		body := identified("same", `"id":"same"`)
		exist := `"ifNoneExist":"identifier=urn:x|same"`
		for name, pair := range map[string][2]string{
			"put and put":            {entryOf("", "PUT", "Patient/same", body), entryOf("", "PUT", "/Patient/same", body)},
			"put and delete":         {entryOf("", "PUT", "Patient/same", body), entryOf("", "DELETE", "Patient/same", "")},
			"put and criteria":       {entryOf("", "PUT", "Patient/same", body), entryOf("", "PUT", "Patient?identifier=urn:x|same", body)},
			"create finds put":       {entryOf("", "POST", "Patient", body, exist), entryOf("", "PUT", "Patient/same", body)},
			"delete by criteria":     {entryOf("", "DELETE", "Patient?identifier=urn:x|same", ""), entryOf("", "PUT", "Patient/same", body)},
			"criteria twice":         {entryOf("", "POST", "Patient", body, `"ifNoneExist":"identifier=urn:x%7Cnew"`), entryOf("", "POST", "Patient", body, `"ifNoneExist":"identifier=urn:x|new"`)},
			"one fullUrl":            {entryOf("urn:uuid:1", "POST", "Patient", body), entryOf("urn:uuid:1", "POST", "Patient", body)},
			"two criteria, one goal": {entryOf("", "POST", "Patient", body, exist), entryOf("", "PUT", "Patient?_id=same", body)},
		} {
			e := refused(t, s, fhir.Invalid, Request{Interaction: Transaction, Body: parse(t, transactionOf(
				entryOf("", "POST", "Group", `{"resourceType":"Group","type":"person","actual":true}`), pair[0], pair[1]))})
			if !slices.Equal(e.Issues[0].Expression, []string{"Bundle.entry[1]", "Bundle.entry[2]"}) {
				t.Errorf("%s: %s", name, describe(e))
			}
		}
		if count(t, s, "Group") != 0 {
			t.Error("half written")
		}
	})

	t.Run("conditional_entries", func(t *testing.T) {
		bundle := func() string {
			return transactionOf(
				entryOf("urn:uuid:p", "POST", "Patient", identified("c1", ""), `"ifNoneExist":"?identifier=urn:x|c1"`),
				entryOf("urn:uuid:q", "PUT", "Patient?identifier=urn:x%7Cc2", identified("c2", `"link":[{"other":{"reference":"urn:uuid:p"},"type":"seealso"}]`)),
				entryOf("", "POST", "Observation", `{"resourceType":"Observation","status":"final","code":{"text":"x"},"subject":{"reference":"urn:uuid:p"},"performer":[{"reference":"urn:uuid:q"}]}`),
				entryOf("", "DELETE", "Patient?identifier=urn:x|c3", ""))
		}
		first := post(t, s, bundle())
		put(t, s, identified("c3", `"id":"c3"`))
		second := post(t, s, bundle())
		if !first[0].Response.Created || second[0].Response.Created || !second[1].Response.Unchanged || second[3].Response.Deleted != 1 {
			t.Errorf("first %+v second %+v", first[0].Response, second[0].Response)
		}
		p, q := first[0].Response.Version.ID, first[1].Response.Version.ID
		o := read(t, s, "Observation", second[2].Response.Version.ID)
		if o.At("subject", "reference").Text != "Patient/"+p || o.At("performer", "reference").Text != "Patient/"+q {
			t.Errorf("%s", o.JSON())
		}
		if n := versions(t, s, "Patient", q); len(n) != 1 {
			t.Errorf("q has the versions %v", n)
		}
	})

	t.Run("patches", func(t *testing.T) {
		put(t, s, `{"resourceType":"Observation","id":"pt1","status":"preliminary","code":{"text":"a"}}`)
		put(t, s, `{"resourceType":"Observation","id":"pt2","status":"preliminary","code":{"text":"a"}}`)
		document := `[{"op":"add","path":"/subject","value":{"reference":"urn:uuid:np"}}]`
		binary := `{"resourceType":"Binary","contentType":"application/json-patch+json","data":"` + base64.StdEncoding.EncodeToString([]byte(document)) + `"}`
		params := `{"resourceType":"Parameters","parameter":[{"name":"operation","part":[{"name":"type","valueCode":"add"},{"name":"path","valueString":"Observation"},` +
			`{"name":"name","valueString":"subject"},{"name":"value","valueReference":{"reference":"urn:uuid:np"}}]}]}`
		entries := post(t, s, transactionOf(
			entryOf("", "PATCH", "Observation/pt1", binary),
			entryOf("", "PATCH", "Observation?_id=pt2", params),
			entryOf("urn:uuid:np", "POST", "Patient", `{"resourceType":"Patient"}`)))
		for _, id := range []string{"pt1", "pt2"} {
			if got := read(t, s, "Observation", id); got.At("subject", "reference").Text != "Patient/"+entries[2].Response.Version.ID {
				t.Errorf("%s", got.JSON())
			}
		}
	})
}

func TestLinks(t *testing.T) {
	t.Parallel()
	s := newService(t)
	put(t, s, `{"resourceType":"Practitioner","id":"dr","identifier":[{"system":"http://npi","value":"1"}]}`)
	put(t, s, `{"resourceType":"Practitioner","id":"two","identifier":[{"system":"http://npi","value":"2"}]}`)
	put(t, s, `{"resourceType":"Practitioner","id":"three","identifier":[{"system":"http://npi","value":"2"}]}`)

	observation := func(more string) string {
		return `{"resourceType":"Observation","status":"final","code":{"text":"x"},` + more + `}`
	}
	cases := map[string]struct{ in, want string }{
		"forward":            {observation(`"subject":{"reference":"urn:uuid:pat"}`), observation(`"subject":{"reference":"Patient/$P"}`)},
		"oid":                {observation(`"subject":{"reference":"urn:oid:1.2.3"}`), observation(`"subject":{"reference":"Group/$G"}`)},
		"fragment":           {observation(`"subject":{"reference":"urn:uuid:pat#x"}`), observation(`"subject":{"reference":"Patient/$P#x"}`)},
		"absolute":           {observation(`"subject":{"reference":"http://else.example/r4/Patient/7"}`), observation(`"subject":{"reference":"Patient/$H"}`)},
		"local stays":        {observation(`"subject":{"reference":"Patient/7"}`), observation(`"subject":{"reference":"Patient/7"}`)},
		"outside stays":      {observation(`"subject":{"reference":"urn:uuid:other"}`), observation(`"subject":{"reference":"urn:uuid:other"}`)},
		"contained stays":    {observation(`"contained":[{"resourceType":"Patient","id":"urn:uuid:pat"}],"subject":{"reference":"#a"}`), observation(`"contained":[{"resourceType":"Patient","id":"urn:uuid:pat"}],"subject":{"reference":"#a"}`)},
		"in contained":       {observation(`"contained":[{"resourceType":"Observation","id":"a","status":"final","code":{"text":"x"},"subject":{"reference":"urn:uuid:pat"}}]`), observation(`"contained":[{"resourceType":"Observation","id":"a","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/$P"}}]`)},
		"in extensions":      {observation(`"extension":[{"url":"http://e","valueReference":{"reference":"urn:uuid:pat"}},{"url":"http://f","valueUri":"urn:uuid:pat"}]`), observation(`"extension":[{"url":"http://e","valueReference":{"reference":"Patient/$P"}},{"url":"http://f","valueUri":"Patient/$P"}]`)},
		"beside a primitive": {observation(`"_status":{"extension":[{"url":"http://e","valueReference":{"reference":"urn:uuid:pat"}}]}`), observation(`"_status":{"extension":[{"url":"http://e","valueReference":{"reference":"Patient/$P"}}]}`)},
		"canonical stays":    {observation(`"extension":[{"url":"http://f","valueCanonical":"urn:uuid:pat"},{"url":"http://g","valueString":"urn:uuid:pat"}]`), observation(`"extension":[{"url":"http://f","valueCanonical":"urn:uuid:pat"},{"url":"http://g","valueString":"urn:uuid:pat"}]`)},
		"version":            {observation(`"subject":{"reference":"urn:uuid:pat/_history/4"}`), observation(`"subject":{"reference":"Patient/$P/_history/1"}`)},
		"other version":      {observation(`"subject":{"reference":"urn:uuid:pat/_history/5"}`), observation(`"subject":{"reference":"urn:uuid:pat/_history/5"}`)},
		"conditional":        {observation(`"performer":[{"reference":"Practitioner?identifier=http://npi|1"},{"reference":"Practitioner?identifier=http://npi%7C1"}]`), observation(`"performer":[{"reference":"Practitioner/dr"},{"reference":"Practitioner/dr"}]`)},
		"narrative": {
			observation(`"text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\"><a title=\"urn:uuid:pat\" href=\"urn:uuid:pat\">urn:uuid:pat</a> <img alt='' src='urn:oid:1.2.3'/><a href=\"http://x/?a&amp;b\"/></div>"}`),
			observation(`"text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\"><a title=\"urn:uuid:pat\" href=\"Patient/$P\">urn:uuid:pat</a> <img alt='' src='Group/$G'/><a href=\"http://x/?a&amp;b\"/></div>"}`),
		},
	}
	for name, c := range cases {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			entries := post(t, s, transactionOf(
				entryOf("urn:uuid:obs", "POST", "Observation", c.in),
				entryOf("urn:uuid:pat", "POST", "Patient", `{"resourceType":"Patient","meta":{"versionId":"4"}}`),
				entryOf("urn:oid:1.2.3", "POST", "Group", `{"resourceType":"Group","type":"person","actual":true}`),
				entryOf("http://else.example/r4/Patient/7", "POST", "Patient", `{"resourceType":"Patient","id":"7"}`)))
			id := func(i int) string { return entries[i].Response.Version.ID }
			want := parse(t, strings.NewReplacer("$P", id(1), "$G", id(2), "$H", id(3)).Replace(c.want))
			want.Set("id", fhir.Str(id(0)))
			a, b := unstamped(read(t, s, "Observation", id(0))), unstamped(want)
			if !a.Equal(&b) {
				t.Errorf("got  %s\nwant %s", a.JSON(), b.JSON())
			}
		})
	}
	t.Run("relative_to_the_base_of_the_entry", func(t *testing.T) {
		entries := post(t, s, transactionOf(
			entryOf("http://else.example/r4/Observation/1", "POST", "Observation", observation(`"subject":{"reference":"Patient/7"}`)),
			entryOf("http://else.example/r4/Patient/7", "PUT", "Patient/new7", `{"resourceType":"Patient"}`)))
		if o := read(t, s, "Observation", entries[0].Response.Version.ID); o.At("subject", "reference").Text != "Patient/new7" {
			t.Errorf("%s", o.JSON())
		}
	})
	t.Run("version_of_an_update", func(t *testing.T) {
		for i, want := range []string{"Patient/vu/_history/1", "Patient/vu/_history/2", "Patient/vu/_history/2"} {
			entries := post(t, s, transactionOf(
				entryOf("", "POST", "Observation", observation(`"subject":{"reference":"Patient/vu/_history/9"}`)),
				entryOf(testBase+"/Patient/vu", "PUT", "Patient/vu", `{"resourceType":"Patient","id":"vu","meta":{"versionId":"9"},"multipleBirthInteger":`+strconv.Itoa(min(i, 1))+`}`)))
			if o := read(t, s, "Observation", entries[0].Response.Version.ID); o.At("subject", "reference").Text != want {
				t.Errorf("%s, want %s", o.JSON(), want)
			}
		}
	})
	t.Run("conditional_reference_to_an_entry", func(t *testing.T) {
		entries := post(t, s, transactionOf(
			entryOf("", "POST", "Observation", observation(`"performer":[{"reference":"Practitioner?identifier=http://npi|77"}]`)),
			entryOf("", "POST", "Practitioner", `{"resourceType":"Practitioner","identifier":[{"system":"http://npi","value":"77"}]}`, `"ifNoneExist":"identifier=http://npi|77"`)))
		if o := read(t, s, "Observation", entries[0].Response.Version.ID); o.At("performer", "reference").Text != "Practitioner/"+entries[1].Response.Version.ID {
			t.Errorf("%s", o.JSON())
		}
	})
	t.Run("conditional_references_that_fail", func(t *testing.T) {
		before := count(t, s, "Observation")
		e := refused(t, s, fhir.Precondition, Request{Interaction: Transaction, Body: parse(t, transactionOf(
			entryOf("", "POST", "Patient", `{"resourceType":"Patient"}`),
			entryOf("", "POST", "Observation", observation(`"performer":[{"display":"x"},{"reference":"Practitioner?identifier=http://npi|2"}],"subject":{"reference":"Patient?identifier=nobody"}`))))})
		if len(e.Issues) != 2 || !slices.Contains(e.Issues[0].Expression, "Bundle.entry[1].resource.performer[1].reference") ||
			!slices.Contains(e.Issues[1].Expression, "Bundle.entry[1].resource.subject.reference") {
			t.Errorf("%s", describe(e))
		}
		refused(t, s, fhir.Invalid, Request{Interaction: Transaction, Body: parse(t, transactionOf(
			entryOf("", "POST", "Observation", observation(`"performer":[{"reference":"Practitioner?nonsense=1"}]`))))})
		if count(t, s, "Observation") != before {
			t.Error("half written")
		}
	})
}

func TestBatch(t *testing.T) {
	t.Parallel()
	s := newService(t, func(o *Options, _ *storage.Options) {
		o.Validate = func(n *fhir.Node) []fhir.Issue {
			if n.GetText("gender") == "bad" {
				return []fhir.Issue{{Severity: fhir.SeverityError, Code: fhir.CodeInvalid, Text: "no", Expression: []string{"Patient.gender"}}}
			}
			return nil
		}
	})
	body := `{"resourceType":"Bundle","type":"batch","entry":[` + strings.Join([]string{
		entryOf("", "PUT", "Patient/b1", `{"resourceType":"Patient","id":"b1"}`),
		entryOf("", "POST", "Patient", `{"resourceType":"Patient","gender":"bad"}`),
		entryOf("", "GET", "Patient/b1", ""),
		entryOf("", "GET", "Patient/b1", "", `"ifNoneMatch":"W/\"1\""`),
		entryOf("", "GET", "Patient/none", ""),
		entryOf("", "DELETE", "Patient/b1", ""),
		`{"request":{"method":"POST","url":""},"resource":{"resourceType":"Bundle","type":"transaction"}}`,
		entryOf("", "GET", "_history", ""),
		entryOf("", "GET", "Patient?_id=b1", ""),
	}, ",") + `]}`
	entries := do(t, s, Request{Interaction: Batch, Body: parse(t, body)}).Bundle.Entries
	kinds := []fhir.Kind{0, fhir.Unprocessable, 0, 0, fhir.NotFound, 0, fhir.NotSupported, 0, 0}
	for i, e := range entries {
		if kinds[i] == 0 && (e.Err != nil || e.Response == nil) || kinds[i] != 0 && fhir.KindOf(e.Err) != kinds[i] {
			t.Errorf("entry %d: %+v %s", i, e.Response, describe(e.Err))
		}
		if e.Err != nil && !strings.Contains(describe(e.Err), entryPath(i)) {
			t.Errorf("entry %d is not named: %s", i, describe(e.Err))
		}
	}
	if !strings.Contains(describe(entries[1].Err), "Bundle.entry[1].resource.gender") {
		t.Error(describe(entries[1].Err))
	}
	if !entries[3].Response.NotModified || len(entries[8].Response.Bundle.Entries) != 0 {
		t.Errorf("%+v", entries)
	}
}
