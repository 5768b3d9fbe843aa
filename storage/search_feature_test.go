package storage_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/internal/kilntest"
	"kiln/storage"
)

// ask runs a query that may be refused, and returns the ids found in alphabetical order, unless sorted says that their
// order is the answer's.
func ask(t testing.TB, s *storage.Store, typ, query string, sorted bool) (string, error) {
	t.Helper()
	q, err := parseQuery(s, typ, query)
	if err != nil {
		return "", err
	}
	page, err := s.Search(context.Background(), nil, q, 100, nil)
	if err != nil {
		return "", err
	}
	ids := []string{}
	for _, v := range page.Matches {
		ids = append(ids, v.ID)
	}
	if !sorted {
		slices.Sort(ids)
	}
	n, err := s.Count(context.Background(), nil, q, 0)
	if err == nil && int(n) != len(ids) {
		t.Errorf("%s?%s: count says %d, the page has %d", typ, query, n, len(ids))
	}
	return strings.Join(ids, " "), err
}

func parseQuery(s *storage.Store, typ, query string) (*search.Query, error) {
	pairs, err := search.ParsePairs(query)
	if err != nil {
		return nil, err
	}
	o := search.Options{Now: time.Now()}
	if typ != "" {
		o.Types = []string{typ}
	}
	return search.Parse(pairs, catalog{s.Registry()}, o)
}

// featureCase is a search and the ids that it finds, in alphabetical order, or with "!" a part of its error.
type featureCase struct{ typ, query, want string }

func runCases(t *testing.T, s *storage.Store, cases []featureCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.typ+"?"+c.query, func(t *testing.T) {
			got, err := ask(t, s, c.typ, c.query, false)
			if part, refusal := strings.CutPrefix(c.want, "!"); refusal {
				if err == nil || !strings.Contains(describe(err), part) {
					t.Errorf("got %q and the error %v, want an error with %q", got, err, part)
				}
				return
			}
			if err != nil || got != c.want {
				t.Errorf("got %q, want %q (%v)", got, c.want, err)
			}
		})
	}
}

