package resources

import (
	"archive/zip"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"kiln/conformance"
	"kiln/fhir"
	"kiln/internal/kilntest"
)

// examples are the official ones, by type.
func examples(t *testing.T) map[string][]*fhir.Node {
	t.Helper()
	archive, err := zip.OpenReader(kilntest.SharedData(t, "examples", "r4-examples.zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	list := map[string][]*fhir.Node{}
	for _, f := range archive.File {
		if !strings.HasSuffix(f.Name, ".json") {
			continue
		}
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		n, err := fhir.ParseJSON(text)
		if err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
		list[n.ResourceType()] = append(list[n.ResourceType()], n)
	}
	return list
}

// sameResource says whether a resource came out as it went in, but for what the server itself writes.
func sameResource(in, out *fhir.Node) bool {
	a, b := unstamped(in), unstamped(out)
	return a.Equal(&b)
}

func TestExamples_come_out_as_they_went_in(t *testing.T) {
	t.Parallel()
	all := examples(t)
	s := newService(t)
	stored, strange := 0, 0
	for typ, list := range all {
		for _, in := range list {
			r := Request{Interaction: Update, Type: typ, ID: in.ID(), Body: new(fhir.Node)}
			*r.Body = in.Clone()
			_, err := s.Do(t.Context(), r)
			if typ == searchParameterType && fhir.KindOf(err) == fhir.Unprocessable {
				continue // one that the index cannot offer
			}
			if codeOf(err) == "subject-mismatch" { // some examples refer to the visit or the result of another example's patient
				strange++
				continue
			}
			if err != nil {
				t.Errorf("%s/%s: %s", typ, in.ID(), describe(err))
				continue
			}
			stored++
			if typ == "Subscription" { // turned off on the way in
				in.Set("status", fhir.Str("off"))
			}
			if out := read(t, s, typ, in.ID()); !sameResource(in, out) {
				t.Errorf("%s/%s came out as %s", typ, in.ID(), out.JSON())
			}
			again := *r.Body
			if resp := do(t, s, Request{Interaction: Update, Type: typ, ID: in.ID(), Body: &again}); !resp.Unchanged {
				t.Errorf("%s/%s: the same once more makes version %d", typ, in.ID(), resp.Version.Number)
			}
		}
	}
	if strange > 40 {
		t.Errorf("%d examples are refused as being of different patients", strange)
	}
	t.Logf("%d examples of %d types; %d refer to what is another patient's", stored, len(all), strange)
}

// TestEveryType does with each resource type what can be done with a resource.
func TestEveryType(t *testing.T) {
	t.Parallel()
	all := examples(t)
	s := newService(t)
	registry, err := conformance.R4()
	if err != nil {
		t.Fatal(err)
	}
	for _, typ := range registry.Schema().Resources {
		sample := &fhir.Node{}
		if list := all[typ]; len(list) > 0 && typ != searchParameterType {
			*sample = list[0].Clone()
			if typ == "Subscription" { // turned off on the way in
				sample.Set("status", fhir.Str("off"))
			}
		} else {
			*sample = fhir.Obj(fhir.Str(typ).As("resourceType"))
			if typ == searchParameterType {
				sample = parse(t, `{"resourceType":"SearchParameter","url":"urn:x","name":"x","status":"draft","description":"x","code":"x","base":["Patient"],"type":"token","expression":"Patient.active"}`)
			}
		}
		body := func(language string) *fhir.Node {
			n := sample.Clone()
			n.Set("language", fhir.Str(language))
			if life := s.lives[typ]; life != nil && life.IsFixed(life.State(&n)) { // what is signed does not change like that
				n.Set("status", fhir.Str("registered"))
			}
			return &n
		}
		created := do(t, s, Request{Interaction: Create, Type: typ, Body: body("en")})
		id := created.Version.ID
		find := func(query string) int {
			return len(do(t, s, Request{Interaction: SearchType, Type: typ, Query: query}).Bundle.Entries)
		}
		want := body("en")
		want.Set("id", fhir.Str(id))
		if out := read(t, s, typ, id); !created.Created || !sameResource(want, out) {
			t.Errorf("%s came out as %s", typ, out.JSON())
		}
		if n := find("_id=" + id + "&_lastUpdated=gt2000-01-01"); n != 1 {
			t.Errorf("%s is found %d times", typ, n)
		}
		want = body("nb")
		want.Set("id", fhir.Str(id))
		if typ == auditEventType {
			refused(t, s, fhir.MethodNotAllowed, Request{Interaction: Update, Type: typ, ID: id, Body: want})
			refused(t, s, fhir.MethodNotAllowed, Request{Interaction: Delete, Type: typ, ID: id})
			continue
		}
		if resp := do(t, s, Request{Interaction: Update, Type: typ, ID: id, IfMatch: "1", Body: want}); resp.Version.Number != 2 {
			t.Errorf("%s: update to %d", typ, resp.Version.Number)
		}
		patch := []byte(`[{"op":"replace","path":"/language","value":"nn"}]`)
		if resp := do(t, s, Request{Interaction: Patch, Type: typ, ID: id, JSONPatch: patch}); resp.Version.Number != 3 {
			t.Errorf("%s: patch to %d", typ, resp.Version.Number)
		}
		if old := do(t, s, Request{Interaction: VRead, Type: typ, ID: id, Version: "2"}); !strings.Contains(string(old.Version.Content), `"nb"`) {
			t.Errorf("%s: version 2 is %s", typ, old.Version.Content)
		}
		if life := s.lives[typ]; life != nil && life.IsSigned(life.State(want)) {
			refused(t, s, fhir.MethodNotAllowed, Request{Interaction: Delete, Type: typ, ID: id})
			continue
		}
		do(t, s, Request{Interaction: Delete, Type: typ, ID: id})
		if refused(t, s, fhir.Gone, Request{Interaction: Read, Type: typ, ID: id}); find("_id="+id) != 0 {
			t.Errorf("%s is found after the delete", typ)
		}
		again := body("en")
		again.Set("id", fhir.Str(id))
		if resp := do(t, s, Request{Interaction: Update, Type: typ, ID: id, Body: again}); !resp.Created || resp.Version.Number != 5 {
			t.Errorf("%s again: %+v", typ, resp)
		}
		if got := versions(t, s, typ, id); !slices.Equal(got, []int{5, 4, 3, 2, 1}) || find("_id="+id) != 1 {
			t.Errorf("%s: versions %v", typ, got)
		}
		if b := do(t, s, Request{Interaction: HistoryType, Type: typ}).Bundle; len(b.Entries) != 5 || !b.Entries[1].Version.Deleted {
			t.Errorf("%s: %d versions in the history of the type", typ, len(b.Entries))
		}
	}
}

// TestSynthea_comes_out_as_it_went_in compares what transactions store with what was in them: but for ids and
// references nothing changes.
func TestSynthea_comes_out_as_it_went_in(t *testing.T) {
	t.Parallel()
	root := kilntest.SharedData(t, "synthea")
	for _, files := range [][]string{
		{"v2.7/0-hospitalInformation", "v2.7/0-practitionerInformation", "v2.7/6c8f3e83-c351-ed33-c38d-6be101c275d2", "v2.7/0ef7a3b5-53ee-e765-10e2-c63a904ad0fd"},
		{"v2019/0-hospitalInformation", "v2019/0-practitionerInformation", "v2019/1484a42d-0eaf-4654-9cbf-6b050a5cd73b"},
	} {
		s := newService(t)
		for _, file := range files {
			text := string(gunzip(t, filepath.Join(root, file+".json.gz")))
			bundle := parse(t, text)
			resp := do(t, s, Request{Interaction: Transaction, Body: parse(t, text)})
			names, i := map[string]string{}, 0
			for entry := range bundle.Get("entry").Items() {
				v := resp.Bundle.Entries[i].Response.Version
				names[entry.GetText("fullUrl")] = v.Type + "/" + v.ID
				i++
			}
			i = 0
			for entry := range bundle.Get("entry").Items() {
				v := resp.Bundle.Entries[i].Response.Version
				out := read(t, s, v.Type, v.ID)
				in := entry.Get("resource")
				in.Set("id", fhir.Str(v.ID))
				rename(in, out, names)
				if !sameResource(in, out) {
					t.Fatalf("%s, entry %d: %s came out as %s", file, i, in.JSON(), out.JSON())
				}
				i++
			}
		}
	}
}

// rename gives the references of in what a transaction makes of them. A conditional one becomes what out has, which
// must be of the type.
func rename(in, out *fhir.Node, names map[string]string) {
	for i := range in.Kids {
		kid := &in.Kids[i]
		var other *fhir.Node
		if out != nil {
			if in.Kind == fhir.Object {
				other = out.Get(kid.Name)
			} else if i < len(out.Kids) {
				other = &out.Kids[i]
			}
		}
		// A string that looks like a reference, as Identifier.value does, stays what it is.
		if name := names[kid.Text]; name != "" && kid.Name == "reference" {
			kid.Text = name
		} else if typ, _, conditional := strings.Cut(kid.Text, "?identifier="); conditional && kid.Name == "reference" && other != nil && strings.HasPrefix(other.Text, typ+"/") {
			kid.Text = other.Text
		}
		rename(kid, other, names)
	}
}
