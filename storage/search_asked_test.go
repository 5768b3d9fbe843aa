package storage_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"kiln/fhir"
	"kiln/internal/kilntest"
	"kiln/storage"
)

// TestSearch_of_what_others_refer_to compares searches that ask each resource whether something refers to it with ones that say the same twice,
// for which all that matches inside is collected: also where one has more of that than a look goes through.
func TestSearch_of_what_others_refer_to(t *testing.T) {
	t.Parallel()
	url := kilntest.DB(t)
	s := openOn(t, url)
	r := rand.New(rand.NewPCG(3, 4))
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
	statuses := []string{"planned", "finished", "cancelled", "planned"}
	for i := range 400 {
		add(`{"resourceType":"Organization","id":"g%d","active":%t}`, i, i%3 > 0)
		add(`{"resourceType":"Patient","id":"p%d","gender":%q}`, i, []string{"male", "female"}[i%2])
	}
	encounter := func(i, organization, patient int, status string) {
		add(`{"resourceType":"Encounter","id":"e%d","status":%q,"class":{"code":"AMB"},"subject":{"reference":"Patient/p%d"},"serviceProvider":{"reference":"Organization/g%d"},"period":{"start":"%d-03-01"}}`,
			i, status, patient, organization, 2001+i%20)
	}
	for i := range 1200 {
		encounter(i, r.IntN(390), r.IntN(390), statuses[r.IntN(4)])
		add(`{"resourceType":"Observation","id":"o%d","status":%q,"code":{"coding":[{"code":"c%d"}]},"valueQuantity":{"value":%d},"subject":{"reference":"Patient/p%d"},"encounter":{"reference":"Encounter/e%d"}}`,
			i, []string{"final", "amended", "preliminary"}[min(2, r.IntN(40))], r.IntN(30), r.IntN(50), r.IntN(390), r.IntN(1200))
	}
	for i := range 5100 { // of few more than a look goes through, and one of them has a match
		encounter(2000+i, 392, 393, "planned")
	}
	encounter(9000, 392, 393, "onleave")
	encounter(9001, 394, 395, "onleave")
	for i := range 300 {
		add(`{"resourceType":"Observation","id":"h%d","status":"registered","code":{"text":"x"},"encounter":{"reference":"Encounter/e%d"}}`, i, 9000)
	}
	add(`{"resourceType":"Observation","id":"last","status":"corrected","code":{"text":"x"},"encounter":{"reference":"Encounter/e9000"}}`)
	if err := s.Copy(context.Background(), list); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(context.Background(), url)
	if err == nil {
		_, err = conn.Exec(context.Background(), "VACUUM ANALYZE")
		conn.Close(context.Background())
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ typ, has, more string }{
		{"Organization", "_has:Encounter:service-provider:status=finished", ""},
		{"Organization", "_has:Encounter:service-provider:status=finished", "&active=true"},
		{"Organization", "_has:Encounter:service-provider:status=finished,cancelled", "&_sort=_lastUpdated"},
		{"Organization", "_has:Encounter:service-provider:status=planned", "&_sort=-_lastUpdated"},
		{"Organization", "_has:Encounter:service-provider:status=onleave", ""},
		{"Organization", "_has:Encounter:service-provider:status=triaged", ""},
		{"Organization", "_has:Encounter:service-provider:date=ge2018", ""},
		{"Organization", "_has:Encounter:service-provider:_has:Observation:encounter:status=preliminary", ""},
		{"Organization", "_has:Encounter:service-provider:_has:Observation:encounter:status=corrected", ""},
		{"Organization", "_has:Encounter:service-provider:_has:Observation:encounter:status=amended", "&active=false"},
		{"Encounter", "_has:Observation:encounter:status=preliminary", ""},
		{"Encounter", "_has:Observation:encounter:code=c3", "&_sort=-date"},
		{"Organization", "_has:Encounter:service-provider:_has:Observation:encounter:value-quantity=gt45", ""},
		{"Encounter", "_has:Observation:encounter:value-quantity=lt20", ""},
		{"Patient", "_has:Observation:patient:value-quantity=7,8,9,40", ""},
		{"Patient", "_has:Encounter:patient:status=finished", ""},
		{"Patient", "_has:Encounter:patient:status=onleave", "&gender=female"},
		{"Patient", "_has:Encounter:patient:status=onleave", ""},
		{"Patient", "_has:Encounter:subject:date=lt2004", "&gender=male"},
		{"Patient", "_has:Observation:patient:code=c1,c2,c3,c4", ""},
		{"Patient", "_has:Observation:patient:code=c1,c2,c3,c4", "&_sort=-_lastUpdated"},
		{"Patient", "_has:Encounter:patient:_has:Observation:encounter:status=preliminary", ""},
		{"Patient", "_has:Encounter:patient:_has:Observation:encounter:status=corrected,amended", ""},
	} {
		t.Run(c.typ+"?"+c.has+c.more, func(t *testing.T) {
			var found [2][]string
			for i, query := range []string{c.has + c.more, c.has + "&" + c.has + c.more} {
				q, err := parseQuery(s, c.typ, query)
				if err != nil {
					t.Fatal(err)
				}
				if asks := s.Asks(context.Background(), q); asks != (i == 0) {
					t.Fatalf("%s asks each: %t", query, asks)
				}
				if found[i] = all(t, s, q, 1000); i > 0 {
					continue
				}
				if ids := all(t, s, q, 31); !slices.Equal(ids, found[i]) {
					t.Fatalf("%s finds %d in pages of 31, and %d at once", query, len(ids), len(found[i]))
				}
			}
			if !slices.Equal(found[0], found[1]) || len(found[0]) == 0 && !slices.Contains([]string{"_has:Encounter:service-provider:status=triaged"}, c.has) && c.more != "&gender=female" {
				t.Errorf("asking each finds %d, collecting all %d", len(found[0]), len(found[1]))
			}
		})
	}
}