func TestSearch_filter(t *testing.T) {
	t.Parallel()
	s := openOn(t, kilntest.TerminologyDB(t))
	put(t, s, `{"resourceType":"Patient","id":"anna","active":true,"name":[{"family":"Müller","given":["Anna","Bea"]}],"gender":"female","birthDate":"1980-02-03",
		"identifier":[{"system":"http://x","value":"A1"},{"system":"http://x","value":"A2"}]}`)
	put(t, s, `{"resourceType":"Patient","id":"ben","name":[{"family":"Peterson (jr)","given":["Ben"]}],"gender":"male","birthDate":"1990"}`)
	put(t, s, `{"resourceType":"Observation","id":"o1","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"8302-2"}]},
		"subject":{"reference":"Patient/anna"},"effectivePeriod":{"start":"2020-01-01","end":"2020-01-31"},"valueQuantity":{"value":5.4,"system":"http://unitsofmeasure.org","code":"g"}}`)
	put(t, s, `{"resourceType":"Observation","id":"o2","status":"preliminary","code":{"text":"x"},"subject":{"reference":"Patient/ben"},"effectiveDateTime":"2021-06-01"}`)
	put(t, s, `{"resourceType":"RiskAssessment","id":"r","status":"final","subject":{"reference":"Patient/ben"},"prediction":[{"probabilityDecimal":0.54}]}`)
	put(t, s, `{"resourceType":"DocumentReference","id":"d","status":"current","content":[{"attachment":{"url":"http://d"}}],
		"relatesTo":[{"code":"replaces","target":{"reference":"DocumentReference/old"}},{"code":"appends","target":{"reference":"DocumentReference/other"}}]}`)
	put(t, s, `{"resourceType":"Group","id":"g","type":"person","actual":true,"member":[{"entity":{"reference":"Patient/ben"}}]}`)
	put(t, s, `{"resourceType":"List","id":"l","status":"current","mode":"working","entry":[{"item":{"reference":"Patient/anna"}},{"item":{"reference":"Observation/o2"}}]}`)
	f := func(typ, filter, want string) featureCase {
		return featureCase{typ, "_filter=" + url.QueryEscape(filter), want}
	}
	runCases(t, s, []featureCase{
		f("Patient", `name co "ull"`, "anna"),
		f("Patient", `family eq "müller"`, "anna"),
		f("Patient", `family eq mull`, ""),
		f("Patient", `family sw mull`, "anna"),
		f("Patient", `family ew LER`, "anna"),
		f("Patient", `family ew "(jr)"`, "ben"),
		f("Patient", `family eq "peterson (jr)" and gender eq male`, "ben"),
		f("Patient", `family ne müller`, "ben"),
		f("Patient", `given ne anna`, "anna ben"),
		f("Patient", `family gt n`, "ben"),
		f("Patient", `family le "müller"`, "anna"),
		f("Patient", `gender ne male`, "anna"),
		f("Patient", `identifier eq http://x|A1`, "anna"),
		f("Patient", `identifier ne http://x|A1`, "!not (identifier eq http://x|A1)"),
		f("Patient", `active pr true`, "anna"),
		f("Patient", `active pr false`, "ben"),
		f("Patient", `active pr maybe`, "!at character 11"),
		f("Patient", `birthdate ge 1985-01-01`, "ben"),
		f("Patient", `birthdate co 1990-05-05`, "ben"),
		f("Patient", `birthdate po 1980-02`, "anna"),
		f("Patient", `given eq bea and birthdate lt 1985`, "anna"),
		// From the left, with no precedence: (a or b) and c.
		f("Patient", `gender eq female or gender eq male and active eq true`, "anna"),
		f("Patient", `gender eq female or (gender eq male and active eq true)`, "anna"),
		f("Patient", `gender eq male or gender eq female and gender eq male`, "ben"),
		f("Patient", `not (gender eq male)`, "anna"),
		f("Patient", `not(gender eq male)and not (gender eq female)`, ""),
		f("Patient", `_id eq ben`, "ben"),
		f("Patient", `_id ne ben`, "anna"),
		f("Patient", `_lastUpdated gt 2020-01-01`, "anna ben"),
		f("Observation", `code eq loinc|8302-2`, "o1"),
		f("Observation", `subject.name co "pet"`, "o2"),
		f("Observation", `subject:Patient.name co pet`, "o2"),
		f("Observation", `subject[gender eq female].name sw mull`, "o1"),
		f("Observation", `subject[gender eq male].name sw mull`, ""),
		f("Observation", `subject re Patient/anna`, "o1"),
		f("Observation", `patient.birthdate lt 1985 and status eq final`, "o1"),
		f("Observation", `date po 2020-01-15`, "o1"),
		f("Observation", `date sa 2020-06-01`, "o2"),
		f("Observation", `date eb 2020-06-01`, "o1"),
		f("Observation", `value-quantity gt 5 and value-quantity lt 6|ucum|g`, "o1"),
		f("Observation", `status in http://hl7.org/fhir/ValueSet/observation-status`, "o1 o2"),
		f("RiskAssessment", `probability co 0.538`, "r"),
		f("RiskAssessment", `probability co 0.55`, ""),
		f("DocumentReference", `relatesTo[code eq replaces].target re DocumentReference/old`, "d"),
		f("DocumentReference", `relatesTo[code eq appends].target re DocumentReference/old`, ""),
		f("DocumentReference", `relatesTo.target re DocumentReference/old`, "!relatesTo[target eq value].code eq value"),
		f("Patient", `nam eq x`, "!at character 1"),
		f("Patient", `name eq`, "!at character 8"),
		f("Patient", `name xx y`, "!at character 6"),
		f("Patient", `(name eq y`, "!at character 11"),
		f("Patient", `name eq y)`, "!at character 10"),
		f("Patient", `name eq "y`, "!at character 9"),
		f("Patient", `name po y`, "!operator po"),
		f("Patient", `ñame eq y`, "!at character 1"),
		f("Patient", `birthdate eq gt2000`, "!is no date"),
		f("Patient", `name.x eq y`, "!no reference parameter"),
		f("Patient", strings.Repeat("(", 30)+"name eq y"+strings.Repeat(")", 30), "!deeper than 20"),
		f("Patient", strings.Repeat("name eq y or ", 300)+"name eq y", "!more than 200 tests"),
		f("Patient", `family eq "'; DROP TABLE resource; --"`, ""),
		{"", "_type=Patient,Observation&_filter=" + url.QueryEscape("not (_id eq ben)"), "anna o1 o2"},
		{"", "_type=Patient,Observation&_filter=" + url.QueryEscape("status eq final"), "o1"},
		{"", "_type=Observation,DocumentReference&status:not=final", "d o2"},
		{"", "_type=Observation,RiskAssessment&patient=ben", "o2 r"},
		// A type whose parameter does not lead there has no match, and the others are searched all the same.
		{"", "_type=Observation,RiskAssessment&subject:Patient=ben", "o2 r"},
		{"", "_type=Observation,RiskAssessment&subject:Location=ben", ""},
		{"", "subject:Patient=ben&_type=Observation", "o2"},
		{"", "subject:Location.name=ben", ""},
		{"RiskAssessment", "subject:Location=ben", "!subject of RiskAssessment does not refer to \"Location\""},
		{"", "_type=RiskAssessment,Condition&subject:Location.name=ben", "!does not refer to \"Location\""},
		{"Patient", "_list=l", "anna"},
		{"Patient", "_list=nope", ""},
		{"Observation", "_list=l", "o2"},
		{"", "_list=l", "anna o2"},
		{"Patient", "_in=Group/g", "ben"},
		{"Patient", "_in=Group/g,List/l&_sort=_id", "anna ben"},
		{"Patient", "_in=42", "!List/id, Group/id or CareTeam/id"},
		{"Patient", "_list=$current-allergies", "!functional lists"},
		{"Observation", "patient._in=Group/g", "o2"},
		{"Observation", "subject._in=Group/g,List/l&_sort=_id", "o1 o2"},
		{"Observation", "subject:Patient._list=l", "o1"},
		{"Observation", "subject._in=Group/none,Group/g,List/none,Group/g,List/l", "o1 o2"},
		// A type whose parameter leads to nothing that can be asked so has no match, and the others are searched all the same.
		{"", "subject._in=Group/g", "o2 r"},
		{"", "subject.gender=female,male", "o1 o2 r"},
		{"", "subject.birthdate:missing=false&_id=o2", "o2"},
		{"", "subject.nothing=x", "!has a parameter \"nothing\""},
		{"", "author._in=List/l", ""},
		{"", "status._in=List/l", "!is no reference parameter"},
		{"Patient", "_has:Observation:patient:_list=l", "ben"},
		{"Observation", "patient._list=42,a b", "!is not the id of a List"},
		{"Observation", "patient._in:not=Group/g", "!takes no modifier"},
		{"Observation", "patient._list.name=l", "!nothing is chained to it"},
		{"Patient", "_list=" + strings.Repeat("l,", 1000) + "l", "!more than 1000 values"},
		{"Patient", "_in:not=Group/g", "!_in takes no modifier such as :not"},
		{"Patient", "_list:missing=true", "!_list takes no modifier"},
		{"Patient", "_filter:exact=name eq x", "!_filter takes no modifier"},
		{"Patient", "_sort:desc=name", "!_sort takes no modifier"},
		{"Patient", "_count:max=1", "!_count takes no modifier"},
		{"", "_type:not=Patient", "!_type takes no modifier"},
		{"Patient", "_id:not=ben", "anna"},
	})
}

