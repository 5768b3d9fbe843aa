package resources

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"kiln/auth"
	"kiln/fhir"
	"kiln/storage"
)

// found are the entries of a searchset: matches in their order, includes with a + in front, issues with a !.
func found(t testing.TB, b *Bundle) string {
	t.Helper()
	var list []string
	for _, e := range b.Entries {
		switch e.Mode {
		case "match":
			list = append(list, e.Version.ID)
		case "include":
			list = append(list, "+"+e.Version.ID)
		default:
			t.Errorf("an entry has the mode %q", e.Mode)
		}
	}
	for _, i := range b.Issues {
		list = append(list, "!"+i.Severity)
	}
	return strings.Join(list, " ")
}

func linkOf(b *Bundle, relation string) string {
	for _, l := range b.Links {
		if l.Relation == relation {
			return l.URL
		}
	}
	return ""
}

func newSearched(t testing.TB, change ...func(*Options, *storage.Options)) *Service {
	s := newService(t, change...)
	for _, body := range []string{
		`{"resourceType":"Practitioner","id":"house","name":[{"family":"House"}]}`,
		`{"resourceType":"Patient","id":"anna","name":[{"family":"Müller","given":["Anna"]}],"gender":"female","birthDate":"1980-02-03","identifier":[{"system":"http://x","value":"A1"}],"text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\">x</div>"},"generalPractitioner":[{"reference":"Practitioner/house"}]}`,
		`{"resourceType":"Patient","id":"ben","name":[{"family":"Smith"}],"gender":"male","birthDate":"1990-05-05","active":true}`,
		`{"resourceType":"Patient","id":"cleo","name":[{"family":"Zed"}]}`,
		`{"resourceType":"Encounter","id":"visit","status":"finished","class":{"code":"AMB"},"subject":{"reference":"Patient/anna"},"participant":[{"individual":{"reference":"Practitioner/house"}}]}`,
		`{"resourceType":"Observation","id":"o1","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"8302-2"}]},"subject":{"reference":"Patient/anna"},"encounter":{"reference":"Encounter/visit"},"performer":[{"reference":"Practitioner/house"}],"effectiveDateTime":"2020-01-01T23:30:00Z","valueQuantity":{"value":5.4,"unit":"g","system":"http://unitsofmeasure.org","code":"g"}}`,
		`{"resourceType":"Observation","id":"o2","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"8302-2"}]},"subject":{"reference":"Patient/ben"},"effectiveDateTime":"2020-01-02T12:00:00Z","derivedFrom":[{"reference":"Observation/o1"}]}`,
		`{"resourceType":"Observation","id":"o3","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/ben"},"effectiveDateTime":"2020-01-03T12:00:00Z","derivedFrom":[{"reference":"Observation/o2"}]}`,
		`{"resourceType":"List","id":"some","status":"current","mode":"working","entry":[{"item":{"reference":"Patient/anna"}}]}`,
		`{"resourceType":"Group","id":"study","type":"person","actual":true,"member":[{"entity":{"reference":"Patient/ben"}}]}`,
		`{"resourceType":"Location","id":"here","name":"Here","position":{"latitude":59.91,"longitude":10.75}}`,
	} {
		put(t, s, body)
	}
	return s
}

