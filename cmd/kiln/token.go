package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"kiln/auth"
	"kiln/auth/oauth"
	"kiln/fhir"
	"kiln/storage/identity"
)

type tokenCmd struct {
	identityCmd `embed:""`
	Scope       string        `name:"scope" required:"" placeholder:"SCOPES" help:"What it is for, such as \"system/*.rs\"."`
	TTL         time.Duration `name:"ttl" default:"1h" placeholder:"TIME" help:"How long it lives, 24h at most."`
}

// Run prints an access token. Whoever can run it has the database anyway.
func (c *tokenCmd) Run(ctx context.Context, stdout io.Writer) error {
	if c.TTL <= 0 || c.TTL > 24*time.Hour {
		return errors.New("--ttl: more than 0 and 24h at most")
	}
	scope, err := checkScopes(c.Scope)
	if err != nil {
		return err
	}
	scopes, _ := auth.ParseScopes(scope)
	if slices.ContainsFunc(scopes, func(s auth.Scope) bool { return s.Level == auth.LevelPatient }) {
		return errors.New("--scope: a patient scope needs a patient in context, and this token has none; take system/ or user/ scopes")
	}
	return c.changing(ctx, "token for "+scope, func(ctx context.Context, store *identity.Store) error {
		token, _, err := oauth.IssueToken(ctx, store, scope, c.TTL, time.Now())
		if err != nil {
			return err
		}
		fmt.Fprintln(stdout, token)
		return nil
	})
}

type launchCmd struct {
	identityCmd `embed:""`
	Client      string `name:"client" required:"" placeholder:"ID" help:"The app to launch."`
	User        string `name:"user" required:"" placeholder:"NAME" help:"Who launches it: only this user can go on with the launch."`
	Patient     string `name:"patient" required:"" placeholder:"ID" help:"The patient in context."`
	Encounter   string `name:"encounter" placeholder:"ID" help:"The encounter in context."`
}

// Run prints a launch value: what the app gets in the parameter launch, beside iss. It works once, within five minutes.
func (c *launchCmd) Run(ctx context.Context, stdout io.Writer) error {
	if !fhir.ValidID(c.Patient) || c.Encounter != "" && !fhir.ValidID(c.Encounter) {
		return errors.New("--patient and --encounter: want the id alone, without the type")
	}
	return c.changing(ctx, "launch of "+c.Client+" by "+c.User+" for Patient/"+c.Patient, func(ctx context.Context, store *identity.Store) error {
		client, err := store.Client(ctx, c.Client)
		if err != nil {
			return said(err, "client "+c.Client)
		}
		account, err := store.AccountNamed(ctx, c.User)
		if err != nil {
			return said(err, "user "+c.User)
		}
		value, err := oauth.AddLaunch(ctx, store, oauth.Launch{
			Client: client.ID, Account: account.ID, Patient: c.Patient, Encounter: c.Encounter,
		}, time.Now())
		if err != nil {
			return err
		}
		fmt.Fprintln(stdout, value)
		return nil
	})
}
