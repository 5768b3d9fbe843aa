package storage_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"kiln/fhir/search"
	"kiln/storage"
)

// prescriptions puts MedicationRequests whose Medications are inside of them, beside Medications of their own.
func prescriptions(t testing.TB, s *storage.Store) {
	t.Helper()
	coding := func(code string) string {
		return `{"coding":[{"system":"http://rx","code":"` + code + `","display":"Drug ` + code + `"}]}`
	}
	request := func(id, patient, date, medication, contained string) {
		put(t, s, `{"resourceType":"MedicationRequest","id":"`+id+`","status":"active","intent":"order","subject":{"reference":"`+patient+`"},"authoredOn":"`+date+
			`","medicationReference":{"reference":"`+medication+`"},"contained":[`+contained+`]}`)
	}
	put(t, s, `{"resourceType":"Medication","id":"own","code":`+coding("A")+`,"status":"active"}`)
	put(t, s, `{"resourceType":"Medication","id":"m","code":`+coding("B")+`}`)
	put(t, s, `{"resourceType":"Organization","id":"maker","name":"Maker"}`)
	request("r1", "Patient/1", "2020-01-01", "#m", `{"resourceType":"Medication","id":"m","code":`+coding("A")+`,"status":"active","manufacturer":{"reference":"Organization/maker"}}`)
	request("r2", "Patient/2", "2021-01-01", "#m", `{"resourceType":"Medication","id":"m","code":`+coding("B")+`,"ingredient":[{"itemReference":{"reference":"#s"}}]},
		{"resourceType":"Substance","id":"s","code":`+coding("S")+`}`)
	request("r3", "Patient/1", "2022-01-01", "Medication/own", `{"resourceType":"Medication","id":"x","code":`+coding("A")+`,"status":"inactive"},{"resourceType":"Medication","id":"y","code":`+coding("A")+`}`)
	put(t, s, `{"resourceType":"Observation","id":"o","status":"final","code":{"text":"x"},"subject":{"reference":"#p"},
		"contained":[{"resourceType":"Patient","id":"p","name":[{"family":"Inside"}],"birthDate":"1980-01-01","gender":"female"}]}`)
	put(t, s, `{"resourceType":"Patient","id":"p","name":[{"family":"Outside"}],"gender":"female"}`)
}

// inside runs a search and gives the matches with their containers, in order.
func inside(ctx context.Context, t testing.TB, s *storage.Store, typ, query string) string {
	t.Helper()
	q, err := parseQuery(s, typ, query)
	if err != nil {
		t.Fatalf("%s?%s: %v", typ, query, err)
	}
	page, err := s.Search(ctx, nil, q, 100, nil)
	if err != nil {
		t.Fatalf("%s?%s: %v", typ, query, err)
	}
	list := []string{}
	for _, v := range page.Matches {
		list = append(list, nameOf(v))
	}
	n, err := s.Count(ctx, nil, q, 0)
	if err != nil || int(n) != len(list) {
		t.Errorf("%s?%s: count says %d, the page has %d, %v", typ, query, n, len(list), err)
	}
	return strings.Join(list, " ")
}

func nameOf(v *storage.Version) string {
	if v.Container == "" {
		return v.ID
	}
	return v.Container + "#" + v.ID
}

// TestSearch_long_periods asks for what has a code and goes on at some time: a period may have begun long before.
func TestSearch_long_periods(t *testing.T) {
	t.Parallel()
	s := open(t)
	for id, when := range map[string]string{"old": `"effectiveDateTime":"2012-01-01"`, "long": `"effectivePeriod":{"start":"2010-01-01","end":"2020-01-01"}`,
		"open": `"effectivePeriod":{"start":"2011-01-01"}`, "new": `"effectiveDateTime":"2016-01-01"`} {
		put(t, s, `{"resourceType":"Observation","id":"`+id+`","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"1"}]},"performer":[{"reference":"Device/d"}],`+when+`}`)
	}
	for _, by := range []string{"code=http://loinc.org|1", "performer=Device/d", "status=final"} {
		for query, want := range map[string]string{"date=ge2015": "new open long", "date=gt2015&_sort=-date": "new open long", "date=ge2015&_sort=date": "long open new",
			"date=ge2015&date=le2015": "open long", "date=2016": "new", "date=lt2012": "open long"} {
			if got := inside(t.Context(), t, s, "Observation", by+"&"+query); got != want {
				t.Errorf("%s&%s gives %q, want %q", by, query, got, want)
			}
		}
	}
}

