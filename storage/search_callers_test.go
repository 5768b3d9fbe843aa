package storage_test

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/storage"
	"kiln/storage/identity"
)

// TestSearch_of_callers compares what searches that go along the codes of patients give a caller who reads through the views,
// page by page and as a total, with what the server itself finds and the caller can read.
func TestSearch_of_callers(t *testing.T) {
	t.Parallel()
	s := openFilled(t, 6000)
	code := "http://loinc.org|8302-2"
	put(t, s, `{"resourceType":"Practitioner","id":"d1"}`)
	put(t, s, `{"resourceType":"PractitionerRole","id":"r2","practitioner":{"reference":"Practitioner/d2"}}`)
	for _, id := range []string{"p10", "p20", "p30"} { // another one does, in a role
		put(t, s, fmt.Sprintf(`{"resourceType":"CareTeam","id":"t%s","status":"active","subject":{"reference":"Patient/%s"},"participant":[{"member":{"reference":"PractitionerRole/r2"}}]}`, id, id))
	}
	for i, id := range []string{"p10", "p20", "p30", "p110", "p500"} { // the practitioner treats them
		put(t, s, fmt.Sprintf(`{"resourceType":"Encounter","id":"e%d","status":"finished","class":{"code":"AMB"},"subject":{"reference":"Patient/%s"},`+
			`"participant":[{"individual":{"reference":"Practitioner/d1"}}]}`, i, id))
		for n, label := range []string{"R", "V", "N"} { // something of each record is restricted
			for day := range 3 {
				put(t, s, fmt.Sprintf(`{"resourceType":"Observation","id":"x%d%s%d","meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":%q}]},"status":"final",`+
					`"category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"vital-signs"}]}],"code":{"coding":[{"system":"http://loinc.org","code":"8302-2"}]},`+
					`"subject":{"reference":"Patient/%s"},"effectiveDateTime":"20%d%d-03-05T08:00:00Z"}`, i, label, day, label, id, 1+n%2, day))
			}
		}
	}
	put(t, s, `{"resourceType":"Consent","id":"no","status":"active","scope":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/consentscope","code":"patient-privacy"}]},"patient":{"reference":"Patient/p30"},`+
		`"category":[{"coding":[{"system":"http://loinc.org","code":"59284-0"}]}],"provision":{"type":"deny"}}`)
	put(t, s, `{"resourceType":"Consent","id":"codes","status":"active","scope":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/consentscope","code":"patient-privacy"}]},"patient":{"reference":"Patient/p20"},`+
		`"category":[{"coding":[{"system":"http://loinc.org","code":"59284-0"}]}],"provision":{"provision":[{"type":"deny","class":[{"system":"http://hl7.org/fhir/resource-types","code":"Observation"}]}]}}`)
	vital, err := parseQuery(s, "Observation", "category=vital-signs")
	if err != nil {
		t.Fatal(err)
	}
	types := []string{"Patient", "Observation", "Appointment", "Encounter"}
	token, expires := make([]byte, 32), time.Now().Add(time.Hour)
	if err := s.Identity().EnsureGrant(t.Context(), &identity.Grant{ID: "g", Context: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	if err := s.Identity().AddToken(t.Context(), &identity.Token{Hash: token, Kind: identity.Access, Grant: "g", Expires: expires}); err != nil {
		t.Fatal(err)
	}
	// observations are those of a patient that match a query, seen or not.
	found := map[[2]string][]*storage.Version{}
	observations := func(patient, query string) []*storage.Version {
		key := [2]string{patient, query}
		if _, known := found[key]; !known {
			q, err := parseQuery(s, "Observation", "patient="+patient+"&"+query)
			if err != nil {
				t.Fatal(err)
			}
			of, err := s.Search(context.Background(), nil, q, 100_000, nil)
			if err != nil {
				t.Fatal(err)
			}
			found[key] = of.Matches
		}
		return found[key]
	}
	for name, r := range map[string]*search.Restriction{
		"patient":            {Caller: "p", Record: "p110", Rules: []search.Rule{{Types: types, Reach: search.ReachOwn}}},
		"patient_and_shared": {Caller: "p", Record: "p110", Rules: []search.Rule{{Types: types, Reach: search.ReachOwn}, {Types: types, Reach: search.ReachShared}}},
		"practitioner": {Caller: "d", Self: "Practitioner/d1", Roles: []string{"practitioner"}, Consent: true,
			Rules: []search.Rule{{Types: types, Reach: search.ReachTreated}}},
		"practitioner_in_a_role": {Caller: "r", Self: "Practitioner/d2", Roles: []string{"practitioner"}, Consent: true,
			Rules: []search.Rule{{Types: types, Reach: search.ReachTreated}}},
		"practitioner_in_context": {Caller: "d", Self: "Practitioner/d1", Context: "p20", Roles: []string{"practitioner"}, Consent: true,
			Rules: []search.Rule{{Types: types, Reach: search.ReachTreated, Context: true}}},
		"practitioner_of_vital_signs": {Caller: "d", Self: "Practitioner/d1", Roles: []string{"practitioner"}, Consent: true, Rules: []search.Rule{
			{Types: []string{"Patient", "Encounter"}, Reach: search.ReachTreated},
			{Types: []string{"Observation"}, Reach: search.ReachTreated, Where: []*search.Match{vital.Where[0].(*search.Match)}}}},
		"admin":    {Caller: "a", Roles: []string{"admin"}, Consent: true, Rules: []search.Rule{{Types: types, Reach: search.ReachAny}}},
		"patients": {Caller: "a", Roles: []string{"admin"}, Consent: true, Rules: []search.Rule{{Types: []string{"Patient"}, Reach: search.ReachAny}}},
	} {
		access, err := s.Access(r)
		if err != nil {
			t.Fatal(err)
		}
		ctx := storage.WithAccess(context.Background(), access)
		seen, hidden := 0, 0
		shown := map[string]bool{} // what was read before: nobody writes meanwhile
		shows := func(v *storage.Version) bool {
			key := v.Type + "/" + v.ID
			if shows, known := shown[key]; known {
				return shows
			}
			now, err := s.Read(ctx, v.Type, v.ID)
			if err != nil {
				t.Fatal(err)
			}
			// With a token it is another way in the database, and the same answer; without the token it is none.
			proof := storage.NewProof(token, time.Now())
			proven, err := s.Read(storage.WithProof(ctx, proof), v.Type, v.ID)
			if err != nil || !proof.Settled() || !reflect.DeepEqual(proven, now) {
				t.Fatalf("%s with a token: %v, %v; without: %v", key, proven, err, now)
			}
			if now == nil {
				hidden++
				shown[key] = false
				return false
			}
			kept, _, err := s.Narrowed(ctx, []*storage.Version{now})
			if err != nil {
				t.Fatal(err)
			}
			shown[key] = len(kept) > 0
			return shown[key]
		}
		reads := func(list []*storage.Version) (ids []string) {
			for _, v := range list {
				if shows(v) {
					ids = append(ids, v.ID)
				}
			}
			seen += len(ids)
			return ids
		}
		for _, c := range []struct{ typ, query, of string }{ // of: what is looked for in them, as _has says it
			{"Observation", "patient=p10&code=" + code, ""}, {"Observation", "patient=p20&code=" + code + "&_sort=-date", ""},
			{"Observation", "patient=p30&code=" + code, ""}, {"Observation", "patient=p110&code=" + code, ""}, {"Observation", "patient=p40&code=" + code, ""},
			{"Observation", "patient=p110&code=" + code + "&_sort=date", ""}, {"Observation", "patient=p110&code=" + code + "&date=ge2012&value-quantity=gt20", ""},
			{"Observation", "patient=p110&category=vital-signs", ""},
			{"Observation", "code=" + code, ""}, {"Observation", "code=" + code + "&date=ge2022", ""}, {"Observation", "code=" + code + "&value-quantity=gt195", ""},
			{"Patient", "_has:Observation:patient:code=" + code, "code=" + code}, {"Patient", "_has:Observation:patient:code=" + code + "&_sort=family", "code=" + code},
			{"Patient", "_has:Observation:patient:code=" + code + "&gender=male", "code=" + code}, {"Patient", "_has:Observation:patient:code=http://loinc.org|no-such", "code=http://loinc.org|no-such"},
		} {
			t.Run(name+"_"+c.typ+"?"+c.query, func(t *testing.T) {
				q, err := parseQuery(s, c.typ, c.query)
				if err != nil {
					t.Fatal(err)
				}
				found, err := s.Search(context.Background(), nil, q, 100_000, nil)
				if err != nil {
					t.Fatal(err)
				}
				want := reads(found.Matches)
				if c.of != "" { // what makes them match must be visible too
					want = slices.DeleteFunc(want, func(id string) bool { return len(reads(observations(id, c.of))) == 0 })
				}
				var got []string
				for mark, pages := (*storage.SearchMark)(nil), 0; pages == 0 || mark != nil; pages++ {
					page, err := s.Search(ctx, nil, q, 7, mark)
					if err != nil {
						t.Fatal(err)
					}
					for _, v := range page.Matches {
						got = append(got, v.ID)
					}
					mark = page.Next
				}
				if !slices.Equal(got, want) {
					t.Errorf("finds %d %v, want %d %v", len(got), got, len(want), want)
				}
				for _, most := range []int{0, 5} {
					n, err := s.Count(ctx, nil, q, most)
					total := len(want)
					if most > 0 {
						total = min(total, most)
					}
					if err != nil || n != int64(total) {
						t.Errorf("counts %d, want %d, %v", n, total, err)
					}
				}
			})
		}
		for _, not := range []*storage.Proof{storage.NewProof(token, expires.Add(time.Second)), storage.NewProof(make([]byte, 31), time.Now())} {
			for _, id := range []string{"p110", "p20", "nobody"} {
				if v, err := s.Read(storage.WithProof(ctx, not), "Patient", id); v != nil || fhir.KindOf(err) != fhir.Unauthenticated {
					t.Errorf("with a token that does not hold: %v, %v", v, err)
				}
			}
		}
		if seen == 0 || hidden == 0 {
			t.Errorf("%s sees %d, and %d are hidden: nothing was tried", name, seen, hidden)
		}
	}
}
