package main

import (
	"context"
	"fmt"
	"io"

	"kiln/internal/config"
	"kiln/resources"
	"kiln/storage"
)

type verifyScheduleCmd struct {
	config.Config `embed:""`
}

// maxFindings is how many findings are printed.
const maxFindings = 1000

// Run recomputes who is busy when, and says what is written otherwise.
func (c *verifyScheduleCmd) Run(ctx context.Context, stdout io.Writer) error {
	return offline(ctx, c.Config, func(store *storage.Store, _ *resources.Service) error {
		list, err := store.VerifySchedule(ctx, maxFindings)
		if err != nil {
			return err
		}
		for _, f := range list {
			fmt.Fprintf(stdout, "%s: %s\n", f.Resource, f.Problem)
		}
		if len(list) > 0 {
			return fmt.Errorf("the schedule is wrong in %d places", len(list))
		}
		fmt.Fprintln(stdout, "Appointments, Slots and what is taken agree.")
		return nil
	})
}
