package resources

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"kiln/fhir"
	"kiln/storage"
)

func TestWrites(t *testing.T) {
	t.Parallel()
	s := newService(t, func(o *Options, _ *storage.Options) {
		o.Validate = func(n *fhir.Node) []fhir.Issue {
			if n.GetText("gender") == "bad" {
				return []fhir.Issue{{Severity: fhir.SeverityError, Code: fhir.CodeInvalid, Text: "no", Expression: []string{"Patient.gender"}}}
			}
			if n.GetText("gender") == "odd" {
				return []fhir.Issue{{Severity: fhir.SeverityWarning, Code: fhir.CodeInvalid, Text: "hm"}}
			}
			return nil
		}
	})

	t.Run("create_assigns_the_id_and_keeps_every_digit", func(t *testing.T) {
		body := `{"resourceType":"Observation","id":"mine","meta":{"versionId":"7","tag":[{"code":"x"}]},"status":"final",` +
			`"code":{"text":"c"},"valueQuantity":{"value":1.10},"note":[{"text":"a"}],"_status":{"id":"q"},"component":[{"code":{"text":"e"},"valueQuantity":{"value":1e2}}]}`
		resp := do(t, s, Request{Interaction: Create, Type: "Observation", Body: parse(t, body)})
		v := resp.Version
		if !resp.Created || v.ID == "mine" || v.Number != 1 || v.Type != "Observation" {
			t.Fatalf("%+v", resp)
		}
		got := do(t, s, Request{Interaction: Read, Type: "Observation", ID: v.ID}).Version
		if !strings.Contains(string(got.Content), "1.10") || !strings.Contains(string(got.Content), "1e2") {
			t.Errorf("digits lost: %s", got.Content)
		}
		n, want := parse(t, string(got.Content)), parse(t, body)
		if n.At("meta", "versionId").Text != "1" || n.At("meta", "lastUpdated").Text != fhir.FormatInstant(v.LastUpdated) {
			t.Errorf("meta: %s", got.Content)
		}
		want.Set("id", fhir.Str(v.ID))
		a, b := unstamped(n), unstamped(want)
		if !a.Equal(&b) {
			t.Errorf("got  %s\nwant %s", a.JSON(), b.JSON())
		}
	})
	t.Run("update_makes_versions_and_nothing_for_no_change", func(t *testing.T) {
		first := put(t, s, `{"resourceType":"Patient","id":"p1","active":true}`)
		resp := do(t, s, Request{Interaction: Update, Type: "Patient", ID: "p1",
			Body: parse(t, `{"active":true,"id":"p1","resourceType":"Patient","meta":{"versionId":"9"}}`)})
		if !resp.Unchanged || resp.Created || resp.Version.Number != 1 || !resp.Version.LastUpdated.Equal(first.LastUpdated) {
			t.Errorf("no change: %+v", resp)
		}
		second := put(t, s, `{"resourceType":"Patient","id":"p1","active":false}`)
		if second.Number != 2 || !second.LastUpdated.After(first.LastUpdated) {
			t.Errorf("second: %+v", second)
		}
		old := do(t, s, Request{Interaction: VRead, Type: "Patient", ID: "p1", Version: "1"}).Version
		if !strings.Contains(string(old.Content), "true") {
			t.Errorf("version 1: %s", old.Content)
		}
		for _, bad := range []string{"0", "3", "01", "x", "99999999999"} {
			refused(t, s, fhir.NotFound, Request{Interaction: VRead, Type: "Patient", ID: "p1", Version: bad})
		}
	})
	t.Run("delete_is_gone_idempotent_and_versions_go_on", func(t *testing.T) {
		put(t, s, `{"resourceType":"Patient","id":"p2"}`)
		resp := do(t, s, Request{Interaction: Delete, Type: "Patient", ID: "p2"})
		if resp.Deleted != 1 || resp.Version.Number != 2 {
			t.Errorf("%+v", resp)
		}
		for range 2 {
			if resp := do(t, s, Request{Interaction: Delete, Type: "Patient", ID: "p2"}); resp.Deleted != 0 || resp.Version.Number != 2 {
				t.Errorf("again: %+v", resp)
			}
		}
		do(t, s, Request{Interaction: Delete, Type: "Patient", ID: "never"})
		resp, err := s.Do(t.Context(), Request{Interaction: Read, Type: "Patient", ID: "p2"})
		if fhir.KindOf(err) != fhir.Gone || resp == nil || resp.Version.Number != 2 {
			t.Errorf("read: %+v, %v", resp, err)
		}
		refused(t, s, fhir.Gone, Request{Interaction: VRead, Type: "Patient", ID: "p2", Version: "2"})
		do(t, s, Request{Interaction: VRead, Type: "Patient", ID: "p2", Version: "1"})
		again := do(t, s, Request{Interaction: Update, Type: "Patient", ID: "p2", Body: parse(t, `{"resourceType":"Patient","id":"p2"}`)})
		if !again.Created || again.Version.Number != 3 {
			t.Errorf("recreated: %+v", again)
		}
		if got := versions(t, s, "Patient", "p2"); !slices.Equal(got, []int{3, 2, 1}) {
			t.Errorf("versions %v", got)
		}
	})
	t.Run("conditions", func(t *testing.T) {
		put(t, s, `{"resourceType":"Patient","id":"p3"}`)
		body := func(active string) *fhir.Node {
			return parse(t, `{"resourceType":"Patient","id":"p3","active":`+active+`}`)
		}
		update := func(active, ifMatch, ifNoneMatch string) Request {
			return Request{Interaction: Update, Type: "Patient", ID: "p3", Body: body(active), IfMatch: ifMatch, IfNoneMatch: ifNoneMatch}
		}
		refused(t, s, fhir.Precondition, update("true", "2", ""))
		refused(t, s, fhir.Precondition, update("true", "", "*"))
		do(t, s, update("true", "1", ""))
		do(t, s, update("false", "*", ""))
		refused(t, s, fhir.Precondition, Request{Interaction: Delete, Type: "Patient", ID: "p3", IfMatch: "1"})
		do(t, s, Request{Interaction: Delete, Type: "Patient", ID: "p3", IfMatch: "3"})
		refused(t, s, fhir.Precondition, update("true", "4", ""))
		do(t, s, update("true", "", "*"))
		v := do(t, s, Request{Interaction: Read, Type: "Patient", ID: "p3"}).Version
		for r, want := range map[*Request]bool{
			{IfNoneMatch: "5"}: true, {IfNoneMatch: "4"}: false, {IfNoneMatch: "*"}: true,
			{IfModifiedSince: v.LastUpdated.Truncate(time.Second)}: true, {IfModifiedSince: v.LastUpdated.Add(-2 * time.Second)}: false,
		} {
			r.Interaction, r.Type, r.ID = Read, "Patient", "p3"
			if got := do(t, s, *r).NotModified; got != want {
				t.Errorf("%+v: NotModified %v", r, got)
			}
		}
	})
	t.Run("bodies", func(t *testing.T) {
		refused(t, s, fhir.Invalid, Request{Interaction: Create, Type: "Patient"})
		refused(t, s, fhir.Invalid, Request{Interaction: Create, Type: "Patient", Body: parse(t, `{"resourceType":"Group"}`)})
		refused(t, s, fhir.Invalid, Request{Interaction: Create, Type: "Patient", Body: parse(t, `[]`)})
		refused(t, s, fhir.Invalid, Request{Interaction: Update, Type: "Patient", ID: "a", Body: parse(t, `{"resourceType":"Patient","id":"b"}`)})
		refused(t, s, fhir.Unprocessable, Request{Interaction: Create, Type: "Patient", Body: parse(t, `{"resourceType":"Patient","gender":"bad"}`)})
		refused(t, s, fhir.NotFound, Request{Interaction: Read, Type: "Nothing", ID: "a"})
		refused(t, s, fhir.NotFound, Request{Interaction: Read, Type: "Patient", ID: "a"})
		resp := do(t, s, Request{Interaction: Create, Type: "Patient", Body: parse(t, `{"resourceType":"Patient","gender":"odd"}`)})
		if len(resp.Issues) != 1 {
			t.Errorf("warnings: %+v", resp.Issues)
		}
	})
	t.Run("patch", func(t *testing.T) {
		put(t, s, `{"resourceType":"Patient","id":"p4","active":true}`)
		patch := func(p string) Request {
			return Request{Interaction: Patch, Type: "Patient", ID: "p4", JSONPatch: []byte(p)}
		}
		resp := do(t, s, patch(`[{"op":"replace","path":"/active","value":false}]`))
		if resp.Version.Number != 2 || resp.Version.Method != storage.MethodPatch || resp.Created {
			t.Errorf("%+v", resp.Version)
		}
		if resp := do(t, s, patch(`[{"op":"replace","path":"/active","value":false}]`)); !resp.Unchanged {
			t.Errorf("%+v", resp)
		}
		refused(t, s, fhir.Unprocessable, patch(`[{"op":"add","path":"/gender","value":"bad"}]`))
		refused(t, s, fhir.Unprocessable, patch(`[{"op":"replace","path":"/id","value":"x"}]`))
		r := patch(`[{"op":"add","path":"/gender","value":"male"}]`)
		r.IfMatch = "1"
		refused(t, s, fhir.Precondition, r)
		r.ID, r.IfMatch = "missing", ""
		refused(t, s, fhir.NotFound, r)
		params := `{"resourceType":"Parameters","parameter":[{"name":"operation","part":[{"name":"type","valueCode":"replace"},` +
			`{"name":"path","valueString":"Patient.active"},{"name":"value","valueBoolean":true}]}]}`
		do(t, s, Request{Interaction: Patch, Type: "Patient", ID: "p4", Body: parse(t, params)})
		if got := read(t, s, "Patient", "p4"); got.Get("active").Text != "true" {
			t.Errorf("%s", got.JSON())
		}
	})
}