// TestSearch_contained has the cases of FHIR R4 search.html#contained.
func TestSearch_contained(t *testing.T) {
	t.Parallel()
	s := open(t)
	prescriptions(t, s)
	for _, c := range []struct{ typ, query, want string }{
		{"Medication", "code=A", "own"},
		{"Medication", "code=A&_contained=false", "own"},
		{"Medication", "code=A&_contained=true&_sort=_id", "r1 r3"},
		{"Medication", "code=A&_contained=true&_containedType=container&_sort=-_id", "r3 r1"},
		{"Medication", "code=A&_contained=true&_containedType=contained&_sort=_id", "MedicationRequest/r1#m MedicationRequest/r3#x MedicationRequest/r3#y"},
		{"Medication", "code=http://rx|A&_contained=both&_containedType=contained&_sort=_id", "MedicationRequest/r1#m own MedicationRequest/r3#x MedicationRequest/r3#y"},
		{"Medication", "code=A&_contained=both&_sort=_id", "r1 own r3"},
		{"Medication", "code=A&status=active&_contained=both&_containedType=contained&_sort=_id", "MedicationRequest/r1#m own"},
		{"Medication", "code=A&_contained=true&_containedType=contained&_sort=status,_id", "MedicationRequest/r1#m MedicationRequest/r3#x MedicationRequest/r3#y"},
		{"Medication", "code:text=drug a&_contained=true&_containedType=contained&_sort=-_id", "MedicationRequest/r3#y MedicationRequest/r3#x MedicationRequest/r1#m"},
		{"Medication", "status:missing=true&_contained=true&_containedType=contained&_sort=_id", "MedicationRequest/r2#m MedicationRequest/r3#y"},
		{"Medication", "_id=x,own&_contained=both&_containedType=contained&_sort=_id", "own MedicationRequest/r3#x"},
		{"Medication", "_id:not=m&_contained=true&_containedType=contained&_sort=_id", "MedicationRequest/r3#x MedicationRequest/r3#y"},
		{"Medication", "manufacturer=Organization/maker&_contained=true&_containedType=contained", "MedicationRequest/r1#m"},
		{"Medication", "manufacturer.name=mak&_contained=true&_containedType=contained", "MedicationRequest/r1#m"},
		{"Medication", "_has:MedicationRequest:medication:subject=Patient/2&_contained=true&_containedType=contained", "MedicationRequest/r2#m"},
		{"Medication", "_content=drug&_contained=true&_containedType=contained&_sort=_id&code=B", "MedicationRequest/r2#m"},
		{"Medication", "code=nothing&_contained=both", ""},
		{"Patient", "family=in&_contained=true&_containedType=contained", "Observation/o#p"},
		{"Patient", "gender=female&_contained=both&_containedType=contained&_sort=family", "Observation/o#p p"},
		{"Patient", "birthdate=1980&_contained=true&_containedType=contained", "Observation/o#p"},
		{"Patient", "_id=p&family=inside", ""},
		{"", "_type=Substance,Patient&_contained=true&_containedType=contained&_sort=_id", "Observation/o#p MedicationRequest/r2#s"},
		{"", "_type=Substance,Patient&_contained=true&_sort=_id", "o r2"},
		// A chain is evaluated inside contained resources whatever _contained says.
		{"MedicationRequest", "medication.code=A&_sort=_id", "r1 r3"},
		{"MedicationRequest", "medication:Medication.code=A&medication.status=active&_sort=_id", "r1 r3"},
		{"MedicationRequest", "medication.ingredient:Substance.code=S", "r2"},
		{"MedicationRequest", "medication.code=B", "r2"},
		{"Observation", "subject:Patient.family=inside", "o"},
		{"Observation", "patient.gender=female", "o"},
		{"Observation", "subject:Patient.name=outside", ""},
		{"Observation", "patient=p", ""}, // the id of what is inside is no id of a Patient
		{"Observation", "patient=Patient/p", ""},
	} {
		if got := inside(context.Background(), t, s, c.typ, c.query); got != c.want {
			t.Errorf("%s?%s finds %q, want %q", c.typ, c.query, got, c.want)
		}
	}
	q, _ := parseQuery(s, "Medication", "code=A&_contained=true&_containedType=contained&_sort=_id")
	page, err := s.Search(context.Background(), nil, q, 1, nil)
	if err != nil || strings.Contains(string(page.Matches[0].Content), "MedicationRequest") || page.Matches[0].Type != "Medication" {
		t.Errorf("%v %+v", err, page)
	}
	added, _, err := s.Include(context.Background(), nil, page.Matches, []search.Include{{Source: "Medication", Param: "manufacturer"}}, 10)
	if err != nil || len(added) != 1 || added[0].ID != "maker" {
		t.Errorf("included %v, %v", added, err)
	}
}

