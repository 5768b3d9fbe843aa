package storage_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"kiln/internal/kilntest"
	"kiln/storage"
)

func TestDefinitions_are_loaded_once_and_anew_when_they_are_others(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	url := kilntest.TerminologyDB(t)
	load := func() (*storage.Store, bool) {
		s := openOn(t, url)
		told := make(chan bool, 1)
		s.StartTerminology(ctx, func(bool, error) {})
		s.StartDefinitions(ctx, func(loaded bool, err error) {
			if err != nil {
				t.Error(err)
			}
			told <- loaded
		})
		if !s.Defined(ctx) {
			t.Fatal("nobody waits, and they are not there")
		}
		return s, <-told
	}
	// What a client has under the id of a definition stays the client's.
	put(t, openOn(t, url), `{"resourceType":"SearchParameter","id":"Patient-birthdate","url":"http://example.org/mine","status":"draft"}`)
	first, loaded := load()
	if !loaded {
		t.Fatal("an empty database needed no definitions")
	}
	if _, loaded = load(); loaded {
		t.Error("they were loaded a second time")
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	count := func() (n, indexed int) {
		t.Helper()
		const sql = `SELECT count(*), count(x.rk) FROM resource r LEFT JOIN search_index x USING (rk) WHERE r.method = 'O'`
		if err := conn.QueryRow(ctx, sql).Scan(&n, &indexed); err != nil {
			t.Fatal(err)
		}
		return n, indexed
	}
	n, indexed := count()
	if n < 4400 || indexed != n {
		t.Errorf("%d definitions, %d of them indexed", n, indexed)
	}
	if _, err := conn.Exec(ctx, `UPDATE definition_set SET loaded = 'others'`); err != nil {
		t.Fatal(err)
	}
	if _, loaded = load(); !loaded {
		t.Error("others were not loaded")
	}
	if again, indexed := count(); again != n || indexed != n {
		t.Errorf("%d definitions and %d indexed after a second load, %d before", again, indexed, n)
	}
	exported := 0
	err = first.Each(ctx, first.Registry().Schema().Resources, func(v *storage.Version) error { exported++; return nil })
	if err != nil || exported != 1 {
		t.Errorf("%d resources exported, %v; want the client's one", exported, err)
	}
	v, err := first.Read(ctx, "SearchParameter", "Patient-birthdate")
	if err != nil || v.Method != storage.MethodUpdate {
		t.Errorf("%+v %v", v, err)
	}
	if page, err := first.History(ctx, storage.HistoryQuery{Limit: 10}); err != nil || page.Total != 1 {
		t.Errorf("the history of the system tells of %d versions, %v", page.Total, err)
	}
}