func TestConditionalWrites(t *testing.T) {
	t.Parallel()
	s := newService(t, func(o *Options, _ *storage.Options) { o.MultipleDelete, o.Limits.MaxConditionalMatches = true, 3 })
	single, err := New(Options{Anonymous: s.options.Anonymous, Store: s.store, Registry: s.registry, Base: testBase})
	if err != nil {
		t.Fatal(err)
	}
	query := func(value string) string { return "identifier=urn:x|" + value }
	create := func(value string) Request {
		return Request{Interaction: Create, Type: "Patient", Body: parse(t, identified(value, "")), IfNoneExist: query(value)}
	}

	t.Run("create", func(t *testing.T) {
		first := do(t, s, create("a"))
		if again := do(t, s, create("a")); !first.Created || again.Created || again.Version.ID != first.Version.ID || again.Version.Content == nil {
			t.Errorf("first %+v again %+v", first, again)
		}
		r := create("a")
		r.IfNoneExist = ""
		do(t, s, r)
		e := refused(t, s, fhir.Precondition, create("a"))
		if e.Issues[0].Code != fhir.CodeMultipleMatches {
			t.Errorf("%s", describe(e))
		}
		r = create("a")
		r.IfNoneExist = "nonsense=1"
		refused(t, s, fhir.Invalid, r)
		r = create("a")
		r.IfNoneExist = "_count=1"
		if _, err := s.Do(t.Context(), r); err == nil {
			t.Error("criteria that match all are taken")
		}
	})
	t.Run("criteria_without_a_value", func(t *testing.T) {
		for _, criteria := range []string{"_id=", "_tag:not=", "_id=none&identifier=", "identifier=none&_text="} {
			for _, r := range []Request{
				{Interaction: Delete, Type: "Practitioner", Query: criteria},
				{Interaction: Update, Type: "Practitioner", Query: criteria, Body: parse(t, `{"resourceType":"Practitioner"}`)},
				{Interaction: Patch, Type: "Practitioner", Query: criteria, Body: parse(t, `{"resourceType":"Parameters"}`)},
				{Interaction: Create, Type: "Practitioner", IfNoneExist: criteria, Body: parse(t, `{"resourceType":"Practitioner"}`)},
			} {
				for _, r.Lenient = range []bool{false, true} {
					if e := refused(t, s, fhir.Invalid, r); !strings.Contains(describe(e), "it has no value") {
						t.Errorf("%s %s: %s", r.Interaction, criteria, describe(e))
					}
				}
			}
		}
	})
	t.Run("update", func(t *testing.T) {
		update := func(value, body string) Request {
			return Request{Interaction: Update, Type: "Patient", Query: query(value), Body: parse(t, body)}
		}
		made := do(t, s, update("u", identified("u", `"active":true`)))
		if !made.Created {
			t.Fatalf("%+v", made)
		}
		changed := do(t, s, update("u", identified("u", `"active":false`)))
		if changed.Created || changed.Version.ID != made.Version.ID || changed.Version.Number != 2 {
			t.Errorf("%+v", changed.Version)
		}
		if same := do(t, s, update("u", identified("u", `"active":false,"id":"`+made.Version.ID+`"`))); !same.Unchanged {
			t.Errorf("%+v", same)
		}
		refused(t, s, fhir.Invalid, update("u", identified("u", `"id":"other"`)))
		named := do(t, s, update("n", identified("n", `"id":"named"`)))
		if !named.Created || named.Version.ID != "named" {
			t.Errorf("%+v", named.Version)
		}
		refused(t, s, fhir.Conflict, update("nobody", identified("nobody", `"id":"named"`)))
		refused(t, s, fhir.Invalid, update("nobody", identified("nobody", `"id":"not_valid"`)))
		do(t, s, Request{Interaction: Create, Type: "Patient", Body: parse(t, identified("u", ""))})
		refused(t, s, fhir.Precondition, update("u", identified("u", "")))
	})
	t.Run("patch", func(t *testing.T) {
		put(t, s, identified("q", `"id":"q"`))
		r := Request{Interaction: Patch, Type: "Patient", Query: query("q"), JSONPatch: []byte(`[{"op":"add","path":"/active","value":true}]`)}
		if v := do(t, s, r).Version; v.ID != "q" || v.Number != 2 {
			t.Errorf("%+v", v)
		}
		r.Query = query("none")
		refused(t, s, fhir.NotFound, r)
	})
	t.Run("delete", func(t *testing.T) {
		for i := range 5 {
			put(t, s, identified("d", fmt.Sprintf(`"id":"d%d"`, i)))
		}
		r := Request{Interaction: Delete, Type: "Patient", Query: query("d")}
		refused(t, single, fhir.Precondition, r)
		refused(t, s, fhir.Precondition, r) // five, and three are the most
		do(t, s, Request{Interaction: Delete, Type: "Patient", ID: "d0"})
		do(t, s, Request{Interaction: Delete, Type: "Patient", ID: "d1"})
		if resp := do(t, s, r); resp.Deleted != 3 || resp.Version != nil {
			t.Errorf("%+v", resp)
		}
		if resp := do(t, single, r); resp.Deleted != 0 {
			t.Errorf("%+v", resp)
		}
		r.Query = ""
		refused(t, s, fhir.Invalid, r)
	})
}