func TestSearch_text(t *testing.T) {
	t.Parallel()
	s := open(t)
	put(t, s, `{"resourceType":"Condition","id":"a","subject":{"display":"Frau Schmidt"},"text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\">Bone <b>metastases</b> &amp; Caf&#233;<!-- hidden words --></div>"},"code":{"text":"cancer of the lung"}}`)
	put(t, s, `{"resourceType":"Condition","id":"b","subject":{"reference":"Patient/schmidt"},"text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\">Liver cancer, no metastases</div>"},"contained":[{"resourceType":"Patient","id":"p","name":[{"family":"Enthalten"}]}]}`)
	put(t, s, `{"resourceType":"Condition","id":"c","subject":{"reference":"Patient/x"},"code":{"coding":[{"system":"http://snomed.info/sct","code":"1","display":"Liver abscess"}]},"note":[{"text":"lung is clear"}]}`)
	put(t, s, `{"resourceType":"Condition","id":"c","subject":{"reference":"Patient/x"},"code":{"coding":[{"system":"http://snomed.info/sct","code":"1","display":"Kidney stone"}]},"note":[{"text":"lung is clear"}]}`)
	put(t, s, `{"resourceType":"Patient","id":"pt"}`)
	runCases(t, s, []featureCase{
		{"Condition", "_text=metastases", "a b"},
		{"Condition", "_text=METASTASES", "a b"},
		{"Condition", "_text=(bone OR liver) and metastases", "a b"},
		{"Condition", "_text=bone OR liver and nothing", "a"},
		{"Condition", "_text=cafe", "a"},
		{"Condition", "_text=hidden", ""},
		{"Condition", "_text=div", ""},
		{"Condition", `_text="liver cancer"`, "b"},
		{"Condition", `_text="cancer liver"`, ""},
		{"Condition", "_text=metastases -liver", "a"},
		{"Condition", "_text=metastases not bone", "b"},
		{"Condition", "_text=cancer", "b"},
		{"Condition", "_content=cancer", "a b"},
		{"Condition", "_content=lung", "a c"},
		{"Condition", "_content=schmidt", "a"},
		{"Condition", "_content=enthalten", "b"},
		{"Condition", "_content=abscess", ""},
		{"Condition", "_content=kidney,bone", "a c"},
		{"Condition", "_content=...", ""},
		{"Condition", "_text:missing=true", "c"},
		{"", "_type=Patient,Condition&_text:missing=true", "c pt"},
		{"", "_type=Patient,Condition&_text:missing=false", "a b"},
		{"", "_type=Patient,Condition&_content=kidney,bone", "a c"},
		{"Condition", "_text=-bone", "!at least one word"},
		{"Condition", "_text=(bone", "!not closed"},
		{"Condition", "_text=bone)", "!opening"},
		{"Condition", "_text=bone or", "!word is missing"},
		{"Condition", "_content=" + strings.Repeat("a ", 60), "!more than 50"},
		{"Condition", "_filter=_content co kidney", "c"},
	})
	if err := s.Write(context.Background(), func(tx *storage.Tx) error {
		old, err := tx.Lock(context.Background(), storage.Key{Type: "Condition", ID: "a"})
		tx.Delete(old[storage.Key{Type: "Condition", ID: "a"}])
		return err
	}); err != nil {
		t.Fatal(err)
	}
	runCases(t, s, []featureCase{{"Condition", "_content=lung", "c"}})
}

