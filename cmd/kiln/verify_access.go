package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"kiln/conformance"
	"kiln/internal/config"
	"kiln/internal/leak"
	"kiln/resources"
	"kiln/server"
	"kiln/storage"
)

type verifyAccessCmd struct {
	config.Config `embed:""`
	Seed          uint64        `name:"seed" placeholder:"N" help:"What the callers and requests are chosen by; the same seed on the same data asks the same. 0: another one each time."`
	Callers       int           `name:"callers" default:"20" placeholder:"N" help:"How many callers ask: patients, practitioners, administrators, backend systems and the accounts there are."`
	Requests      int           `name:"requests" default:"200" placeholder:"N" help:"How many requests each of them makes."`
	Writes        bool          `name:"writes" default:"true" negatable:"" help:"Try writes too, each in a transaction that is rolled back. --no-writes is for a standby, which takes none."`
	Duration      time.Duration `name:"duration" default:"2m" placeholder:"TIME" help:"When to end, however much has been asked."`
}

// sampled is how many resources of each type, at each end of the time, requests are made of.
const sampled = 40

// Run asks the questions of hostile clients and compares the answers with what reads show. It changes nothing: writes are
// tried in transactions that are rolled back, and the database is told to refuse all else that writes.
func (c *verifyAccessCmd) Run(ctx context.Context, stdout io.Writer) error {
	log := c.Logger()
	base := c.BaseURL
	if base == "" {
		base = "http://" + c.Addr
	}
	base += server.FHIRPath
	database, err := openDatabase(ctx, c.Database, true, log)
	if err != nil {
		return err
	}
	defer database.close(log)
	registry, err := conformance.R4()
	if err != nil {
		return err
	}
	options := storage.Options{URL: database.url, Base: base, Zone: c.Zone(), PoolSize: c.PoolSize,
		StatementTimeout: c.StatementTimeout, Registry: registry, ReadOnly: true}
	store, err := storage.Open(ctx, options)
	if err != nil {
		return fmt.Errorf("%w (it works on a database that kiln serve or kiln migrate up has brought up to date)", err)
	}
	defer store.Close()
	service, err := resources.New(resources.Options{Store: store, Registry: registry, Base: base})
	if err != nil {
		return err
	}
	var rehearsal *resources.Service
	if c.Writes {
		options.Rehearse, options.PoolSize = true, 2
		rehearsing, err := storage.Open(ctx, options)
		if err != nil {
			return err
		}
		defer rehearsing.Close()
		if rehearsal, err = resources.New(resources.Options{Store: rehearsing, Registry: registry, Base: base}); err != nil {
			return err
		}
	}
	var accounts []leak.Account
	known, err := store.Identity().Accounts(ctx)
	if err != nil {
		return err
	}
	for _, a := range known {
		if !a.Disabled {
			accounts = append(accounts, leak.Account{Roles: a.Roles, FHIRUser: a.FHIRUser})
		}
	}
	world, err := leak.Sample(ctx, service, store.Registry(), base, sampled)
	if err != nil {
		return err
	}
	seed := c.Seed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	within, stop := context.WithTimeout(ctx, c.Duration)
	defer stop()
	report, err := leak.Verify(within, service, world, leak.Options{Seed: seed, Callers: c.Callers, Requests: c.Requests, Accounts: accounts, Rehearsal: rehearsal})
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "Seed %d.\n", seed)
	for _, line := range report.Summary() {
		fmt.Fprintln(stdout, line)
	}
	for _, f := range report.Findings {
		fmt.Fprintf(stdout, "\nFor %s\n  %s\n  %s\n", f.Caller, f.Ask, f.Problem)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if n := len(report.Findings); n > 0 {
		return fmt.Errorf("%d answers differ from what reads show", n)
	}
	fmt.Fprintln(stdout, "Whatever an answer showed, a read shows too, and nothing that a read shows was missing.")
	if c.Writes {
		fmt.Fprintln(stdout, "No write reached what a read does not show, or told whether it is there.")
	}
	return nil
}
