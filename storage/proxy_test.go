package storage_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"kiln/internal/kilntest"
	"kiln/migrations"
)

// RelatedPersons with a period that were written before there were proxies count without being written again.
func TestProxies_of_before_are_made_in_the_background(t *testing.T) {
	t.Parallel()
	url := kilntest.DB(t)
	s := openOn(t, url)
	put(t, s, person("kim", "Kim", ""))
	for id, period := range map[string]string{"now": `"start":"2020-01-01"`, "over": `"end":"2020-01-01"`} {
		put(t, s, `{"resourceType":"RelatedPerson","id":"`+id+`","patient":{"reference":"Patient/kim"},"period":{`+period+`}}`)
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	rows := func() (n int) {
		t.Helper()
		if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM proxy").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	again := func() {
		t.Helper()
		if err := migrations.DownTo(t.Context(), url, 99); err != nil {
			t.Fatal(err)
		}
		if _, err := migrations.Up(t.Context(), url); err != nil {
			t.Fatal(err)
		}
	}
	if again(); rows() != 2 {
		t.Fatalf("%d rows", rows())
	}
	if jobs, err := s.Reindexes(t.Context(), 9); err != nil || len(jobs) != 3 { // those of versions 175, 265 and 320
		t.Fatalf("nothing of theirs is missing, and there are jobs: %v, %v", jobs, err)
	}
	if _, err := conn.Exec(t.Context(), "DELETE FROM proxy"); err != nil {
		t.Fatal(err)
	}
	again()
	s.Close()
	s = openOn(t, url)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); s.Work(ctx, func(err error) { t.Error(err) }) }()
	until(t, "the proxies are there", func() bool { return rows() == 2 })
	stop()
	<-done
	var acts []string
	if err := conn.QueryRow(t.Context(), `SELECT array_agg(r.id) FROM resource r JOIN proxy p ON p.source = r.rk WHERE visible.represents(r.rk, ARRAY[p.patient])`).Scan(&acts); err != nil {
		t.Fatal(err)
	}
	if len(acts) != 1 || acts[0] != "now" {
		t.Errorf("%v act", acts)
	}
}
