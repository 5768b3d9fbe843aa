package kilntest_test

import (
	"context"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"kiln/internal/kilntest"
	"kiln/migrations"
)

func query(t *testing.T, url, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var out string
	if err := conn.QueryRow(t.Context(), sql).Scan(&out); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return out
}

func TestDB_is_migrated_and_of_its_own(t *testing.T) {
	t.Parallel()
	one, two := kilntest.DB(t), kilntest.DB(t)
	if one == two {
		t.Fatal("the same database twice")
	}
	all, err := migrations.Status(t.Context(), one)
	if err != nil || len(all) == 0 {
		t.Fatalf("Status: %v, %v", all, err)
	}
	for _, m := range all {
		if m.Applied.IsZero() {
			t.Errorf("%s is pending", m.Name)
		}
	}
	query(t, one, "WITH made AS (SELECT 1) SELECT set_config('kiln.x', 'y', false) FROM made")
}

func TestDB_in_parallel(t *testing.T) {
	t.Parallel()
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[string]bool{}
	for range 6 {
		wg.Go(func() {
			url := kilntest.DB(t)
			mu.Lock()
			defer mu.Unlock()
			if seen[url] {
				t.Errorf("%s twice", url)
			}
			seen[url] = true
		})
	}
	wg.Wait()
}

func TestDB_is_dropped(t *testing.T) {
	t.Parallel()
	var name string
	t.Run("user", func(t *testing.T) { name = query(t, kilntest.DB(t), "SELECT current_database()") })
	other := kilntest.EmptyDB(t)
	if n := query(t, other, "SELECT count(*)::text FROM pg_database WHERE datname = '"+name+"'"); n != "0" {
		t.Errorf("%s is still there", name)
	}
}

func BenchmarkDB(b *testing.B) {
	kilntest.DB(b) // starts the server
	for b.Loop() {
		kilntest.DB(b)
	}
}

func TestSharedData(t *testing.T) {
	t.Run("absent_skips", func(t *testing.T) {
		defer func() {
			if !t.Skipped() {
				t.Error("not skipped")
			}
		}()
		kilntest.SharedData(t, "no", "such", "file")
	})
	path := kilntest.SharedData(t, "synthea")
	if _, err := os.Stat(path); err != nil || !strings.HasSuffix(path, "synthea") {
		t.Errorf("%s: %v", path, err)
	}
}

func TestClock(t *testing.T) {
	c := kilntest.NewClock()
	start := c.Now()
	if got := c.Advance(time.Hour); got.Sub(start) != time.Hour || !c.Now().Equal(got) {
		t.Errorf("after an hour: %v", got)
	}
}