func TestHistory(t *testing.T) {
	t.Parallel()
	now := time.Date(2024, 5, 1, 12, 0, 0, 0, time.UTC)
	s := newService(t, func(_ *Options, so *storage.Options) { so.Now = func() time.Time { return now } })
	for i := range 5 {
		now = now.Add(time.Hour)
		put(t, s, fmt.Sprintf(`{"resourceType":"Patient","id":"h","multipleBirthInteger":%d}`, i))
	}
	now = now.Add(time.Hour)
	put(t, s, `{"resourceType":"Group","id":"g","type":"person","actual":true}`)
	do(t, s, Request{Interaction: Delete, Type: "Patient", ID: "h"})

	history := func(r Request) *Bundle { t.Helper(); return do(t, s, r).Bundle }
	b := history(Request{Interaction: HistoryInstance, Type: "Patient", ID: "h"})
	if *b.Total != 6 || len(b.Entries) != 6 || !b.Entries[0].Version.Deleted || b.Entries[5].Version.Number != 1 {
		t.Fatalf("instance: %+v", b)
	}
	for query, want := range map[string][]int{
		"_since=2024-05-01T17:00:00Z":          {6, 5},
		"_since=2024-05-01T19:30:00%2B02:00":   {6},
		"_since=2024-05-01T19:30:00+02:00":     {6}, // a plus sign that was not escaped
		"_since=2024-05-01T18:30:00&_count=99": {},
		"_at=2024-05-01T14:30:00Z":             {2},
		"_at=2024-05-01T15":                    nil,
		"_count=2":                             {6, 5},
		"_count=0":                             {},
		"_sort=-_lastUpdated&_format=json":     {6, 5, 4, 3, 2, 1},
		"_at=2024-05-01&_since=2024-05-01":     {6, 5, 4, 3, 2, 1},
		"_since=2023-01-01&_at=2024-04-01":     {},
	} {
		if want == nil {
			refused(t, s, fhir.Invalid, Request{Interaction: HistoryInstance, Type: "Patient", ID: "h", Query: query})
			continue
		}
		got := []int{}
		for _, e := range history(Request{Interaction: HistoryInstance, Type: "Patient", ID: "h", Query: query}).Entries {
			got = append(got, e.Version.Number)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
	t.Run("pages_join_to_the_whole", func(t *testing.T) {
		for _, r := range []Request{
			{Interaction: HistoryInstance, Type: "Patient", ID: "h"}, {Interaction: HistoryType, Type: "Patient"}, {Interaction: HistorySystem},
		} {
			whole := history(r)
			var got []string
			r.Query = "_count=2"
			for range 10 {
				b := history(r)
				for _, e := range b.Entries {
					got = append(got, fmt.Sprint(e.Version.Type, e.Version.ID, e.Version.Number))
				}
				i := slices.IndexFunc(b.Links, func(l Link) bool { return l.Relation == "next" })
				if i < 0 {
					break
				}
				_, r.Query, _ = strings.Cut(b.Links[i].URL, "?")
			}
			var want []string
			for _, e := range whole.Entries {
				want = append(want, fmt.Sprint(e.Version.Type, e.Version.ID, e.Version.Number))
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: pages %v, whole %v", r.Interaction, got, want)
			}
			r.Query = strings.Replace(r.Query, "_count=2", "_count=3", 1)
			refused(t, s, fhir.Invalid, r)
		}
	})
	refused(t, s, fhir.NotFound, Request{Interaction: HistoryInstance, Type: "Patient", ID: "nobody"})
	for _, bad := range []string{"_since=x", "_count=-1", "_count=a", "x=1", "_sort=_id", "_cursor=zzz", "_count=1&_count=2"} {
		refused(t, s, fhir.Invalid, Request{Interaction: HistoryType, Type: "Patient", Query: bad})
	}
	if b := do(t, s, Request{Interaction: HistoryType, Type: "Patient", Query: "x=1", Lenient: true}).Bundle; len(b.Issues) != 1 {
		t.Errorf("lenient: %+v", b.Issues)
	}
}