// TestSearch_answers has a case for each rule about what a search answers beside the conditions themselves.
func TestSearch_answers(t *testing.T) {
	t.Parallel()
	s := newSearched(t)
	for _, c := range []struct{ path, want, self string }{
		{"Patient?name=muller", "anna", "Patient?name=muller"},
		{"Patient?_count=1&name=muller&_count=3&_total=none&_total=accurate", "anna", "Patient?name=muller&_count=3&_total=accurate"},
		{"Observation?derived-from.derived-from=o1", "o3", ""},
		{"Observation?focus.focus=o1", "", ""},                             // of MessageDefinition it is no reference
		{"Observation?derived-from:Observation.focus.code:text=x", "", ""}, // of StructureDefinition it is a URI
		{"?type:not=x&_id=house,here", "here", ""},
		{"Patient?_sort=birthdate", "anna ben cleo", ""},
		{"Patient?_sort=-birthdate", "ben anna cleo", ""}, // missing values last, in either direction
		{"Patient?_sort=gender,-_id", "anna ben cleo", ""},
		{"Patient?_id=ben,anna,x&_sort=_id", "anna ben", ""},
		{"Patient?family=Smith&family=Zed", "", ""},
		{"Patient?family=Smith,Zed&_sort=_id", "ben cleo", ""},
		{"Patient?_list=some", "anna", ""},
		{"Patient?_in=Group/study&_sort=_id", "ben", ""},
		{"Patient?_filter=gender%20eq%20male", "ben", ""},
		{"Patient?_content=house", "", ""},
		{"Location?near=59.9|10.7|20|km", "here", "Location?near=59.9%7C10.7%7C20%7Ckm"},
		{"Location?near=10|10|20|km", "", ""},
		{"Patient?_count=0", "", "Patient?_count=0"},
		{"Patient?_summary=count", "", ""},
		{"Patient?_count=100000&_sort=_id", "anna ben cleo", "Patient?_count=1000&_sort=_id"},
		{"Patient?_contained=false&_id=anna", "anna", ""},
		// Chains of any length, chains in _has, nested _has.
		{"Observation?patient.general-practitioner.name=house", "o1", ""},
		{"Observation?subject:Patient.name=smith&_sort=_id", "o2 o3", ""},
		{"Observation?patient._text=x", "o1", ""},
		{"Observation?subject:Patient._content=m%C3%BCller,nobody", "o1", ""},
		{"Observation?patient._in=Group/study&_sort=_id", "o2 o3", "Observation?patient._in=Group/study&_sort=_id"},
		{"Patient?_has:Observation:patient:code=8302-2&_sort=_id", "anna ben", ""},
		{"Patient?_has:Observation:patient:performer:Practitioner.name=house", "anna", ""},
		{"Practitioner?_has:Patient:general-practitioner:_has:Observation:patient:code=8302-2", "house", ""},
		// Includes.
		{"Observation?_id=o1&_include=Observation:subject", "o1 +anna", ""},
		{"Observation?_id=o1&_include=Observation:subject&_include:iterate=Patient:general-practitioner", "o1 +anna +house", ""},
		{"Observation?_id=o3&_include:iterate=Observation:derived-from", "o3 +o2 +o1", ""},
		{"Observation?_id=o1&_include=Observation:subject:Patient", "o1 +anna", ""},
		{"Observation?_id=o1&_include=Observation:subject:Group", "o1", ""},
		{"Patient?_id=ben&_revinclude=Group:member", "ben +study", ""},
		{"Patient?_id=anna&_include=*", "anna +house", ""},
		{"Observation?_sort=_id&_count=2&_include=Observation:derived-from", "o1 o2", ""}, // o1 is a match already, and counts once
		// The whole system, and compartments.
		{"?_type=Patient,Practitioner&_id=house", "house", "?_type=Patient,Practitioner&_id=house"},
		{"?_id=anna", "anna", ""},
		{"Patient/anna/Observation", "o1", "Patient/anna/Observation"},
		{"Patient/ben/*?_type=Observation&_sort=_id", "o2 o3", "Patient/ben/*?_type=Observation&_sort=_id"},
		{"Practitioner/house/Observation", "o1", ""},
		{"Encounter/visit/Observation", "o1", ""},
		{"Device/x/Observation", "", ""},
		{"RelatedPerson/x/Observation", "", ""},
		// Zones: o1 is on January 2nd in Auckland, and a birthday is a day everywhere.
		{"Observation?date=2020-01-01", "o1", ""},
		{"Observation?date=2020-01-01&_timezone=Pacific/Auckland", "", ""},
		{"Observation?date=2020-01-02&_timezone=Pacific/Auckland&_sort=_id", "o1", "Observation?date=2020-01-02&_timezone=Pacific/Auckland&_sort=_id"},
		{"Patient?birthdate=1980-02-03&_timezone=Pacific/Auckland", "anna", ""},
		// Nothing is asked.
		{"Patient?name=&_sort=_id", "anna ben cleo", ""},
	} {
		t.Run(c.path, func(t *testing.T) {
			got := do(t, s, searchOf(c.path)).Bundle
			if list := found(t, got); list != c.want {
				t.Errorf("found %q, want %q", list, c.want)
			}
			if self := linkOf(got, "self"); c.self != "" && self != c.self {
				t.Errorf("self is %s, want %s", self, c.self)
			}
		})
	}
	page := do(t, s, searchOf("Observation?_sort=_id&_count=2&_total=accurate")).Bundle
	if page.Total == nil || *page.Total != 3 || linkOf(page, "next") == "" || linkOf(page, "first") == "" {
		t.Errorf("total %v, links %v", page.Total, page.Links)
	}
	if page = do(t, s, searchOf(linkOf(page, "next"))).Bundle; found(t, page) != "o3" || linkOf(page, "previous") == "" || linkOf(page, "next") != "" {
		t.Errorf("page 2 has %q, links %v", found(t, page), page.Links)
	}
	if own := do(t, s, searchOf(linkOf(page, "self"))).Bundle; found(t, own) != found(t, page) || linkOf(own, "self") != linkOf(page, "self") {
		t.Errorf("the link to a later page itself leads to %s", found(t, own))
	}
	if page = do(t, s, searchOf("Observation?_total=none")).Bundle; page.Total != nil {
		t.Errorf("_total=none gives %d", *page.Total)
	}
}

