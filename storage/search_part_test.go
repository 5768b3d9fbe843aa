package storage_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/internal/kilntest"
	"kiln/storage"
)

// TestSearch_of_who_sees_a_part compares what callers who see a part find, whose searches go differently about it where they treat few, more or very many,
// with what the server itself finds and they can read: what others refer to, whatever it is, and what there is of several types.
func TestSearch_of_who_sees_a_part(t *testing.T) {
	t.Parallel()
	ctx, url := context.Background(), kilntest.DB(t)
	s := openOn(t, url)
	r := rand.New(rand.NewPCG(5, 6))
	var list []*storage.Prepared
	add := func(format string, args ...any) {
		node, err := fhir.ParseJSON(fmt.Appendf(nil, format, args...))
		if err != nil {
			t.Fatal(err)
		}
		p, err := s.Prepare(node)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	label := func() string {
		code := []string{"N", "N", "N", "R", "V"}[r.IntN(5)]
		return `"meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"` + code + `"}]}`
	}
	const patients = 40
	for _, id := range []string{"d1", "d2"} {
		add(`{"resourceType":"Practitioner","id":%q,"active":true}`, id)
	}
	for i := range 6 {
		add(`{"resourceType":"Organization","id":"g%d","active":%t}`, i, i%2 > 0)
	}
	for i := range patients { // a type of which some belong to patients and some to nobody
		of := fmt.Sprintf(`,"patient":{"reference":"Patient/p%d"}`, i)
		if i%4 == 0 {
			of = ""
		}
		add(`{"resourceType":"Device","id":"v%d",%s,"status":"active"%s}`, i, label(), of)
	}
	for i := range patients {
		add(`{"resourceType":"Patient","id":"p%d","gender":%q,"active":true,"birthDate":"19%02d-01-01"}`, i, []string{"male", "female"}[i%2], 20+i)
	}
	for i := range 120 {
		p := r.IntN(patients)
		add(`{"resourceType":"Encounter","id":"e%d",%s,"status":%q,"class":{"code":"AMB"},"subject":{"reference":"Patient/p%d"},"serviceProvider":{"reference":"Organization/g%d"},"period":{"start":"20%02d-03-01"}}`,
			i, label(), []string{"finished", "planned"}[i%2], p, r.IntN(6), r.IntN(20))
		for n := range 2 {
			add(`{"resourceType":"Observation","id":"o%d-%d",%s,"status":%q,"category":[{"coding":[{"code":%q}]}],"code":{"coding":[{"system":"http://loinc.org","code":"c%d"}]},"subject":{"reference":"Patient/p%d"},"encounter":{"reference":"Encounter/e%d"},"effectiveDateTime":"20%02d-03-01"}`,
				i, n, label(), []string{"final", "amended", "final"}[r.IntN(3)], []string{"a", "b"}[n], r.IntN(4), p, i, r.IntN(20))
		}
		add(`{"resourceType":"DiagnosticReport","id":"r%d",%s,"status":%q,"code":{"text":"x"},"subject":{"reference":"Patient/p%d"},"result":[{"reference":"Observation/o%d-0"}],"effectiveDateTime":"20%02d-04-01"}`,
			i, label(), []string{"final", "partial"}[r.IntN(2)], p, i, r.IntN(20))
	}
	for i, provision := range []string{`{"type":"deny"}`, `{"provision":[{"type":"deny","class":[{"system":"http://hl7.org/fhir/resource-types","code":"Observation"}]}]}`} {
		add(`{"resourceType":"Consent","id":"c%d","status":"active","scope":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/consentscope","code":"patient-privacy"}]},"patient":{"reference":"Patient/p%d"},`+
			`"category":[{"coding":[{"system":"http://loinc.org","code":"59284-0"}]}],"provision":%s}`, i, 3+i, provision)
	}
	if err := s.Copy(ctx, list); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	for i := range 20 { // d1 treats the first sixteen; with the others it is not confirmed, over or yet to come
		low, high, confirmed := "-infinity", "infinity", true
		switch i {
		case 16:
			confirmed = false
		case 17:
			high = "2001-01-01"
		case 18, 19:
			low = "2999-01-01"
		}
		if _, err := conn.Exec(ctx, `INSERT INTO treatment SELECT 1, 0, d.rk, p.rk, $1::timestamptz, $2::timestamptz, $1::timestamptz, $2::timestamptz, $3
			FROM resource d, resource p WHERE d.type = 'Practitioner' AND d.id = 'd1' AND p.type = 'Patient' AND p.id = $4`, low, high, confirmed, fmt.Sprintf("p%d", i)); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Exec(ctx, `UPDATE treatment SET low = $1::timestamptz, high = $2::timestamptz WHERE source = 1 AND patient = (SELECT rk FROM resource WHERE type = 'Patient' AND id = $3)`,
			low, high, fmt.Sprintf("p%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	parse := func(typ, query string) *search.Query {
		q, err := parseQuery(s, typ, query)
		if err != nil {
			t.Fatal(err)
		}
		return q
	}
	// stretch follows a search page by page, up to so many matches.
	stretch := func(ctx context.Context, q *search.Query, size, most int) (list []*storage.Version) {
		for mark, first := (*storage.SearchMark)(nil), true; (first || mark != nil) && len(list) < most; first = false {
			page, err := s.Search(ctx, nil, q, size, mark)
			if err != nil {
				t.Fatal(err)
			}
			list, mark = append(list, page.Matches...), page.Next
		}
		return list
	}
	clinical := []string{"Patient", "Observation", "Encounter", "DiagnosticReport"}
	category := parse("Observation", "category=a").Where[0].(*search.Match)
	shared := search.Rule{Types: []string{"Organization", "Practitioner"}, Reach: search.ReachAny}
	for name, restriction := range map[string]*search.Restriction{
		"practitioner": {Caller: "d", Self: "Practitioner/d1", Roles: []string{"practitioner"}, Consent: true, Rules: []search.Rule{{Types: clinical, Reach: search.ReachTreated}, shared}},
		"practitioner_with_devices": {Caller: "d", Self: "Practitioner/d1", User: "Practitioner/d1", Roles: []string{"practitioner"}, Consent: true, Rules: []search.Rule{
			{Types: append([]string{"Device"}, clinical...), Reach: search.ReachTreated}, {Types: []string{"Device", "Organization"}, Reach: search.ReachShared}, {Types: []string{"Practitioner"}, Reach: search.ReachUser}}},
		"patient_with_devices": {Caller: "p", Record: "p7", User: "Patient/p7", Rules: []search.Rule{
			{Types: append([]string{"Device"}, clinical...), Reach: search.ReachOwn}, {Types: []string{"Device", "Organization"}, Reach: search.ReachShared}, {Types: []string{"Patient"}, Reach: search.ReachUser}}},
		"practitioner_of_a_category": {Caller: "d", Self: "Practitioner/d1", Roles: []string{"practitioner"}, Consent: true, Rules: []search.Rule{
			{Types: []string{"Patient", "Encounter", "DiagnosticReport"}, Reach: search.ReachTreated}, {Types: []string{"Observation"}, Reach: search.ReachTreated, Where: []*search.Match{category}}, shared}},
		"practitioner_in_context": {Caller: "d", Self: "Practitioner/d1", Context: "p5", Roles: []string{"practitioner"}, Consent: true, Rules: []search.Rule{{Types: clinical, Reach: search.ReachTreated, Context: true}, shared}},
		"practitioner_of_nobody":  {Caller: "d", Self: "Practitioner/d2", Roles: []string{"practitioner"}, Consent: true, Rules: []search.Rule{{Types: clinical, Reach: search.ReachTreated}, shared}},
		"patient":                 {Caller: "p", Record: "p7", Rules: []search.Rule{{Types: clinical, Reach: search.ReachOwn}, shared}},
		"admin":                   {Caller: "a", Roles: []string{"admin"}, Consent: true, Rules: []search.Rule{{Types: clinical, Reach: search.ReachAny}, shared}},
		"admin_of_a_category": {Caller: "a", Roles: []string{"admin"}, Consent: true, Rules: []search.Rule{
			{Types: []string{"Patient", "Encounter", "DiagnosticReport"}, Reach: search.ReachAny}, {Types: []string{"Observation"}, Reach: search.ReachAny, Where: []*search.Match{category}}, shared}},
		"admin_without_observations": {Caller: "a", Roles: []string{"admin"}, Consent: true, Rules: []search.Rule{{Types: []string{"Patient", "Encounter", "DiagnosticReport"}, Reach: search.ReachAny}, shared}},
	} {
		access, err := s.Access(restriction)
		if err != nil {
			t.Fatal(err)
		}
		of := storage.WithAccess(ctx, access)
		known := map[string]bool{}
		shows := func(v *storage.Version) bool {
			key := v.Type + "/" + v.ID
			if is, ok := known[key]; ok {
				return is
			}
			now, err := s.Read(of, v.Type, v.ID)
			if err != nil {
				t.Fatal(err)
			}
			if now != nil {
				kept, _, err := s.Narrowed(of, []*storage.Version{now})
				if err != nil {
					t.Fatal(err)
				}
				known[key] = len(kept) > 0
			}
			return known[key]
		}
		seen := func(typ, query string) (list []*storage.Version) {
			return slices.DeleteFunc(stretch(ctx, parse(typ, query), 10_000, 10_000), func(v *storage.Version) bool { return !shows(v) })
		}
		// named are the resources of a type that a reference in one of list names.
		named := func(list []*storage.Version, typ string) (keys []string) {
			for _, v := range list {
				for _, text := range strings.Split(string(v.Content), `"`) {
					if strings.HasPrefix(text, typ+"/") {
						keys = append(keys, strings.TrimPrefix(text, typ+"/"))
					}
				}
			}
			return keys
		}
		keep := func(list []*storage.Version, ids []string) []*storage.Version {
			return slices.DeleteFunc(list, func(v *storage.Version) bool { return !slices.Contains(ids, v.ID) })
		}
		type shape struct {
			typ, query string
			want       func() []*storage.Version
		}
		var shapes []shape
		for _, inner := range []string{"status=final", "code=c1", "status=zzz"} {
			for _, rest := range []string{"", "&gender=male", "&_sort=-_lastUpdated", "&_sort=birthdate"} {
				shapes = append(shapes, shape{"Patient", "_has:Observation:patient:" + inner + rest, func() []*storage.Version {
					own := "_has:Observation:patient:" + inner + rest // in the order of the search itself
					return keep(seen("Patient", own), named(seen("Observation", inner), "Patient"))
				}})
			}
			shapes = append(shapes, shape{"Patient", "_has:Encounter:patient:_has:Observation:encounter:" + inner, func() []*storage.Version {
				visits := keep(seen("Encounter", "status=finished,planned"), named(seen("Observation", inner), "Encounter"))
				return keep(seen("Patient", "_has:Encounter:patient:_has:Observation:encounter:"+inner), named(visits, "Patient"))
			}}, shape{"Organization", "_has:Encounter:service-provider:_has:Observation:encounter:" + inner, func() []*storage.Version {
				visits := keep(seen("Encounter", "status=finished,planned"), named(seen("Observation", inner), "Encounter"))
				return keep(seen("Organization", "active=true,false"), named(visits, "Organization"))
			}})
		}
		shapes = append(shapes,
			shape{"Observation", "_has:DiagnosticReport:result:status=final", func() []*storage.Version {
				return keep(seen("Observation", "_has:DiagnosticReport:result:status=final"), named(seen("DiagnosticReport", "status=final"), "Observation"))
			}},
			shape{"Organization", "_has:Encounter:service-provider:status=finished", func() []*storage.Version {
				return keep(seen("Organization", "active=true,false"), named(seen("Encounter", "status=finished"), "Organization"))
			}},
			shape{"Observation", "patient.gender=male&status=final", func() []*storage.Version {
				var men []string
				for _, v := range seen("Patient", "gender=male") {
					men = append(men, v.ID)
				}
				return slices.DeleteFunc(seen("Observation", "status=final"), func(v *storage.Version) bool {
					return !slices.ContainsFunc(named([]*storage.Version{v}, "Patient"), func(id string) bool { return slices.Contains(men, id) })
				})
			}})
		for _, one := range [][2]string{{"", "status=final"}, {"", "status=final,finished"}, {"", "code=http://loinc.org|c1"}, {"", "_tag=zzz"}, {"", "gender=male"}, {"", "_lastUpdated=gt2000&_type=Observation,Encounter,Organization"},
			{"", "status=final,finished&_sort=-_lastUpdated"}, {"", "status:not=final&_type=Observation,DiagnosticReport"}, {"", "_content=c1"}, {"", "_content=c1,x&_sort=_lastUpdated"}, {"", "active=true"}, {"", "active=true&_sort=_lastUpdated"},
			{"", "_type=Observation,Encounter,Organization,Patient"}, {"", "_type=Patient,Organization&active=true,false"}, {"", "date=gt2005-01-01"}, {"", "_type=Organization,Practitioner"}, {"", "status=active"},
			{"", "_type=Device,Organization"}, {"", "_type=Observation,Encounter&status=final,finished"}, {"", "_type=Observation,Encounter&_sort=-_lastUpdated"}, {"", "_type=Observation,DiagnosticReport&_content=c1,x"},
			{"Observation", "status=final"}, {"Patient", ""}, {"Observation", "code=http://loinc.org|c1"}, {"Encounter", "_sort=-date"}} {
			shapes = append(shapes, shape{one[0], one[1], func() []*storage.Version { return seen(one[0], one[1]) }})
		}
		names := func(list []*storage.Version) (names []string) {
			for _, v := range list {
				names = append(names, v.Type+"/"+v.ID)
			}
			return names
		}
		any := 0
		for _, one := range shapes {
			want := names(one.want())
			any += len(want)
			q := parse(one.typ, one.query)
			ways := [][3]int{{200, 1000, 10_000}, {0, 1000, 10_000}, {0, 0, 10_000}, {0, 0, 0}}
			if restriction.Self == "" { // who treats nobody has one way
				ways = ways[:1]
			}
			for _, bounds := range ways {
				s.CareBounds(bounds[0], bounds[1], bounds[2])
				const size, few = 9, 27 // the count is of the rest, too
				var got, expected []string
				if one.typ == "Organization" || len(q.Sort) > 0 { // equal keys come in the order of the way that was taken
					got, expected = slices.Sorted(slices.Values(names(stretch(of, q, 4*few, 5000)))), slices.Sorted(slices.Values(want))
				} else {
					got, expected = names(stretch(of, q, size, few)), want[:min(few, len(want))]
				}
				if !slices.Equal(got, expected) {
					t.Errorf("%s: %s?%s %v: finds %d %v\nwant %d %v", name, one.typ, one.query, bounds, len(got), got, len(want), expected)
				}
				if n, err := s.Count(of, nil, q, 0); err != nil || n != int64(len(want)) {
					t.Errorf("%s: %s?%s %v: counts %d of %d, %v", name, one.typ, one.query, bounds, n, len(want), err)
				}
			}
		}
		if any == 0 {
			t.Errorf("%s sees nothing of all this", name)
		}
	}
}
