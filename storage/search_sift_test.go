package storage_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"kiln/storage"
)

// TestSearch_of_a_range_by_name_while_others_write follows the pages of those born since a day, by name, while one of them changes.
func TestSearch_of_a_range_by_name_while_others_write(t *testing.T) {
	t.Parallel()
	s := open(t)
	patient := func(id, family string) {
		put(t, s, fmt.Sprintf(`{"resourceType":"Patient","id":"%s","gender":"female","birthDate":"2001-02-03","name":[{"family":"%s"}]}`, id, family))
	}
	for i, family := range []string{"Adams", "Baker", "Cole", "Dunn", "Evans"} {
		patient(fmt.Sprint("p", i), family)
	}
	for _, query := range []string{"birthdate=ge2000&gender=female&_sort=family", "birthdate=ge2000&_sort=-family", "birthdate=2001&_sort=gender,family", "birthdate=ge2000&_sort=gender"} {
		q, page := first(t, s, t.Context(), "Patient", query, 2)
		got := []string{}
		for n := 0; ; n++ {
			for _, v := range page.Matches {
				got = append(got, v.ID)
			}
			if page.Next == nil {
				break
			}
			patient("p3", fmt.Sprint("Zimmer", n)) // behind all others now, and where it was on the pages
			var err error
			if page, err = s.Search(t.Context(), nil, q, 2, page.Next); err != nil {
				t.Fatalf("%s: %v", query, err)
			}
		}
		if slices.Sort(got); strings.Join(got, " ") != "p0 p1 p2 p3 p4" {
			t.Errorf("%s: the pages show %v", query, got)
		}
	}
}

// TestSearch_sorted_by_a_code follows the pages of searches in which few texts have a match, with small bounds.
func TestSearch_sorted_by_a_code(t *testing.T) {
	t.Parallel()
	s := open(t)
	for i := range 120 {
		put(t, s, fmt.Sprintf(`{"resourceType":"Basic","id":"b%d","created":"20%02d-01-01","code":{"coding":[{"system":"http://x","code":"c%03d"},{"code":"shared%d"}]},"subject":{"reference":"Patient/p%03d"}}`,
			i, 10+i/40, i*37%120, i%3, i*53%120))
	}
	for _, text := range []string{`"code":{"text":"no code"}`, `"code":{"coding":[{"code":"C005"}]}`, `"code":{"coding":[{"code":"c005"}]}`} {
		put(t, s, `{"resourceType":"Basic","id":"x`+fmt.Sprint(len(text))+`","created":"2012-05-05",`+text+`}`)
	}
	follow := func(query string, size int) (got []string, short int) {
		q, err := parseQuery(s, "Basic", query)
		if err != nil {
			t.Fatal(err)
		}
		var pages [][]string
		var page *storage.SearchPage
		for mark := (*storage.SearchMark)(nil); mark != nil || page == nil; mark = page.Next {
			if page, err = s.Search(t.Context(), nil, q, size, mark); err != nil {
				t.Fatalf("%s: %v", query, err)
			}
			if pages = append(pages, ids(page.Matches)); page.Next != nil && len(page.Matches) < size {
				short++
			}
			got = append(got, ids(page.Matches)...)
		}
		var back []string
		for mark := page.Previous; mark != nil; mark = page.Previous {
			if page, err = s.Search(t.Context(), nil, q, size, mark); err != nil {
				t.Fatalf("%s: %v", query, err)
			}
			back = append(ids(page.Matches), back...)
		}
		if back = append(back, pages[len(pages)-1]...); !slices.Equal(back, got) {
			t.Errorf("%s: backward %v, forward %v", query, back, got)
		}
		return got, short
	}
	for _, query := range []string{"created=2012&_sort=code", "created=2012&_sort=-code", "created=2010&_sort=subject", "_sort=-subject", "created=gt2011&_sort=-subject", "created:missing=false&_sort=code"} {
		s.SortBounds(1000, 1000, 1000)
		want, _ := follow(query, 7)
		s.SortBounds(0, 10, 20)
		got, short := follow(query, 7)
		if len(got) < 40 || !slices.Equal(got, want) {
			t.Errorf("%s: text by text %v, at once %v", query, got, want)
		}
		if (short > 0) != strings.HasPrefix(query, "created=") {
			t.Errorf("%s: %d short pages", query, short)
		}
	}
}