// searchOf reads Type?query, Compartment/id/Type?query or ?query.
func searchOf(path string) Request {
	path, query, _ := strings.Cut(path, "?")
	r := Request{Interaction: SearchType, Type: path, Query: query}
	if parts := strings.Split(path, "/"); len(parts) == 3 {
		if r.Compartment, r.CompartmentID, r.Type = parts[0], parts[1], parts[2]; r.Type == "*" {
			r.Type = ""
		}
	}
	if r.Type == "" {
		r.Interaction = SearchSystem
	}
	return r
}

// TestSearch_refuses names the parameter, and what it may be, and never does half of what was asked.
func TestSearch_refuses(t *testing.T) {
	t.Parallel()
	s := newSearched(t)
	many := func(n int, one string) string { return strings.TrimSuffix(strings.Repeat(one+",", n), ",") }
	for _, c := range []struct{ path, want string }{
		{"Patient?nam=x", "Did you mean name?"},
		{"Patient?birthdat=1980", "Did you mean birthdate?"},
		{"Patient?name:foo=x", "modifier :foo"},
		{"Patient?_text:exact=x", "the modifier :exact does not go with a search for words"},
		{"Observation?patient._content:contains=x", "modifier :contains"},
		{"Patient?gender:missing=maybe", "true or false"},
		{"Patient?birthdate=99999-13-45", "is no date"},
		{"Patient?birthdate=0000", "is no date"},
		{"Observation?date=ge2020-01-01T25:00", "is no date"},
		{"Observation?value-quantity=abc", "is no number"},
		{"Observation?value-quantity=1e999", "is no number"},
		{"Observation?value-quantity=1|2|3|4", "is no quantity"},
		{"Observation?code-value-quantity=x", "2 parts"},
		{"Observation?subject=Foo/1", "is no reference"},
		{"Patient?identifier=|", "neither a system nor a code"},
		{"Location?near=999|1", "is no latitude"},
		{"Patient?_filter=(((", "at character 4"},
		{"Patient?_sort=foo", "no search parameter"},
		{"Location?_sort=near", "it needs a parameter near, too"},
		{"Location?_sort=-near&near:missing=false", "it needs a parameter near, too"},
		{"Patient?_sort=near&near=1|1", "no search parameter"},
		{"Patient?_sort=_text", "nothing can be sorted by _text, which finds words in many places, which have no order. The order may be by _id, "},
		{"Observation?_sort=_content", "nothing can be sorted by _content"},
		{"Patient?_sort=name,-_filter", "nothing can be sorted by _filter, which has no value in a resource. The order may be by _id, _lastUpdated, "},
		{"Patient?_sort=_has", "nothing can be sorted by _has"},
		{"Patient?_sort=_list", "nothing can be sorted by _list"},
		{"Patient?_sort=_in", "nothing can be sorted by _in"},
		{"Patient?_sort=_score", "nothing can be sorted by _score"},
		{"?_sort=_type", "nothing can be sorted by _type, which has no value in a resource. The order may be by _id, _lastUpdated, _profile, _security, _source, _tag, date."},
		{"Observation?_sort=code-value-quantity,code-value-date,-component-code-value-quantity,_id,date,status", "8 keys"},
		{"Observation?_include=Observation:foo", "no reference parameter"},
		{"Observation?_include=foo", "the form Type:parameter"},
		{"Patient?_total=foo", "none, estimate, accurate"},
		{"Patient?_count=-1", "is no count"},
		{"Patient?_summary=foo", "is not one of"},
		{"Patient?_contained=yes", "is not one of true, false, both"},
		{"Patient?_contained=true&_containedType=x", "is not one of container, contained"},
		{"Patient?_timezone=Mars/Base", "is no time zone"},
		{"Patient?_timezone=Local", "is no time zone"},
		{"Patient?_timezone=../../etc/passwd", "is no time zone"},
		{"?_type=Foo", "no resource type"},
		// Limits, each named.
		{"Patient?name=" + strings.Repeat("a", 70_000), "65536"},
		{"Patient?_id=" + many(1001, "x"), "1000 values"},
		{"Patient?" + strings.Repeat("name=a&", 201), "200 parameters"},
		{"Observation?subject:Patient" + strings.Repeat(".link:Patient", 9) + ".name=x", "8 steps"},
		{"Patient?" + strings.Repeat("_has:Observation:patient:", 9) + "code=x", "8 steps"},
		{"Patient?_sort=" + many(9, "name"), "8 keys"},
		{"Patient?" + strings.Repeat("_include=*&", 31), "30 includes"},
		{"Patient?_filter=" + strings.Repeat("(", 30) + "name%20eq%20a" + strings.Repeat(")", 30), "20 levels"},
		{"Patient?name=%00", "percent sign"},
		{"Patient?name=%ff", "not UTF-8"},
	} {
		t.Run(c.path[:min(len(c.path), 60)], func(t *testing.T) {
			_, err := s.Do(t.Context(), searchOf(c.path))
			var e *fhir.Error
			if !errors.As(err, &e) || e.Kind != fhir.Invalid && e.Kind != fhir.NotSupported && e.Kind != fhir.TooCostly || !strings.Contains(describe(err), c.want) {
				t.Errorf("got %.300s, want %q", describe(err), c.want)
			}
		})
	}
	_, err := s.Do(t.Context(), Request{Interaction: SearchType, Type: "Patient", Compartment: "Observation", CompartmentID: "o1"})
	if fhir.KindOf(err) != fhir.NotFound || !strings.Contains(describe(err), "these have: Device, Encounter, Patient, Practitioner, RelatedPerson") {
		t.Errorf("in the compartment of what has none: %s", describe(err))
	}
	// What looks dangerous and is no fault finds nothing, and nothing happens.
	for _, path := range []string{"Patient?name=" + strings.Repeat("a", 50_000), "Patient?_id=" + many(1000, "x"), "Patient?name=';DROP%20TABLE%20resource--",
		`Patient?name=%25_%5C`, "Patient?identifier=" + many(1000, "http://x|z"), "Patient?birthdate=9999-12-31", "Patient?name:contains=%25%25%25",
		"Observation?" + strings.TrimSuffix(strings.Repeat("code=x&", 200), "&"), `Patient?_content=%22%26%7C!()%22`} {
		if got := do(t, s, searchOf(path)).Bundle; found(t, got) != "" {
			t.Errorf("%.60s finds %s", path, found(t, got))
		}
	}
	if n := count(t, s, "Patient"); n != 3 {
		t.Errorf("there are %d patients now", n)
	}
}

