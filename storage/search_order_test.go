package storage_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/storage"
)

// TestSearch_in_any_order compares the pages of searches sorted by keys of every kind, of one type and of several, with the unpaged
// answer, for callers who see all, a part or a record, with bounds so small that each way to a page is taken. Who sees a part gets full
// pages, or how many others there are would show.
func TestSearch_in_any_order(t *testing.T) {
	t.Parallel()
	s := open(t)
	seed := uint64(setting("KILN_ORACLE_SEED", 1))
	r := rand.New(rand.NewPCG(seed, 7))
	fillOrders(t, s, r)
	callers := orderCallers(t, s)
	names := make([]string, 0, len(callers))
	for name := range callers {
		names = append(names, name)
	}
	slices.Sort(names)
	keys := map[string][]string{
		"Observation":    {"code", "status", "subject", "performer", "date", "value-quantity", "category", "identifier", "issued", "method", "code-value-quantity"},
		"RiskAssessment": {"probability", "subject", "date", "condition", "method", "performer"},
		"Patient":        {"family", "given", "gender", "birthdate", "death-date", "general-practitioner", "identifier", "language", "active"},
		"Location":       {"near", "near", "status", "name"},
		"":               {"_tag", "_security", "_profile", "_source", "_id", "_lastUpdated"},
	}
	where := map[string][]string{
		"Observation":    {"", "", "status=final", "date=ge2015", "code=c1,c2", "value-quantity=gt3", "_tag=t1"},
		"RiskAssessment": {"", "", "probability=gt0.2", "date=lt2018", "_tag:not=t1"},
		"Patient":        {"", "", "gender=male", "birthdate=gt1950", "_tag=t2"},
		"Location":       {"near=10|10|30000", "near=10|10|3000,-10|-170|4000", "near=10|10|30000&status=active"},
		"":               {"", "", "_tag=t1", "_tag:not=t2", "_lastUpdated=gt2000"},
	}
	read := map[string]bool{}
	for i := range setting("KILN_ORDER_SEARCHES", 60) {
		typ := []string{"Observation", "RiskAssessment", "Patient", "Location", "", ""}[r.IntN(6)]
		var sorts, params []string
		of, path := keys[typ], typ
		if typ == "" {
			if r.IntN(2) == 0 {
				params = append(params, "_type="+[]string{"Observation,RiskAssessment", "Patient,RiskAssessment,Observation"}[r.IntN(2)])
			}
			if r.IntN(3) == 0 {
				of = append(slices.Clip(of), "date")
			}
		} else {
			of = slices.Concat(of, of, keys[""])
		}
		for range r.IntN(4) {
			sorts = append(sorts, []string{"", "-"}[r.IntN(2)]+of[r.IntN(len(of))])
		}
		if len(sorts) > 0 {
			params = append(params, "_sort="+strings.Join(sorts, ","))
		}
		if w := where[typ][r.IntN(len(where[typ]))]; w != "" {
			params = append(params, w)
		}
		query := strings.Join(params, "&")
		q, err := parseQuery(s, path, query)
		if err != nil {
			if strings.Contains(describe(err), "no search parameter") { // the type has none of the name
				continue
			}
			t.Fatalf("%s?%s: %v", path, query, describe(err))
		}
		name := names[r.IntN(len(names))]
		ctx := storage.WithAccess(t.Context(), callers[name])
		s.SortBounds(1e6, 1e6, 1e6)
		whole, err := s.Search(context.Background(), nil, q, 1000, nil)
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for _, v := range whole.Matches {
			key := name + " " + v.Type + "/" + v.ID
			if _, known := read[key]; !known {
				now, err := s.Read(ctx, v.Type, v.ID)
				if err != nil {
					t.Fatal(err)
				}
				if now != nil {
					kept, _, err := s.Narrowed(ctx, []*storage.Version{now})
					if err != nil {
						t.Fatal(err)
					}
					read[key] = len(kept) > 0
				} else {
					read[key] = false
				}
			}
			if read[key] {
				want = append(want, v.Type+"/"+v.ID)
			}
		}
		bounds := [5]int{[]int{0, 0, 3, 1000}[r.IntN(4)], []int{1, 4, 30, 1000}[r.IntN(4)], []int{0, 10, 1000}[r.IntN(3)], 1 + r.IntN(8), 100 * r.IntN(2)}
		bounds[2] = max(bounds[2], bounds[0])
		if name == "patient" || typ == "Location" { // a record is collected, and so is what is sorted by distance
			bounds[2] = 1000
		}
		s.SortBounds(bounds[0], bounds[1], bounds[2])
		s.SortSteps(bounds[3], bounds[4])
		size := 2 + r.IntN(9)
		if len(want) > 60 {
			size += 8
		}
		what := fmt.Sprintf("%d: %s?%s for %s, pages of %d, bounds %v", i, path, query, name, size, bounds)
		followOrder(t, s, ctx, q, size, want, what, name == "all")
		if t.Failed() {
			return
		}
	}
}

