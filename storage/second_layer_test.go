package storage_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"kiln/fhir/search"
	"kiln/internal/kilntest"
	"kiln/storage"
)

// A statement that forgets every condition, on the way that callers read, gives nothing: what is below the query
// builder does not depend on it.
func TestSecondLayer(t *testing.T) {
	t.Parallel()
	url := kilntest.DB(t)
	s := openWith(t, storage.Options{URL: url, PoolSize: 2})
	for _, body := range []string{
		`{"resourceType":"Patient","id":"anna","name":[{"family":"Apple"}]}`, `{"resourceType":"Patient","id":"ben","name":[{"family":"Berry"}]}`,
		`{"resourceType":"Patient","id":"ben","name":[{"family":"Berries"}]}`,
		`{"resourceType":"Observation","id":"b","status":"final","code":{"coding":[{"system":"x","code":"y"}]},"subject":{"reference":"Patient/ben"}}`,
		`{"resourceType":"Organization","id":"clinic"}`,
	} {
		put(t, s, body)
	}
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	config.ConnConfig.RuntimeParams["role"] = "kiln_access"
	config.ConnConfig.RuntimeParams["search_path"] = "visible, public"
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	tables := []string{"resource", "resource_history", "resource_change", "search_index", "search_string", "search_date", "search_number",
		"search_composite", "search_text", "search_position", "search_display", "search_shape", "search_code", "search_contained", "search_identifier",
		"about_index", "about_resource", "about_code", "about_entry", "clear_own", "clear_hidden"}
	for _, table := range tables {
		var n int
		if err := pool.QueryRow(t.Context(), "SELECT count(*) FROM "+table).Scan(&n); err != nil || n != 0 {
			t.Errorf("nobody has asked, and %s has %d rows, %v", table, n, err)
		}
	}
	// Every table of the schema public, present and future ones too: no way around the views.
	rows, err := pool.Query(t.Context(), `SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p', 'v', 'm', 'S') AND has_table_privilege('kiln_access', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE')`)
	if err != nil {
		t.Fatal(err)
	}
	if open, err := pgx.CollectRows(rows, pgx.RowTo[string]); err != nil || len(open) != 0 {
		t.Errorf("kiln_access may use %v, %v", open, err)
	}
	for _, sql := range []string{
		"SELECT count(*) FROM public.resource", "SELECT count(*) FROM public.treatment", "SELECT * FROM account", "SELECT * FROM instance",
		"UPDATE resource SET version = 9", "DELETE FROM search_index", "INSERT INTO treatment VALUES (0, 0, 1, 2, now(), now(), now(), now())",
		"SELECT answer FROM idempotency",
	} {
		if _, err := pool.Exec(t.Context(), sql); err == nil || !strings.Contains(err.Error(), "42501") {
			t.Errorf("%s: %v", sql, err)
		}
	}
	// A caller who sees the own record sees no more, by whatever statement; and a connection keeps nothing of it.
	anna, err := s.Access(&search.Restriction{Caller: "anna", Record: "anna", Rules: []search.Rule{
		{Types: []string{"Patient", "Observation"}, Reach: search.ReachOwn}, {Types: []string{"Organization"}, Reach: search.ReachShared}}})
	if err != nil {
		t.Fatal(err)
	}
	names, values := anna.Settings()
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "SELECT set_config(n, v, true) FROM unnest($1::text[], $2::text[]) AS u(n, v)", names, values); err != nil {
		t.Fatal(err)
	}
	for table, want := range map[string]int{"resource": 2, "resource_history": 0, "resource_change": 2, "search_index": 2, "search_code": 0, "about_index": 2, "about_resource": 2, "about_code": 0, "about_entry": 2, "clear_own": 0, "clear_hidden": 0} {
		var n int
		if err := tx.QueryRow(t.Context(), "SELECT count(*) FROM "+table).Scan(&n); err != nil || n != want {
			t.Errorf("anna sees %d rows of %s, want %d, %v", n, table, want, err)
		}
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	var n int
	for range 4 {
		if err := pool.QueryRow(t.Context(), "SELECT count(*) FROM resource").Scan(&n); err != nil || n != 0 {
			t.Errorf("after the transaction there are %d rows, %v", n, err)
		}
	}
	// Who reads the own resource and nothing else sees no other of its type, by whatever statement.
	for reference, want := range map[string]int{"Patient/anna": 1, "Patient/nobody": 0, "": 0} {
		self, err := s.Access(&search.Restriction{Caller: "anna", User: reference, Rules: []search.Rule{{Types: []string{"Patient"}, Reach: search.ReachUser}}})
		if err != nil {
			t.Fatal(err)
		}
		names, values := self.Settings()
		tx, err := pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), "SELECT set_config(n, v, true) FROM unnest($1::text[], $2::text[]) AS u(n, v)", names, values); err != nil {
			t.Fatal(err)
		}
		for _, table := range []string{"resource", "resource_change", "search_index", "about_index", "about_resource"} {
			if err := tx.QueryRow(t.Context(), "SELECT count(*) FROM "+table).Scan(&n); err != nil || n != want {
				t.Errorf("who is %q sees %d rows of %s, want %d, %v", reference, n, table, want, err)
			}
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	// And a context that says nothing reads nothing.
	strict, err := storage.Open(t.Context(), storage.Options{URL: url, Base: "http://localhost/fhir", Registry: s.Registry(), PoolSize: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer strict.Close()
	if v, err := strict.Read(t.Context(), "Patient", "anna"); err == nil || v != nil {
		t.Errorf("read without access: %v, %v", v, err)
	}
	nobody, err := s.Access(&search.Restriction{})
	if err != nil {
		t.Fatal(err)
	}
	if v, err := strict.Read(storage.WithAccess(t.Context(), nobody), "Organization", "clinic"); err != nil || v != nil {
		t.Errorf("read with the access of nobody: %v, %v", v, err)
	}
}
