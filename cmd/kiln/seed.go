package main

import (
	"context"
	"io"
	"os"
	"time"

	"kiln/internal/config"
	"kiln/internal/load"
	"kiln/resources"
	"kiln/storage"
)

type seedCmd struct {
	config.Config `embed:""`
	Patients      int    `name:"patients" default:"200" placeholder:"N" help:"Patients of the demo clinic: a dozen practitioners with a month of Slots, and appointments in every state. 0 leaves the clinic out."`
	Seed          uint64 `name:"seed" default:"1" placeholder:"N" help:"The same number makes the same clinic."`
}

// Run loads the demo data, and the demo clinic unless it is there.
func (c *seedCmd) Run(ctx context.Context, stdout io.Writer) error {
	return offline(ctx, c.Config, func(_ *storage.Store, service *resources.Service) error {
		result, err := load.Seed(ctx, service, time.Now())
		if err != nil {
			return err
		}
		list := []*load.Result{result}
		if c.Patients > 0 {
			result, err := load.Clinic(ctx, service, load.ClinicOptions{Patients: c.Patients, Seed: c.Seed, Now: time.Now(), Progress: os.Stderr})
			if err != nil {
				return err
			}
			if result != nil {
				list = append(list, result)
			}
		}
		(&load.Summary{Files: list}).Print(stdout)
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