// TestSearch_in_an_order_that_is_refused tells what is: nothing has an order by what is no single value, and contents are read for so many
// matches at most where their texts are not listed, or where one record is all that the caller sees.
func TestSearch_in_an_order_that_is_refused(t *testing.T) {
	t.Parallel()
	s := open(t)
	for i := range 5 {
		put(t, s, fmt.Sprintf(`{"resourceType":"DiagnosticReport","id":"r%d","status":"final","code":{"coding":[{"code":"c%d"}]},"subject":{"reference":"Patient/p1"},"result":[{"reference":"Observation/o%d"}]}`, i, i%2, i))
	}
	own, err := s.Access(&search.Restriction{Caller: "p", Record: "p1", Rules: []search.Rule{{Types: []string{"DiagnosticReport"}, Reach: search.ReachOwn}}})
	if err != nil {
		t.Fatal(err)
	}
	s.SortBounds(0, 1000, 4)
	for query, want := range map[string]struct{ all, own bool }{
		"_sort=code":        {false, true},
		"_sort=date,code":   {false, true},
		"_sort=result":      {true, true},
		"_sort=code,result": {false, true}, // few have each of the codes
		"_sort=date,result": {true, true},
		"_sort=date,_id":    {false, false},
	} {
		q, err := parseQuery(s, "DiagnosticReport", query)
		if err != nil {
			t.Fatal(err)
		}
		for access, refused := range map[*storage.Access]bool{storage.Everything(): want.all, own: want.own} {
			if _, err := s.Search(storage.WithAccess(t.Context(), access), nil, q, 2, nil); (fhir.KindOf(err) == fhir.TooCostly) != refused {
				t.Errorf("%s, own %t: %v", query, access == own, err)
			}
		}
	}
	for _, query := range []string{"Location?_sort=near", "Observation?_sort=_text", "Observation?_sort=_content", "Patient?_sort=nothing"} {
		typ, query, _ := strings.Cut(query, "?")
		if _, err := parseQuery(s, typ, query); fhir.KindOf(err) != fhir.Invalid && fhir.KindOf(err) != fhir.NotSupported {
			t.Errorf("%s: %v", query, err)
		}
	}
}

// followOrder compares the pages of a search, forward and backward, with what they must show. Where short is set pages may be.
func followOrder(t *testing.T, s *storage.Store, ctx context.Context, q *search.Query, size int, want []string, what string, short bool) {
	t.Helper()
	var joined, back []string
	var page *storage.SearchPage
	var err error
	for mark, pages := (*storage.SearchMark)(nil), 0; pages == 0 || mark != nil; pages++ {
		if page, err = s.Search(ctx, nil, q, size, mark); err != nil {
			t.Fatalf("%s: page %d: %v", what, pages, err)
		}
		if page.Next != nil && len(page.Matches) < size && !short {
			t.Fatalf("%s: page %d has %d matches and a next one", what, pages, len(page.Matches))
		}
		if page.Complete && (mark != nil || page.Next != nil) {
			t.Fatalf("%s: page %d is no complete answer", what, pages)
		}
		joined = append(joined, ids(page.Matches)...)
		if mark = page.Next; pages > 3000 {
			t.Fatalf("%s: next never ends: %v", what, joined)
		}
	}
	if !slices.Equal(joined, want) {
		t.Fatalf("%s: pages joined\n%v, in one\n%v", what, joined, want)
	}
	back = ids(page.Matches)
	for mark, pages := page.Previous, 0; mark != nil; pages++ {
		if page, err = s.Search(ctx, nil, q, size, mark); err != nil {
			t.Fatalf("%s: %d pages back: %v", what, pages, err)
		}
		if page.Previous != nil && len(page.Matches) < size && !short {
			t.Fatalf("%s: %d pages back has %d matches and a previous one", what, pages, len(page.Matches))
		}
		back = append(ids(page.Matches), back...)
		if mark = page.Previous; pages > 3000 {
			t.Fatalf("%s: previous never ends: %v", what, back)
		}
	}
	if !slices.Equal(back, want) {
		t.Fatalf("%s: pages joined backward\n%v, in one\n%v", what, back, want)
	}
}