// TestSearch_sorted_by_two_texts_shows_nothing_behind_a_gap: where the texts of a second key come to an end within the first one, what has
// the next one must not fill the page.
func TestSearch_sorted_by_two_texts_shows_nothing_behind_a_gap(t *testing.T) {
	t.Parallel()
	s := open(t)
	basic := func(id, created, subject, code string) {
		put(t, s, fmt.Sprintf(`{"resourceType":"Basic","id":"%s","created":"%s","code":{"coding":[{"code":"%s"}]},"subject":{"reference":"Patient/%s"}}`, id, created, code, subject))
	}
	for i := range 40 {
		basic(fmt.Sprint("other", i), "2010", "a0", fmt.Sprintf("c%02d", i))
	}
	for i := range 10 {
		basic(fmt.Sprint("late", i), "2012", "a1", fmt.Sprintf("z%d", i))
		basic(fmt.Sprint("next", i), "2012", fmt.Sprint("a2", i/3), "y")
	}
	s.SortBounds(5, 30, 10)
	q, err := parseQuery(s, "Basic", "created=2012&_sort=subject,code")
	if err != nil {
		t.Fatal(err)
	}
	got, mark := []string{}, (*storage.SearchMark)(nil)
	for first := true; len(got) == 0 && (first || mark != nil); first = false {
		page, err := s.Search(t.Context(), nil, q, 1, mark)
		if err != nil {
			t.Fatal(err)
		}
		got, mark = ids(page.Matches), page.Next
	}
	if !slices.Equal(got, []string{"Basic/late0"}) {
		t.Errorf("the first is %v", got)
	}
}

