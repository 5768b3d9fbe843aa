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
