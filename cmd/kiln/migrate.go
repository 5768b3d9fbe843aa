package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"kiln/internal/config"
	"kiln/migrations"
)

type migrateCmd struct {
	Up     migrateUpCmd     `cmd:"" help:"Apply what is pending. serve does so by itself."`
	Status migrateStatusCmd `cmd:"" help:"List all migrations and when they were applied."`
}

type migrateUpCmd struct {
	config.Common   `embed:""`
	config.Database `embed:"" group:"Database"`
}

// Run applies the pending migrations and names them.
func (c *migrateUpCmd) Run(ctx context.Context, stdout io.Writer) error {
	log := c.Logger()
	d, err := openDatabase(ctx, c.Database, true, log)
	if err != nil {
		return err
	}
	defer d.close(log)
	applied, err := migrations.Up(ctx, d.url)
	for _, m := range applied {
		fmt.Fprintln(stdout, "applied", m.Name)
	}
	if err == nil && len(applied) == 0 {
		fmt.Fprintln(stdout, "nothing to apply")
	}
	return err
}

type migrateStatusCmd struct {
	config.Common   `embed:""`
	config.Database `embed:"" group:"Database"`
}

// Run prints a line for each migration.
func (c *migrateStatusCmd) Run(ctx context.Context, stdout io.Writer) error {
	log := c.Logger()
	d, err := openDatabase(ctx, c.Database, true, log)
	if err != nil {
		return err
	}
	defer d.close(log)
	all, err := migrations.Status(ctx, d.url)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	for _, m := range all {
		state := "pending"
		if !m.Applied.IsZero() {
			state = "applied " + m.Applied.Format(time.RFC3339)
		}
		fmt.Fprintf(w, "%s\t%s\n", m.Name, state)
	}
	return w.Flush()
}
