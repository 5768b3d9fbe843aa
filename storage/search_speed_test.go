package storage_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"kiln/conformance"
	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/internal/kilntest"
	"kiln/storage"
)

// openFilled makes a database with n generated resources and fresh statistics.
func openFilled(t testing.TB, n int) *storage.Store {
	t.Helper()
	registry, err := conformance.R4()
	if err != nil {
		t.Fatal(err)
	}
	url := kilntest.DB(t)
	s, err := storage.Open(context.Background(), storage.Options{URL: url, Base: "http://localhost/fhir", Registry: registry, PoolSize: 4, Unrestricted: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	const batch = 2500
	var wait sync.WaitGroup
	for start := 0; start < n; start += 2 * batch {
		for half := range 2 {
			wait.Go(func() {
				r := rand.New(rand.NewPCG(1, uint64(start+half)))
				var list []*storage.Prepared
				for i := start + half*batch; i < min(n, start+(half+1)*batch); i++ {
					node, err := fhir.ParseJSON([]byte(generated(r, i, n)))
					if err != nil {
						t.Error(err)
						return
					}
					p, err := s.Prepare(node)
					if err != nil {
						t.Error(err)
						return
					}
					list = append(list, p)
				}
				if err := s.Copy(context.Background(), list); err != nil {
					t.Error(err)
				}
			})
		}
		wait.Wait()
	}
	if t.Failed() {
		t.FailNow()
	}
	conn, err := pgx.Connect(context.Background(), url)
	if err == nil {
		_, err = conn.Exec(context.Background(), "VACUUM ANALYZE")
		conn.Close(context.Background())
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var familyNames = []string{"Smith", "Müller", "García", "Nguyen", "Okafor", "Jansen", "Rossi", "Kim"}

// generated is the i-th of n resources: one patient in ten, then appointments, encounters, locations, observations.
func generated(r *rand.Rand, i, n int) string {
	patient := fmt.Sprintf("Patient/p%d", r.IntN(n/10)*10)
	day := func(from, years int) string {
		return fmt.Sprintf("%d-%02d-%02d", from+r.IntN(years), 1+r.IntN(12), 1+r.IntN(28))
	}
	switch i % 10 {
	case 0:
		birth := ""
		if r.IntN(10) > 0 {
			birth = fmt.Sprintf(`"birthDate":%q,`, day(1930, 90))
		}
		name := ""
		if r.IntN(20) > 0 {
			name = fmt.Sprintf(`"name":[{"family":"%s%d","given":["Given%d","Second%d"]},{"family":"Other%d"}],`,
				familyNames[r.IntN(len(familyNames))], r.IntN(n/40+1), r.IntN(500), r.IntN(500), r.IntN(500))
		}
		return fmt.Sprintf(`{"resourceType":"Patient","id":"p%d",%s%s"gender":"%s","identifier":[{"system":"http://mrn","value":"M%d"}]}`,
			i, name, birth, []string{"male", "female"}[r.IntN(2)], i)
	case 1:
		return fmt.Sprintf(`{"resourceType":"Appointment","id":"a%d","status":"%s","start":"%sT10:00:00Z","end":"%sT10:30:00Z","participant":[{"actor":{"reference":"%s"},"status":"accepted"},{"actor":{"reference":"Practitioner/d%d"},"status":"accepted"}]}`,
			i, []string{"booked", "cancelled", "fulfilled"}[r.IntN(3)], day(2024, 2), "2026-01-01", patient, r.IntN(50))
	case 2:
		return fmt.Sprintf(`{"resourceType":"RiskAssessment","id":"r%d","status":"final","subject":{"reference":"%s"},"occurrenceDateTime":"%s","prediction":[{"probabilityDecimal":0.%d},{"probabilityDecimal":0.%d}]}`,
			i, patient, day(2015, 10), 1+r.IntN(99), 1+r.IntN(99))
	case 3:
		return fmt.Sprintf(`{"resourceType":"Location","id":"l%d","name":"Place %d","position":{"latitude":%.4f,"longitude":%.4f}}`,
			i, i, r.Float64()*170-85, r.Float64()*360-180)
	}
	codes := []string{"8302-2", "8302-2", "8302-2", "29463-7", "8480-6", "8867-4"}
	return fmt.Sprintf(`{"resourceType":"Observation","id":"o%d","status":"final","category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"%s"}]}],
"code":{"coding":[{"system":"http://loinc.org","code":"%s","display":"Code %s"}]},"subject":{"reference":"%s"},"effectiveDateTime":"%sT08:00:00Z","valueQuantity":{"value":%d.%d,"unit":"cm","system":"http://unitsofmeasure.org","code":"cm"}}`,
		i, []string{"vital-signs", "laboratory"}[r.IntN(2)], codes[r.IntN(len(codes))], codes[r.IntN(len(codes))], patient, day(2010, 15), r.IntN(200), r.IntN(100))
}

// all follows a search from page to page, forward and then backward, and returns the ids in order; both ways must agree.
func all(t *testing.T, s *storage.Store, q *search.Query, size int) []string {
	t.Helper()
	var ids []string
	var last *storage.SearchPage
	pages := [][]string{}
	for mark := (*storage.SearchMark)(nil); ; mark = last.Next {
		page, err := s.Search(context.Background(), nil, q, size, mark)
		if err != nil {
			t.Fatal(err)
		}
		last = page
		var here []string
		for _, v := range page.Matches {
			here = append(here, v.ID)
		}
		ids, pages = append(ids, here...), append(pages, here)
		if page.Next == nil {
			break
		}
	}
	for i := len(pages) - 2; i >= 0 && last.Previous != nil; i-- {
		page, err := s.Search(context.Background(), nil, q, size, last.Previous)
		if err != nil {
			t.Fatal(err)
		}
		var here []string
		for _, v := range page.Matches {
			here = append(here, v.ID)
		}
		if !slices.Equal(here, pages[i]) {
			t.Fatalf("page %d backward is %v, forward it was %v", i, here, pages[i])
		}
		last = page
	}
	return ids
}

// TestSearch_sorted_walk compares the walk along the index of a sort parameter, page by page, with the set.
func TestSearch_sorted_walk(t *testing.T) {
	t.Parallel()
	s := openFilled(t, 6000)
	for _, c := range []struct{ typ, query string }{
		{"Patient", "_sort=family"}, {"Patient", "_sort=-family"}, {"Patient", "gender=male&_sort=given"},
		{"Patient", "gender=male&_sort=-given"}, {"Patient", "_sort=birthdate"}, {"Patient", "gender=female&_sort=birthdate"},
		{"Patient", "_sort=-birthdate"}, {"Location", "_sort=name"}, {"Location", "_sort=-name"},
		{"RiskAssessment", "_sort=probability"}, {"RiskAssessment", "_sort=-probability"},
		{"Observation", "code=8302-2&_sort=value-quantity"}, {"Observation", "code=8302-2&_sort=-value-quantity"},
		{"Observation", "code=8302-2&_sort=date"}, {"Patient", "gender=unknown&_sort=family"},
		{"Observation", "code=http://loinc.org|8302-2"}, {"Observation", "code=http://loinc.org|8302-2&value-quantity=gt120"},
		{"Observation", "code=http://loinc.org|8480-6&date=2015"}, {"Observation", "code=http://loinc.org|8302-2&date=ge2013&date=le2018-06"},
		{"Observation", "code=http://loinc.org|8302-2&date=sa2016&_sort=-date"}, {"Observation", "date=2015"},
		{"Patient", "family=smith"}, {"Patient", "family:contains=o"}, {"Patient", "name=other1&gender=male"}, {"Patient", "name:contains=second2&birthdate=gt1980"},
		{"Patient", "_has:Observation:patient:code=http://loinc.org|8302-2"}, {"Patient", "_has:Observation:patient:code=http://loinc.org|8302-2&gender=male"},
		{"Patient", "_has:Observation:patient:code=http://loinc.org|8302-2&_sort=family"}, {"Patient", "_has:Observation:patient:code=http://loinc.org|8480-6"},
		{"Observation", "code=http://loinc.org|8480-6&date=2015-03"}, {"Observation", "code=http://loinc.org|8480-6&date=ge2015-03&value-quantity=lt30"},
		{"Observation", "code=http://loinc.org|8302-2&value-quantity=199.5"}, {"Observation", "status=final&date=2015-03"},
		{"Patient", "family:contains=other1&gender=male"}, {"Patient", "family:contains=ith1"}, {"Patient", "name:contains=m"},
		{"Observation", "patient=p110&code=http://loinc.org|8302-2"}, {"Observation", "subject:Patient.family=s"},
		{"Observation", "patient.name=kim&date=ge2014"}, {"Observation", "subject:Patient.family=s&code=http://loinc.org|8480-6"},
		{"Patient", "_has:Observation:patient:code=http://loinc.org|8302-2&family=smith"}, {"Patient", "_has:Observation:patient:date=gt2020&gender=female"},
		{"Observation", "code=http://loinc.org|8302-2&date=ge2015-03&date=le2015-04"}, {"Patient", "birthdate=ge1990&gender=male&_sort=family"},
		{"Patient", "birthdate=ge1940&gender=male&_sort=family"}, {"Patient", "birthdate=ge1935&_sort=-family"}, {"Patient", "birthdate=lt2010&birthdate=ge1932&gender:not=male&_sort=given"},
		{"Patient", "name:text=kim1"}, {"Location", "name=place 1"},
		{"Patient", "_sort=_id"}, {"Patient", "gender=male&_sort=-_id"}, {"Patient", "family=smith&_sort=_id"},
		{"Appointment", "practitioner=d1"}, {"Appointment", "actor=Practitioner/d1&date=2024&status=booked"},
		{"Appointment", "practitioner=Practitioner/d3&date=ge2024-06&date=lt2024-12"}, {"Appointment", "actor=Practitioner/d1&_sort=-date"},
		{"Appointment", "actor=Practitioner/d1&_sort=date"}, {"Observation", "code=http://loinc.org|8302-2&value-quantity=lt3"},
		{"Observation", "code=http://loinc.org|8302-2&value-quantity=lt3&_sort=-date"}, {"Observation", "subject:Patient.family=smith&_sort=-date"},
		{"Observation", "date=ge2013-05&date=le2014"}, {"Observation", "date=lt2013"}, {"Observation", "date=2015&date=ge2015-06"},
		{"Appointment", "date=gt2024-06"}, {"Appointment", "date=ap2025-01"}, {"RiskAssessment", "date=eb2018&date=ne2016"},
	} {
		t.Run(c.typ+"?"+c.query, func(t *testing.T) {
			q, err := parseQuery(s, c.typ, c.query)
			if err != nil {
				t.Fatal(err)
			}
			joined := all(t, s, q, 130)
			want := all(t, s, q, 100_000) // a page that is not filled comes from the set
			if len(want) == 0 && !strings.Contains(c.query, "unknown") {
				t.Fatal("nothing found")
			}
			if !slices.Equal(joined, want) {
				t.Fatalf("walking gives %d, the set %d; they differ", len(joined), len(want))
			}
		})
	}
}

// TestSearch_ways_agree compares searches that go a way of their own with ones that say the same and go another.
func TestSearch_ways_agree(t *testing.T) {
	t.Parallel()
	s := openFilled(t, 6000)
	for _, c := range []struct {
		typ, query, other string
		ordered           bool
	}{
		{"Observation", "patient=p110&code=http://loinc.org|8302-2", "patient=p110,nobody&code=http://loinc.org|8302-2", true},
		{"Observation", "patient=p110&code=http://loinc.org|8302-2&_sort=-date", "patient=p110&code=8302-2&_sort=-date", true},
		{"Observation", "subject:Patient.family=s", "subject:Patient.family=s,nobody&_sort=-date,_lastUpdated", false},
		{"Observation", "subject:Patient.family=s&date=2015", "subject:Patient.family=s&date=2015,1066&_sort=-date,_lastUpdated", false},
		{"Patient", "_has:Observation:patient:code=http://loinc.org|8302-2", "_has:Observation:patient:code=8302-2", true},
		{"Patient", "_has:Observation:patient:code=http://loinc.org|8302-2&gender=male", "_has:Observation:subject:code=8302-2&gender=male", true},
		{"Patient", "_has:Observation:patient:code=http://loinc.org|8302-2&_has:Observation:patient:code=http://loinc.org|8480-6",
			"_has:Observation:patient:code=8480-6&_has:Observation:patient:code=8302-2", true},
		{"Patient", "family:contains=mith1", "_filter=family%20co%20mith1", false},
		{"Observation", "subject.name=smith1", "subject:Patient.name=smith1", false},
		{"Observation", "subject.name=smith1&date=ge2015", "subject:Patient.name=smith1&date=ge2015&_sort=-date", true},
		{"Patient", "family:contains=mith1&gender=male", "family:contains=mith1&gender=male&_sort=family", false},
		{"Observation", "code=http://loinc.org|8302-2&date=ge2015-03&date=le2015-04", "code=8302-2&date=ge2015-03&date=le2015-04", true},
		{"Observation", "code=http://loinc.org|8480-6&date=gt2014&date=lt2015-10", "code=8480-6&date=gt2014&date=lt2015-10", true},
		{"Patient", "birthdate=ge1990&gender=male", "birthdate=ge1990&gender:not=female", true},
		{"Appointment", "practitioner=d1&date=2024", "practitioner=d1,nobody&date=2024", true},
		{"Appointment", "actor=Practitioner/d1&status=booked", "actor=Practitioner/d1,Practitioner/nobody&status=booked", true},
		{"Observation", "code=http://loinc.org|8302-2&value-quantity=lt3", "code=8302-2&value-quantity=lt3", true},
	} {
		t.Run(c.typ+"?"+c.query, func(t *testing.T) {
			var found [2][]string
			for i, query := range []string{c.query, c.other} {
				q, err := parseQuery(s, c.typ, query)
				if err != nil {
					t.Fatal(err)
				}
				if found[i] = all(t, s, q, 17); !c.ordered {
					slices.Sort(found[i])
				}
			}
			if len(found[0]) == 0 || !slices.Equal(found[0], found[1]) {
				t.Errorf("finds %d, the other way %d; they differ", len(found[0]), len(found[1]))
			}
		})
	}
}

// maxJoined is more than the sets that one statement joins.
const maxJoined = 40

// askedByRow is a condition of a plan that runs a query for each row.
var askedByRow = regexp.MustCompile(`\(SubPlan \d+\)`)

var sequential = regexp.MustCompile(`Seq Scan on (search_(index|string|identifier|date|number|composite|text|position)|resource)\b`)

// TestSearch_plans keeps sequential scans of big tables out of the shapes of searches that issue 3 measures.
func TestSearch_plans(t *testing.T) {
	if testing.Short() {
		t.Skip("fills a database with 50,000 resources")
	}
	t.Parallel()
	s := openFilled(t, 50_000)
	for _, c := range []struct {
		typ, query string
		dense      bool   // the bounded look fills the page, so the set is never made
		with       string // what the plan begins with, where that is not all there is to say
	}{
		{"Observation", "patient=p10&code=8302-2&_sort=-date", false, ""},
		{"Observation", "patient=p10&category=vital-signs", false, ""},
		{"Observation", "code=8302-2&value-quantity=gt150", true, ""},
		{"Observation", "code=8302-2&value-quantity=gt1500|http://unitsofmeasure.org|mm", true, ""},
		{"Observation", "value-quantity=55.5", false, " AND (low < "},
		{"RiskAssessment", "probability=0.11&probability=0.12" + strings.Repeat("&probability=gt0.01", maxJoined), false, "SubPlan 12"}, // asked of each row left
		{"Observation", "date=2031-05,2032-05,2033-05", false, "date_low < '2031"},
		{"Observation", "value-quantity=gt1500", false, "search_number_range"},
		{"Observation", "value-quantity=ge1500|http://unitsofmeasure.org|mm", false, "search_number_canonical_range"},
		{"Observation", "code-value-quantity=8302-2$gt150", false, ""},
		{"Observation", "code=8302-2&_sort=value-quantity", true, ""},
		{"Observation", "_sort=date", true, ""},
		{"Observation", "status:not=final", true, ""},
		{"Observation", "code:text=code 8302", false, ""},
		{"Patient", "name=smith1", false, ""},
		{"Patient", "name:contains=mith10", false, ""},
		{"Patient", "identifier=http://mrn|M100", false, ""},
		{"Patient", "birthdate=ge1990&gender=male&_sort=family", true, "Nested Loop"},
		{"Patient", "birthdate=1990-05-05", false, ""},
		{"Patient", "gender=male&_sort=-given", true, ""},
		{"Patient", "_filter=" + "family%20sw%20smith1%20and%20gender%20eq%20male", false, ""},
		{"Patient", "_has:Observation:patient:code=8480-6", true, "Index Only Scan using search_index_has"},
		{"Patient", "_has:Observation:patient:status=final&gender=male", true, "Index Scan using search_index_patient"},
		{"Location", "_has:Appointment:location:status=booked", true, "Bitmap Index Scan on search_index_hashes"},
		{"Appointment", "actor=Practitioner/d1&date=ge2024-05-01&date=lt2024-06-01&status=booked", true, "search_code_order"},
		{"Observation", "patient.name=smith1", false, "Index Only Scan using search_index_patient"},
		{"Observation", "subject:Patient.family=smi", false, "Index Only Scan using search_index_has"},
		{"Observation", "subject.name=smith1", false, "using search_index_patient on search_index w"},
		{"Patient", "name:contains=mith", true, "Incremental Sort"},
		{"Patient", "gender=male&_sort=identifier", true, "search_identifier_order"},
		{"Patient", "name:contains=a&_sort=-identifier", true, "search_identifier_order"},
		{"Observation", "_lastUpdated=gt2020-01-01", true, ""},
		{"Observation", "date=2020-05", false, ""},
		{"Observation", "date=ge2020-05&date=le2020-06", false, ""},
		{"Observation", "code=http://loinc.org|8302-2&date=ge2020-05&date=le2020-06", false, ""},
		{"Observation", "code=http://loinc.org|8302-2&value-quantity=gt190", true, "Index Only Scan using search_code_order"},
		{"Location", "near=10|10|20", false, ""},
		{"Location", "_content=4313", false, ""},
		{"Location", "_sort=name", true, ""},
		{"RiskAssessment", "probability=gt0.98&_sort=-probability", false, ""},
		{"", "_type=Observation,Appointment&patient=p10", false, ""},
		{"", "status=final", true, "Index Only Scan using search_index_date"},
		{"", "_tag=zzz", true, "Index Only Scan using search_index_date"},
		{"", "_type=Observation,Appointment&status=final&_sort=-_lastUpdated", true, "search_index_updated"},
		{"", "_content=8302", true, "Index Only Scan using search_index_date"},
		{"Observation", "_content=8302", true, "Index Scan using search_index_date"},
		{"Observation", "_content=place", false, "Bitmap Index Scan on search_index_hashes"},
		{"Observation", "_text=8302&status=final", false, "Bitmap Index Scan on search_index_hashes"},
		{"Location", "_content=%22place%204313%22", false, "Index Scan using search_text_pkey"},
		{"", "identifier=zzz", false, "Bitmap Index Scan on search_index_hashes"},
		{"", "_id=p10,p20", false, "Index Scan using search_index_pkey on search_index x"},
		{"", "_id=p10" + strings.Repeat(",p20,o17", maxJoined), false, "Index Only Scan using resource_id"},
		{"Patient", "name=smith1,kim2,rossi3,garcia4,jansen5,okafor6", false, "Index Scan using search_string_rk"},
		{"Patient", "name:contains=mith1,kim2,rossi3,garcia4,jansen5,okafor6", false, "Index Scan using search_string_rk"},
		{"Patient", "name:contains=i", true, "Index Only Scan using search_string_value_order"},
		{"Patient", "name:contains=i&_sort=birthdate", true, "Index Scan using search_string_rk"},
		{"Patient", "_has:Observation:patient:date=gt2030", false, "search_index_long"},
		{"Patient", "_list=x", false, ""},
		{"Appointment", "practitioner=d1&date=2024-05&status=booked", true, "Index Only Scan using search_code_order"},
		{"Appointment", "actor=Practitioner/d1", true, "Index Only Scan using search_code_order"},
		{"Patient", "_sort=_id", true, "Index Only Scan using resource_id"},
		{"Patient", "gender=male&_sort=-_id", true, "Index Only Scan Backward using resource_id"},
	} {
		t.Run(c.typ+"?"+c.query, func(t *testing.T) {
			q, err := parseQuery(s, c.typ, c.query)
			if err != nil {
				t.Fatal(err)
			}
			plan, err := s.Explain(context.Background(), q, 21)
			if err != nil {
				t.Fatal(err)
			}
			if look, _, both := strings.Cut(plan, "Where that does not fill"); c.dense && both {
				plan = look
			}
			if found := sequential.FindString(plan); found != "" {
				t.Errorf("%s\n%s", found, plan)
			}
			if !strings.Contains(plan, c.with) {
				t.Errorf("no %s\n%s", c.with, plan)
			}
		})
	}
	t.Run("texts_in_their_order", func(t *testing.T) { // also where the planner expects fewer rows than a walk may look at
		q, err := parseQuery(s, "Patient", "family:contains=mith1")
		if err != nil {
			t.Fatal(err)
		}
		plan, err := s.Explain(context.Background(), q, 21)
		if err != nil {
			t.Fatal(err)
		}
		walk, _, _ := strings.Cut(plan, "Where that does not fill")
		if n := strings.Count(walk, "Incremental Sort"); n != 2 { // the page, and what is asked where it is not full
			t.Errorf("%d of 2 go from text to text\n%s", n, walk)
		}
	})
	t.Run("values_of_all_types", func(t *testing.T) { // found once, and not asked of each row
		q, err := parseQuery(s, "", "name=smith1")
		if err != nil {
			t.Fatal(err)
		}
		plan, err := s.Explain(context.Background(), q, 21)
		if err != nil {
			t.Fatal(err)
		}
		_, set, _ := strings.Cut(plan, "Where that does not fill")
		if strings.Contains(set, "hashed SubPlan") || !strings.Contains(set, "Index Scan using search_index_pkey on search_index x") {
			t.Errorf("reads what the types have\n%s", set)
		}
	})
	t.Run("denied_of_all_types", func(t *testing.T) { // a row is asked for the terms of its own type
		q, err := parseQuery(s, "", "status:not=final")
		if err != nil {
			t.Fatal(err)
		}
		plan, err := s.Explain(context.Background(), q, 21)
		if _, filter, _ := strings.Cut(plan, "Filter: "); err != nil || filter == "" || strings.Contains(filter, " OR (") {
			t.Errorf("asks for those of each type: %v\n%s", err, plan)
		}
	})
	t.Run("without_a_value", func(t *testing.T) { // where hardly anything has one: of its type, and not of all
		q, err := parseQuery(s, "", "_sort=_source")
		if err != nil {
			t.Fatal(err)
		}
		plan, err := s.Explain(context.Background(), q, 21)
		if err != nil || strings.Contains(plan, "(type + 0)") || !strings.Contains(plan, "Anti Join") {
			t.Errorf("reads all types: %v\n%s", err, plan)
		}
	})
	t.Run("referrers_of_a_patient", func(t *testing.T) {
		plan, err := s.ExplainReferrers(context.Background(), "Observation", "p10")
		if err != nil || !strings.Contains(plan, "Index Only Scan using search_index_patient") || sequential.MatchString(plan) {
			t.Errorf("%v\n%s", err, plan)
		}
	})
	t.Run("alternatives", func(t *testing.T) {
		for _, c := range [][2]string{
			{"Patient", "_filter=family%20eq%20smith1" + strings.Repeat("%20or%20death-date%20gt%202030", maxJoined)},
			{"Patient", strings.Repeat("&_has:Observation:patient:value-quantity=9", maxJoined)[1:]},
		} {
			q, err := parseQuery(s, c[0], c[1])
			if err != nil {
				t.Fatal(err)
			}
			plan, err := s.Explain(context.Background(), q, 21)
			if err != nil {
				t.Fatal(err)
			}
			if n := len(askedByRow.FindAllString(plan, -1)); n > 0 {
				t.Errorf("%s?%s asks each row in %d places\n%s", c[0], c[1], n, plan)
			}
		}
	})
	t.Run("record", func(t *testing.T) {
		plan, err := s.Explain(context.Background(), recordOf(s, "p10"), 201)
		if err != nil {
			t.Fatal(err)
		}
		for _, with := range []string{"Index Scan using search_index_record", "Bitmap Index Scan on search_index_shared"} {
			if !strings.Contains(plan, with) || sequential.MatchString(plan) {
				t.Errorf("no %s\n%s", with, plan)
			}
		}
	})
	t.Run("callers", func(t *testing.T) { callersPlans(t, s) })
}

// callersPlans are searches of callers who read through the views, and the index that each must begin with.
func callersPlans(t *testing.T, s *storage.Store) {
	everywhere := []string{"Patient", "Observation", "Appointment"}
	callers := map[string]*search.Restriction{
		"patient":      {Caller: "p", Record: "p10", Rules: []search.Rule{{Types: everywhere, Reach: search.ReachOwn}}},
		"practitioner": {Caller: "d", Self: "Practitioner/d1", Consent: true, Rules: []search.Rule{{Types: everywhere, Reach: search.ReachTreated}}},
		"admin":        {Caller: "a", Consent: true, Rules: []search.Rule{{Types: everywhere, Reach: search.ReachAny}}},
	}
	for _, c := range []struct{ typ, query, index string }{
		{"Observation", "patient=p10&code=http://loinc.org|8302-2", "search_code_patient"},
		{"Observation", "patient=p10&code=http://loinc.org|8302-2&_sort=-date", "search_code_patient"},
		{"Patient", "_has:Observation:patient:code=http://loinc.org|8302-2", "search_code_patient"},
		{"Observation", "patient=p10&category=vital-signs", "search_index_patient"},
	} {
		for name, restriction := range callers {
			t.Run(name+"_"+c.typ+"?"+c.query, func(t *testing.T) {
				q, err := parseQuery(s, c.typ, c.query)
				if err != nil {
					t.Fatal(err)
				}
				access, err := s.Access(restriction)
				if err != nil {
					t.Fatal(err)
				}
				plan, err := s.Explain(storage.WithAccess(t.Context(), access), q, 21)
				if err != nil {
					t.Fatal(err)
				}
				plan, _, _ = strings.Cut(plan, "Where that does not fill")
				if found := sequential.FindString(plan); found != "" || !strings.Contains(plan, c.index) || strings.Contains(plan, "search_index_hashes") {
					t.Errorf("%s\n%s", found, plan)
				}
			})
		}
	}
}