// TestSearch_sorted_by_a_code_and_what_may_be_missing follows short pages, which end behind what has a code and sorts by anything else.
func TestSearch_sorted_by_a_code_and_what_may_be_missing(t *testing.T) {
	t.Parallel()
	s := open(t)
	for i := range 120 {
		tag, rest := "", ""
		if i%3 == 2 {
			tag = `"meta":{"tag":[{"code":"t"}]},`
		}
		if i%2 == 0 {
			rest = `,"birthDate":"2001-01-01","name":[{"family":"Jones"}]`
		}
		put(t, s, fmt.Sprintf(`{"resourceType":"Patient","id":"p%d",%s"identifier":[{"value":"i%03d"}],"communication":[{"language":{"coding":[{"code":"l%03d"}]}}]%s}`, i, tag, i, i, rest))
	}
	for _, query := range []string{"_tag=t&_sort=identifier,birthdate", "_tag=t&_sort=identifier,family", "_tag=t&_sort=language,-birthdate", "_tag=t&_sort=-language,family", "_tag=t&_sort=language,-family", "_tag=t&_sort=-identifier,-_lastUpdated", "_tag=t&_sort=language,_id", "_tag=t&_sort=identifier,-_id", "_tag=t&_sort=identifier,_lastUpdated"} {
		q, err := parseQuery(s, "Patient", query)
		if err != nil {
			t.Fatal(err)
		}
		s.SortBounds(1000, 1000, 1000)
		page, err := s.Search(t.Context(), nil, q, 200, nil)
		if err != nil {
			t.Fatal(err)
		}
		want, got, back := ids(page.Matches), []string{}, []string{}
		s.SortBounds(0, 10, 20)
		for mark := (*storage.SearchMark)(nil); mark != nil || len(got) == 0; mark = page.Next {
			if page, err = s.Search(t.Context(), nil, q, 7, mark); err != nil {
				t.Fatalf("%s: %v", query, err)
			}
			if got = append(got, ids(page.Matches)...); len(got) > 100 {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: text by text %v, at once %v", query, got, want)
		}
		last := ids(page.Matches)
		for mark := page.Previous; mark != nil && len(back) < 100; mark = page.Previous {
			if page, err = s.Search(t.Context(), nil, q, 7, mark); err != nil {
				t.Fatalf("%s: %v", query, err)
			}
			back = append(ids(page.Matches), back...)
		}
		if back = append(back, last...); !slices.Equal(back, want) {
			t.Errorf("%s: backward %v, at once %v", query, back, want)
		}
	}
}

// TestSearch_sorted_by_a_code_while_others_write follows pages while resources move to other codes, or go.
func TestSearch_sorted_by_a_code_while_others_write(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.SortBounds(0, 5, 0)
	basic := func(i int, code string) {
		put(t, s, fmt.Sprintf(`{"resourceType":"Basic","id":"b%02d","created":"2020-01-01","code":{"coding":[{"code":"%s"}]}}`, i, code))
	}
	for i := range 12 {
		basic(i, fmt.Sprintf("c%02d", i))
	}
	q, page := first(t, s, t.Context(), "Basic", "created=2020&_sort=code", 3)
	basic(1, "z") // shown already
	basic(8, "a") // not yet
	got := ids(page.Matches)
	for page.Next != nil {
		var err error
		if page, err = s.Search(t.Context(), nil, q, 3, page.Next); err != nil {
			t.Fatal(err)
		}
		got = append(got, ids(page.Matches)...)
	}
	want := []string{}
	for i := range 12 {
		want = append(want, fmt.Sprintf("Basic/b%02d", i))
	}
	if !slices.Equal(got, want) {
		t.Errorf("the pages show %v", got)
	}
}

// TestSearch_texts_to_sort_by tells which parameters have theirs kept.
func TestSearch_texts_to_sort_by(t *testing.T) {
	t.Parallel()
	s := open(t)
	for name, want := range map[string]bool{
		"Observation.code": true, "Observation.status": true, "Observation.category": true, "Observation.subject": true, "Observation.patient": true, "Observation.encounter": true,
		"Observation.performer": true, "Patient.gender": true, "Patient.deceased": true, "Patient.general-practitioner": true, "Appointment.actor": true,
		"Appointment.patient": true, "Encounter.class": true, "AllergyIntolerance.category": true, "Condition._tag": true,
		// Each of these would bring many for one resource.
		"Provenance.target": false, "DiagnosticReport.result": false, "CodeSystem.code": false, "StructureDefinition.path": false, "ImagingStudy.instance": false,
		"Patient.birthdate": false, "Patient.family": false, "Patient.identifier": false, // another table has their order
	} {
		typ, code, _ := strings.Cut(name, ".")
		if got := s.SortsByText(typ, code); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestSearch_of_patients_by_name_in_turn gives what patients of a name have in the order of the names, of each once, page by page.
func TestSearch_of_patients_by_name_in_turn(t *testing.T) {
	t.Parallel()
	s := open(t)
	for id, names := range map[string]string{"a": `{"family":"Smithson"},{"family":"Smith"},{"family":"Smith"}`, "b": `{"family":"Smithers"}`, "c": `{"family":"Smoot"}`, "d": `{"family":"Smith"}`} {
		put(t, s, `{"resourceType":"Patient","id":"`+id+`","name":[`+names+`]}`)
		for day := range 3 {
			put(t, s, fmt.Sprintf(`{"resourceType":"Observation","id":"%s%d","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/%s"},"effectiveDateTime":"2020-01-0%d"}`, id, day, id, day+1))
		}
	}
	for query, want := range map[string]string{"subject:Patient.family=smi": "aaadddbbb", "patient.family:contains=mithers": "bbb", "patient.family=s": "aaadddbbbccc"} {
		q, err := parseQuery(s, "Observation", query)
		if err != nil {
			t.Fatal(err)
		}
		got := all(t, s, q, 2)
		whose := ""
		for i, id := range got {
			if whose += id[:1]; i%3 > 0 && id > got[i-1] {
				t.Errorf("%s: %v is not the newest first", query, got)
			}
		}
		if strings.HasPrefix(whose, "ddd") { // who has the same name comes by the key
			whose = strings.Replace(whose, "dddaaa", "aaaddd", 1)
		}
		if whose != want {
			t.Errorf("%s gives %v", query, got)
		}
	}
}