// TestSearch_contained_follows_its_container through updates, deletes and reindexing.
func TestSearch_contained_follows_its_container(t *testing.T) {
	t.Parallel()
	s := open(t)
	prescriptions(t, s)
	const all = "_contained=true&_containedType=contained&_sort=_id"
	put(t, s, `{"resourceType":"MedicationRequest","id":"r3","status":"active","intent":"order","subject":{"reference":"Patient/1"},"medicationReference":{"reference":"#x"},
		"contained":[{"resourceType":"Medication","id":"x","code":{"coding":[{"system":"http://rx","code":"C"}]}}]}`)
	if got := inside(context.Background(), t, s, "Medication", all); got != "MedicationRequest/r1#m MedicationRequest/r2#m MedicationRequest/r3#x" &&
		got != "MedicationRequest/r2#m MedicationRequest/r1#m MedicationRequest/r3#x" {
		t.Errorf("after an update: %s", got)
	}
	if got := inside(context.Background(), t, s, "Medication", "code=A&"+all); got != "MedicationRequest/r1#m" {
		t.Errorf("after an update: %s", got)
	}
	remove(t, s, storage.Key{Type: "MedicationRequest", ID: "r1"})
	put(t, s, `{"resourceType":"MedicationRequest","id":"r2","status":"active","intent":"order","subject":{"reference":"Patient/1"},"medicationCodeableConcept":{"text":"x"}}`)
	if got := inside(context.Background(), t, s, "Medication", all); got != "MedicationRequest/r3#x" {
		t.Errorf("after a delete: %s", got)
	}
	if got := inside(context.Background(), t, s, "Substance", all); got != "" {
		t.Errorf("after an update without any: %s", got)
	}
}