// TestSearch_lenient ignores what it does not know, says so in the answer, and leaves it out of the self link.
func TestSearch_lenient(t *testing.T) {
	t.Parallel()
	s := newSearched(t)
	r := searchOf("Patient?foo=bar&name=muller&_sort=bar")
	r.Lenient = true
	got := do(t, s, r).Bundle
	if found(t, got) != "anna !warning !warning" || linkOf(got, "self") != "Patient?name=muller" {
		t.Errorf("found %s, self %s", found(t, got), linkOf(got, "self"))
	}
	for _, c := range []struct{ ignored, with string }{
		{"birthdate=yesterday", ""}, {"_count=many", ""}, {"_total=all", ""}, {"_sort=", ""}, {"_include=gender", ""}, {"gender:missing=perhaps", ""}, {"_list=a b", ""},
		{"_has:Observation:subject", ""}, {"_has:Observation:patients:code=x", ""}, {"_filter=gender is male", ""}, {"general-practitioner.birthdate=x", ""},
		{"name:upper=A", "modifier :upper"}, {"birthdate=" + strings.Repeat("1990,", 1001), "1000"}, {"_type=Patients", "_type"}, // errors in any case
	} {
		r := searchOf("Patient?name=muller&" + c.ignored)
		if c.with == "_type" {
			r = searchOf("?name=muller&" + c.ignored)
		}
		if text := refused(t, s, fhir.Invalid, r).Error(); !strings.Contains(text, c.with) {
			t.Errorf("%s: %s", c.ignored, text)
		}
		if r.Lenient = true; c.with != "" {
			refused(t, s, fhir.Invalid, r)
			continue
		}
		if got := do(t, s, r).Bundle; found(t, got) != "anna !warning" || linkOf(got, "self") != "Patient?name=muller" {
			t.Errorf("%s: found %s, self %s", c.ignored, found(t, got), linkOf(got, "self"))
		}
	}
	r = searchOf("Observation?date=2020-01-02")
	r.TimeZone = "Pacific/Auckland"
	if got = do(t, s, r).Bundle; found(t, got) != "o1" || linkOf(got, "self") != "Observation?date=2020-01-02&_timezone=Pacific/Auckland" {
		t.Errorf("found %s, self %s", found(t, got), linkOf(got, "self"))
	}
	if r.TimeZone = "Mars/Base"; refused(t, s, fhir.Invalid, r) == nil {
		t.Error("a zone that does not exist is taken")
	}
	r.Lenient = true
	if got = do(t, s, r).Bundle; found(t, got) != "o2 !warning" || linkOf(got, "self") != "Observation?date=2020-01-02" {
		t.Errorf("found %s, self %s", found(t, got), linkOf(got, "self"))
	}
}