func TestSearch_near(t *testing.T) {
	t.Parallel()
	s := open(t)
	for id, at := range map[string]string{
		"berlin":  `"latitude":52.5200,"longitude":13.4050`,
		"potsdam": `"latitude":52.3906,"longitude":13.0645`, // 27.2 km from Berlin
		"hamburg": `"latitude":53.5511,"longitude":9.9937`,  // 255 km
		"taveuni": `"latitude":-16.9000,"longitude":-179.95`,
		"lau":     `"latitude":-16.9000,"longitude":179.95`, // 10.6 km from Taveuni, across the antimeridian
		"pole":    `"latitude":89.999,"longitude":-100`,
	} {
		put(t, s, `{"resourceType":"Location","id":"`+id+`","position":{`+at+`}}`)
	}
	put(t, s, `{"resourceType":"Location","id":"nowhere"}`)
	runCases(t, s, []featureCase{
		{"Location", "near=52.52|13.405", "berlin potsdam"},
		{"Location", "near=52.52|13.405|27", "berlin"},
		{"Location", "near=52.52|13.405|28|km", "berlin potsdam"},
		{"Location", "near=52.52|13.405|28000|m", "berlin potsdam"},
		{"Location", "near=52.52|13.405|17|[mi_us]", "berlin potsdam"},
		{"Location", "near=52.52|13.405|16|mi_us", "berlin"},
		{"Location", "near=52.52|13.405|260", "berlin hamburg potsdam"},
		{"Location", "near=52.52|13.405|0", "berlin"},
		{"Location", "near=-16.9|-179.95|11", "lau taveuni"},
		{"Location", "near=-16.9|179.95|11", "lau taveuni"},
		{"Location", "near=-16.9|-179.95|10", "taveuni"},
		{"Location", "near=90|0|1", "pole"},
		{"Location", "near=0|0|30000", "berlin hamburg lau pole potsdam taveuni"},
		{"Location", "near=53.5511|9.9937|1,52.39|13.06|1", "hamburg potsdam"},
		{"Location", "near:missing=true", "nowhere"},
		{"Location", "near=91|0", "!latitude"},
		{"Location", "near=0|181", "!longitude"},
		{"Location", "near=0", "!is no place"},
		{"Location", "near=0|0|5|kg", "!unit of distance"},
		{"Location", "near=0|0|-5", "!is no distance"},
		{"Location", "near=0|0|1e400", "!distance"},
	})
	for query, want := range map[string]string{
		"near=52.52|13.405|30000&_sort=near":                     "berlin potsdam hamburg pole lau taveuni",
		"near=52.52|13.405|30000&_sort=-near":                    "taveuni lau pole hamburg potsdam berlin",
		"_sort=near&near=52.52|13.405|300":                       "berlin potsdam hamburg",
		"near=-16.9|-179.9|12000&_sort=near":                     "taveuni lau pole",
		"near=53.5511|9.9937|3000,90|0|3000&_sort=near":          "hamburg pole potsdam berlin", // from the nearer of both
		"near=53.5511|9.9937|3000&near=90|0|9000&_sort=near,_id": "hamburg potsdam berlin",
	} {
		for _, size := range []int{1, 2, 5} {
			q, err := parseQuery(s, "Location", query)
			if err != nil {
				t.Fatal(err)
			}
			followOrder(t, s, t.Context(), q, size, strings.Fields("Location/"+strings.ReplaceAll(want, " ", " Location/")), query, false)
		}
	}
	// Squared, a difference as small as these is less than PostgreSQL can tell from nothing.
	put(t, s, `{"resourceType":"Location","id":"null","position":{"latitude":1e-300,"longitude":-1e-200}}`)
	put(t, s, `{"resourceType":"Encounter","id":"there","status":"planned","class":{"code":"AMB"},"location":[{"location":{"reference":"Location/null"}}]}`)
	runCases(t, s, []featureCase{
		{"Location", "near=0|0|1", "null"},
		{"Location", "near=1e-250|0|0&_sort=near", "null"},
		{"Location", "near=0|0|30000&_sort=-near", "berlin hamburg lau null pole potsdam taveuni"},
		{"Encounter", "location.near=0|0|1", "there"},
	})
	// So many are near at most.
	for most, refused := range map[int]bool{2: true, 3: false} {
		s.SortBounds(2, 1000, most)
		q, err := parseQuery(s, "Location", "near=52.52|13.405|300&_sort=near")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Search(t.Context(), nil, q, 2, nil); (fhir.KindOf(err) == fhir.TooCostly) != refused || refused && !strings.Contains(describe(err), "ask for a smaller distance") {
			t.Errorf("3 are near, and %d are sorted at most: %v", most, err)
		}
	}
}