// fillOrders stores resources whose values often are the same, missing, or several.
func fillOrders(t *testing.T, s *storage.Store, r *rand.Rand) {
	t.Helper()
	put(t, s, `{"resourceType":"Practitioner","id":"d1"}`)
	some := func(format string, n int) string { return fmt.Sprintf(format, r.IntN(n)) }
	var parts []string
	maybe := func(text string) {
		if r.IntN(4) > 0 {
			parts = append(parts, text)
		}
	}
	meta := func() {
		list := []string{}
		if r.IntN(3) > 0 {
			list = append(list, `"tag":[`+some(`{"code":"t%d"}`, 3)+`]`)
		}
		if r.IntN(5) == 0 {
			list = append(list, `"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"`+[]string{"V", "N"}[r.IntN(2)]+`"}]`)
		}
		if r.IntN(2) == 0 {
			list = append(list, `"profile":[`+some(`"http://p/%d"`, 3)+`]`)
		}
		if r.IntN(2) == 0 {
			list = append(list, some(`"source":"http://s/%d"`, 3))
		}
		if len(list) > 0 {
			parts = append(parts, `"meta":{`+strings.Join(list, ",")+`}`)
		}
	}
	code := func(format string, n int) string {
		if r.IntN(4) == 0 {
			return `{"coding":[` + some(format, n) + `,` + some(format, n) + `]}`
		}
		return `{"coding":[` + some(format, n) + `]}`
	}
	day := func() string { return fmt.Sprintf("%d-%02d-%02d", 2010+r.IntN(10), 1+r.IntN(2), 1+r.IntN(3)) }
	for i := range 12 {
		parts = []string{fmt.Sprintf(`"resourceType":"Patient","id":"p%d"`, i)}
		meta()
		maybe(`"name":[{"family":` + some(`"F%d"`, 5) + `,"given":[` + some(`"G%d"`, 4) + `,` + some(`"G%d"`, 4) + `]}]`)
		maybe(`"gender":"` + []string{"male", "female"}[r.IntN(2)] + `"`)
		maybe(`"birthDate":"` + fmt.Sprint(1930+10*r.IntN(8)) + `"`)
		maybe(`"deceasedDateTime":"` + day() + `"`)
		maybe(`"generalPractitioner":[` + some(`{"reference":"Practitioner/d%d"}`, 4) + `]`)
		maybe(`"identifier":[` + some(`{"value":"i%d"}`, 9) + `]`)
		maybe(`"communication":[{"language":` + code(`{"code":"l%d"}`, 3) + `}]`)
		put(t, s, `{`+strings.Join(parts, ",")+`}`)
		if i < 6 {
			put(t, s, fmt.Sprintf(`{"resourceType":"Encounter","id":"e%d","status":"finished","class":{"code":"AMB"},"subject":{"reference":"Patient/p%d"},"participant":[{"individual":{"reference":"Practitioner/d1"}}]}`, i, i))
		}
	}
	for i := range 90 {
		parts = []string{fmt.Sprintf(`"resourceType":"Observation","id":"o%d","status":"%s","code":%s`, i, []string{"final", "final", "final", "amended"}[r.IntN(4)], code(`{"system":"http://x","code":"c%d"}`, 6))}
		meta()
		parts = append(parts, `"subject":{`+some(`"reference":"Patient/p%d"`, 12)+`}`)
		maybe(`"effectiveDateTime":"` + day() + `"`)
		maybe(`"issued":"` + day() + `T00:00:00Z"`)
		maybe(`"performer":[` + some(`{"reference":"Practitioner/d%d"}`, 4) + `]`)
		maybe(`"category":[` + code(`{"code":"k%d"}`, 2) + `]`)
		maybe(`"identifier":[` + some(`{"value":"i%d"}`, 50) + `]`)
		maybe(`"method":` + code(`{"code":"m%d"}`, 20))
		maybe(`"valueQuantity":{"value":` + []string{"1", "1.0", "2.5", "4", "4.00", "7"}[r.IntN(6)] + `}`)
		put(t, s, `{`+strings.Join(parts, ",")+`}`)
	}
	for i := range 40 {
		parts = []string{fmt.Sprintf(`"resourceType":"Location","id":"l%d"`, i)}
		meta()
		maybe(`"name":` + some(`"L%d"`, 4))
		maybe(`"status":"` + []string{"active", "suspended"}[r.IntN(2)] + `"`)
		maybe(fmt.Sprintf(`"position":{"latitude":%d,"longitude":%d}`, 30*(r.IntN(5)-2), 60*(r.IntN(5)-2)))
		put(t, s, `{`+strings.Join(parts, ",")+`}`)
	}
	for i := range 40 {
		parts = []string{fmt.Sprintf(`"resourceType":"RiskAssessment","id":"r%d","status":"final"`, i)}
		meta()
		parts = append(parts, `"subject":{`+some(`"reference":"Patient/p%d"`, 12)+`}`)
		maybe(`"occurrenceDateTime":"` + day() + `"`)
		maybe(`"condition":` + some(`{"reference":"Condition/c%d"}`, 9))
		maybe(`"performer":` + some(`{"reference":"Practitioner/d%d"}`, 4))
		maybe(`"method":` + code(`{"code":"m%d"}`, 5))
		var list []string
		for range r.IntN(3) {
			list = append(list, `{"probabilityDecimal":`+[]string{"0.1", "0.10", "0.5", "0.9"}[r.IntN(4)]+`}`)
		}
		if len(list) > 0 {
			parts = append(parts, `"prediction":[`+strings.Join(list, ",")+`]`)
		}
		put(t, s, `{`+strings.Join(parts, ",")+`}`)
	}
}

