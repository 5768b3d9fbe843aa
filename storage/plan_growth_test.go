package storage_test

import (
	"fmt"
	"regexp"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"kiln/fhir/search"
	"kiln/internal/kilntest"
	"kiln/storage"
	"kiln/storage/identity"
)

// wholly matches plans that read one of the tables from end to end that a request with a token looks at.
var wholly = regexp.MustCompile(`Seq Scan on (oauth_token|consent_rule|treatment|resource|search_index)\b`)

// The statements that look at no views are planned once a connection, and while a table is tiny its one page is read from end to end. Once the table
// has grown, ANALYZE, which autovacuum runs, has PostgreSQL plan them anew: none is left that reads a large table whole.
func TestTokens_plans_follow_the_tables(t *testing.T) {
	t.Parallel()
	url := kilntest.DB(t)
	s := openWith(t, storage.Options{URL: url, PoolSize: 1})
	for _, body := range []string{`{"resourceType":"Patient","id":"anna","generalPractitioner":[{"reference":"Practitioner/dr"}]}`, `{"resourceType":"Practitioner","id":"dr"}`,
		`{"resourceType":"Observation","id":"o","status":"final","code":{"coding":[{"system":"x","code":"y"}]},"subject":{"reference":"Patient/anna"}}`} {
		put(t, s, body)
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	do := func(sql string) {
		t.Helper()
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
	types := []string{"Patient", "Observation"}
	ask := func() {
		t.Helper()
		for _, r := range []*search.Restriction{
			{Caller: "p", Record: "anna", Rules: []search.Rule{{Types: types, Reach: search.ReachOwn}}},
			{Caller: "d", Self: "Practitioner/dr", Roles: []string{"practitioner"}, Consent: true, Rules: []search.Rule{{Types: types, Reach: search.ReachTreated}}},
			{Caller: "c", Self: "Practitioner/dr", Context: "anna", Roles: []string{"practitioner"}, Consent: true, Rules: []search.Rule{{Types: types, Reach: search.ReachTreated, Context: true}}},
			{Caller: "a", Roles: []string{"admin"}, Consent: true, Rules: []search.Rule{{Types: types, Reach: search.ReachAny}}},
		} {
			access, err := s.Access(r)
			if err != nil {
				t.Fatal(err)
			}
			ctx := storage.WithAccess(t.Context(), access)
			if v, err := s.Read(storage.WithProof(ctx, storage.NewProof(token, time.Now())), "Observation", "o"); err != nil || v == nil {
				t.Fatal(v, err)
			}
			q, err := parseQuery(s, "Observation", "patient=anna&code=x|y")
			if err != nil {
				t.Fatal(err)
			}
			if page, err := s.Search(storage.WithProof(ctx, storage.NewProof(token, time.Now())), nil, q, 10, nil); err != nil || len(page.Matches) != 1 {
				t.Fatal(page, err)
			}
		}
	}
	plans := func() (whole []string, all int) {
		t.Helper()
		list, err := s.PlansWithToken(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, plan := range list {
			if wholly.MatchString(plan) {
				whole = append(whole, plan)
			}
		}
		return whole, len(list)
	}
	do("ANALYZE")
	ask()
	whole, all := plans()
	if len(whole) == 0 || all < 6 {
		t.Fatalf("of %d plans for tiny tables %d read one whole: there is nothing to follow", all, len(whole))
	}
	do("SET session_replication_role = replica")
	for _, sql := range []string{
		`INSERT INTO oauth_token (hash, kind, grant_id, expires, scope, request) SELECT sha256(n::text::bytea), 'A', 'g', now() + interval '1 hour', '', '{}' FROM generate_series(1, %d) n`,
		`INSERT INTO consent_rule (source, patient, deny, specificity, low, high) SELECT 1, n, true, 1, '-infinity', 'infinity' FROM generate_series(1, %d) n`,
		`INSERT INTO treatment (source, kind, actor, patient, since, until, low, high) SELECT 1, 1, n %% 100, n, '-infinity', 'infinity', '-infinity', 'infinity' FROM generate_series(1, %d) n`,
		`INSERT INTO resource SELECT (jsonb_populate_record(r, jsonb_build_object('rk', n, 'id', 'n' || n))).* FROM resource r, generate_series(1, %d) n WHERE r.id = 'o'`,
		`INSERT INTO search_index SELECT (jsonb_populate_record(x, jsonb_build_object('rk', n, 'compartments', ARRAY[n]))).* FROM search_index x JOIN resource r USING (rk), generate_series(1, %d) n WHERE r.id = 'o'`,
	} {
		do(fmt.Sprintf(sql, 20_000))
	}
	do("ANALYZE oauth_token, consent_rule, treatment, resource, search_index")
	ask()
	if whole, after := plans(); len(whole) > 0 || after < all {
		t.Errorf("of %d plans for large tables %d read one whole:\n%v", after, len(whole), whole)
	}
}
