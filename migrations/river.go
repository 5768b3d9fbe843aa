package migrations

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"strings"

	"github.com/pressly/goose/v3"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
)

// The tables of the job queue are River's (docs/adr/0014): its own migrations run as two of ours, since a value that one of
// them adds to an enum can be used only after a commit. A River that brings another migration needs a new number here.
var riverParts = []struct {
	version     int64
	name        string
	first, last int
}{
	{46, "0046_river.go", 2, 4}, // River's 1 makes its own list of migrations, which is ours here
	{47, "0047_river_unique.go", 5, 8},
}

const riverDirectory = "migration/main"

// riverSQL reads what River's migrations do in one direction, in the order in which to do it.
func riverSQL(direction string, first, last int) (statements []string, err error) {
	files := riverpgxv5.New(nil).GetMigrationFS("main")
	for n := first; n <= last; n++ {
		names, err := fs.Glob(files, fmt.Sprintf("%s/%03d_*.%s.sql", riverDirectory, n, direction))
		if err != nil || len(names) != 1 {
			return nil, fmt.Errorf("river's migration %d %s is not where it was: %w", n, direction, err)
		}
		text, err := fs.ReadFile(files, names[0])
		if err != nil {
			return nil, err
		}
		one := strings.ReplaceAll(string(text), "/* TEMPLATE: schema */", "")
		if direction == "down" {
			statements = append([]string{one}, statements...)
		} else {
			statements = append(statements, one)
		}
	}
	return statements, nil
}

func river() (list []*goose.Migration) {
	for _, part := range riverParts {
		run := func(direction string) *goose.GoFunc {
			return &goose.GoFunc{RunTx: func(ctx context.Context, tx *sql.Tx) error {
				statements, err := riverSQL(direction, part.first, part.last)
				if err != nil {
					return err
				}
				for _, s := range statements {
					if _, err := tx.ExecContext(ctx, s); err != nil {
						return err
					}
				}
				return nil
			}}
		}
		m := goose.NewGoMigration(part.version, run("up"), run("down"))
		m.Source = part.name
		list = append(list, m)
	}
	return list
}
