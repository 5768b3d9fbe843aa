package storage_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"kiln/internal/kilntest"
	"kiln/migrations"
	"kiln/storage"
)

// TestReindex_completes_what_older_versions_left_out takes a database back to before version 85 of the schema, without the
// rows that there were none of then, and up again: searches find the same all the time, and the server makes those rows by itself.
func TestReindex_completes_what_older_versions_left_out(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	url := kilntest.DB(t)
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	count := func(sql string) (n int) {
		t.Helper()
		if err := conn.QueryRow(ctx, sql).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	const references = `SELECT count(*) FROM search_code c JOIN search_index i USING (rk) WHERE i.refs @> ARRAY[c.term]`
	const complete = `SELECT count(*) FROM search_parameter_set WHERE incomplete IS NULL`
	find := func(s *storage.Store, what string) {
		t.Helper()
		for _, c := range []struct{ typ, query, want string }{
			{"Appointment", "practitioner=d&date=2024-05&status=booked", "a"},
			{"Appointment", "actor=Practitioner/d&date=2024-05", "b a"},
			{"Slot", "schedule=Schedule/s&start=2024-05", "slot"},
		} {
			if got := inside(ctx, t, s, c.typ, c.query); got != c.want {
				t.Errorf("%s: %s?%s gives %q, want %q", what, c.typ, c.query, got, c.want)
			}
		}
	}

	s := openOn(t, url)
	appointment := func(id, status, start string) {
		put(t, s, `{"resourceType":"Appointment","id":"`+id+`","status":"`+status+`","start":"`+start+`T10:00:00Z","end":"`+start+
			`T10:30:00Z","participant":[{"actor":{"reference":"Practitioner/d"},"status":"accepted"},{"actor":{"reference":"Location/l"},"status":"accepted"}]}`)
	}
	appointment("a", "booked", "2024-05-02")
	appointment("b", "cancelled", "2024-05-03")
	appointment("c", "booked", "2024-06-01")
	put(t, s, `{"resourceType":"Slot","id":"slot","schedule":{"reference":"Schedule/s"},"status":"free","start":"2024-05-02T10:00:00Z","end":"2024-05-02T10:30:00Z"}`)
	prescriptions(t, s)
	find(s, "new")
	rows, contained := count(references), count("SELECT count(*) FROM search_contained")
	if rows != 7 || contained == 0 || count(complete) != 1 {
		t.Fatalf("%d references and %d contained resources are indexed", rows, contained)
	}
	s.Close()

	if err := migrations.DownTo(ctx, url, 84); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"string", "date", "text", "number", "composite", "contained"} {
		if _, err := conn.Exec(ctx, "DELETE FROM search_"+table+" WHERE rk IN (SELECT rk FROM search_contained)"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := migrations.Up(ctx, url); err != nil {
		t.Fatal(err)
	}
	if n := count(references); n != 0 || count(complete) != 0 {
		t.Fatalf("%d references are left, which an older version does not make", n)
	}
	s = openOn(t, url)
	find(s, "before the reindex")
	working, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); s.Work(working, func(err error) { t.Error(err) }) }()
	until(t, "the index is complete", func() bool { return count(complete) == 1 })
	stop()
	<-done
	if n, inside := count(references), count("SELECT count(*) FROM search_contained"); n != rows || inside != contained {
		t.Errorf("%d references and %d contained resources are indexed, want %d and %d", n, inside, rows, contained)
	}
	find(s, "after the reindex")
}