func TestSearch_terminology(t *testing.T) {
	t.Parallel()
	s := openOn(t, kilntest.TerminologyDB(t))
	put(t, s, `{"resourceType":"CodeSystem","id":"cs","url":"http://x/cs","status":"active","content":"complete","concept":[
		{"code":"animal","concept":[{"code":"dog","concept":[{"code":"poodle"}]},{"code":"cat"}]},{"code":"stone"}]}`)
	put(t, s, `{"resourceType":"ValueSet","id":"vs","url":"http://x/vs","version":"1","status":"active","compose":{"include":[
		{"system":"http://x/cs","filter":[{"property":"concept","op":"is-a","value":"dog"}]},{"system":"http://other"}]}}`)
	put(t, s, `{"resourceType":"ValueSet","id":"nested","url":"http://x/nested","status":"active","compose":{"include":[{"valueSet":["http://x/vs"]}],
		"exclude":[{"system":"http://x/cs","concept":[{"code":"poodle"}]}]}}`)
	put(t, s, `{"resourceType":"ValueSet","id":"loop","url":"http://x/loop","status":"active","compose":{"include":[{"valueSet":["http://x/loop"]}]}}`)
	put(t, s, `{"resourceType":"ValueSet","id":"far","url":"http://x/far","status":"active","compose":{"include":[{"system":"http://snomed.info/sct","filter":[{"property":"concept","op":"is-a","value":"1"}]}]}}`)
	condition := func(id, system, code, display, text string) {
		put(t, s, `{"resourceType":"Condition","id":"`+id+`","subject":{"reference":"Patient/x"},"clinicalStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/condition-clinical","code":"`+
			map[string]string{"a": "recurrence", "b": "inactive", "c": "active", "d": "resolved"}[id]+`"}]},
			"code":{"coding":[{"system":"`+system+`","code":"`+code+`","display":"`+display+`"}],"text":"`+text+`"}}`)
	}
	condition("a", "http://x/cs", "dog", "Hund", "a Dog that barks")
	condition("b", "http://x/cs", "poodle", "Pudel", "curly")
	condition("c", "http://x/cs", "stone", "Stein", "dog of stone")
	condition("d", "http://other", "any", "Irgendwas", "x")
	put(t, s, `{"resourceType":"Patient","id":"p","identifier":[{"type":{"text":"Führerschein"},"system":"http://x","value":"1"}]}`)
	put(t, s, `{"resourceType":"Observation","id":"o","status":"final","code":{"text":"x"}}`)
	const clinical = "http://terminology.hl7.org/CodeSystem/condition-clinical|"
	runCases(t, s, []featureCase{
		{"Condition", "code:text=hund", "a"},
		{"Condition", "code:text=dog", "c"},
		{"Condition", "code:text=A DOG", "a"},
		{"Condition", "code:text=pud,ste", "b c"},
		{"Condition", "code:text=%25", ""},
		{"Patient", "identifier:text=fuhrer", "p"},
		{"Condition", "code:in=http://x/vs", "a b d"},
		{"Condition", "code:in=http://x/vs|1", "a b d"},
		{"Condition", "code:in=ValueSet/vs", "a b d"},
		{"Condition", "code:in=http://localhost/fhir/ValueSet/vs", "a b d"},
		{"Condition", "code:not-in=http://x/vs", "c"},
		{"Condition", "code:in=http://x/nested", "a d"},
		{"Condition", "code:below=http://x/cs|animal", "a b"},
		{"Condition", "code:below=http://x/cs|poodle", "b"},
		{"Condition", "code:above=http://x/cs|poodle", "a b"},
		{"Condition", "code:below=http://x/cs|fish", "!no code"},
		{"Condition", "code:below=dog", "!system|code"},
		{"Condition", "code:below=http://nope|dog", "!does not have the code system \"http://nope\""},
		{"Condition", "clinical-status:below=" + clinical + "active", "a c"},
		{"Condition", "clinical-status:below=" + clinical + "inactive", "b d"},
		{"Condition", "clinical-status:above=" + clinical + "recurrence", "a c"},
		{"Condition", "clinical-status:in=http://hl7.org/fhir/ValueSet/condition-clinical", "a b c d"},
		{"Condition", "clinical-status:not-in=http://hl7.org/fhir/ValueSet/condition-clinical", ""},
		{"Observation", "status:in=http://hl7.org/fhir/ValueSet/observation-status", "o"},
		{"Observation", "status:in=http://hl7.org/fhir/ValueSet/administrative-gender", ""},
		{"Condition", "code:in=http://x/nope", "!does not have the value set \"http://x/nope\""},
		{"Condition", "code:in=http://x/vs|2", "!does not have the value set"},
		{"Condition", "code:in=http://x/loop", "!includes itself"},
		{"Condition", "code:in=http://x/far", "!\"http://snomed.info/sct\""},
		{"Condition", "_filter=code in http://x/vs", "a b d"},
		{"Condition", "_filter=code ni http://x/vs", "c"},
		{"Condition", "_filter=code ss http://x/cs|animal", "a b"},
		{"Condition", "_filter=code sb http://x/cs|poodle", "a b"},
	})
}