// TestSearch_sorted_by_identifiers_of_a_system sorts by a parameter whose filter has a URL: it had no order.
func TestSearch_sorted_by_identifiers_of_a_system(t *testing.T) {
	t.Parallel()
	s := newService(t)
	put(t, s, `{"resourceType":"SearchParameter","id":"mrn","url":"http://x/mrn","name":"mrn","status":"active","description":"x","code":"mrn","base":["Patient"],"type":"token","expression":"Patient.identifier.where(system='http://x/mrn')"}`)
	for id, values := range map[string][2]string{"a": {"3", "1"}, "b": {"1", "3"}, "c": {"2", "2"}} {
		put(t, s, fmt.Sprintf(`{"resourceType":"Patient","id":"%s","identifier":[{"system":"http://x/other","value":"%s"},{"system":"http://x/mrn","value":"%s"}]}`, id, values[1], values[0]))
	}
	for order, want := range map[string]string{"mrn": "b c a", "-mrn": "a c b"} {
		if got := found(t, do(t, s, searchOf("Patient?_sort="+order)).Bundle); got != want+" !warning" { // that it is new
			t.Errorf("%s: found %q, want %q", order, got, want)
		}
	}
}

// TestSearch_sorted_by_another_near: a parameter of somebody's own may have the name of the one of Location.
func TestSearch_sorted_by_another_near(t *testing.T) {
	t.Parallel()
	s := newService(t)
	put(t, s, `{"resourceType":"SearchParameter","id":"near","url":"http://x/near","name":"near","status":"active","description":"x","code":"near","base":["Patient"],"type":"string","expression":"Patient.name.family"}`)
	put(t, s, `{"resourceType":"Patient","id":"b","name":[{"family":"Beta"}]}`)
	put(t, s, `{"resourceType":"Patient","id":"a","name":[{"family":"Alpha"}]}`)
	for query, want := range map[string]string{"_sort=near": "a b", "_sort=-near": "b a", "near=alpha&_sort=near,_id": "a"} {
		if got := found(t, do(t, s, searchOf("Patient?"+query)).Bundle); got != want+" !warning" { // that it is new
			t.Errorf("%s: found %q, want %q", query, got, want)
		}
	}
}

