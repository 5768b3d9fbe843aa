package storage_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"kiln/conformance"
	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/internal/kilntest"
	"kiln/storage"
)

func open(t testing.TB) *storage.Store {
	t.Helper()
	return openOn(t, kilntest.DB(t))
}

func openOn(t testing.TB, url string) *storage.Store {
	t.Helper()
	registry, err := conformance.R4()
	if err != nil {
		t.Fatal(err)
	}
	s, err := storage.Open(context.Background(), storage.Options{URL: url, Base: "http://localhost/fhir", Registry: registry, PoolSize: 4, Unrestricted: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func put(t rapid.TB, s *storage.Store, src string) *storage.Version {
	t.Helper()
	n, err := fhir.ParseJSON([]byte(src))
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Prepare(n)
	if err != nil {
		t.Fatal(err)
	}
	var v *storage.Version
	key := storage.Key{Type: n.ResourceType(), ID: n.ID()}
	err = s.Write(context.Background(), func(tx *storage.Tx) error {
		old, err := tx.Lock(context.Background(), key)
		if err != nil {
			return err
		}
		if old[key] == nil {
			v = tx.Insert(p, storage.MethodUpdate)
		} else {
			v = tx.Replace(p, old[key], storage.MethodUpdate)
		}
		return nil
	})
	if err != nil {
		t.Fatalf("%s: %v", src, err)
	}
	return v
}

func TestStore_versions(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := open(t)
	key := storage.Key{Type: "Patient", ID: "a"}
	put(t, s, `{"resourceType":"Patient","id":"a","name":[{"family":"Müller"}],"multipleBirthInteger":1}`)
	v := put(t, s, `{"resourceType":"Patient","id":"a","name":[{"family":"Meier"}],"extension":[{"url":"http://x.y","valueDecimal":1.0e2}]}`)
	if v.Number != 2 {
		t.Fatalf("version %d", v.Number)
	}
	current, err := s.Read(ctx, "Patient", "a")
	if err != nil || string(current.Content) != string(v.Content) {
		t.Fatalf("%v: the number with an exponent came out as %s", err, current.Content)
	}
	first, err := s.ReadVersion(ctx, "Patient", "a", 1)
	if err != nil || first == nil || first.Method != storage.MethodUpdate {
		t.Fatalf("%v %v", first, err)
	}
	if err := s.Write(ctx, func(tx *storage.Tx) error {
		old, err := tx.Lock(ctx, key)
		tx.Delete(old[key])
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if v, _ := s.Read(ctx, "Patient", "a"); !v.Deleted || v.Number != 3 {
		t.Fatalf("%+v", v)
	}
	put(t, s, `{"resourceType":"Patient","id":"a"}`)
	for _, q := range []storage.HistoryQuery{{Type: "Patient", ID: "a"}, {Type: "Patient"}, {}} {
		q.Limit = 3
		page, err := s.History(ctx, q)
		if err != nil || page.Total != 4 || len(page.Versions) != 3 || page.Next == nil {
			t.Fatalf("%+v: %+v %v", q, page, err)
		}
		q.After = page.Next
		if page, err = s.History(ctx, q); err != nil || len(page.Versions) != 1 || page.Versions[0].Number != 1 {
			t.Fatalf("%+v: %+v %v", q, page, err)
		}
		q.After, q.Since = nil, time.Now().Add(time.Hour)
		if page, err = s.History(ctx, q); err != nil || page.Total != 0 {
			t.Fatalf("%+v: %+v %v", q, page, err)
		}
	}
}

type catalog struct{ r *conformance.Registry }

func (c catalog) IsResource(n string) bool {
	t := c.r.Schema().Type(n)
	return t != nil && t.Kind == fhir.Resource
}
func (c catalog) Param(typ, code string) (search.Param, bool) {
	d := c.r.SearchParameter(typ, code)
	if d == nil {
		return search.Param{}, false
	}
	p := search.Param{Code: d.Code, Kind: search.Kind(d.Type), Targets: d.Targets}
	for _, k := range d.Components {
		p.Components = append(p.Components, search.Param{Code: k.Param.Code, Kind: search.Kind(k.Param.Type), Targets: k.Param.Targets})
	}
	return p, true
}
func (c catalog) Codes(string) []string                     { return nil }
func (c catalog) CompartmentParams(string, string) []string { return nil }
func (c catalog) ResourceTypes() []string                   { return c.r.Schema().Resources }

func find(t *testing.T, s *storage.Store, typ, query string) []string {
	t.Helper()
	pairs, err := search.ParsePairs(query)
	if err != nil {
		t.Fatal(err)
	}
	q, err := search.Parse(pairs, catalog{s.Registry()}, search.Options{Types: []string{typ}, Now: time.Now()})
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	page, err := s.Search(context.Background(), nil, q, 50, nil)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	ids := []string{}
	for _, v := range page.Matches {
		ids = append(ids, v.ID)
	}
	return ids
}

func TestSearch_table(t *testing.T) {
	t.Parallel()
	s := open(t)
	put(t, s, `{"resourceType":"Patient","id":"a","name":[{"family":"Müller","given":["Anna"]}],"gender":"female","birthDate":"1980-02","identifier":[{"system":"http://x","value":"A1"}]}`)
	put(t, s, `{"resourceType":"Patient","id":"b","name":[{"family":"Smith"}],"gender":"male","birthDate":"1990-05-05","active":true}`)
	put(t, s, `{"resourceType":"Observation","id":"o1","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"8302-2"}]},"subject":{"reference":"Patient/a"},"effectiveDateTime":"2020-01-01T10:00:00Z","valueQuantity":{"value":5.4,"unit":"g","system":"http://unitsofmeasure.org","code":"g"}}`)
	put(t, s, `{"resourceType":"Observation","id":"o2","status":"preliminary","code":{"coding":[{"system":"http://loinc.org","code":"8302-2"}]},"subject":{"reference":"Patient/b"},"effectivePeriod":{"start":"2021-01-01"}}`)
	for _, c := range []struct{ typ, query, want string }{
		{"Patient", "", "[b a]"},
		{"Patient", "name=muller", "[a]"},
		{"Patient", "name=mull", "[a]"},
		{"Patient", "family:exact=M%C3%BCller", "[a]"},
		{"Patient", "family:exact=muller", "[]"},
		{"Patient", "name:contains=LLE", "[a]"},
		{"Patient", "gender=male", "[b]"},
		{"Patient", "gender:not=male", "[a]"},
		{"Patient", "gender=http://hl7.org/fhir/administrative-gender|female", "[a]"},
		{"Patient", "identifier=http://x|A1", "[a]"},
		{"Patient", "identifier=A1", "[a]"},
		{"Patient", "identifier=|A1", "[]"},
		{"Patient", "active=true", "[b]"},
		{"Patient", "active:missing=true", "[a]"},
		{"Patient", "active:missing=false", "[b]"},
		{"Patient", "birthdate=1980", "[a]"},
		{"Patient", "birthdate=1980-02-01", "[]"},
		{"Patient", "birthdate=ge1985", "[b]"},
		{"Patient", "_id=a", "[a]"},
		{"Patient", "_id=a,b&_sort=family", "[a b]"},
		{"Patient", "_sort=-family", "[b a]"},
		{"Patient", "_sort=birthdate", "[a b]"},
		{"Patient", "_sort=gender", "[a b]"},
		{"Patient", "_sort=_id", "[a b]"},
		{"Patient", "_lastUpdated=gt2020-01-01", "[b a]"},
		{"Patient", "_has:Observation:subject:code=8302-2&_sort=_id", "[a b]"},
		{"Patient", "_has:Observation:patient:status=final", "[a]"},
		{"Patient", "_has:Observation:patient:value-quantity=gt5", "[a]"},
		{"Observation", "patient=a", "[o1]"},
		{"Observation", "subject=Patient/a", "[o1]"},
		{"Observation", "subject=a", "[o1]"},
		{"Observation", "subject:Patient=a", "[o1]"},
		{"Observation", "subject=http://localhost/fhir/Patient/a", "[o1]"},
		{"Observation", "code=8302-2&status=final", "[o1]"},
		{"Observation", "code=http://loinc.org|8302-2", "[o2 o1]"},
		{"Observation", "code=http://loinc.org|", "[o2 o1]"},
		{"Observation", "code=|8302-2", "[]"},
		{"Observation", "status=FINAL", "[]"},
		{"Observation", "subject:Patient.name=smith", "[o2]"},
		{"Observation", "patient.family=smith", "[o2]"},
		{"Observation", "subject.name=smith", "[o2]"},
		{"Observation", "date=2020", "[o1]"},
		{"Observation", "date=ge2025", "[o2]"},
		{"Observation", "date=lt2020-06", "[o1]"},
		{"Observation", "value-quantity=5.4", "[o1]"},
		{"Observation", "value-quantity=5.40", "[o1]"},
		{"Observation", "value-quantity=5.5", "[]"},
		{"Observation", "value-quantity=5400|http://unitsofmeasure.org|mg", "[o1]"},
		{"Observation", "value-quantity=lt6||g", "[o1]"},
		{"Observation", "code-value-quantity=8302-2$gt5", "[o1]"},
		{"Observation", "code-value-quantity=8302-2$gt6", "[]"},
		{"Observation", "code-value-quantity=http://loinc.org|8302-2$5400|http://unitsofmeasure.org|mg", "[o1]"},
		{"Observation", "_sort=date", "[o1 o2]"},
		{"Observation", "_sort=-date", "[o2 o1]"},
	} {
		t.Run(c.typ+"?"+c.query, func(t *testing.T) {
			if got := fmt.Sprint(find(t, s, c.typ, c.query)); got != c.want && !(c.want == "[b a]" && got == "[a b]" && c.query != "_sort=-family") {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}