func TestSearch_canonical(t *testing.T) {
	t.Parallel()
	s := open(t)
	put(t, s, `{"resourceType":"Questionnaire","id":"q1","url":"http://x/Questionnaire/q","version":"1.0","status":"active","title":"Alpha"}`)
	put(t, s, `{"resourceType":"Questionnaire","id":"q2","url":"http://x/Questionnaire/q","version":"2.0","status":"draft","title":"Beta"}`)
	put(t, s, `{"resourceType":"QuestionnaireResponse","id":"plain","status":"completed","questionnaire":"http://x/Questionnaire/q"}`)
	put(t, s, `{"resourceType":"QuestionnaireResponse","id":"v1","status":"completed","questionnaire":"http://x/Questionnaire/q|1.0"}`)
	put(t, s, `{"resourceType":"QuestionnaireResponse","id":"v2","status":"completed","questionnaire":"http://x/Questionnaire/q|2.0"}`)
	put(t, s, `{"resourceType":"QuestionnaireResponse","id":"else","status":"completed","questionnaire":"http://x/Questionnaire/qq"}`)
	put(t, s, `{"resourceType":"Library","id":"l1","url":"http://x/Library/l","version":"1.0","status":"active","type":{"text":"l"}}`)
	put(t, s, `{"resourceType":"Library","id":"l2","url":"http://x/Library/l","version":"2.0","status":"draft","type":{"text":"l"}}`)
	put(t, s, `{"resourceType":"PlanDefinition","id":"after","status":"active","relatedArtifact":[{"type":"depends-on","resource":"http://x/Library/l|1.0"},
		{"type":"successor","resource":"http://x/Library/l|2.0"}]}`)
	put(t, s, `{"resourceType":"PlanDefinition","id":"with","status":"active","library":["http://x/Library/l"]}`)
	runCases(t, s, []featureCase{
		{"QuestionnaireResponse", "questionnaire=http://x/Questionnaire/q", "plain v1 v2"},
		{"QuestionnaireResponse", "questionnaire=http://x/Questionnaire/q|1.0", "v1"},
		{"QuestionnaireResponse", "questionnaire:below=http://x/Questionnaire/q|1", "v1"},
		{"QuestionnaireResponse", "questionnaire:below=http://x/Questionnaire/q", "plain v1 v2"},
		{"QuestionnaireResponse", "questionnaire:above=http://x/Questionnaire/q|1.0.3", "plain v1"},
		{"QuestionnaireResponse", "questionnaire.title=alpha", "plain v1"},
		{"QuestionnaireResponse", "questionnaire:Questionnaire.status=draft", "plain v2"},
		{"Questionnaire", "_has:QuestionnaireResponse:questionnaire:_id=v1", "q1"},
		{"Questionnaire", "_has:QuestionnaireResponse:questionnaire:_id=plain", "q1 q2"},
		{"PlanDefinition", "depends-on:Library.status=active", "after with"}, // a path with a filter on the way
		{"PlanDefinition", "depends-on:Library.status=draft", "with"},
		{"PlanDefinition", "successor.version=2.0", "after"},
		{"PlanDefinition", "depends-on:below=http://x/Library/l|1", "after"},
		{"PlanDefinition", "depends-on:above=http://x/Library/l|1.0.3", "after with"},
		{"Library", "_has:PlanDefinition:depends-on:_id=after", "l1"},
		{"Library", "_has:PlanDefinition:successor:_id=after", "l2"},
		{"Observation", "subject:below=Patient/1", "!of which one is a part of another: Encounter, Location, Organization"},
	})
	for _, c := range []struct{ typ, query, want string }{
		{"QuestionnaireResponse", "_id=v1&_include=QuestionnaireResponse:questionnaire", "Questionnaire/q1"},
		{"QuestionnaireResponse", "_id=plain&_include=QuestionnaireResponse:questionnaire", "Questionnaire/q1 Questionnaire/q2"},
		{"QuestionnaireResponse", "_id=v2&_include=*", "Questionnaire/q2"},
		{"PlanDefinition", "_id=after&_include=PlanDefinition:depends-on", "Library/l1"},
		{"PlanDefinition", "_id=after&_include=*", "Library/l1 Library/l2"},
		{"Library", "_id=l2&_revinclude=PlanDefinition:depends-on", "PlanDefinition/with"},
		{"Questionnaire", "_id=q1&_revinclude=QuestionnaireResponse:questionnaire", "QuestionnaireResponse/plain QuestionnaireResponse/v1"},
	} {
		if got, _ := include(t, s, c.typ, c.query, 100); got != c.want {
			t.Errorf("%s?%s: got %s, want %s", c.typ, c.query, got, c.want)
		}
	}
}

