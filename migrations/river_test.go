package migrations

import (
	"io/fs"
	"testing"

	"github.com/riverqueue/river/riverdriver/riverpgxv5"
)

// An update of River that brings a migration needs a number of ours for it.
func TestRiver_has_no_migration_that_we_do_not_run(t *testing.T) {
	t.Parallel()
	names, err := fs.Glob(riverpgxv5.New(nil).GetMigrationFS("main"), riverDirectory+"/*.up.sql")
	if err != nil || len(names) != riverParts[len(riverParts)-1].last {
		t.Fatalf("River has the migrations %v, and we run others: %v", names, err)
	}
}
