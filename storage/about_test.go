package storage_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/internal/kilntest"
	"kiln/storage"
	"kiln/storage/identity"
)

// TestSearch_of_a_record_follows_what_changes asks the same searches of one record again and again, as a practitioner who treats the patient and
// as the patient, while that changes which their rows are shown by. Each counts from the next search on.
func TestSearch_of_a_record_follows_what_changes(t *testing.T) {
	t.Parallel()
	url := kilntest.DB(t)
	s := openWith(t, storage.Options{URL: url, PoolSize: 2})
	for _, body := range []string{`{"resourceType":"Patient","id":"anna"}`, `{"resourceType":"Patient","id":"ben"}`, `{"resourceType":"Practitioner","id":"dr"}`} {
		put(t, s, body)
	}
	for id, label := range map[string]string{"plain": "N", "restricted": "R", "very": "V", "both": "N"} {
		performer := "Practitioner/dr"
		if id == "both" { // it lies in her record too
			performer = "Patient/anna"
		}
		put(t, s, fmt.Sprintf(`{"resourceType":"Observation","id":%q,"meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":%q}]},"status":"final",`+
			`"category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"vital-signs"}]}],"code":{"coding":[{"system":"x","code":"y"}]},`+
			`"subject":{"reference":"Patient/ben"},"performer":[{"reference":%q}],"effectiveDateTime":"2020-01-01"}`, id, label, performer))
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	key := func(name string) int64 {
		typ, id, _ := strings.Cut(name, "/")
		return s.Hasher().Resource(typ, id)
	}
	do := func(sql string) {
		t.Helper()
		sql = strings.NewReplacer("ANNA", fmt.Sprint(key("Patient/anna")), "BEN", fmt.Sprint(key("Patient/ben")), "DR", fmt.Sprint(key("Practitioner/dr")), "ROLE", fmt.Sprint(key("PractitionerRole/r"))).Replace(sql)
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	token := make([]byte, 32)
	if err := s.Identity().EnsureGrant(t.Context(), &identity.Grant{ID: "g", Context: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	if err := s.Identity().AddToken(t.Context(), &identity.Token{Hash: token, Kind: identity.Access, Grant: "g", Expires: time.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	types := []string{"Observation"}
	callers := map[string]*search.Restriction{
		"dr":   {Caller: "dr", Self: "Practitioner/dr", Roles: []string{"practitioner"}, Consent: true, Rules: []search.Rule{{Types: types, Reach: search.ReachTreated}}},
		"ben":  {Caller: "ben", Record: "ben", Rules: []search.Rule{{Types: types, Reach: search.ReachOwn}}},
		"anna": {Caller: "anna", Record: "anna", Rules: []search.Rule{{Types: types, Reach: search.ReachOwn}}},
	}
	holds := true
	// finds compares what a caller finds, by a code, by a category and by ids, with what it should: without a token to prove, and with one, as
	// long as it holds.
	finds := func(when, who string, withheld bool, want ...string) {
		t.Helper()
		a, err := s.Access(callers[who])
		if err != nil {
			t.Fatal(err)
		}
		ctx := storage.WithAccess(t.Context(), a)
		for _, query := range []string{"patient=ben&code=x|y&_sort=-date", "patient=ben&category=vital-signs", "patient=ben&_id=plain,restricted,very,both", "patient=ben&status=final&code=x|y",
			"patient=ben&category=vital-signs&status=final&code=x|y&status=final,amended&code=x|y,x|z&subject=Patient/ben&combo-code=x|y&combo-code=x|y,x|z&_id=plain,restricted,very,both"} {
			q, err := parseQuery(s, "Observation", query)
			if err != nil {
				t.Fatal(err)
			}
			asks := []context.Context{ctx}
			if holds {
				asks = append(asks, storage.WithProof(ctx, storage.NewProof(token, time.Now())))
			}
			for _, ctx := range asks {
				w, err := s.AskWithheld(ctx, "ben")
				if err != nil {
					t.Fatal(err)
				}
				page, err := s.Search(storage.WithQuestion(ctx, w), nil, q, 10, nil)
				if err != nil {
					t.Fatal(err)
				}
				var got []string
				for _, v := range page.Matches {
					got = append(got, v.ID)
				}
				if slices.Sort(got); !slices.Equal(got, want) {
					t.Errorf("%s, %s finds %v by %s, want %v", when, who, got, query, want)
				}
				if is, err := s.Withholds(ctx, w); err != nil || is != withheld {
					t.Errorf("%s, something is withheld from %s: %v, %v", when, who, is, err)
				}
			}
		}
	}
	const treats = `INSERT INTO treatment VALUES (1, 2, DR, %s, '-infinity', 'infinity', '-infinity', 'infinity', true)`
	finds("before the treatment", "dr", false)
	do(fmt.Sprintf(treats, "BEN"))
	finds("in treatment", "dr", true, "both", "plain", "restricted")
	finds("by Ben", "ben", false, "both", "plain", "restricted", "very")
	// Of the two patients of a resource one says no.
	do(`INSERT INTO consent_rule VALUES (2, ANNA, true, 1, '-infinity', 'infinity')`)
	finds("with a Consent of the other", "dr", true, "plain", "restricted")
	do(`UPDATE consent_rule SET patient = BEN`)
	finds("with a Consent", "dr", true)
	finds("with a Consent against others", "ben", false, "both", "plain", "restricted", "very")
	do(`UPDATE consent_rule SET labels = (SELECT sum(1 << bit) FROM security_label WHERE code = 'R')`)
	finds("with a Consent about a label", "dr", true, "both", "plain")
	do(`DELETE FROM consent_rule`)
	finds("when the Consent is over", "dr", true, "both", "plain", "restricted")
	do(`INSERT INTO treatment VALUES (0, 0, DR, BEN, '-infinity', 'infinity', '-infinity', 'infinity', true)`)
	finds("behind the glass", "dr", false, "both", "plain", "restricted", "very")
	do(`UPDATE treatment SET high = now() WHERE kind = 0`)
	finds("when that is over", "dr", true, "both", "plain", "restricted")
	// A label that hides from practitioners and from patients.
	do(`UPDATE security_label SET cleared = '{system}' WHERE code = 'R'`)
	if err := s.RefreshParameters(t.Context()); err != nil {
		t.Fatal(err)
	}
	finds("without clearance", "dr", true, "both", "plain")
	do(`UPDATE security_label SET withholds = true WHERE code = 'R'`)
	if err := s.RefreshParameters(t.Context()); err != nil {
		t.Fatal(err)
	}
	finds("with what is withheld", "ben", false, "both", "plain", "very")
	// Of two patients one is treated.
	two, err := parseQuery(s, "Observation", "patient=ben,anna&category=vital-signs")
	if err != nil {
		t.Fatal(err)
	}
	dr, err := s.Access(callers["dr"])
	if err != nil {
		t.Fatal(err)
	}
	if page, err := s.Search(storage.WithAccess(t.Context(), dr), nil, two, 10, nil); err != nil || len(page.Matches) != 2 {
		t.Errorf("of two patients dr finds %v, %v", page, err)
	}
	// In another name, until that ends.
	do(`UPDATE treatment SET actor = ROLE`)
	finds("treated by another", "dr", false)
	do(`INSERT INTO acting VALUES (3, DR, ROLE, '-infinity', 'infinity')`)
	finds("in a role", "dr", true, "both", "plain")
	do(`UPDATE acting SET high = now()`)
	finds("when the role is over", "dr", false)
	do(`DELETE FROM acting; UPDATE treatment SET actor = DR, confirmed = false WHERE kind <> 0`)
	finds("without confirmation", "dr", false)
	do(`UPDATE treatment SET confirmed = true`)
	finds("confirmed", "dr", true, "both", "plain")
	// What others have that matches is not even looked at where a patient asks for it: it would be read twice, and tell by that that it is there.
	anna, err := s.Access(callers["anna"])
	if err != nil {
		t.Fatal(err)
	}
	for _, query := range []string{"_id=plain", "_id=nothing", "performer=Practitioner/dr", "performer=Practitioner/dr&_sort=_id"} {
		q, err := parseQuery(s, "Observation", query)
		if err != nil {
			t.Fatal(err)
		}
		keys, ok, err := s.WeighedSearch(storage.WithAccess(storage.WithProof(t.Context(), storage.NewProof(token, time.Now())), anna), q, false)
		if err != nil || !ok || len(keys) > 0 {
			t.Errorf("Anna finds %v by %s, at once: %v, %v", keys, query, ok, err)
		}
	}
	// A token is proven with the search, whether that finds anything or not, and its end counts from the next one on.
	for range 2 {
		for query, want := range map[string]int{"patient=ben&code=x|y&_sort=-date": 2, "patient=ben&category=vital-signs": 2, "patient=ben&code=x|none&_sort=-date": 0, "patient=nobody&category=vital-signs": 0} {
			q, err := parseQuery(s, "Observation", query)
			if err != nil {
				t.Fatal(err)
			}
			proof := storage.NewProof(token, time.Now())
			page, err := s.Search(storage.WithAccess(storage.WithProof(t.Context(), proof), dr), nil, q, 10, nil)
			if holds && (err != nil || len(page.Matches) != want || !proof.Settled()) {
				t.Errorf("%s with a token finds %v, %v; proven: %v", query, page, err, proof.Settled())
			}
			if !holds && (fhir.KindOf(err) != fhir.Unauthenticated || page != nil) {
				t.Errorf("%s with a revoked token finds %v, %v", query, page, err)
			}
		}
		do(`DELETE FROM oauth_token`)
		holds = false
	}
	// What is plain is found without the rule, and nothing else: no label, and no row of somebody else's record beside.
	do(`CREATE OR REPLACE FUNCTION visible.shows(rk bigint, type smallint, compartments bigint[], labels integer) RETURNS boolean LANGUAGE sql AS 'SELECT false'`)
	finds("without the rule", "dr", true, "plain")
	finds("without the rule", "ben", false, "plain", "very")
	// Who is not clear, or whose token does not hold, does not go through the record by these views at all.
	do(`CREATE OR REPLACE FUNCTION visible.shows(rk bigint, type smallint, compartments bigint[], labels integer) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE ''asked''; END'`)
	q, err := parseQuery(s, "Observation", "patient=ben&category=vital-signs")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Search(storage.WithAccess(storage.WithProof(t.Context(), storage.NewProof(token, time.Now())), dr), nil, q, 10, nil); fhir.KindOf(err) != fhir.Unauthenticated {
		t.Errorf("with a revoked token: %v", err)
	}
	do(`DELETE FROM treatment`)
	finds("treated no more", "dr", false)
}
