package main

import (
	"context"
	"io"
	"time"

	"kiln/internal/config"
	"kiln/internal/load"
	"kiln/resources"
	"kiln/storage"
)

type seedCmd struct {
	config.Config `embed:""`
}

// Run loads the demo data.
func (c *seedCmd) Run(ctx context.Context, stdout io.Writer) error {
	return offline(ctx, c.Config, func(_ *storage.Store, service *resources.Service) error {
		result, err := load.Seed(ctx, service, time.Now())
		if err != nil {
			return err
		}
		(&load.Summary{Files: []*load.Result{result}}).Print(stdout)
		return nil
	})
}

// seed loads the demo data where serve is asked to, unless the database has them.
func (c *serveCmd) seed(ctx context.Context, databaseURL string) error {
	store, service, err := openService(ctx, c.Config, databaseURL)
	if err != nil {
		return err
	}
	defer store.Close()
	_, err = load.SeedOnce(ctx, service, time.Now())
	return err
}
