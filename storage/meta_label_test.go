package storage_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"kiln/internal/kilntest"
	"kiln/migrations"
	"kiln/storage"
)

// What the migration finds in resources that were there is what writing them notes, each once.
func TestMetaLabels_of_a_migration(t *testing.T) {
	t.Parallel()
	url := kilntest.DB(t)
	s := openWith(t, storage.Options{URL: url, PoolSize: 2})
	long := strings.Repeat("é", 5000)
	put(t, s, `{"resourceType":"Patient","id":"a","meta":{"profile":["urn:p","urn:q"],"tag":[{"code":"x"},{"system":"urn:s","code":"`+long+`"},{"display":"no code"}],"security":[{"system":"urn:s","code":"x"}]}}`)
	put(t, s, `{"resourceType":"Patient","id":"b","meta":{"tag":[{"code":"x","display":"X"}]}}`)
	put(t, s, `{"resourceType":"Group","id":"g","meta":{"tag":[{"code":"x"}]},"type":"person","actual":true}`)
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	digests := func() (list [][]byte) {
		rows, err := conn.Query(t.Context(), "SELECT digest FROM meta_label ORDER BY digest")
		if err == nil {
			list, err = pgx.CollectRows(rows, pgx.RowTo[[]byte])
		}
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	noted := digests()
	text, err := migrations.FS.ReadFile("0185_meta_labels.sql")
	if err != nil {
		t.Fatal(err)
	}
	_, insert, _ := strings.Cut(string(text), "INSERT INTO meta_label")
	insert, _, _ = strings.Cut(insert, ";")
	if _, err := conn.Exec(t.Context(), "DELETE FROM meta_label"); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), "INSERT INTO meta_label"+insert); err != nil {
		t.Fatal(err)
	}
	found := digests()
	if len(noted) != 6 || len(found) != 6 {
		t.Fatalf("%d are noted and %d found, want 6", len(noted), len(found))
	}
	for i := range noted {
		if string(noted[i]) != string(found[i]) {
			t.Errorf("%x is noted, and %x found", noted[i], found[i])
		}
	}
}