// TestSearch_in_the_zone_of_the_server reads days without an offset there, in queries as in resources.
func TestSearch_in_the_zone_of_the_server(t *testing.T) {
	t.Parallel()
	s := newSearched(t, func(_ *Options, so *storage.Options) { so.Zone = time.FixedZone("", 13*3600) })
	put(t, s, `{"resourceType":"Observation","id":"day","status":"final","code":{"text":"x"},"effectiveDateTime":"2020-01-02"}`)
	if got := found(t, do(t, s, searchOf("Observation?date=2020-01-02&_sort=_id")).Bundle); got != "day o1" {
		t.Errorf("found %s", got)
	}
	if keys, err := s.match(t.Context(), nil, "Observation", "date=2020-01-02&subject=Patient/anna", 2); err != nil || len(keys) != 1 {
		t.Errorf("criteria match %v, %v", keys, err)
	}
}

// TestSearch_parts shows what _summary and _elements leave, and marks it.
func TestSearch_parts(t *testing.T) {
	t.Parallel()
	s := newSearched(t)
	for query, want := range map[string]string{
		"_elements=name":         "id meta name resourceType",
		"_elements=Patient.name": "id meta name resourceType",
		"_elements=name.family":  "id meta name resourceType", // an element is left whole
		"_summary=text":          "id meta resourceType text",
		"_summary=data":          "birthDate gender generalPractitioner id identifier meta name resourceType",
		"_summary=true":          "birthDate gender id identifier meta name resourceType",
		"_summary=false":         "birthDate gender generalPractitioner id identifier meta name resourceType text",
	} {
		n := parse(t, string(do(t, s, searchOf("Patient?_id=anna&"+query)).Bundle.Entries[0].Version.Content))
		var names []string
		for _, k := range n.Kids {
			names = append(names, k.Name)
		}
		slices.Sort(names)
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s leaves %s, want %s", query, got, want)
		}
		if marked := strings.Contains(string(n.JSON()), "SUBSETTED"); marked == strings.HasSuffix(query, "false") {
			t.Errorf("%s: SUBSETTED is %t", query, marked)
		}
	}
}

// TestRead_parts shows that reads and histories leave the same of a resource as searches do, and that a part never takes
// the place of the whole.
func TestRead_parts(t *testing.T) {
	t.Parallel()
	s := newSearched(t)
	for _, query := range []string{"_elements=name", "_elements=gender,birthDate", "_summary=text", "_summary=data", "_summary=true", "_summary=false", "_elements=name&_format=json"} {
		want := string(do(t, s, searchOf("Patient?_id=anna&"+strings.TrimSuffix(query, "&_format=json"))).Bundle.Entries[0].Version.Content)
		for _, r := range []Request{
			{Interaction: Read, Type: "Patient", ID: "anna", Query: query},
			{Interaction: VRead, Type: "Patient", ID: "anna", Version: "1", Query: query},
		} {
			if got := string(do(t, s, r).Version.Content); got != want {
				t.Errorf("%s %s:\n%s\nwant\n%s", r.Interaction, query, got, want)
			}
		}
		if got := string(do(t, s, Request{Interaction: HistoryInstance, Type: "Patient", ID: "anna", Query: query}).Bundle.Entries[0].Version.Content); got != want {
			t.Errorf("history %s:\n%s\nwant\n%s", query, got, want)
		}
	}
	counted := do(t, s, Request{Interaction: HistoryInstance, Type: "Patient", ID: "anna", Query: "_summary=count"}).Bundle
	if *counted.Total != 1 || len(counted.Entries) != 0 {
		t.Errorf("%+v", counted)
	}
	for _, query := range []string{"_summary=count", "_summary=short"} {
		refused(t, s, fhir.Invalid, Request{Interaction: Read, Type: "Patient", ID: "anna", Query: query})
	}
	if resp := do(t, s, Request{Interaction: Read, Type: "Patient", ID: "anna", Query: "_elements=name", IfNoneMatch: "1"}); !resp.NotModified {
		t.Error("304 is about the version, whatever is shown of it")
	}

	part := parse(t, string(do(t, s, Request{Interaction: Read, Type: "Patient", ID: "anna", Query: "_elements=name"}).Version.Content))
	for _, r := range []Request{{ID: "anna"}, {Query: "_id=anna"}} {
		body := part.Clone()
		r.Interaction, r.Type, r.Body = Update, "Patient", &body
		refused(t, s, fhir.BusinessRule, r)
	}
	// What came in with the tag, from somewhere that knows no more, may be written on.
	part.Set("id", fhir.Str("part"))
	first := part.Clone()
	do(t, s, Request{Interaction: Update, Type: "Patient", ID: "part", Body: &first})
	part.Set("active", fhir.Boolean(true))
	do(t, s, Request{Interaction: Update, Type: "Patient", ID: "part", Body: part})
}