// orderCallers are who asks, by name: all sees everything.
func orderCallers(t *testing.T, s *storage.Store) map[string]*storage.Access {
	t.Helper()
	types := []string{"Patient", "Observation", "RiskAssessment"}
	final, err := parseQuery(s, "Observation", "status=final")
	if err != nil {
		t.Fatal(err)
	}
	where := []*search.Match{final.Where[0].(*search.Match)}
	shut, err := parseQuery(s, "Location", "status=suspended")
	if err != nil {
		t.Fatal(err)
	}
	suspended := []*search.Match{shut.Where[0].(*search.Match)}
	callers := map[string]*storage.Access{"all": storage.Everything()}
	for name, r := range map[string]*search.Restriction{
		"patient":      {Caller: "p", Record: "p1", Rules: []search.Rule{{Types: types, Reach: search.ReachOwn}}},
		"practitioner": {Caller: "d", Self: "Practitioner/d1", Roles: []string{"practitioner"}, Consent: true, Rules: []search.Rule{{Types: types, Reach: search.ReachTreated}, {Types: []string{"Location"}, Reach: search.ReachAny}}},
		"practitioner_granular": {Caller: "d", Self: "Practitioner/d1", Roles: []string{"practitioner"}, Consent: true,
			Rules: []search.Rule{{Types: []string{"Location"}, Reach: search.ReachAny, Where: suspended}, {Types: []string{"Patient"}, Reach: search.ReachTreated}, {Types: []string{"Observation"}, Reach: search.ReachTreated, Where: where}}},
		"admin":    {Caller: "a", Roles: []string{"admin"}, Consent: true, Rules: []search.Rule{{Types: append(types, "Location"), Reach: search.ReachAny}}},
		"granular": {Caller: "g", Rules: []search.Rule{{Types: []string{"Observation"}, Reach: search.ReachAny, Where: where}, {Types: []string{"Patient"}, Reach: search.ReachAny}}},
	} {
		if callers[name], err = s.Access(r); err != nil {
			t.Fatal(err)
		}
	}
	return callers
}

// TestSearch_in_an_order_while_what_was_found_goes deletes all of a page between the statement that finds it and the one that reads it.
func TestSearch_in_an_order_while_what_was_found_goes(t *testing.T) {
	t.Parallel()
	for _, query := range []string{"_sort=code", "_sort=-code,subject", "_sort=_lastUpdated,code"} {
		for _, several := range []bool{false, true} {
			s := open(t)
			typ, query := "Basic", query
			if several {
				typ, query = "", "_type=Basic,Group&"+strings.ReplaceAll(strings.ReplaceAll(query, "subject", "_id"), "code", "_tag")
			}
			for i := range 9 {
				put(t, s, fmt.Sprintf(`{"resourceType":"Basic","id":"b%d","meta":{"tag":[{"code":"c%d"}]},"code":{"coding":[{"code":"c%d"}]}}`, i, i, i))
			}
			s.SortBounds(0, 1000, 0)
			q, err := parseQuery(s, typ, query)
			if err != nil {
				t.Fatal(err)
			}
			page, err := s.Search(t.Context(), nil, q, 9, nil)
			if err != nil {
				t.Fatal(err)
			}
			all := ids(page.Matches)
			empty, err := s.SearchThen(t.Context(), q, 3, nil, func() {
				for _, key := range all[:4] {
					remove(t, s, storage.Key{Type: "Basic", ID: strings.TrimPrefix(key, "Basic/")})
				}
			})
			if err != nil || len(empty.Matches) > 0 || empty.Next == nil || empty.Previous != nil || empty.Complete {
				t.Fatalf("%s: a first page whose matches are gone: %+v, %v", query, empty, err)
			}
			if got := rest(t, s, t.Context(), q, empty, 2); got != strings.ReplaceAll(strings.Join(all[4:], " "), "Basic/", "") {
				t.Errorf("%s: behind it come %v, want %v", query, got, all[4:])
			}
		}
	}
}