// TestSearch_contained_pages joins pages of every size, forward and backward, and compares them with the unpaged answer.
func TestSearch_contained_pages(t *testing.T) {
	t.Parallel()
	s := open(t)
	for i := range 23 {
		kids := []string{}
		for j := range i % 4 {
			kids = append(kids, fmt.Sprintf(`{"resourceType":"Medication","id":"m%d","code":{"coding":[{"system":"http://rx","code":"%c"}]},"status":"%s"}`, j, 'A'+(i*j)%3, []string{"active", "inactive"}[(i+j)%2]))
		}
		list := ""
		if len(kids) > 0 {
			list = `,"contained":[` + strings.Join(kids, ",") + `]`
		}
		put(t, s, fmt.Sprintf(`{"resourceType":"MedicationRequest","id":"r%02d","status":"active","intent":"order","subject":{"reference":"Patient/1"},"medicationCodeableConcept":{"text":"x"}%s}`, i, list))
		put(t, s, fmt.Sprintf(`{"resourceType":"Medication","id":"own%02d","code":{"coding":[{"system":"http://rx","code":"%c"}]}}`, i, 'A'+i%3))
	}
	for _, query := range []string{"_contained=both", "_contained=true", "_contained=both&_containedType=contained", "_contained=true&_containedType=contained",
		"code=A,B&_contained=both&_containedType=contained&_sort=-code", "code=A,B&_contained=both&_sort=status,-_id", "_contained=both&_sort=-_lastUpdated"} {
		q, err := parseQuery(s, "Medication", query)
		if err != nil {
			t.Fatal(err)
		}
		want, err := s.Search(context.Background(), nil, q, 1000, nil)
		if err != nil || len(want.Matches) < 10 {
			t.Fatalf("%s: %v", query, err)
		}
		names := func(list []*storage.Version) (names []string) {
			for _, v := range list {
				names = append(names, v.Type+"/"+nameOf(v))
			}
			return names
		}
		for _, size := range []int{1, 3, 7} {
			var got []string
			var pages [][]string
			last := &storage.SearchPage{}
			for mark := (*storage.SearchMark)(nil); ; mark = last.Next {
				if last, err = s.Search(context.Background(), nil, q, size, mark); err != nil {
					t.Fatal(err)
				}
				got, pages = append(got, names(last.Matches)...), append(pages, names(last.Matches))
				if last.Next == nil {
					break
				}
			}
			if !slices.Equal(got, names(want.Matches)) {
				t.Errorf("%s by %d: %v, want %v", query, size, got, names(want.Matches))
			}
			for i := len(pages) - 2; i >= 0; i-- {
				if last, err = s.Search(context.Background(), nil, q, size, last.Previous); err != nil || !slices.Equal(names(last.Matches), pages[i]) {
					t.Fatalf("%s by %d: page %d backward is %v, was %v, %v", query, size, i, names(last.Matches), pages[i], err)
				}
			}
		}
	}
}

// TestSearch_contained_is_as_visible_as_its_container for a caller who sees what is one patient's, and one with a granular
// scope beside it.
func TestSearch_contained_is_as_visible_as_its_container(t *testing.T) {
	t.Parallel()
	s := open(t)
	for _, id := range []string{"1", "2"} {
		put(t, s, person(id, id, ""))
	}
	prescriptions(t, s)
	put(t, s, `{"resourceType":"Appointment","id":"visit","status":"booked","participant":[{"actor":{"reference":"Patient/1"},"status":"accepted"},
		{"actor":{"reference":"#p"},"status":"accepted"}],"contained":[{"resourceType":"Patient","id":"p","name":[{"family":"Inside"}]}]}`)
	types := []string{"Patient", "MedicationRequest", "Appointment", "Medication"}
	put(t, s, `{"resourceType":"Observation","id":"o","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/1"},"contained":[{"resourceType":"Observation","id":"part","status":"final","code":{"text":"x"}}]}`)
	final, err := parseQuery(s, "Observation", "status=final")
	if err != nil {
		t.Fatal(err)
	}
	active, err := parseQuery(s, "MedicationRequest", "status=completed")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name              string
		rules             []search.Rule
		typ, query, match string
	}{
		{"own", []search.Rule{{Types: types, Reach: search.ReachOwn}}, "Medication", "_contained=true&_containedType=contained&_sort=_id", "MedicationRequest/r1#m MedicationRequest/r3#x MedicationRequest/r3#y"},
		{"own", []search.Rule{{Types: types, Reach: search.ReachOwn}}, "Medication", "_contained=true&_sort=_id", "r1 r3"},
		{"own", []search.Rule{{Types: types, Reach: search.ReachOwn}}, "MedicationRequest", "medication.code=B", ""},
		{"own", []search.Rule{{Types: types, Reach: search.ReachOwn}}, "MedicationRequest", "medication.code=A&medication.status=active", "r1"},
		// Of a visit with others one sees oneself: not who else is inside of it.
		{"own", []search.Rule{{Types: types, Reach: search.ReachOwn}}, "Patient", "family=inside&_contained=true", ""},
		{"own", []search.Rule{{Types: types, Reach: search.ReachOwn}}, "Appointment", "actor:Patient.family=inside", ""},
		{"own", []search.Rule{{Types: types, Reach: search.ReachOwn}}, "Appointment", "_text=talk&_contained=true", ""},
		{"own", []search.Rule{{Types: types, Reach: search.ReachOwn}}, "Appointment", "_content=talk&_contained=both", ""},
		{"own", []search.Rule{{Types: append(types, "AppointmentResponse"), Reach: search.ReachOwn}}, "AppointmentResponse", "appointment._text=talk", ""},
		{"no type that contains", []search.Rule{{Types: []string{"Medication"}, Reach: search.ReachAny}}, "Medication", "_contained=true", ""},
		{"granular", []search.Rule{{Types: []string{"Medication"}, Reach: search.ReachAny}, {Types: []string{"MedicationRequest"}, Reach: search.ReachOwn, Where: matches(active)}},
			"Medication", "_contained=true", ""},
		{"granular of what contains the same", []search.Rule{{Types: []string{"Observation"}, Reach: search.ReachOwn, Where: matches(final)}},
			"Observation", "_contained=true", "o"},
		{"granular of what contains the same", []search.Rule{{Types: []string{"Observation"}, Reach: search.ReachOwn, Where: matches(final)}},
			"Observation", "_contained=both&_containedType=contained&_sort=_id", "o Observation/o#part"},
	} {
		access, err := s.Access(&search.Restriction{Caller: "1", Record: "1", Rules: c.rules})
		if err != nil {
			t.Fatal(err)
		}
		if got := inside(storage.WithAccess(t.Context(), access), t, s, c.typ, c.query); got != c.match {
			t.Errorf("%s: %s?%s finds %q, want %q", c.name, c.typ, c.query, got, c.match)
		}
	}
}

