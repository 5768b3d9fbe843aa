package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"

	"kiln/auth"
	"kiln/conformance"
	"kiln/conformance/validate"
	"kiln/internal/config"
	"kiln/internal/load"
	"kiln/resources"
	"kiln/server"
	"kiln/storage"
)

type importCmd struct {
	config.Config `embed:""`
	Workers       int      `name:"workers" default:"0" placeholder:"N" help:"Files imported at a time. 0: one for each processor, 8 at most."`
	Paths         []string `arg:"" name:"path" help:"Files (bundle, resource, NDJSON, also .gz) and folders, which are searched."`
}

// Run imports the files and tells what became of them.
func (c *importCmd) Run(ctx context.Context, stdout io.Writer) error {
	defer suitCollector(importing)()
	return offline(ctx, c.Config, func(store *storage.Store, service *resources.Service) error {
		what := strconv.Itoa(len(c.Paths)) + " paths"
		if err := store.Audit(ctx, resources.NewAct(time.Now(), auth.Operator("kiln command"), resources.ActImport, what)); err != nil {
			return fmt.Errorf("import: %w", err)
		}
		importer := load.Importer{Store: store, Service: service, Workers: c.Workers, Progress: os.Stderr}
		summary, err := importer.Run(ctx, c.Paths...)
		if summary != nil {
			summary.Print(stdout)
		}
		if err != nil {
			return fmt.Errorf("import: %w; the same command goes on where it stopped", err)
		}
		if n := summary.Failed(); n > 0 {
			return fmt.Errorf("import: %d of %d files failed", n, len(summary.Files))
		}
		return nil
	})
}

// offline gives work the store and the service that kiln serve would have with the same settings.
func offline(ctx context.Context, c config.Config, work func(*storage.Store, *resources.Service) error) error {
	log := c.Logger()
	if c.BaseURL == "" {
		addr, err := net.ResolveTCPAddr("tcp", c.Addr)
		if err != nil {
			return fmt.Errorf("KILN_ADDR: %w", err)
		}
		c.BaseURL = c.Origin(addr)
	}
	database, err := openMigrated(ctx, c.Database, true, log)
	if err != nil {
		return err
	}
	defer database.close(log)
	store, service, err := openService(ctx, c, database.url)
	if err != nil {
		return err
	}
	defer store.Close()
	return work(store, service)
}

// openService makes the store and the service of the settings.
func openService(ctx context.Context, c config.Config, databaseURL string) (*storage.Store, *resources.Service, error) {
	registry, err := conformance.R4()
	if err != nil {
		return nil, nil, err
	}
	validator, err := validate.New(registry, validate.Options{Invariants: true})
	if err != nil {
		return nil, nil, err
	}
	store, err := storage.Open(ctx, storage.Options{
		URL:              databaseURL,
		Base:             c.BaseURL + server.FHIRPath,
		Zone:             c.Zone(),
		PoolSize:         c.PoolSize,
		StatementTimeout: c.StatementTimeout,
		Registry:         registry,
		Unrestricted:     true,
	})
	if err != nil {
		return nil, nil, err
	}
	store.StartTerminology(ctx, func(bool, error) {}) // for criteria with :in and the like; a server makes up for what fails
	service, err := resources.New(resources.Options{
		Anonymous:      auth.Operator("command"),
		ForeignAudit:   true,
		Validate:       validator.Resource,
		Lenient:        c.Validation == "lenient",
		Store:          store,
		Registry:       registry,
		Base:           c.BaseURL + server.FHIRPath,
		MultipleDelete: c.MultipleDelete,
		PayerTimeout:   20 * time.Millisecond, // a command waits for no payer: who has not answered is asked again by a server
		Limits: resources.Limits{
			MaxBundleEntries:      c.MaxBundleEntries,
			MaxResourceBytes:      int(c.MaxResourceBytes),
			DefaultPageSize:       c.DefaultPageSize,
			MaxPageSize:           c.MaxPageSize,
			EverythingPageSize:    c.EverythingSize,
			MaxConditionalMatches: c.MaxMatches,
		},
	})
	return store, service, err
}
