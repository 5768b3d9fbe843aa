package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"kiln/auth/oauth"
	"kiln/conformance"
	"kiln/internal/config"
	"kiln/internal/leak"
	"kiln/resources"
	"kiln/server"
	"kiln/storage"
	"kiln/storage/identity"
)

type verifyAccessCmd struct {
	config.Config `embed:""`
	Seed          uint64        `name:"seed" placeholder:"N" help:"What the callers and requests are chosen by; the same seed on the same data asks the same. 0: another one each time."`
	Callers       int           `name:"callers" default:"20" placeholder:"N" help:"How many callers ask: patients, practitioners, administrators, backend systems and the accounts there are."`
	Requests      int           `name:"requests" default:"200" placeholder:"N" help:"How many requests each of them makes."`
	Writes        bool          `name:"writes" default:"true" negatable:"" help:"Try writes too, each in a transaction that is rolled back, and ask with a token, which is kept for as long as it takes. --no-writes is for a standby, which takes neither."`
	Duration      time.Duration `name:"duration" default:"2m" placeholder:"TIME" help:"When to end, however much has been asked."`
}

// sampled is how many resources of each type, at each end of the time, requests are made of.
const sampled = 40

// openedBefore is of how many patients a practitioner's reads are answered at once from the first on.
const openedBefore = 100

// Run asks the questions of hostile clients and compares the answers with what reads show. It changes nothing but that it keeps a token while it
// asks, and what that opens: writes are tried in transactions that are rolled back, and the database is told to refuse all else that writes.
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
	o := leak.Options{Seed: seed, Callers: c.Callers, Requests: c.Requests, Accounts: accounts, Rehearsal: rehearsal}
	end := func() error { return nil }
	if c.Writes {
		if o.Proof, end, err = c.proof(ctx, database.url, log); err != nil {
			return err
		}
		o.Open = func(ctx context.Context, p *storage.Proof, practitioner string) (int, error) {
			return store.OpenTreated(ctx, p, practitioner, openedBefore)
		}
	}
	report, err := leak.Verify(within, service, world, o)
	if err := errors.Join(err, end()); err != nil {
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
	if len(report.Tried) > 0 {
		fmt.Fprintln(stdout, "No write reached what a read does not show, or told whether it is there.")
	}
	return nil
}

// proof keeps a token that nobody holds and that opens nothing, by which callers ask as clients do; end takes it away, whatever has become of
// ctx. The audit log tells of both, and were Kiln killed meanwhile, the token would end a minute after the command would have.
func (c *verifyAccessCmd) proof(ctx context.Context, url string, log *slog.Logger) (proof func() *storage.Proof, end func() error, err error) {
	store, closeStore, err := identity.Open(ctx, url)
	if err != nil {
		return nil, nil, err
	}
	var hash []byte
	var grant string
	life := c.Duration + time.Minute
	if err := change(ctx, store, fmt.Sprintf("verify-access: a token without scopes that nobody holds, for %s", life), func(ctx context.Context, store *identity.Store) (err error) {
		hash, grant, err = oauth.IssueProof(ctx, store, life, time.Now())
		return err
	}); err != nil {
		closeStore()
		return nil, nil, err
	}
	log.Info("asking with a token that nobody holds and that opens nothing", "grant", grant, "life", life)
	return func() *storage.Proof { return storage.NewProof(hash, time.Now()) }, func() error {
		defer closeStore()
		ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer stop()
		return change(ctx, store, "verify-access: the end of its token", func(ctx context.Context, store *identity.Store) error { return store.Revoke(ctx, grant) })
	}, nil
}