func include(t *testing.T, s *storage.Store, typ, query string, limit int) (string, bool) {
	t.Helper()
	q, err := parseQuery(s, typ, query)
	if err != nil {
		t.Fatal(err)
	}
	page, err := s.Search(context.Background(), nil, q, 100, nil)
	if err != nil {
		t.Fatal(err)
	}
	added, cut, err := s.Include(context.Background(), nil, page.Matches, q.Includes, limit)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, v := range added {
		names = append(names, v.Type+"/"+v.ID)
	}
	slices.Sort(names)
	return strings.Join(names, " "), cut
}

func TestSearch_includes(t *testing.T) {
	t.Parallel()
	s := open(t)
	put(t, s, `{"resourceType":"Organization","id":"top"}`)
	put(t, s, `{"resourceType":"Organization","id":"mid","partOf":{"reference":"Organization/top"}}`)
	put(t, s, `{"resourceType":"Organization","id":"low","partOf":{"reference":"Organization/mid"}}`)
	put(t, s, `{"resourceType":"Organization","id":"ring","partOf":{"reference":"Organization/ring"}}`)
	put(t, s, `{"resourceType":"Patient","id":"p","managingOrganization":{"reference":"Organization/low"}}`)
	for i := range 6 {
		put(t, s, fmt.Sprintf(`{"resourceType":"Observation","id":"o%d","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/p"}}`, i))
	}
	for _, c := range []struct {
		typ, query, want string
		limit            int
		cut              bool
	}{
		{"Patient", "_include=Patient:organization", "Organization/low", 10, false},
		{"Patient", "_include=Patient:organization&_include=Organization:partof", "Organization/low", 10, false},
		{"Patient", "_include=Patient:organization&_include:iterate=Organization:partof", "Organization/low Organization/mid Organization/top", 10, false},
		{"Patient", "_include:iterate=Organization:partof&_include=Patient:organization", "Organization/low Organization/mid Organization/top", 10, false},
		{"Organization", "_id=low&_include=Organization:partof", "Organization/mid", 10, false},
		{"Organization", "_id=low&_include:iterate=Organization:partof", "Organization/mid Organization/top", 10, false},
		{"Organization", "_id=ring&_include:iterate=Organization:partof", "", 10, false},
		{"Observation", "_id=o1&_include=*", "Patient/p", 10, false},
		{"Observation", "_id=o1&_include=Observation:subject:Patient", "Patient/p", 10, false},
		{"Observation", "_id=o1&_include=Observation:subject:Group", "", 10, false},
		{"Organization", "_id=low&_revinclude=Patient:organization&_revinclude:iterate=Observation:subject",
			"Observation/o0 Observation/o1 Observation/o2 Observation/o3 Observation/o4 Observation/o5 Patient/p", 10, false},
		{"Organization", "_id=top&_revinclude:iterate=Organization:partof", "Organization/low Organization/mid", 10, false},
	} {
		got, cut := include(t, s, c.typ, c.query, c.limit)
		if got != c.want || cut != c.cut {
			t.Errorf("%s?%s: got %q %v, want %q %v", c.typ, c.query, got, cut, c.want, c.cut)
		}
	}
	if got, cut := include(t, s, "Patient", "_revinclude=Observation:subject", 3); !cut || len(strings.Fields(got)) != 3 {
		t.Errorf("got %q, cut %v: more than the limit must be said to be cut", got, cut)
	}
	// What is on the page already does not push out what is not.
	if got, cut := include(t, s, "Organization", "_include=Organization:partof&_revinclude=Patient:organization", 1); got != "Patient/p" || cut {
		t.Errorf("got %q %v", got, cut)
	}
}

