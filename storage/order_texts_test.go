package storage_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"kiln/conformance"
	"kiln/internal/kilntest"
	"kiln/storage"
)

// TestOrderTexts puts texts that lie in no order in their order, while others are written, and with an interruption: none is lost,
// and those with the same part lie together.
func TestOrderTexts(t *testing.T) {
	t.Parallel()
	registry, err := conformance.R4()
	if err != nil {
		t.Fatal(err)
	}
	url := kilntest.DB(t)
	s, err := storage.Open(t.Context(), storage.Options{URL: url, Registry: registry, Unrestricted: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	exec := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	texts := func() []string {
		t.Helper()
		rows, err := conn.Query(t.Context(), "SELECT DISTINCT param || ' ' || value FROM search_string_value ORDER BY 1")
		if err != nil {
			t.Fatal(err)
		}
		list, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	number := func(sql string) (n int) {
		t.Helper()
		if err := conn.QueryRow(t.Context(), sql).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	const pages = "SELECT count(DISTINCT (ctid::text::point)[0]) FROM search_string_value WHERE value LIKE 'name77%'"
	exec("ALTER TABLE search_string_value SET (autovacuum_enabled = false)") // what it makes room for in between is filled out of order
	// The parameters are no ones that anything searches by; the order of 7919 × n among 40,000 is as good as none.
	exec("INSERT INTO search_string_value SELECT n % 3 - 1, 'name' || (n * 7919) % 40000 FROM generate_series(1, 40000) n")
	put(t, s, `{"resourceType":"Patient","id":"before","name":[{"family":"Early-before"}]}`)
	exec("VACUUM ANALYZE search_string_value")
	before, scattered := texts(), number(pages)

	const begun = "SELECT count(*) FROM search_string_order WHERE param IS NOT NULL OR texts > 0"
	exec(fmt.Sprintf("SELECT pg_advisory_lock(%d)", storage.OrderLock)) // as another server that is at it
	if err := s.OrderTexts(t.Context(), nil); err != nil || number(begun) != 0 {
		t.Errorf("two servers put them in order, %v", err)
	}
	exec(fmt.Sprintf("SELECT pg_advisory_unlock(%d)", storage.OrderLock))

	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := s.OrderTexts(short, nil); err == nil {
		t.Log("all was done before the interruption")
	}
	// The session that was interrupted has the lock until its end, which nobody waited for.
	exec(fmt.Sprintf("SELECT pg_advisory_lock(%d)", storage.OrderLock))
	exec(fmt.Sprintf("SELECT pg_advisory_unlock(%d)", storage.OrderLock))
	if now := texts(); !slices.Equal(now, before) {
		t.Fatalf("an interruption leaves %d texts of %d", len(now), len(before))
	}
	var wait sync.WaitGroup
	wait.Go(func() {
		for i := range 40 {
			put(t, s, fmt.Sprintf(`{"resourceType":"Patient","id":"p%d","name":[{"family":"Late-%d"},{"family":"Early-before"}]}`, i, i%20))
		}
	})
	told := int64(0)
	if err := s.OrderTexts(t.Context(), func(texts int64) { told = texts }); err != nil || told < 40000 {
		t.Fatalf("%d texts, %v", told, err)
	}
	wait.Wait()
	after := texts()
	for _, one := range before {
		if _, found := slices.BinarySearch(after, one); !found {
			t.Fatalf("%q is lost", one)
		}
	}
	if together := number(pages); together*10 > scattered || together > 8 {
		t.Errorf("texts of one beginning lie on %d pages; they did on %d", together, scattered)
	}
	for query, want := range map[string]int{"family:contains=ate-7": 2, "family:contains=rly-befo": 41} {
		if got := find(t, s, "Patient", query); len(got) != want {
			t.Errorf("%s finds %d, not %d", query, len(got), want)
		}
	}
	const state = "SELECT count(*) FROM search_string_order WHERE param IS NULL AND texts >= 40001"
	if number(state) != 1 {
		t.Error("it does not know that all is in order")
	}
	exec("VACUUM ANALYZE search_string_value")
	const last = "SELECT hashtext(string_agg(ctid::text, ',' ORDER BY ctid)) FROM search_string_value"
	was := number(last)
	if err := s.OrderTexts(t.Context(), nil); err != nil || number(last) != was {
		t.Errorf("what is in order is written again, %v", err)
	}
	exec("UPDATE search_string_order SET texts = 1000")
	exec("ANALYZE search_string_value")
	if err := s.OrderTexts(t.Context(), nil); err != nil || number(state) != 1 {
		t.Errorf("many have come, and it does not begin, %v", err)
	}
	exec(`CREATE FUNCTION ever_more() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
INSERT INTO search_string_value SELECT NEW.param, NEW.value || 'z' || lpad(n::text, 5, '0') FROM generate_series(1, 2000) n WHERE length(NEW.value) < 2000; RETURN NULL; END $$;
CREATE TRIGGER ever_more AFTER UPDATE ON search_string_order FOR EACH ROW WHEN (NEW.value <> '') EXECUTE FUNCTION ever_more();
UPDATE search_string_order SET texts = 1000`)
	if err := s.OrderTexts(t.Context(), nil); err != nil || number(state) != 0 {
		t.Errorf("texts come behind it for ever, and it says that all is in order, %v", err)
	}
}

// TestOrderTexts_when_calm: a server does not begin while many texts come.
func TestOrderTexts_when_calm(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		before, now int64
		want        bool
	}{{0, 50_000, false}, {50_000, 50_501, false}, {50_000, 50_500, true}, {50_000, 50_000, true}, {50_000, 40_000, true}} {
		if got := storage.FewTexts(c.before, c.now); got != c.want {
			t.Errorf("from %d to %d: %t", c.before, c.now, got)
		}
	}
}