// TestSearch_includes_are_cut_with_a_word says how many there are, and does not count them as matches.
func TestSearch_includes_are_cut_with_a_word(t *testing.T) {
	t.Parallel()
	s := newService(t, func(o *Options, _ *storage.Options) { o.Limits.MaxIncluded = 3 })
	put(t, s, `{"resourceType":"Patient","id":"p"}`)
	for i := range 5 {
		put(t, s, fmt.Sprintf(`{"resourceType":"Observation","id":"o%d","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/p"}}`, i))
	}
	got := do(t, s, searchOf("Patient?_revinclude=Observation:subject&_count=1")).Bundle
	if list := strings.Fields(found(t, got)); len(list) != 5 || list[0] != "p" || list[4] != "!warning" || *got.Total != 1 ||
		!strings.Contains(got.Issues[0].Text, "first 3 included") {
		t.Errorf("found %v, total %v, %v", list, got.Total, got.Issues)
	}
}

// TestSearch_contained answers with the container, or with the resource inside under an address that says where it is.
func TestSearch_contained(t *testing.T) {
	t.Parallel()
	s := newSearched(t)
	put(t, s, `{"resourceType":"Observation","id":"o4","status":"final","code":{"text":"x"},"subject":{"reference":"#p"},
		"contained":[{"resourceType":"Patient","id":"p","name":[{"family":"Inside"}],"gender":"female","text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\">x</div>"}}]}`)
	for path, want := range map[string]string{
		"Patient?family=inside":                                                                "",
		"Patient?family=inside&_contained=true":                                                "Observation/o4",
		"Patient?gender=female&_contained=both&_sort=family":                                   "Observation/o4 Patient/anna",
		"Patient?gender=female&_contained=both&_containedType=contained&_sort=family&_count=1": "Observation/o4#p",
		"Patient?family=inside&_contained=true&_containedType=contained&_summary=text":         "Observation/o4#p",
		"Observation?subject:Patient.family=inside":                                            "Observation/o4",
	} {
		b := do(t, s, searchOf(path)).Bundle
		var list []string
		for _, e := range b.Entries {
			name := e.Version.Type + "/" + e.Version.ID
			if e.Version.Container != "" {
				name = e.Version.Container + "#" + e.Version.ID
			}
			if list = append(list, name); parse(t, string(e.Version.Content)).ResourceType() != e.Version.Type {
				t.Errorf("%s: %s", path, e.Version.Content)
			}
		}
		if got := strings.Join(list, " "); got != want || linkOf(b, "self") != path {
			t.Errorf("%s finds %q, want %q; self is %s", path, got, want, linkOf(b, "self"))
		}
	}
}

// TestSearch_inside_says_that_the_index_is_being_completed: as after an update from a version that did not look inside of resources.
func TestSearch_inside_says_that_the_index_is_being_completed(t *testing.T) {
	t.Parallel()
	url := ""
	s := newService(t, func(_ *Options, so *storage.Options) { url = so.URL })
	told := func(query string) bool {
		resp := do(t, s, Request{Principal: auth.Operator("test"), Interaction: SearchType, Type: "Medication", Query: query})
		return slices.ContainsFunc(resp.Bundle.Issues, func(i fhir.Issue) bool { return i.Detail == "index-building" })
	}
	if told("_contained=true") {
		t.Error("told of an index that is complete")
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), "UPDATE search_parameter_set SET incomplete = generation + 1, changed = changed + 1"); err != nil {
		t.Fatal(err)
	}
	if err := s.store.RefreshParameters(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !told("_contained=true") || told("code=x") {
		t.Error("not told, or told of a search that does not look inside")
	}
}