// TestSearch_contained_at_the_end_of_a_chain of any length, for callers of all kinds: what is inside counts as what it is in does.
func TestSearch_contained_at_the_end_of_a_chain(t *testing.T) {
	t.Parallel()
	s := open(t)
	for _, id := range []string{"1", "2"} {
		put(t, s, person(id, id, ""))
	}
	prescriptions(t, s)
	about := func(id, target, patient string) {
		put(t, s, `{"resourceType":"Provenance","id":"`+id+`","recorded":"2024-01-01T00:00:00Z","agent":[{"who":{"reference":"Practitioner/d"}}],
			"target":[{"reference":"`+target+`"},{"reference":"`+patient+`"}]}`)
	}
	about("of1", "MedicationRequest/r1", "Patient/1")
	about("of2", "MedicationRequest/r2", "Patient/2")
	about("ofof2", "Provenance/of2", "Patient/2")
	granted := func(typ, query string) []*search.Match {
		q, err := parseQuery(s, typ, query)
		if err != nil {
			t.Fatal(err)
		}
		return matches(q)
	}
	types := []string{"Patient", "MedicationRequest", "Medication", "Substance", "Provenance"}
	own := []search.Rule{{Types: types, Reach: search.ReachOwn}}
	everyone := []search.Rule{{Types: types, Reach: search.ReachAny}}
	narrowed := func(reach search.Reach, typ, query string) []search.Rule {
		rules := []search.Rule{{Types: []string{typ}, Reach: reach, Where: granted(typ, query)}}
		for _, other := range types {
			if other != typ {
				rules = append(rules, search.Rule{Types: []string{other}, Reach: reach})
			}
		}
		return rules
	}
	for _, c := range []struct {
		name, record      string
		rules             []search.Rule
		typ, query, match string
	}{
		{"own", "2", own, "MedicationRequest", "medication.ingredient:Substance.code=S", "r2"},
		{"own", "1", own, "MedicationRequest", "medication.ingredient:Substance.code=S", ""},
		{"own", "2", own, "Provenance", "target:MedicationRequest.medication.ingredient:Substance.code=S", "of2"},
		{"own", "1", own, "Provenance", "target:MedicationRequest.medication.ingredient:Substance.code=S", ""},
		{"own", "2", own, "Provenance", "target:Provenance.target:MedicationRequest.medication.ingredient:Substance.code=S", "ofof2"},
		{"own", "2", own, "Provenance", "target:MedicationRequest.medication.code=B&target:MedicationRequest.medication.ingredient:Substance.code=S", "of2"},
		{"own", "2", own, "Provenance", "target:MedicationRequest._has:Provenance:target:target:Patient._id=2", "of2"},
		{"own", "1", own, "Provenance", "target:Provenance.target:MedicationRequest.medication.ingredient:Substance.code=S", ""},
		{"own", "2", own, "Patient", "_has:Provenance:target:target:MedicationRequest.medication.ingredient:Substance.code=S", "2"},
		{"any", "", everyone, "Provenance", "target:Provenance.target:MedicationRequest.medication.ingredient:Substance.code=S", "ofof2"},
		{"Substance of another code", "2", narrowed(search.ReachOwn, "Substance", "code=other"), "MedicationRequest", "medication.ingredient:Substance.code=S", "r2"},
		{"active Medication", "1", narrowed(search.ReachOwn, "Medication", "status=inactive"), "MedicationRequest", "medication.code=A", "r1"},
		{"active Medication", "", narrowed(search.ReachAny, "Medication", "status=active"), "MedicationRequest", "medication.code=A&_sort=_id", "r1 r3"},
		{"Medication", "1", narrowed(search.ReachOwn, "Medication", "status=inactive"), "Provenance", "target:MedicationRequest.medication.code=A", "of1"},
		{"completed MedicationRequest", "1", narrowed(search.ReachOwn, "MedicationRequest", "status=completed"), "Provenance", "target:MedicationRequest.medication.code=A", ""},
		{"active MedicationRequest", "1", narrowed(search.ReachOwn, "MedicationRequest", "status=active"), "Provenance", "target:MedicationRequest.medication.code=A", "of1"},
	} {
		access, err := s.Access(&search.Restriction{Caller: "c", Record: c.record, Rules: c.rules})
		if err != nil {
			t.Fatal(err)
		}
		if got := inside(storage.WithAccess(t.Context(), access), t, s, c.typ, c.query); got != c.match {
			t.Errorf("%s of %q: %s?%s finds %q, want %q", c.name, c.record, c.typ, c.query, got, c.match)
		}
	}
}

