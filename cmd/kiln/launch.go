package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"kiln/auth"
	"kiln/auth/oauth"
	"kiln/conformance"
	"kiln/fhir"
	"kiln/resources"
	"kiln/server"
	"kiln/storage"
	"kiln/storage/identity"
)

type launchCmd struct {
	identityCmd `embed:""`
	Client      string `name:"client" required:"" placeholder:"ID" help:"The app to launch."`
	User        string `name:"user" required:"" placeholder:"NAME" help:"Who launches it: only this user can go on with the launch."`
	Patient     string `name:"patient" required:"" placeholder:"ID" help:"The patient in context."`
	Encounter   string `name:"encounter" placeholder:"ID" help:"The encounter in context."`
}

// Run prints a launch value: what the app gets in the parameter launch, beside iss. It works once, within five minutes. A
// launch that the app would be refused is refused here, and told apart: whoever runs this has the database anyway.
func (c *launchCmd) Run(ctx context.Context, stdout io.Writer) error {
	if !fhir.ValidID(c.Patient) || c.Encounter != "" && !fhir.ValidID(c.Encounter) {
		return errors.New("--patient and --encounter: want the id alone, without the type")
	}
	return c.reaching(ctx, func(ctx context.Context, databaseURL string, store *identity.Store) error {
		client, err := store.Client(ctx, c.Client)
		if err != nil {
			return said(err, "client "+c.Client)
		}
		account, err := store.AccountNamed(ctx, c.User)
		if err != nil {
			return said(err, "user "+c.User)
		}
		if account.Disabled {
			return errors.New("user " + c.User + " is closed")
		}
		launch := oauth.Launch{Client: client.ID, Account: account.ID, Patient: c.Patient, Encounter: c.Encounter}
		if err := c.check(ctx, databaseURL, store, account, launch); err != nil {
			return err
		}
		what := "launch of " + c.Client + " by " + c.User + " for Patient/" + c.Patient
		return change(ctx, store, what, func(ctx context.Context, store *identity.Store) error {
			value, err := oauth.AddLaunch(ctx, store, launch, time.Now())
			if err != nil {
				return err
			}
			fmt.Fprintln(stdout, value)
			return nil
		})
	})
}

// check looks the patient and the encounter up, first for themselves and then as the user sees them.
func (c *launchCmd) check(ctx context.Context, databaseURL string, accounts *identity.Store, account *identity.Account, launch oauth.Launch) error {
	registry, err := conformance.R4()
	if err != nil {
		return err
	}
	base := "http://localhost" + server.FHIRPath // of no link that anybody gets to see
	store, err := storage.Open(ctx, storage.Options{URL: databaseURL, Base: base, Zone: c.Zone(), PoolSize: 2,
		StatementTimeout: c.StatementTimeout, Registry: registry, ReadOnly: true})
	if err != nil {
		return err
	}
	defer store.Close()
	service, err := resources.New(resources.Options{Store: store, Registry: registry, Base: base})
	if err != nil {
		return err
	}
	directory, operator := server.Directory{Service: service}, auth.Operator("kiln command")
	if _, err := directory.Entry(ctx, operator, "Patient", launch.Patient); errors.Is(err, oauth.ErrNoEntry) {
		return errors.New("--patient: there is no Patient/" + launch.Patient)
	} else if err != nil {
		return err
	}
	if launch.Encounter != "" {
		found, err := directory.HasVisit(ctx, operator, launch.Patient, "Encounter/"+launch.Encounter)
		if err != nil {
			return err
		}
		if !found {
			return errors.New("--encounter: Patient/" + launch.Patient + " has no Encounter/" + launch.Encounter)
		}
	}
	err = oauth.CheckLaunch(ctx, accounts, directory, account, launch)
	if refused := (*oauth.Refusal)(nil); errors.As(err, &refused) {
		return errors.New("user " + c.User + " cannot launch that: " + strings.TrimSuffix(refused.Text, "."))
	}
	return err
}