// What refers to a page of many by any parameter is found through thousands of terms, in parts: each once, whichever parts its
// own terms are in.
func TestSearch_includes_what_refers_to_many(t *testing.T) {
	t.Parallel()
	s := open(t)
	const patients = 60
	var want []string
	for i := range patients {
		put(t, s, fmt.Sprintf(`{"resourceType":"Patient","id":"p%d"}`, i))
	}
	for i := range patients {
		put(t, s, fmt.Sprintf(`{"resourceType":"Observation","id":"o%d","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/p%d"},"focus":[{"reference":"Patient/p%d"},{"reference":"Patient/other"}]}`,
			i, i, (i+patients/2)%patients))
		want = append(want, fmt.Sprintf("Observation/o%d", i))
	}
	put(t, s, `{"resourceType":"Observation","id":"other","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/other"}}`)
	slices.Sort(want)
	for _, query := range []string{"_revinclude=*", "_revinclude=Observation:*"} {
		start := time.Now()
		got, cut := include(t, s, "Patient", query, 100)
		if got != strings.Join(want, " ") || cut {
			t.Errorf("%s: got %q %v", query, got, cut)
		}
		t.Log(query, time.Since(start))
	}
	if got, cut := include(t, s, "Patient", "_revinclude=*", 10); !cut || len(strings.Fields(got)) != 10 {
		t.Errorf("got %q, cut %v", got, cut)
	}
}

// describe writes all issues of an error.
func describe(err error) string {
	text := fmt.Sprint(err)
	var e *fhir.Error
	if errors.As(err, &e) {
		for _, i := range e.Issues {
			text += "\n" + i.Code + ": " + i.Text
		}
	}
	return text
}

// TestSearch_hierarchies follows parts of parts, as FHIR R4 search.html#recursive has them.
func TestSearch_hierarchies(t *testing.T) {
	t.Parallel()
	s := open(t)
	place := func(id, of string) {
		part := ""
		if of != "" {
			part = `,"partOf":{"reference":"Location/` + of + `"}`
		}
		put(t, s, `{"resourceType":"Location","id":"`+id+`"`+part+`}`)
	}
	place("house", "")
	place("ward", "house")
	place("room", "ward")
	place("bed", "room")
	place("other", "")
	place("a", "b") // in a circle
	place("b", "a")
	for _, id := range []string{"house", "room", "bed", "other", "a"} {
		put(t, s, `{"resourceType":"Procedure","id":"in-`+id+`","status":"completed","subject":{"reference":"Patient/p"},"location":{"reference":"Location/`+id+`"}}`)
	}
	put(t, s, `{"resourceType":"Organization","id":"ward","partOf":{"reference":"Organization/top"}}`)
	put(t, s, `{"resourceType":"Organization","id":"top"}`)
	put(t, s, `{"resourceType":"Patient","id":"p","managingOrganization":{"reference":"Organization/ward"}}`)
	runCases(t, s, []featureCase{
		{"Procedure", "location:below=ward", "in-bed in-room"},
		{"Procedure", "location:below=Location/house", "in-bed in-house in-room"},
		{"Procedure", "location:below=http://localhost/fhir/Location/bed", "in-bed"},
		{"Procedure", "location:below=bed,other", "in-bed in-other"},
		{"Procedure", "location:above=Location/room", "in-house in-room"},
		{"Procedure", "location:above=bed", "in-bed in-house in-room"},
		{"Procedure", "location:below=b", "in-a"},
		{"Procedure", "location:above=a", "in-a"},
		{"Procedure", "location:below=nowhere", ""},
		{"Procedure", "location:below=Organization/ward", "!of which one is a part of another"},
		{"Location", "partof:below=house", "bed room ward"},
		{"Location", "partof:above=room", "bed room ward"},
		{"Patient", "organization:below=top", "p"},
		{"Patient", "_has:Procedure:patient:location:below=house", "p"},
		{"Procedure", "patient.organization:below=Organization/top", "in-a in-bed in-house in-other in-room"},
		{"Procedure", "location:below=http://elsewhere/fhir/Location/bed", "!must name a resource of this server"},
	})
	q, page := first(t, s, t.Context(), "Procedure", "location:below=house&_sort=_id", 1)
	place("room", "other")
	if got := rest(t, s, t.Context(), q, page, 1); got != "in-bed in-house in-room" {
		t.Errorf("while a room moves to another house: %s", got)
	}
}

// A search may take no longer than one statement, however many it is made of.
func TestSearch_of_several_statements_that_take_too_long(t *testing.T) {
	t.Parallel()
	url := kilntest.DB(t)
	put(t, openOn(t, url), `{"resourceType":"Patient","id":"p","name":[{"family":"f"}]}`)
	s := openWith(t, storage.Options{URL: url, StatementTimeout: time.Microsecond}) // less than what PostgreSQL knows, which so has no bound
	q, err := parseQuery(s, "Patient", "name=f&_sort=family")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Search(t.Context(), nil, q, 10, nil); fhir.KindOf(err) != fhir.TooCostly {
		t.Errorf("got %v", err)
	}
}
