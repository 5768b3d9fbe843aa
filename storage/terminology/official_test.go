package terminology_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"kiln/internal/kilntest"
	"kiln/storage/terminology"
)

func TestLoadOfficial(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(t.Context(), kilntest.DB(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for i, want := range []bool{true, false} {
		began := time.Now()
		loaded, err := terminology.LoadOfficial(t.Context(), conn)
		if err != nil || loaded != want {
			t.Fatalf("load %d: %v, %v", i, loaded, err)
		}
		t.Logf("load %d took %v", i, time.Since(began))
	}
	if _, err := conn.Exec(t.Context(), "UPDATE terminology SET official = ''"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if loaded, err := terminology.LoadOfficial(t.Context(), conn); err != nil || !loaded {
		t.Fatalf("a database of an older Kiln: %v, %v", loaded, err)
	}
	t.Logf("reload took %v", time.Since(began))
	var systems, concepts, sets, maps, size int
	err = conn.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM code_system), (SELECT count(*) FROM concept),
		(SELECT count(*) FROM value_set), (SELECT count(*) FROM concept_map), pg_database_size(current_database())`).
		Scan(&systems, &concepts, &sets, &maps, &size)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d code systems, %d concepts, %d value sets, %d concept maps, %d MB", systems, concepts, sets, maps, size>>20)
	if systems != 1063 || concepts < 20_000 || sets != 1316 || maps != 19 {
		t.Errorf("%d code systems, %d concepts, %d value sets, %d concept maps", systems, concepts, sets, maps)
	}
}