func matches(q *search.Query) (list []*search.Match) {
	for _, e := range q.Where {
		list = append(list, e.(*search.Match))
	}
	return list
}

// TestSearch_contained_shows_the_first_pages_time while what contains changes.
func TestSearch_contained_shows_the_first_pages_time(t *testing.T) {
	t.Parallel()
	s := open(t)
	write := func(id string, codes ...string) {
		var kids []string
		for i, code := range codes {
			kids = append(kids, fmt.Sprintf(`{"resourceType":"Medication","id":"m%d","code":{"coding":[{"code":"%s"}]}}`, i, code))
		}
		put(t, s, fmt.Sprintf(`{"resourceType":"MedicationRequest","id":"%s","status":"active","intent":"order","subject":{"reference":"Patient/1"},"medicationReference":{"reference":"#m0"},"contained":[%s]}`, id, strings.Join(kids, ",")))
	}
	for _, id := range []string{"a", "b", "c", "d"} {
		write(id, "A", "B")
		time.Sleep(2 * time.Millisecond) // each has a time of its own: what is inside is m0 in all of them
	}
	q, page := first(t, s, t.Context(), "Medication", "code=A&_contained=true&_sort=_lastUpdated,_id", 1)
	chained, chain := first(t, s, t.Context(), "MedicationRequest", "medication.code=A&_sort=_id", 1)
	write("b", "C", "C") // matches no more, and stays
	write("c", "A", "A") // has a later time, and stays in its place
	write("a", "A")      // was shown
	write("e", "A")      // is new
	write("e", "A", "A")
	remove(t, s, storage.Key{Type: "MedicationRequest", ID: "d"})
	if got := rest(t, s, t.Context(), q, page, 1); got != "a b c" {
		t.Errorf("got %s", got)
	}
	if got := rest(t, s, t.Context(), chained, chain, 1); got != "a b c" {
		t.Errorf("through the chain: got %s", got)
	}
}
